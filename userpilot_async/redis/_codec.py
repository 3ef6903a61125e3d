"""Calls as entries of the log, and what scripts answer: bytes, and back again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .._account.account import Account
from .._calls.payload import Kind
from .._calls.stored import UNREADABLE, Concluded, Stored
from .._calls.values import encode_json
from .._outbox.batch import Put
from .._outbox.store import Committed
from .._outbox.window import Found, Read, Reading
from ._failures import OddAnswer
from ._shapes import entry_name, listed, measured, number, pairs, raw, text, texts, whole

Entry = tuple[bytes, Mapping[bytes, bytes]]
"""An entry's name, and its fields: of the log, the call (``c``), its size (``s``), and when it was put (``t``)."""


def encoded(put: Put, age: float) -> bytes:
    """A call, that was made ``age`` seconds ago: kind, moment, age and key, a line each, and what is said."""
    if isinstance(put.payload, bytes):
        return f"{put.kind}\n\n{age:.3f}\n{encode_json(put.key)}\n".encode() + put.payload
    stored = Stored.of(put.kind, put.key, put.payload)
    return f"{stored.kind}\n{stored.moment or ''}\n{age:.3f}\n{stored.key}\n".encode() + stored.body


def decoded(call: bytes) -> tuple[Stored, float]:
    """The other way round, with the age. Raises `ValueError` if it is none."""
    kind, moment, age, key, body = call.split(b"\n", 4)
    return Stored(kind.decode(), key.decode(), body, moment.decode() or None), float(age)


def id_of(name: bytes) -> int:
    """The id of a call, whose entry has this name in the log."""
    return int(name.partition(b"-")[0])


def entry_of(answer: object) -> Entry:
    """An entry of a stream, as a script or as redis-py gives it. Raises `OddAnswer`."""
    name, fields = listed(list(answer) if isinstance(answer, tuple) else answer, 2)
    held = pairs(fields) if not isinstance(fields, dict) else fields.items()
    return entry_name(name), {raw(field): raw(value) for field, value in held}


def accepted_at(put_at: bytes, age: float) -> float:
    """When a call was made, by the server's clock. Raises `ValueError` if that is damaged."""
    at = float(put_at) - age
    if not math.isfinite(at):
        raise ValueError("no moment")
    return at


def read_of(reading: Reading, answer: object) -> tuple[Read, list[int]]:
    """The calls that were asked for, and ids of such as cannot be read. Raises `OddAnswer`."""
    entries, sent_ids, part_texts, stopped = listed(answer, 4)
    flat = texts(entries)
    if len(flat) % 3:
        raise OddAnswer("calls were expected, and a list of another length came")
    if not flat:
        return Read([], reading.start, full=False), []
    sent = {int(one) for one in texts(sent_ids) if one.isdigit()}
    parts = _parts_in(texts(part_texts))
    only = encode_json(reading.only) if reading.only is not None else None
    without = {encode_json(key) for key in reading.without}
    found, damaged = [], []
    before = reading.start - 1
    for name, call_text, put_at in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        call_id = id_of(entry_name(name))
        try:
            if call_id <= before:
                raise ValueError("another program's entry beside a call")
            stored, age = decoded(call_text)
            before = call_id
            if (only is not None and stored.key != only) or (stored.key in without and not stored.has_companion()):
                continue
            call = stored.call(parts.get(call_id, ()))
            at = accepted_at(put_at, age)
        except UNREADABLE:
            damaged.append(call_id)
        else:
            found.append(Found((call_id, at, *call), call_id in sent))
        before = max(before, call_id)
    return Read(found, before + 1, bool(number(stopped))), damaged


def _parts_in(noted: Sequence[bytes]) -> Mapping[int, Sequence[tuple[Kind, str]]]:
    """Parts that the server has already, by call. A text that is none was put there by another program."""
    parts: dict[int, list[tuple[Kind, str]]] = {}
    for one in noted:
        with suppress(*UNREADABLE):
            call_id, kind, key = json.loads(one)
            parts.setdefault(call_id, []).append((kind, key))
    return parts


def asked_for(reading: Reading) -> int:
    """How many entries to read for this: one user's are among everybody's."""
    return reading.limit if reading.only is None else max(reading.limit, 1_000)


def counts_of(answer: object) -> dict[str, int]:
    """The account's fields. Raises `OddAnswer`."""
    return {text(name): whole(count) for name, count in pairs(answer)}


def account_of(counts: Mapping[str, int]) -> Account:
    """The account, of its fields: some are counted by label."""
    labelled: dict[str, dict[str, int]] = {"by": {}, "dead": {}, "dropped": {}}
    plain = {}
    for name, count in counts.items():
        kind, _, label = name.partition(":")
        if label and kind in labelled:
            labelled[kind][label] = count
        else:
            plain[name] = count
    return Account.of({**plain, **labelled})


class State:
    """The outbox as a script shows it: the account, the first call, what became of calls, the time.

    Raises `OddAnswer` if it says something else.
    """

    def __init__(self, answer: object) -> None:
        counts, oldest, news, time, heard = listed(answer, 5)
        self._counts = counts_of(counts)
        self.revision = self._counts.get("revision", 0)
        self.pairs = self._counts.get("pairs", 0)
        """The number of the last pair of keys that was kept."""
        self.time = measured(time)
        self.heard = whole(heard)
        """What has been heard by this."""
        self._oldest = id_of(entry_name(oldest)) if oldest is not None else None
        self._news = texts(news)

    def committed(self) -> Committed:
        """The state as the loop hears it."""
        heard = [one for text in self._news for one in concluded(text)]
        all_heard = self.heard == self.revision
        return Committed(account_of(self._counts), self._oldest, heard, complete=all_heard)


def concluded(news: bytes) -> Sequence[Concluded]:
    """News of calls; none, where another program has written. Lua writes an empty array as an empty object."""
    try:
        rows = [(*one[:2], one[2] or (), one[3] or ()) for one in json.loads(news)]
        return [Concluded.read(one) for one in rows]
    except UNREADABLE:
        return ()

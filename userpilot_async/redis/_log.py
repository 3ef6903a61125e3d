"""Calls as entries of the log, and what scripts answer: bytes, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._batch import Committed, Put
from .._lanes import Kind
from .._shared_ledger import Account
from .._stored import Concluded, Stored
from .._values import encode_json
from .._window import Found, Read, Reading

Entry = Sequence[Any]
"""An id, and the fields of one entry of the log: the call, its size, when it was put."""


def encoded(put: Put, age: float) -> bytes:
    """A call, that was made ``age`` seconds ago: kind, moment, age and key, a line each, and what is said."""
    if isinstance(put.said, bytes):
        return f"{put.kind}\n\n{age:.3f}\n{encode_json(put.key)}\n".encode() + put.said
    stored = Stored.of(put.kind, put.key, put.said)
    return f"{stored.kind}\n{stored.moment or ''}\n{age:.3f}\n{stored.key}\n".encode() + stored.said


def decoded(call: bytes) -> tuple[Stored, float]:
    """The other way round, with the age. Raises `ValueError` if it is none."""
    kind, moment, age, key, said = call.split(b"\n", 4)
    return Stored(kind.decode(), key.decode(), said, moment.decode() or None), float(age)


def id_of(name: bytes) -> int:
    """The id of a call, whose entry has this name in the log."""
    return int(name.partition(b"-")[0])


def fields_of(entry: Entry) -> dict[bytes, bytes]:
    """What stands in an entry."""
    fields = entry[1]
    return dict(fields) if isinstance(fields, Mapping) else dict(zip(fields[::2], fields[1::2], strict=True))


def accepted_at(fields: Mapping[bytes, bytes], age: float) -> float:
    """By the server's clock."""
    return float(fields[b"t"]) - age


def read_of(reading: Reading, answer: Any) -> tuple[Read, list[int]]:
    """The calls that were asked for, and ids of such as cannot be read."""
    flat, sent_ids, part_texts, stopped = answer
    if not flat:
        return Read([], reading.start, full=False), []
    sent = {int(one) for one in sent_ids}
    parts: dict[int, list[tuple[Kind, str]]] = {}
    for text in part_texts:
        call_id, kind, key = json.loads(text)
        parts.setdefault(call_id, []).append((kind, key))
    only = encode_json(reading.only) if reading.only is not None else None
    without = {encode_json(key) for key in reading.without}
    found, damaged = [], []
    call_id = reading.start
    for name, call_text, put_at in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
        call_id = id_of(name)
        try:
            stored, age = decoded(call_text)
            if (only is not None and stored.key != only) or (stored.key in without and not stored.has_companion()):
                continue
            call = stored.call(parts.get(call_id, ()))
            at = float(put_at) - age
        except (ValueError, TypeError, AttributeError):
            damaged.append(call_id)
        else:
            found.append(Found((call_id, at, *call), call_id in sent))
    return Read(found, call_id + 1, bool(stopped)), damaged


def asked_for(reading: Reading) -> int:
    """How many entries to read for this: one user's are looked for among everybody's."""
    return reading.limit if reading.only is None else max(reading.limit, 1_000)


def counts_of(flat: Sequence[bytes]) -> dict[str, int]:
    """The account's fields."""
    return {name.decode(): int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}


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
    """What a script says of the outbox: the account, the first call, what became of calls, the time."""

    def __init__(self, answer: Any) -> None:
        counts, oldest, news, time, heard = answer
        self._counts = counts_of(counts)
        self.revision = self._counts.get("revision", 0)
        self.time = float(time)
        self.heard = int(heard)
        """What has been heard by this."""
        self._oldest = id_of(oldest) if oldest else None
        self._news = news

    def committed(self) -> Committed:
        """For the loop."""
        heard = [one for text in self._news for one in concluded(text)]
        all_heard = self.heard == self.revision
        return Committed(account_of(self._counts), self._oldest, heard, complete=all_heard)


def concluded(text: bytes) -> Iterable[Concluded]:
    """What became of calls. Lua's JSON does not know an empty array from an empty object."""
    for status, label, carriers, merged in json.loads(text):
        yield Concluded(status, label, _stretches(carriers), _stretches(merged))


def _stretches(listed: Any) -> list[tuple[int, int]]:
    return [(one, one) if isinstance(one, int) else (one[0], one[1]) for one in listed or ()]

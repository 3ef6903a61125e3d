"""Entries of the outbox as people see them, and a page of them at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

import attrs

from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._outbox.admin import DeadLetter, keys_in
from .._outbox.pages import MOST_READ, Page, WaitingCall
from ._codec import Entry, accepted_at, decoded, id_of
from ._purge import AT_ONCE, Place

NUMBER = re.compile(rb"\d{1,15}(\.\d{1,15})?")  # a moment, as the scripts write it
PLACE = re.compile(r"\d{1,20}-\d{1,20}")  # an entry's name

T = TypeVar("T")


class Scan(Protocol):
    """The outbox's entries, some at a time, for as long as a visit takes."""

    @property
    def reached(self) -> str:
        """The last entry that `some` has read."""
        ...

    def some(
        self, place: Place, count: int, texts: Sequence[bytes] = (), *, behind: str = ""
    ) -> tuple[Sequence[Entry], bool]:
        """Read the next entries; gives those in which one of the texts stands, and whether there may be more."""
        ...


@attrs.frozen
class StoredDeadLetter:
    """A lost call, and in which entry it is kept."""

    entry: str
    lost: DeadLetter


def waiting_page(scan: Scan, after: str, limit: int, ids: Collection[str]) -> Page[WaitingCall]:
    """The next calls that wait; raises `ValueError` where ``after`` is no entry's name."""
    texts = [encode_json(one).encode() for one in ids]
    wanted = set(ids)

    def shown(entry: Entry) -> WaitingCall | None:
        call, keys = _waiting_call(entry)
        return call if not wanted or wanted.intersection(keys) else None

    return _page(scan, "log", after, limit, texts, shown)


def lost_page(scan: Scan, after: str, limit: int, reason: str | None) -> Page[DeadLetter]:
    """The next lost calls that are kept; raises as `waiting_page`."""

    def shown(entry: Entry) -> DeadLetter | None:
        lost = kept_in(entry).lost if is_ours(entry) else None
        return lost if lost is not None and reason in (None, lost.reason) else None

    return _page(scan, "lost", after, limit, [], shown, everything=reason is None)


def _page(
    scan: Scan, place: Place, after: str, limit: int, texts: Sequence[bytes], shown: Callable[[Entry], T | None],
    *, everything: bool = False,
) -> Page[T]:  # fmt: skip
    """Entries behind this one, of the next `MOST_READ`, that are ``shown``; ``everything``: most of them are."""
    if after and not PLACE.fullmatch(after):
        raise ValueError("no place in this outbox")
    at_once = min(limit, AT_ONCE) if everything or (not texts and place == "log") else AT_ONCE
    found: list[T] = []
    for _ in range(max(1, MOST_READ // at_once)):
        entries, more = scan.some(place, at_once, texts, behind=after)
        for entry in entries:
            one = shown(entry)
            if one is not None:
                found.append(one)
                if len(found) == limit:
                    return Page(found, entry[0].decode())
        if not more:
            return Page(found, None)
        after = scan.reached
    return Page(found, after)


def _waiting_call(entry: Entry) -> tuple[WaitingCall, Collection[str]]:
    """The call that an entry of the log holds, and the ids of its key: none where that is damaged."""
    name, fields = entry
    size = int(fields[b"s"]) if fields.get(b"s", b"").isdigit() else 0
    at, kind, call, keys = accepted(entry) or 0.0, "", None, list[str]()
    try:
        stored, _ = decoded(fields[b"c"])
        kind, keys = stored.kind, keys_in(stored.key)
        call = stored.call()
    except UNREADABLE:  # damaged
        pass
    return WaitingCall(id_of(name), at, kind, ", ".join(keys), size, call), keys


def accepted(entry: Entry) -> float | None:
    """When a call was accepted, by the server's clock; ``None`` if its entry is damaged."""
    fields = entry[1]
    try:
        return accepted_at(fields[b"t"], decoded(fields[b"c"])[1])
    except UNREADABLE:
        return None


def is_ours(entry: Entry) -> bool:
    """An entry of the lost calls, and none that another program has put among them."""
    fields = entry[1]
    numbers = [fields.get(name, b"") for name in (b"t", b"l")]
    return fields.get(b"i", b"").isdigit() and all(NUMBER.fullmatch(one) for one in numbers)


def kept_in(entry: Entry) -> StoredDeadLetter:
    """The dead letter that an entry of the lost calls holds."""
    fields = entry[1]
    at, lost_at, kind, key, call = float(fields[b"t"]), float(fields[b"l"]), "", "", None
    try:
        stored, seconds = decoded(fields[b"c"])
        at, kind, key = accepted_at(fields[b"t"], seconds), stored.kind, stored.key
        key, call = ", ".join(keys_in(key)), stored.call()
    except UNREADABLE:  # damaged
        pass
    status, reason, detail = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"u", b"r", b"d"))
    return StoredDeadLetter(
        entry[0].decode(), DeadLetter(int(fields[b"i"]), at, kind, key, lost_at, status, reason, detail, call)
    )

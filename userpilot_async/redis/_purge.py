"""Erase a person, or a company, from the outbox: what waits, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, TypeVar

from .._calls.pairs import unsealed_pair
from .._calls.stored import UNREADABLE, Stored, runs
from .._calls.values import encode_json
from .._outbox.admin import DELETIONS, OF_COMPANIES, PurgeReport, Subject, keys_in, names_company
from ._codec import Entry, decoded, id_of
from ._link import Answer
from ._shapes import number

AT_ONCE = 500  # entries a script reads, or changes: some milliseconds
MOST_SWEPT, MOST_BYTES_SWEPT = 2_000, 1024**2  # entries and bytes written anew in one step: about 10 ms

Place = Literal["log", "lost"]
T = TypeVar("T")


class Entries(Protocol):
    """The outbox's entries and scripts, for as long as a visit takes."""

    @property
    def reached(self) -> str:
        """The last entry that `entries` has read."""
        ...

    def entries(self, place: Place, texts: Sequence[bytes] = (), *, behind: str = "") -> Iterator[Entry]:
        """The entries behind this one in whose calls one of these texts stands, and damaged ones."""
        ...

    def pairs(self) -> Iterator[tuple[bytes, int]]:
        """All pairs of keys that are kept, each with its number."""
        ...

    def run(self, name: str, *arguments: str | bytes | float) -> Answer:
        """The answer of one script."""
        ...


def at_once(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one script may change."""
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]


class Search:
    """A search for all that the outbox has of a person or company; and its end, if that is meant."""

    def __init__(self, visit: Entries, whose: Subject, destination: str, *, really: bool) -> None:
        self._report = PurgeReport()
        self._visit = visit
        self._whose = whose
        self._really = really
        self._keys = whose.keys(destination)
        self._texts = [encode_json(key).encode() for key in sorted({*self._keys, whose.id})]

    def purge(self) -> PurgeReport:
        """Search for calls everywhere, and erase them; how many there were."""
        # A call that waits may be lost meanwhile, and a lost one be retried: one round meets all.
        self._waiting()
        reached = self._visit.reached
        self._lost()
        self._waiting(reached)
        self._pairs()
        if self._really:
            self._report.done = True
            places = ("log", "lost")
            swept = [number(self._visit.run("sweep", one, MOST_SWEPT, MOST_BYTES_SWEPT)) for one in places]
            self._report.swept = all(swept)
        return self._report

    def _waiting(self, behind: str = "") -> None:
        """Calls in line, from behind this entry on."""
        ids = [
            id_of(one[0])
            for one in self._visit.entries("log", self._texts, behind=behind)
            if self._is_meant(one, waits=True)
        ]
        for some in at_once(ids):
            stretches = json.dumps(runs(some))
            self._report.waiting += number(self._visit.run("purge", "log", stretches)) if self._really else len(some)

    def _lost(self) -> None:
        """Calls that are kept though they are dead or dropped."""
        entries = [one[0].decode() for one in self._visit.entries("lost", self._texts) if self._is_meant(one)]
        for some in at_once(entries):
            self._report.lost += number(self._visit.run("purge", "lost", *some)) if self._really else len(some)

    def _pairs(self) -> None:
        """Pairs of the person's keys with others, which the person is known as."""
        if self._whose.kind == "company":
            return
        numbers: list[int] = []
        for text, number_of in self._visit.pairs():
            pair = set(unsealed_pair(text.decode("utf-8", "replace")) or ())
            if pair & self._keys or (not pair and any(one in text for one in self._texts)):
                self._report.known_as |= pair - self._keys
                numbers.append(number_of)
        for some in at_once(numbers) if self._really else ():
            self._visit.run("purge", "pairs", *some)

    def _is_meant(self, entry: Entry, *, waits: bool = False) -> bool:
        call = entry[1].get(b"c", b"")
        try:
            stored, _ = decoded(call)
            known = set(keys_in(stored.key))
        except UNREADABLE:  # damaged: that the id stands there is enough
            return self._is_meant_by(call)
        if waits and stored.kind in DELETIONS:
            return False
        if (stored.kind in OF_COMPANIES) is not (self._whose.kind == "company"):
            self._report.unchanged += self._names(stored)
            return False
        meant = not known.isdisjoint(self._keys)
        if meant:
            self._report.known_as |= known - self._keys
        return meant

    def _is_meant_by(self, damaged: bytes) -> bool:
        meant = any(text in damaged for text in self._texts)
        self._report.unclear += not meant
        return meant

    def _names(self, stored: Stored) -> bool:
        """A user's identify names the company, and goes on doing so."""
        try:
            return self._whose.kind == "company" and names_company(stored.call(), self._whose.id)
        except UNREADABLE:  # damaged
            return False

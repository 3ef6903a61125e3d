"""Erase a person, or a company, from the outbox: what waits, and what is kept."""

from __future__ import annotations

import json

from .._calls.stored import UNREADABLE, Stored, runs
from .._calls.values import encode_json
from .._outbox.admin import PurgeReport, Subject, keys_in, names_company
from ._codec import Entry, decoded, id_of
from ._outbox import RedisOutbox
from ._shapes import number
from ._visit import Visit, at_once, visiting

MOST_SWEPT, MOST_BYTES_SWEPT = 2_000, 1024**2  # entries and bytes written anew in one step: about 10 ms


def purge(outbox: RedisOutbox, whose: Subject, *, really: bool = True) -> PurgeReport:
    """Erase them; not ``really``, only say how much that would be. Raises `OutboxError`.

    Calls that a sender has in its memory may still be sent. What Redis has written to its own files, it has there until
    it writes them anew; and where much waits, in its memory until the calls beside it are gone.
    """
    with visiting(outbox) as visit:
        if really:
            visit.begin_to_change()
        search = Search(visit, whose, really)
        # A call that waits may be lost meanwhile, and a lost one be retried: whoever goes round once meets all.
        search.waiting()
        reached = visit.reached
        search.lost()
        search.waiting(reached)
        if really:
            search.erased.done = True
            swept = [number(visit.run("sweep", place, MOST_SWEPT, MOST_BYTES_SWEPT)) for place in ("log", "lost")]
            search.erased.swept = all(swept)
    return search.erased


class Search:
    """What there is in the outbox of a person or company; and its end, if that is meant."""

    def __init__(self, visit: Visit, whose: Subject, really: bool) -> None:
        self.erased = PurgeReport()
        self._visit = visit
        self._whose = whose
        self._really = really
        self._keys = whose.keys(visit.sight.destination or "")
        self._texts = [encode_json(key).encode() for key in sorted({*self._keys, whose.id})]

    def waiting(self, behind: str = "") -> None:
        """Calls in line, from behind this entry on."""
        ids = [id_of(one[0]) for one in self._visit.entries("log", self._texts, behind=behind) if self._is_meant(one)]
        for some in at_once(ids):
            stretches = json.dumps(runs(some))
            self.erased.waiting += number(self._visit.run("purge", "log", stretches)) if self._really else len(some)

    def lost(self) -> None:
        """Calls that are kept though they are dead or dropped."""
        entries = [one[0].decode() for one in self._visit.entries("lost", self._texts) if self._is_meant(one)]
        for some in at_once(entries):
            self.erased.lost += number(self._visit.run("purge", "lost", *some)) if self._really else len(some)

    def _is_meant(self, entry: Entry) -> bool:
        call = entry[1].get(b"c", b"")
        try:
            stored, _ = decoded(call)
            known = set(keys_in(stored.key))
        except UNREADABLE:  # damaged: that the id stands there is enough
            return self._is_meant_by(call)
        if (stored.kind == "company") is not (self._whose.kind == "company"):
            self.erased.unchanged += self._names(stored)
            return False
        meant = not known.isdisjoint(self._keys)
        if meant:
            self.erased.known_as |= known - self._keys
        return meant

    def _is_meant_by(self, damaged: bytes) -> bool:
        meant = any(text in damaged for text in self._texts)
        self.erased.unclear += not meant
        return meant

    def _names(self, stored: Stored) -> bool:
        """A user's identify names the company, and goes on doing so."""
        try:
            return self._whose.kind == "company" and names_company(stored.call(), self._whose.id)
        except UNREADABLE:  # damaged
            return False

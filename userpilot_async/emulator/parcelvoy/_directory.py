"""The directory of people: their numbers, by their ids. Pure.

Source: parcelvoy/platform 2.3.3, `UserRepository.ts` and `UserPatchJob.ts`, and what was seen at such a server.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from typing import Literal, TypeAlias

import attrs

from userpilot_async.emulator._saved import Saved
from userpilot_async.emulator._wire import Payload
from userpilot_async.emulator.parcelvoy import _losses as losses
from userpilot_async.emulator.parcelvoy._collation import fold

IdKind: TypeAlias = Literal["external_id", "anonymous_id"]
KINDS: tuple[IdKind, ...] = ("external_id", "anonymous_id")


@attrs.frozen
class Placement:
    """The person whom a call is about, and why the call is lost, if it is."""

    number: int | None = None
    """Number of the person whom the call finds or makes before it is lost; None if there is nobody."""
    reason: str | None = None


@attrs.define
class Directory:
    """Finds people by their ids, and gives new ones a number.

    An id is written when a person is made, and by an alias. One more case: whoever is found by the external id gets
    the anonymous id of an identify, if nobody has it, in place of their own. Two people are never joined.
    """

    _numbers: MutableMapping[tuple[IdKind, str], int | None] = attrs.field(factory=dict)
    """Of an id that somebody had before: None."""
    _folded: MutableMapping[tuple[IdKind, str], int | None] = attrs.field(factory=dict)
    _ids: MutableMapping[tuple[IdKind, int], str | None] = attrs.field(factory=dict)
    _people: int = 0

    def trial(self) -> Directory:
        """Make a directory that begins with what this one has, and leaves it alone."""
        return Directory(ChainMap({}, self._numbers), ChainMap({}, self._folded), ChainMap({}, self._ids), self._people)

    def saved(self) -> Saved:
        """All ids that somebody has, as JSON, and how many people there are."""
        return {"people": self._people, "ids": [[kind, number, id] for (kind, number), id in self._ids.items()]}

    def restore(self, saved: Saved) -> None:
        """Fill an empty directory; raises KeyError, TypeError or ValueError for what was not saved."""
        for kind, number, id in saved["ids"]:
            self._write(kind, id, number)
        self._people = saved["people"]

    def find(self, ids: Payload) -> int | None:
        """The person with the external id, else the one with the anonymous id. Ids are compared exactly."""
        number = self._exact("external_id", ids.get("external_id"))
        return self._exact("anonymous_id", ids.get("anonymous_id")) if number is None else number

    def id_of(self, kind: IdKind, number: int) -> str | None:
        return self._ids.get((kind, number))

    def place(self, kind: str, payload: Payload) -> Placement:
        """Find out what becomes of a call that was taken, and write down what it says of ids."""
        if kind == "identify":
            reason = losses.lost_user(payload)
            return Placement(None, reason) if reason else self._met(payload, patched=True)
        if kind == "alias":
            return self._aliased(payload)
        if kind == "device":
            number = self.find(payload)
            reason = losses.STRANGER if number is None else losses.lost_device(payload)
            return Placement(number, reason)
        return self._of_event(payload)

    def _of_event(self, event: Payload) -> Placement:
        """An event makes its person before the database looks at the event. A nested `user` is an identify."""
        about = event.get("user")
        reason = None if about is None else losses.lost_user(about)
        placed = Placement(None, reason) if reason else self._met(event, patched=about is not None)
        return placed if placed.reason else Placement(placed.number, losses.lost_event(event))

    def _met(self, ids: Payload, *, patched: bool) -> Placement:
        """The person of these ids, made if there is none. `patched`: an anonymous id that nobody has is theirs now."""
        if not any(ids.get(kind) for kind in KINDS):
            return Placement(None, losses.NOBODY)
        number = self.find(ids)
        new: dict[IdKind, str | None] = {kind: ids.get(kind) for kind in KINDS}
        if number is not None:
            writes = patched and "anonymous_id" in ids and self._exact("anonymous_id", new["anonymous_id"]) is None
            new = {"anonymous_id": new["anonymous_id"]} if writes else {}
        for kind, id in new.items():
            if id and (reason := self._refusal(kind, id, number)):
                return Placement(None, reason)
        if number is None:
            number = self._people = self._people + 1
        for kind, id in new.items():
            self._write(kind, id or None, number)
        return Placement(number)

    def _aliased(self, alias: Payload) -> Placement:
        """Write the external id onto whoever has the previous or the anonymous id, over the one they have."""
        number = self.find({"external_id": alias.get("previous_id"), "anonymous_id": alias["anonymous_id"]})
        external_id = alias["external_id"]
        if number is None:
            return Placement(None, losses.STRANGER)
        if not external_id:
            return Placement(None, losses.NO_ID)
        if self._exact("external_id", external_id) not in (None, number):
            return Placement(None, losses.ANOTHERS)
        if reason := self._refusal("external_id", external_id, number):
            return Placement(None, reason)
        self._write("external_id", external_id, number)
        return Placement(number)

    def _exact(self, kind: IdKind, id: object) -> int | None:
        return self._numbers.get((kind, id)) if isinstance(id, str) and id else None

    def _refusal(self, kind: IdKind, id: str, number: int | None) -> str | None:
        """Why the database does not take this id for the person of that number, who may be new."""
        if self._folded.get((kind, fold(id))) not in (None, number):
            return losses.SAME_BUT_FOR_CASE
        return losses.lost_text(kind, id)

    def _write(self, kind: IdKind, id: str | None, number: int) -> None:
        before = self._ids.get((kind, number))
        if before is not None:
            self._numbers[kind, before] = self._folded[kind, fold(before)] = None
        self._ids[kind, number] = id
        if id is not None:
            self._numbers[kind, id] = self._folded[kind, fold(id)] = number

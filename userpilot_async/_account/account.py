"""The counts of an outbox that several processes use, as they are kept with its calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .._calls.outcome import Outcome


@attrs.define
class Account:
    """The counts, as they are kept with the calls."""

    next_id: int = 0
    accepted: int = 0
    delivered: int = 0
    by: dict[str, int] = attrs.field(factory=dict)
    """Delivered calls that a job took, by its kind."""
    merged: int = 0
    merged_lost: int = 0
    dead: dict[str, int] = attrs.field(factory=dict)
    dropped: dict[str, int] = attrs.field(factory=dict)
    bytes: int = 0
    """Of the calls that wait."""
    ambiguous: int = 0
    """Calls in requests whose answer got lost, or whose sender died before it came."""
    forgotten: int = 0
    """Lost calls that are not even kept any more."""
    resets: int = 0
    """How often an unknown number of calls went missing."""
    duplicates: int = 0
    """Calls that were not accepted, as an earlier one has the same key."""
    keys: int = 0
    """Keys of ``dedupe=`` that are kept, where that is counted."""

    @property
    def waiting(self) -> int:
        """Calls that are held: pending, or merged into one that is."""
        settled = self.delivered + self.merged + sum(self.dead.values()) + sum(self.dropped.values())
        return self.accepted - settled

    def conclude(self, outcome: Outcome, carriers: int, merged: int) -> None:
        """Count so many calls as settled, and so many others that went into them."""
        if outcome.is_delivered:
            self.delivered += carriers
            if outcome.by is not None and carriers:
                self.by[outcome.by] = self.by.get(outcome.by, 0) + carriers
        elif carriers:
            lost = self.dead if outcome.status == "dead" else self.dropped
            reason = outcome.reason or "unknown"
            lost[reason] = lost.get(reason, 0) + carriers
        self.merged += merged
        self.merged_lost += 0 if outcome.is_delivered else merged

    def as_dict(self) -> dict[str, Any]:
        """For JSON. By hand, as is `copy`: this is part of every transaction."""
        return {name: getattr(self, name) for name in _FIELDS}

    def copy(self) -> Account:
        """A copy of the counts that may be changed."""
        same = Account(**self.as_dict())
        same.dead, same.dropped, same.by = dict(self.dead), dict(self.dropped), dict(self.by)
        return same

    def with_calls(self, calls: int, size: int) -> Account:
        """So many calls more, of ``size`` bytes; what is counted by label is shared. By position, for speed."""
        return Account(
            self.next_id + calls, self.accepted + calls, self.delivered, self.by, self.merged, self.merged_lost,
            self.dead, self.dropped, self.bytes + size, self.ambiguous, self.forgotten, self.resets, self.duplicates,
            self.keys,
        )  # fmt: skip

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Account:
        """The other way round; what is not known is ignored."""
        return cls(**{field.name: fields[field.name] for field in attrs.fields(cls) if field.name in fields})


_FIELDS = tuple(field.name for field in attrs.fields(Account))

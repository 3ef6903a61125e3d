"""Accepted calls as an outbox on disk, or on another machine, holds them: JSON throughout, and back again unchanged."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, cast

import attrs

from ._lanes import Facts, Key, Kind, Said
from ._ledger import Outcome, Status
from ._values import encode_json

Runs = list[tuple[int, int]]
"""Ids as first and last of each stretch without a gap, in order."""


@attrs.frozen
class Stored:
    """A call as it is held."""

    kind: Kind
    key: str
    """JSON: a string, or an array of them for somebody with several ids."""
    said: bytes
    """JSON: an object is an event or a post as it goes over the wire; an array is what an identify says."""
    moment: str | None
    """When the event happened (ISO 8601), if the wire has no field for that."""

    @classmethod
    def of(cls, kind: Kind, key: Key, said: Said) -> Stored:
        """As a client puts it."""
        whose = encode_json(key)
        if isinstance(said, bytes):
            return cls(kind, whose, said, None)
        if len(said) == 2:
            return cls(kind, whose, said[0], said[1].isoformat())
        return cls(kind, whose, encode_json(said).encode(), None)

    def call(self, parts_done: Iterable[tuple[Kind, str]] = ()) -> tuple[Kind, Key, Said]:
        """As it was put; but without what the server has been told of already, by kind and key: what it says of itself,
        or of another (a company).
        """
        key = json.loads(self.key)
        said: Said = self.said
        if self.moment is not None:
            said = (self.said, datetime.fromisoformat(self.moment))
        elif self.said.startswith(b"["):
            metadata, fields, size, companion = json.loads(self.said)
            facts: Facts = (metadata, fields, size, tuple(companion) if companion else None)
            other = facts[3]
            if other is not None and other[:2] in parts_done:
                facts, other = (metadata, fields, size - other[3], None), None
            if (self.kind, key) in parts_done:
                if other is not None:
                    return other[0], other[1], (other[2], None, other[3], None)
                facts = ({}, None, facts[2], None)  # it went with a later one, which says something of another, too
            said = facts
        return self.kind, tuple(key) if isinstance(key, list) else key, said

    def has_companion(self) -> bool:
        """What is said holds something of another (a company)."""
        return has_companion(self.said)

    def checksum(self, call_id: int, accepted_at: float, size: int) -> int:
        """Over all of it: one flipped bit passes SQLite's own check."""
        head = f"{call_id} {accepted_at!r} {size} {self.kind} {self.key} {self.moment}"
        return zlib.crc32(self.said, zlib.crc32(head.encode()))


def has_companion(said: Any) -> bool:
    """What is said (JSON) holds something of another, a company. `Any`: a damaged row may hold anything."""
    return isinstance(said, bytes) and said.startswith(b"[") and not said.endswith(b"null]")


def key_in(stored: Stored, kind: Kind) -> str | None:
    """Whose row of this kind a call belongs to: its own, or that of another it says something of."""
    try:
        its_kind, key, said = stored.call()
    except (TypeError, ValueError, AttributeError):  # damaged
        return None
    companion = cast("Facts", said)[3] if len(said) == 4 else None
    if its_kind != kind:
        return companion[1] if companion is not None and companion[0] == kind else None
    return key if isinstance(key, str) else None


def sealed(said: Any) -> str:
    """JSON with a checksum. `Any` is what JSON may be."""
    text = encode_json(said)
    return f"{text}#{zlib.crc32(text.encode()):08x}"


def unsealed(text: Any) -> Any:
    """What was sealed; ``None`` if it is damaged."""
    try:
        said, _, seal = text.rpartition("#")
        return json.loads(said) if f"{zlib.crc32(said.encode()):08x}" == seal else None
    except (ValueError, AttributeError, TypeError):
        return None


def runs(ids: Iterable[int]) -> Runs:
    """Ids as stretches."""
    stretches: Runs = []
    for one in sorted(ids):
        if stretches and one == stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], one)
        else:
            stretches.append((one, one))
    return stretches


@attrs.frozen
class Concluded:
    """What became of calls, as everyone with the same outbox is told."""

    status: Status
    label: str | None
    """Why they were lost; of what was delivered, the kind of job that did it."""
    carriers: Runs
    merged: Runs

    @classmethod
    def of(cls, outcome: Outcome, carriers: Iterable[int], merged: Iterable[int]) -> Concluded:
        """These calls have met this fate."""
        return cls(outcome.status, outcome.by or outcome.reason, runs(carriers), runs(merged))

    @property
    def outcome(self) -> Outcome:
        """What became of the carriers."""
        if self.status == "delivered":
            return Outcome("delivered", by=self.label)  # type: ignore[arg-type]  # it was one when it was written
        return Outcome(self.status, self.label)

    def as_list(self) -> list[Any]:
        """For JSON."""
        return [self.status, self.label, self.carriers, self.merged]

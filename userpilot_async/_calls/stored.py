"""Accepted calls as an outbox on disk, or on another machine, holds them: JSON throughout, and back again unchanged."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from .outcome import Outcome, Status
from .payload import (
    NOTHING_LEFT,
    IdentifyPayload,
    Key,
    Kind,
    Payload,
    body_of,
    companion_key,
    companion_kind,
    companion_of,
    companion_size,
    companion_subject,
    event_in,
    occurred_at,
    size_of_identify,
)
from .values import encode_json

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""Errors that reading something damaged raises, which may be anything: other programs write there, too."""

END = 2**63  # no id of SQLite or of Redis reaches it

Runs = list[tuple[int, int]]
"""Ids as first and last of each stretch without a gap, in order."""


@attrs.frozen
class Stored:
    """A call as it is held."""

    kind: Kind
    key: str
    """JSON: a string, or an array of them for a person with several ids."""
    body: bytes
    """JSON: an object is an event or a post as it goes over the wire; an array is what an identify says."""
    moment: str | None
    """When the event happened (ISO 8601), if the wire has no field for that."""

    @classmethod
    def of(cls, kind: Kind, key: Key, payload: Payload) -> Stored:
        """As a client puts it."""
        whose = encode_json(key)
        event = event_in(payload)
        if event is None:
            return cls(kind, whose, encode_json(payload).encode(), None)
        moment = occurred_at(event)
        return cls(kind, whose, body_of(event), moment.isoformat() if moment is not None else None)

    def call(self, parts_done: Iterable[tuple[Kind, str]] = ()) -> tuple[Kind, Key, Payload]:
        """As it was put; but without what the server has already, by kind and key: what it says of itself,
        or of another (a company). Raises one of `UNREADABLE` if it is damaged: what is sent is what a client has put.
        """
        key = _key(json.loads(self.key))
        payload: Payload = self.body
        if self.moment is not None:
            payload = (self.body, _moment(self.moment))
        elif self.body.startswith(b"["):
            facts = _facts(json.loads(self.body))
            metadata, fields, size, other = facts
            if self.kind == "track":
                raise ValueError("a track says what an identify says")
            if other is not None and companion_subject(other) in parts_done:
                facts, other = (metadata, fields, size - companion_size(other), None), None
            if isinstance(key, str) and (self.kind, key) in parts_done:
                if other is not None:
                    kind, key, properties, size = other
                    return kind, key, (properties, None, size, None)
                # It went with a later one, which says something of another, too.
                facts = (NOTHING_LEFT, None, size_of_identify(facts), None)
            payload = facts
        if isinstance(payload, bytes) and self.kind in ("user", "company"):
            raise ValueError("an identify says what a track says")
        return self.kind, key, payload

    def has_companion(self) -> bool:
        """The payload holds something of another (a company)."""
        return has_companion(self.body)

    def checksum(self, call_id: int, accepted_at: float, size: int) -> int:
        """Over all of it: one flipped bit passes SQLite's own check."""
        head = f"{call_id} {accepted_at!r} {size} {self.kind} {self.key} {self.moment}"
        return zlib.crc32(self.body, zlib.crc32(head.encode()))


def _key(value: Any) -> Key:
    """A string, or an array of them."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(one, str) for one in several):
        raise ValueError("no key")
    return tuple(value) if isinstance(value, list) else str(value)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a zone")
    return moment


def _facts(value: Any) -> IdentifyPayload:
    metadata, fields, size, companion = value
    other = None
    if companion:
        kind, key, properties, its_size = companion
        other = (kind, key, properties, its_size)
        if not (type(kind) is str is type(key) and type(properties) is dict and type(its_size) is int):
            raise ValueError("nothing that an identify says of another")
    if type(metadata) is not dict or not (fields is None or type(fields) is dict) or type(size) is not int:
        raise ValueError("nothing that an identify says")
    return metadata, fields, size, other


def has_companion(body: Any) -> bool:
    """A payload (JSON) holds something of another, a company. `Any`: a damaged row may hold anything."""
    return isinstance(body, bytes) and body.startswith(b"[") and not body.endswith(b"null]")


def key_in(stored: Stored, kind: Kind) -> str | None:
    """The key whose row of this kind a call belongs to: its own, or that of another it says something of."""
    try:
        its_kind, key, payload = stored.call()
    except UNREADABLE:
        return None
    companion = companion_of(payload)
    if its_kind != kind:
        return companion_key(companion) if companion is not None and companion_kind(companion) == kind else None
    return key if isinstance(key, str) else None


def sealed(value: Any) -> str:
    """JSON with a checksum. `Any` is what JSON may be."""
    text = encode_json(value)
    return f"{text}#{zlib.crc32(text.encode()):08x}"


def unsealed(text: Any) -> Any:
    """The value that was sealed; ``None`` if it is damaged."""
    try:
        value, _, seal = text.rpartition("#")
        return json.loads(value) if f"{zlib.crc32(value.encode()):08x}" == seal else None
    except UNREADABLE:
        return None


def runs(ids: Iterable[int]) -> Runs:
    """Ids as stretches without gaps, in order."""
    stretches: Runs = []
    for one in sorted(ids):
        if stretches and one == stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], one)
        else:
            stretches.append((one, one))
    return stretches


@attrs.frozen
class Concluded:
    """The outcome of calls, as all with the same outbox hear it."""

    status: Status
    label: str | None
    """Why they were lost; of what was delivered, the kind of job that did it."""
    carriers: Runs
    merged: Runs

    @classmethod
    def of(cls, outcome: Outcome, carriers: Iterable[int], merged: Iterable[int]) -> Concluded:
        """The outcome of these calls, as it is written down."""
        return cls(outcome.status, outcome.by or outcome.reason, runs(carriers), runs(merged))

    @classmethod
    def read(cls, fields: Any) -> Concluded:
        """An outcome as it was written down, in JSON. Raises one of `UNREADABLE` if it is damaged."""
        status, label, carriers, merged = fields
        if status not in ("delivered", "dead", "dropped") or not (label is None or type(label) is str):
            raise ValueError("no outcome")
        return cls(status, label, stretches_in(carriers), stretches_in(merged))

    @property
    def outcome(self) -> Outcome:
        """The outcome of the carriers, for a ledger."""
        if self.status == "delivered":
            return Outcome("delivered", by=self.label)  # type: ignore[arg-type]  # it was one when it was written
        return Outcome(self.status, self.label)

    def as_list(self) -> list[Any]:
        """A list of the four parts, which JSON can hold."""
        return [self.status, self.label, self.carriers, self.merged]


def stretches_in(value: Any) -> Runs:
    """Ids, each alone or as the first and the last of a stretch. Raises one of `UNREADABLE` if they are damaged."""
    stretches = [(one, one) if type(one) is int else (one[0], one[1]) for one in value]
    if not all(type(first) is int is type(last) and 0 <= first <= last < END for first, last in stretches):
        raise ValueError("no stretches of ids")
    return stretches

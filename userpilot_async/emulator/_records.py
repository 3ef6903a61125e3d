"""Records of the store: profiles, events, and the logs that a test reads afterwards."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal, TypeAlias

import attrs

from userpilot_async.emulator._wire import Payload

Via: TypeAlias = Literal["realtime", "bulk", "import", "deletion", "parcelvoy"]
AppliedKind: TypeAlias = Literal[
    "identify", "company", "track", "page_view", "delete_user", "delete_company", "alias", "device", "event"
]
"""Parcelvoy's are `identify`, `alias`, `device` and `event`; `via` keeps its identify apart from Userpilot's."""
Space: TypeAlias = Literal["user", "company", "parcelvoy"]
"""Within which an id is one of a kind: Userpilot's users, its companies, and Parcelvoy's users."""


@attrs.define
class User:
    """A profile. `first_seen` and `last_seen` are stamps of the server's clock, not `inserted_at` of an import."""

    user_id: str
    properties: dict[str, Any]
    company_id: str | None
    first_seen: float
    last_seen: float


@attrs.define
class Company:
    company_id: str
    properties: dict[str, Any]
    first_seen: float
    last_seen: float


@attrs.frozen
class Event:
    """A tracked event, booked on the company its user belonged to when it arrived."""

    sequence: int  # the same number as in the applied log
    stamp: float  # when the server took it in
    user_id: str
    event_name: str
    metadata: Payload
    company_id: str | None
    user_known: bool  # False: the vendor stores it too, but it triggers no content
    via: Literal["track", "import"]
    occurred_at: float  # the stamp, or `inserted_at` of an import row
    context: dict[str, str] = attrs.field(factory=dict)
    """Of an import row: `hostname`, `pathname`, `browser` and `operating_system`, as far as they are known."""


@attrs.frozen
class PageView:
    """A `page_view` row of an import."""

    sequence: int
    stamp: float
    user_id: str
    row: Payload
    company_id: str | None
    user_known: bool
    occurred_at: float
    context: dict[str, str]  # as an event's


@attrs.frozen
class Applied:
    """A write that took effect, with its payload as it came."""

    sequence: int
    stamp: float
    kind: AppliedKind
    id: str  # of the user or the company; to Parcelvoy the external id, if the payload has one
    payload: Payload
    via: Via
    job_id: str | None


class AppliedLog:
    """The one order in which everything took effect, by whichever API it came. Nothing is ever removed."""

    def __init__(self) -> None:
        self.entries: list[Applied] = []
        self._indexed = 0
        self._places: defaultdict[tuple[Space, str], list[int]] = defaultdict(list)

    def add(
        self, kind: AppliedKind, subject: str, payload: Payload, stamp: float, via: Via, job_id: str | None = None
    ) -> int:
        """Write one down; returns its sequence number."""
        sequence = len(self.entries) + 1
        self.entries.append(Applied(sequence, stamp, kind, subject, payload, via, job_id))
        return sequence

    def catch_up(self, most: int) -> bool:
        """Take so many entries more into the index of `about`; False when all are in it.

        The index is of no use to most runs, so that nothing but a look at somebody's history makes it.
        """
        begun = self._indexed
        for place in range(begun, min(begun + most, len(self.entries))):
            entry = self.entries[place]
            self._places[_space(entry), entry.id].append(place)
            self._indexed = place + 1
        return self._indexed < len(self.entries)

    def about(self, space: Space, *ids: str) -> list[int]:
        """Places in `entries` of what took effect on a user or a company of these ids, as far as is indexed."""
        return sorted({place for id in ids for place in self._places.get((space, id), ())})


def _space(entry: Applied) -> Space:
    if entry.via == "parcelvoy":
        return "parcelvoy"
    return "company" if entry.kind in ("company", "delete_company") else "user"


@attrs.frozen
class Requested:
    """A request, answered or cut. Never holds the key, only the fingerprint of it."""

    stamp: float
    method: str
    path: str
    family: str
    status: int | None  # None: the connection was cut
    rows: int
    filename: str | None
    key_fingerprint: str
    fault: str | None
    applied: bool
    request_id: str  # of the answer's `x-request-id`; "" for Parcelvoy's


@attrs.frozen
class Counters:
    """The sums over everything since the start or the last reset."""

    requests: dict[str, dict[str, int]]  # family → status ("cut" for none) → count
    unique_users: int
    companies: int
    events: int
    page_views: int
    duplicate_events: int  # each repetition of the same user, name and metadata
    unknown_user_events: int
    rows: int  # applied by jobs
    jobs: dict[str, int]  # status → count
    event_name_bytes: int  # of all unique event names together
    events_over_name_limit: int  # accepted, though their new name went beyond 512 KB
    parcelvoy: dict[str, int]  # users, events, devices, aliases, lost

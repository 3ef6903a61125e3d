"""What people see of a durable outbox from outside, and what they have done to it: the same wherever it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import attrs

from .._account.shared_ledger import Account
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, companion_key, companion_of, fields_of, identify_in
from .._calls.stored import Runs
from .._errors.tree import OutboxError

Call = tuple[Kind, Key, Payload]
PURGED = Outcome("dropped", "purged")
PREFIXES = {"parcelvoy": ("e:", "a:")}  # of keys, by kind of server: of external and of anonymous ids


@attrs.frozen
class Holder:
    """Who sends, by its own account."""

    pid: int | None = None
    host: str | None = None
    since: float | None = None
    """By the clock of the outbox: this machine's, or its server's."""
    seconds: float | None = None
    """For how long, by the same clock."""

    def __str__(self) -> str:
        name = "another process" if self.pid is None else f"process {self.pid}"
        return name if self.host is None else f"{name} on {self.host}"


@attrs.frozen(kw_only=True)
class Inspection:
    """One moment of an outbox."""

    place: str
    destination: str | None
    """To which server its calls go; ``None`` while it belongs to nobody."""
    sender: Holder | None
    """Who holds the lease; ``None`` if nobody sends."""
    account: Account
    oldest: float | None
    """When the first call in line was accepted."""
    now: float
    """By the clock of the outbox, as is ``oldest``."""
    under_way: int
    """Requests of which it is not known whether they have reached the server."""
    lost: int
    """Dead and dropped calls that are kept."""
    version: int
    """Of how it is kept; 0 for an empty file."""
    bytes_on_disk: int | None = None
    """Of a file, with its log."""
    bytes_in_memory: int | None = None
    """Of Redis, as it estimates that; ``None`` also where it does not say."""
    damaged: int = 0
    """Rows that a file has set aside."""
    quarantined: Sequence[str] = ()
    """Names of damaged files that lie beside it."""


@attrs.frozen
class DeadLetter:
    """A dead or dropped call that is kept."""

    id: int
    at: float
    """When it was accepted, by the calendar."""
    kind: str
    key: str
    """Whose it is; of somebody with several ids, all of them."""
    lost_at: float
    status: str
    reason: str
    detail: str
    call: Call | None
    """As it was put; ``None`` if it is damaged."""


@attrs.frozen
class Retried:
    """Calls that wait again."""

    ids: Runs
    """Under which, in their order. Where others put meanwhile, that may be several stretches."""
    damaged: int
    """Those that stay where they are: nobody knows what they were."""
    missing: Sequence[int]
    """Ids that were asked for, and are not kept."""

    @property
    def calls(self) -> int:
        """How many."""
        return sum(last - first + 1 for first, last in self.ids)


@attrs.frozen
class Rebound:
    """To whom an outbox belonged, and how many calls that wait have changed hands."""

    before: str | None
    waiting: int


@attrs.frozen
class Subject:
    """Who is to be erased."""

    kind: Literal["user", "company"]
    id: str

    def keys(self, destination: str) -> set[str]:
        """What their calls are filed under."""
        prefixes = PREFIXES.get(server_of(destination), ("",)) if self.kind == "user" else ("",)
        return {prefix + self.id for prefix in prefixes}


@attrs.define
class PurgeReport:
    """How much was, or would be, erased."""

    waiting: int = 0
    """Calls that waited; they are dropped, reason ``purged``."""
    lost: int = 0
    """Dead and dropped calls that were kept."""
    damaged: int = 0
    """Damaged rows in which the id stands."""
    changed: int = 0
    """Users' calls without the company now."""
    unchanged: int = 0
    """Users' calls that go on naming the company: entries of a stream in Redis cannot be changed."""
    unclear: int = 0
    """Damaged rows that are left: whose they are cannot be said."""
    known_as: set[str] = attrs.field(factory=set)
    """Other ids of the same person, which were not asked for."""
    done: bool = False
    """It is erased."""
    swept: bool = False
    """And nothing is left of it: in free pages and the log of a file; in the memory of Redis."""
    quarantined: Sequence[str] = ()
    """Damaged files that lie beside it, and are not touched."""


def server_of(destination: str) -> str:
    """The kind of server, of a destination as outboxes have it."""
    return destination.partition(" at ")[0]


def check_kinds(place: str, before: str | None, destination: str, calls: int) -> None:
    """May so many calls for one server go to another? Raises `OutboxError`."""
    if before is not None and server_of(before) != server_of(destination) and calls:
        kinds = f"{server_of(before)}, which {server_of(destination)} does not understand"
        raise OutboxError(f"{place} has {calls:,} calls for {kinds}: take an outbox of its own")


def keys_in(key: str) -> list[str]:
    """All ids in a key as it is stored. Raises `ValueError` if it is damaged."""
    known = json.loads(key)
    return [str(one) for one in known] if isinstance(known, list) else [str(known)]


def names_company(call: Call, company: str) -> bool:
    """An identify of a user says something of this company, or that the user belongs to it."""
    kind, _, payload = call
    identify = identify_in(payload)
    if kind != "user" or identify is None:
        return False
    companion = companion_of(identify)
    named = companion_key(companion) if companion is not None else ""
    return company in ((fields_of(identify) or {}).get("company_id"), named)

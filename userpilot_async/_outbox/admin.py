"""A durable outbox from outside: all that people see of it and do with it, wherever it is.

A kind of outbox implements `OutboxAdmin`. What is decided stands here: which dead letters are meant, who sends by the
note beside the lease, whether an outbox may change hands, whose a call is.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import attrs

from .._account.account import Account
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload, companion_key, companion_of, fields_of, identify_in
from .._calls.stored import UNREADABLE, Runs
from .._errors.tree import OutboxError
from .._schedule.calendar import age
from .owner import Claim
from .pages import Page, UnfinishedUpload, WaitingCall

Call = tuple[Kind, Key, Payload]
PURGED = Outcome("dropped", "purged")
DELETIONS = ("delete_user", "delete_company")
"""Kinds of calls that no purge erases while they wait: they ask the server for the same."""
OF_COMPANIES = ("company", "delete_company")
"""Kinds of calls whose key is a company's id; that of all others is a user's."""
PREFIXES = {"parcelvoy": ("e:", "a:")}  # of keys, by kind of server: of external and of anonymous ids


class OutboxAdmin(Protocol):
    """An outbox from outside, for people, beside the clients that use it or without any.

    Every method reads the place anew, and raises `OutboxError`: also where the place does not answer, for a person
    does not want to wait for that.
    """

    @property
    def place(self) -> str:
        """The outbox's name in messages, without a password."""
        ...

    @property
    def kind(self) -> Literal["sqlite", "redis", "postgres"]:
        """The room that keeps the outbox: its purge leaves traces of other kinds."""
        ...

    def inspect(self) -> Inspection:
        """All that there is to see, at one moment."""
        ...

    def holder(self) -> Holder | None:
        """The holder of the sender's lease; ``None`` if no process sends."""
        ...

    def waiting(self, after: str, limit: int, ids: Collection[str] = ()) -> Page[WaitingCall]:
        """The next calls, ``limit`` at most, behind the place ``after``; "" is the beginning.

        With ``ids``, only calls of a key with one of these in it. Raises `ValueError` if ``after`` is no such place.
        """
        ...

    def lost(self, after: str, limit: int, reason: str | None = None) -> Page[DeadLetter]:
        """The next dead and dropped calls that are kept, by the order of the place; else as `waiting`."""
        ...

    def dead_letters(self, chosen: Selection = ...) -> DeadLetters:
        """The dead and dropped calls that are kept, but those that are not ``chosen``."""
        ...

    def retry(self, chosen: Selection = ...) -> Retried:
        """Put the chosen dead letters back: at the end of the line, in their order, with the time of their acceptance.

        They are accepted again, under new ids.
        """
        ...

    def rebind(self, claim: Claim) -> Rebound:
        """Give the outbox to another account, or to the same one with another key. None may be sending from it."""
        ...

    def purge(self, whose: Subject, *, really: bool = True) -> PurgeReport:
        """Erase a person or a company; not ``really``, only count how much that would be.

        Calls that a sender has in its memory may still be sent.
        """
        ...


@attrs.frozen
class Selection:
    """Dead letters that are meant: all, or those lost for these reasons, with these ids."""

    reasons: Collection[str] = ()
    ids: Collection[int] = ()

    def takes(self, call_id: int, reason: str) -> bool:
        """The dead letter with this id, lost for this reason, is meant."""
        return (not self.reasons or reason in self.reasons) and (not self.ids or call_id in self.ids)

    def missing(self, kept: Iterable[int]) -> Sequence[int]:
        """The ids that were asked for, and are not among those that are ``kept``."""
        return sorted(set(self.ids).difference(kept))


EVERY_ONE = Selection()


@attrs.frozen
class Holder:
    """The holder of the sender's lease, by its own account. Shown to people, and used for nothing."""

    pid: int | None = None
    host: str | None = None
    since: float | None = None
    """When it got the lease, by the clock of the outbox: this machine's, or its server's."""
    seconds: float | None = None
    """How long ago that was, by the same clock."""

    @classmethod
    def of(cls, note: str | bytes, now: float) -> Holder:
        """The writer of this note; an unknown one, if it cannot be read: it may just be being written."""
        try:
            fields = json.loads(note)
            since = float(fields["since"])
            return cls(int(fields["pid"]), str(fields["host"]), since, age(since, now))
        except (*UNREADABLE, OverflowError):
            return cls()

    def __str__(self) -> str:
        name = "another process" if self.pid is None else f"process {self.pid}"
        return name if self.host is None else f"{name} on {self.host}"


@attrs.frozen(kw_only=True)
class Inspection:
    """All that there is to see of an outbox at one moment."""

    place: str
    destination: str | None
    """To which server its calls go; ``None`` while it has no owner."""
    sender: Holder | None
    """The holder of the lease; ``None`` if no process sends."""
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
    inbox: int = 0
    """Calls that transactions of the application's have put, and no sender has accepted yet."""
    inbox_bytes: int = 0
    spent: Mapping[str, int] = attrs.field(factory=dict)
    """Tokens that are not back yet, by the budget of the sender's requests."""
    uploads: Sequence[UnfinishedUpload] = ()


@attrs.frozen
class DeadLetter:
    """A dead or dropped call that is kept."""

    id: int
    at: float
    """When it was accepted, by the calendar."""
    kind: str
    key: str
    """The user's or company's id; of a person with several ids, all of them."""
    lost_at: float
    status: str
    reason: str
    detail: str
    call: Call | None
    """As it was put; ``None`` if it is damaged."""


@attrs.frozen
class DeadLetters:
    """Dead and dropped calls that are kept, oldest first."""

    destination: str | None
    """To which server the outbox's calls go; ``None`` while it has no owner."""
    kept: Sequence[DeadLetter]


@attrs.frozen
class Retried:
    """Calls that were put back, and wait again."""

    ids: Runs
    """Under which, in their order. Where others put meanwhile, that may be several stretches."""
    damaged: int
    """Damaged calls that stay where they are: what they were is unknown."""
    missing: Sequence[int]
    """Ids that were asked for, and are not kept."""

    @property
    def calls(self) -> int:
        """How many calls wait again."""
        return sum(last - first + 1 for first, last in self.ids)


@attrs.frozen
class Rebound:
    """To whom an outbox belonged, and how many calls that wait have changed hands."""

    before: str | None
    waiting: int


@attrs.frozen
class Subject:
    """The person or company that is to be erased."""

    kind: Literal["user", "company"]
    id: str

    def keys(self, destination: str) -> set[str]:
        """The keys that their calls are filed under."""
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
    """All of this is erased; if not, it was only counted."""
    swept: bool = False
    """And nothing is left of it: in free pages and the log of a file; in the memory of Redis."""
    quarantined: Sequence[str] = ()
    """Damaged files that lie beside it, and are not touched."""


def server_of(destination: str) -> str:
    """The kind of server, of a destination as outboxes have it."""
    return destination.partition(" at ")[0]


def check_rebinding(place: str, before: str | None, destination: str, calls: int, *, has_sender: bool) -> None:
    """See that an outbox with so many calls may change hands. Raises `OutboxError` with the place's name.

    Calls for one kind of server mean nothing to another, and a sender would go on with the old key.
    """
    if has_sender:
        raise OutboxError(f"{place} has a sender, which would go on with the old key: end it first")
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

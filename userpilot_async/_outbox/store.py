"""A place where a durable outbox keeps its calls: what is asked of it, and what it reports.

A kind of outbox implements `Store`, and is done: the thread, the batches and the window are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from .._account.account import Account
from .._calls.outcome import Outcome
from .._calls.pairs import Pair
from .._calls.stored import Concluded
from .._errors.tree import OutboxError
from .._schedule.takeover import Takeover
from .batch import Batch
from .owner import Claim
from .window import Read, Reading


class NotNow(Exception):
    """The place cannot be had at present: what was asked of it is asked again.

    A batch that was taken is not lost by this: the next `Store.commit` goes on with it.
    """


@attrs.frozen
class Admitted:
    """A call of a transaction of the application's, which has committed."""

    ticket: int
    """The number by which the receipt of its caller is found."""
    id: int
    repeats: bool = False
    """True if the call was not accepted, as the one with this id has the same key."""
    outcome: Outcome | None = None
    """The outcome of that call, if it is known, and not held any more."""


@attrs.frozen
class Committed:
    """All that the outbox holds after a batch was written, or when the place was polled."""

    account: Account
    oldest: int | None
    """The lowest id that is held; ``None`` if no call is."""
    heard: Sequence[Concluded] = ()
    """Calls that others have settled since the last time."""
    settled: Sequence[Concluded] = ()
    """Calls that this batch has settled."""
    first_put: int = 0
    """The ids of the batch's puts count up from here, those of the refused go on behind them."""
    puts_failed: OutboxError | None = None
    """Why its puts are not held, while everything else is recorded."""
    complete: bool = False
    """All that is known of outcomes is here: calls before the oldest that is held, without an outcome, are gone."""
    ids: Sequence[int] | None = None
    """The ids of the puts, if they are not all in a row: of a duplicate, that of the first call with its key."""
    duplicates: Mapping[int, Outcome | None] = attrs.field(factory=dict)
    """Puts that were not written, by their places among all, as an earlier call has their `Put.dedupe`; and the outcome
    of that call: ``None`` if it is held, or was when the batch was begun.
    """
    first_refused: int | None = None
    """The id of the first that was refused, if those are not behind the puts."""
    admitted: Sequence[Admitted] = ()
    """Calls of transactions of the application's that were accepted, or not for their key, since the last time."""
    appended: bool = False
    """The batch had nothing but calls, all of which are held: that, and nothing else, is new since the last time."""
    noted: bool = True
    """All of the batch is recorded; if not, more of it is by the next `Store.commit`."""


@attrs.frozen
class Lead:
    """The sender's lease has just become ours."""

    inheritance: Takeover
    now: Committed


class Store(Protocol):
    """A place where calls are kept. Called in the writer's thread only, `open` first and `close` last.

    Each method raises `NotNow`, and but for that `OutboxError` with the reason in words; anything else is a bug.

    The last `MOST_PAIRS` pairs of keys that calls have named together are kept beside the calls, and outlive them. New
    ones are reported by `Listener.learn_pairs`: when the place is opened, by `poll`, and before a lease is taken.

    The key of a put (`Put.dedupe`) is kept with the id of its call, in the same transaction, for as many seconds as it
    says, and outlives the call. Meanwhile a put with that key, of whatever process, is none: see
    `Committed.duplicates`. So many are counted in `Account.duplicates`, and in no other number.
    """

    @property
    def leads(self) -> bool:
        """The sender's lease is ours, as far as is known."""
        ...

    def open(self, claim: Claim) -> Committed:
        """Find the outbox or make it, and see that it is the claimant's. `OutboxError` refuses it for good."""
        ...

    def ready(self) -> bool:
        """Calls may be written and read now; while a place is away, only `poll` finds out when it is back."""
        ...

    def poll(self) -> Committed | None:
        """All that others have done since the last time; ``None`` if they have done nothing."""
        ...

    def lead(self) -> Lead | None:
        """Take the lease if it is free, or keep ours; not ``None`` when it has just become ours."""
        ...

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Write the batch that ``take`` gives, which is asked for as late as can be: until then calls may be withdrawn.

        Asked again in the same commit, it gives the same one. A place that writes it in several steps makes one of
        them, and gives ``noted=False`` until the last. After an `OutboxError` nothing of the batch is written, and its
        puts have failed.
        """
        ...

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for; those that are damaged are set aside."""
        ...

    def reconcile(self, read_to: int) -> int | None:
        """Compare calls and account, for a sender that has read to this id and has nothing in hand.

        Calls that are missing are reported lost. The first id that is to be read again, if there is one before
        ``read_to``.
        """
        ...

    def close(self) -> None:
        """Let go of the place, and of the lease."""
        ...


class Listener(Protocol):
    """The outbox, to which a place reports by `Notify`, in the outbox's own loop. Its thread may read some of it."""

    @property
    def place(self) -> str:
        """The place's name in messages. Any thread may read it."""
        ...

    @property
    def reading(self) -> Reading | None:
        """The calls to be read, if any are asked for. Any thread may read it."""
        ...

    @property
    def misses_calls(self) -> int | None:
        """All calls before this id were read, and the account has more than were found. Any thread may read it."""
        ...

    def learn_pairs(self, pairs: Sequence[Pair]) -> None:
        """Keys that calls name together were put, in this order. Called in the thread itself, before what follows."""
        ...

    def began(self, now: Committed) -> None:
        """The place is open, and holds this."""
        ...

    def opened(self) -> None:
        """All is known that the outbox waits for when it is opened."""
        ...

    def refused(self, error: OutboxError) -> None:
        """The place cannot be opened."""
        ...

    def polled(self, now: Committed | None) -> None:
        """Hear what others have done since the last time; ``None``: nothing."""
        ...

    def leads(self, lead: Lead) -> None:
        """The lease is ours: calls are sent from here, from the oldest on."""
        ...

    def lost_lease(self) -> None:
        """Send no more: another process may."""
        ...

    def arrived(self, reading: Reading, read: Read) -> None:
        """The calls that were asked for were read."""
        ...

    def overlooked(self, read_to: int, first: int) -> None:
        """Calls from the id ``first`` on lie before ``read_to``, and have not been read."""
        ...

    def written(self, batch: Batch, now: Committed) -> None:
        """A batch, or a part of it, is recorded."""
        ...

    def failed(self, batch: Batch, error: OutboxError) -> None:
        """A batch is not recorded; what must be written some time goes with the next one."""
        ...

    def tried(self, batch: Batch) -> None:
        """A batch could not be written now: its calls may be withdrawn until the next try."""
        ...

    def closed(self) -> None:
        """Hear that the thread has ended."""
        ...


class Notify(Protocol):
    """Calls a `Listener`'s method with its arguments, soon, in the outbox's own loop."""

    def __call__(self, function: Callable[..., object], *arguments: object) -> None:
        """From any thread, and without waiting for it."""
        ...

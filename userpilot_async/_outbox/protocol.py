"""A place where accepted calls wait, as a client and its sender see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from anyio.abc import TaskGroup

from .._account.ledger import Ledger
from .._calls.dedupe import DedupeKey
from .._calls.outcome import Outcome
from .._calls.pairs import Pair
from .._calls.payload import Key, Kind, Payload, Ticket
from .._errors.tree import OutboxError
from .._schedule.calendar import Calendar
from .._schedule.settlement import Settlement
from .._schedule.takeover import RequestNote, Takeover
from .receipt import Receipt


@attrs.frozen(kw_only=True)
class Opening:
    """A client that opens an outbox, and what it wants of it."""

    max_calls: int
    max_bytes: int
    """Of what waits in memory. An outbox with a limit of its own keeps to that."""
    destination: str
    """The kind of server, and where it is: calls for another do not belong here."""
    fingerprint: Callable[[bytes], str]
    """Of the account's key, for a salt: two accounts must not mix. Slow: for a thread of the outbox's own."""
    now: Callable[[], float]
    """The clock of the event loop, in seconds."""
    calendar: Calendar
    """The date that a moment on that clock has."""
    changed: Callable[[], object]
    """To be called when calls have come in, or have been settled: the sender and those who wait check again."""
    tasks: TaskGroup
    """The task group of the client."""
    failed: Callable[[Kind, Key, Payload, OutboxError], object]
    """To be called with a call that was put, but could not be held, and that no caller waits for."""
    calls_came: Callable[[int], object] = lambda calls: None
    """To be called with the number of calls of this client that have come in, where nothing else has changed."""
    learn_pairs: Callable[[Sequence[Pair]], object] = lambda pairs: None
    """To be called with keys that calls have named together, in the order of acceptance, as soon as that is known: of
    all processes, also of those that have ended. Called in a thread of the outbox's own.
    """
    call_of: Callable[[Kind, Key, Payload], object] = lambda *call: None
    """Makes the call as its caller would. Raises `UserpilotError`, or whatever, if no client can have put it. Called in
    a thread of the outbox's own.
    """
    old_fingerprint: Callable[[bytes], str] = lambda salt: ""
    """As earlier versions made it: an outbox of theirs is opened, and gets the other one."""


class SendLog(Protocol):
    """A sender's notes of its requests, kept beside the calls for the sender after it.

    Where calls end with their sender, nothing is noted, and nothing found.
    """

    @property
    def term(self) -> int:
        """How often another sender has taken over meanwhile: what was taken before is not ours any more."""
        ...

    def was_sent(self, call_id: int) -> bool:
        """An earlier sender ended while a request with this call was under way: the server may have it."""
        ...

    def inherited(self) -> Takeover | None:
        """Tokens and files that an earlier sender has left, once, before calls are taken; ``None`` if none is known."""
        ...

    async def sending(self, request: RequestNote) -> bool:
        """Note that a request is about to be made; false if that cannot be noted, and it should wait."""
        ...

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """Note that a request has ended.

        ``answered``: true; false if its answer got lost; ``None`` if it was never made. ``lost``: what was in it must
        be taken for sent.
        """
        ...

    def forget(self, filename: str) -> None:
        """Have a file not found again: what became of all that was in it has been settled."""
        ...


class Outbox(Protocol):
    """A place where calls wait. Any caller may put; exactly one sender takes and settles.

    The contract: a call that was put is taken exactly once by each sender, in the order of acceptance for each user.
    Only what was taken is settled, and what is settled is never taken again. The account (`ledger`) balances after
    every method.
    """

    when_room: Callable[[], object] | None

    @property
    def ledger(self) -> Ledger:
        """The account of all calls that were accepted."""
        ...

    @property
    def send_log(self) -> SendLog:
        """The notes of the process that sends from here."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the calls that wait."""
        ...

    @property
    def held_calls(self) -> int:
        """Calls that take room in this process, against `Opening.max_calls`; 0 where another limit holds."""
        ...

    @property
    def unheld(self) -> int:
        """Calls that are not held yet, and not in the account: on their way, or waiting until the place is back."""
        ...

    @property
    def durable(self) -> bool:
        """True if what waits outlives the client: `hold` takes a moment, and nothing is dropped for want of time."""
        ...

    @property
    def sends(self) -> bool:
        """Calls are taken from here now; others that use the same outbox only put."""
        ...

    @property
    def place(self) -> str:
        """The outbox's name in messages."""
        ...

    @property
    def stirs(self) -> bool:
        """Calls are on their way in or out: `take` may give some soon."""
        ...

    async def open(self, opening: Opening) -> None:
        """Be ready for this client. Raises `ValueError` if it is in use already, and `OutboxError`."""
        ...

    def has_room(self, size: int) -> bool:
        """A call of so many bytes may be put."""
        ...

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None
    ) -> Receipt:
        """Hold a call from now on, or, if that takes a moment, as soon as can be.

        One whose ``dedupe`` key an earlier call has is not held: the receipt shows what becomes of that one, as of one
        that is merged into it. It is in no number of the account but `Ledger.duplicates`.
        """
        ...

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """Hold a call: it is when this returns, or an earlier one is with its key. Raises `OutboxError`.

        ``None`` if that was not possible within ``max_wait`` seconds. Cancelled while it waits, the call is not held;
        or it is held, and this returns as if nothing had happened.
        """
        ...

    def known_under(self, dedupe: DedupeKey) -> Receipt | None:
        """The receipt for a call with a key that an earlier one has: it needs no room. It is counted as a duplicate.

        ``None`` if there is no such call, or that is not known here: then `put` finds out.
        """
        ...

    def take(self, limit: int) -> Sequence[Ticket]:
        """The next calls, in order, that were not taken yet; ``limit`` of them at most."""
        ...

    def merged(self, ids: Sequence[int], freed: int) -> None:
        """Note that calls went into later ones; ``freed`` bytes of what waits in memory are free again."""
        ...

    def submitted(self, ids: Sequence[int], submitted: bool, size: int) -> None:
        """A background job of the server holds these calls, or holds them no more; they are pending.

        ``size`` bytes of events among them need no room meanwhile.
        """
        ...

    def settle(self, settlement: Settlement) -> None:
        """Account for what became of calls, and of those merged into them."""
        ...

    def refuse(self, outcome: Outcome) -> Receipt:
        """Account for a call that found no room: accepted, and gone at once."""
        ...

    def drop_pending(self, outcome: Outcome) -> int:
        """Account for every call that cannot outlive the client, without the schedule's help; how many that were."""
        ...

    async def recorded(self) -> None:
        """Wait until all that was done before this is in the account."""
        ...

    async def aclose(self) -> None:
        """Stop using the outbox; another client may open it."""
        ...

    def abandon(self) -> None:
        """End for a client that is gone, and has not closed the outbox. May be called in any thread."""
        ...

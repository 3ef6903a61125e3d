"""A `Store` across a network: it may be away, and is opened anew whenever it is there again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from .._errors.tree import OutboxError
from .._runtime.clocks import steady
from .._runtime.log import RateLimitedLog
from .away import FAILURES, OtherGeneration, Reach
from .batch import Batch
from .lease import Lease
from .owner import Claim
from .remote_listener import RemoteListener
from .store import Committed, Lead, Notify, NotNow
from .window import Read, Reading

FORGET_EVERY = 60.0  # seconds between two searches for lost calls that were kept for long enough


class Connection(Protocol):
    """The one way to a place: lost with whatever fails, and made anew."""

    def close(self) -> None:
        """Let go of it, whatever has come on it."""
        ...

    def break_off_if_older(self, seconds: float) -> None:
        """From any thread: end a question that has been under way for so long."""
        ...


class RemoteStore:
    """All that stores across a network share. A kind of outbox says how it is opened, asked and written.

    *There*: it is asked. *Away*, until it has been opened, and whenever something that was asked of it fails: callers
    wait, and each `poll` whose time has come tries to open it.
    """

    server: str
    """The kind of server, for messages: a kind of outbox sets this, and the next one."""
    remedy: str
    """The advice where its data was set back."""
    failures: tuple[type[Exception], ...] = FAILURES
    """The exceptions by which it is away; all else is a bug."""
    again: tuple[type[Exception], ...] = ()
    """The exceptions among them by which it stays, once it is open: what has failed is made again."""

    def __init__(
        self, connection: Connection, lease: Lease, outbox: RemoteListener, notify: Notify, log: RateLimitedLog, *,
        keep_lost: float,
    ) -> None:  # fmt: skip
        self.lease = lease
        """The sender's, ours or not."""
        self.reach = Reach(self.server, outbox, notify, log)
        self._connection = connection
        self._outbox = outbox
        self._notify = notify
        self._log = log
        self._keep_lost = keep_lost  # seconds
        self._forget_at = 0.0
        self._resets: deque[str] = deque()  # generations in which calls were held that are gone, to be counted

    # ── what a kind of outbox says ──

    @property
    def offset(self) -> float:
        """Seconds from the steady clock to the server's, as far as is known."""
        raise NotImplementedError

    def _claim(self, claim: Claim) -> None:
        """Note whose outbox this is to be, before the first `_connect`."""
        raise NotImplementedError

    def _connect(self) -> Committed:
        """Be connected, and know what is there; report whether it is what it was.

        As every method from here on, raises one of `failures`, and nothing else.
        """
        raise NotImplementedError

    def _poll(self) -> Committed | None:
        """All that others have done since the last time; ``None`` if nothing has been done."""
        raise NotImplementedError

    def _reconcile(self, read_to: int) -> tuple[int, int | None]:
        """How many calls are missing, and the first that is to be read again."""
        raise NotImplementedError

    def _commit(self, take: Callable[[], Batch]) -> Committed:
        """Write a batch, or a step of it, as `Store.commit` does."""
        raise NotImplementedError

    def _read(self, reading: Reading) -> tuple[Read, int]:
        """The calls that are asked for, and how many were set aside, as they cannot be read."""
        raise NotImplementedError

    def _count_reset(self, generation: str) -> Committed:
        """Count in the account, once for all processes, that calls of this generation are gone."""
        raise NotImplementedError

    # ── what is known of it ──

    @property
    def leads(self) -> bool:
        """The lease is ours, as far as is known."""
        return self.lease.leading

    def break_off_if_older(self, seconds: float) -> None:
        """From any thread: end a question that has been under way for so long."""
        self._connection.break_off_if_older(seconds)

    # ── the log ──

    def warn(self, message: str) -> None:
        """Log a warning, once in a while."""
        self._log.warn(message, message)

    def report_set_back(self, generation: str, lost: int, under_way: int | None) -> None:
        """Log what it has cost that calls held in this generation are not all there any more. In any thread.

        So many calls that waited are lost; others were under way, and may have arrived (``None``: how many of the lost
        ones were is unknown).
        """
        if lost or under_way:
            self._resets.append(generation)
        self.reach.report_set_back(self.remedy, lost, under_way)

    def _report_lost(self, calls: int, why: str) -> None:
        """Calls are lost that can be counted: the log's numbers add up to the account's."""
        if calls:
            self._log.lost("damaged", calls, why=lambda: why)

    # ── being there ──

    def open(self, claim: Claim) -> Committed:
        """Find the outbox. Where its server does not answer now, `poll` goes on trying.

        Raises `OutboxError` if the server or the outbox refuses us, and `NotNow`.
        """
        self._claim(claim)
        try:
            return self._found()
        except OutboxError as error:
            if self._outbox.takes_refusal(error):
                self._connection.close()
                raise
            self._leave(error)
        except self.failures as error:
            self._leave(error)
            self._notify(self._outbox.began_away)
        raise NotNow

    def _found(self) -> Committed:
        """Connect, and note that the place is there; what it holds. Raises one of `failures`."""
        now = self._connect()
        self.reach.found()
        return now

    def _come_back(self) -> None:
        self._notify(self._outbox.is_back, self._found())

    def _leave(self, error: Exception) -> None:
        """The server is not to be had at present."""
        self._connection.close()
        if isinstance(error, OtherGeneration):
            self.reach.again()
            return
        self.reach.lost(error)
        self.lease.lapse()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Whatever fails meanwhile is `NotNow`, and takes the place away, but for what is to be made again."""
        try:
            yield
        except self.again:
            raise NotNow from None
        except self.failures as error:
            self._leave(error)
            raise NotNow from None

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Raises `NotNow` while the place is away, and when it has just gone."""
        if self.reach.away:
            raise NotNow
        with self._trying():
            yield

    # ── polling ──

    def poll(self) -> Committed | None:
        """All that others have done; or see whether the server is back. Raises `NotNow`."""
        self.lease.lapse()
        if self.reach.away and not self.reach.is_time:
            raise NotNow
        with self._trying():
            try:
                if self.reach.away:
                    self._come_back()
                if self.lease.may_send and not self.leads:  # the loop shows that it goes round, or no lease is taken
                    self._notify(self._outbox.polled, None)
                return self._poll()
            except OtherGeneration:
                self.reach.again()
                self._come_back()
                return None

    def _is_time_to_forget(self) -> bool:
        """True once in a while, for the holder of the lease: lost calls may have been kept for long enough."""
        if not self.leads or steady() < self._forget_at:
            return False
        self._forget_at = steady() + FORGET_EVERY
        return True

    def lead(self) -> Lead | None:
        """Take the lease if it is free, or keep ours. Raises `NotNow`."""
        with self._there():
            return self.lease.keep()

    def reconcile(self, read_to: int) -> int | None:
        """Compare calls and account; the first that is to be read again, if there is one. Raises `NotNow`."""
        with self._there():
            missing, first = self._reconcile(read_to)
        self._report_lost(missing, f"{self._outbox.place} does not have them any more, they were deleted there")
        return first

    # ── writing and reading ──

    def ready(self) -> bool:
        """Questions may be asked now; false while the place is away."""
        if self.reach.away:
            return False
        self.lease.lapse()
        try:
            with self._there():
                while self._resets:
                    now = self._count_reset(self._resets[0])
                    self._resets.popleft()
                    self._notify(self._outbox.polled, now)
        except NotNow:
            return False
        return True

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Write a batch, or the next step of it. Raises `NotNow`."""
        with self._there():
            return self._commit(take)

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for; such as cannot be read are set aside. Raises `NotNow`."""
        with self._there():
            read, aside = self._read(reading)
        self._report_lost(aside, f"what {self._outbox.place} has of them cannot be read, and was set aside")
        return read

    # ── the end ──

    def close(self) -> None:
        """Let another one send, and let go of the connection."""
        if not self.reach.away:
            try:
                self.lease.release()
            except self.failures as error:
                self.warn(f"{self._outbox.place}: the lease could not be given back ({error}); it ends by itself")
        self.lease.valid_until = -1.0
        self._connection.close()

"""PostgreSQL as a `Store`: reconnecting, polling, admitting, and every transaction of an outbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from .._errors.tree import OutboxError
from .._outbox.away import Reach
from .._outbox.batch import Batch
from .._outbox.owner import Claim
from .._outbox.remote_session import RemoteListener
from .._outbox.store import Committed, Lead, Notify, NotNow
from .._outbox.window import Read, Reading
from .._runtime.clocks import steady
from .._runtime.log import RateLimitedLog
from ._access import ClientState
from ._failures import FAILURES, OtherGeneration
from ._lease import PostgresLease
from ._opening import Opener
from ._reconcile import reconcile
from ._steps import WriteSteps

FORGET_EVERY = 60.0  # seconds between two searches for lost calls that were kept for long enough
IDLE_AFTER = 40  # polls in which nothing has happened: ten seconds
IDLE_EVERY = 4  # of these, one asks the server from then on
ADMISSIONS = 10  # in one poll: the lease is to be kept in between
REMEDY = "have replicas confirm (synchronous_commit), and restore no older data"

_GLANCE = """
SELECT generation::text, revision, lease, extract(epoch FROM lease_until)::float8,
       extract(epoch FROM clock_timestamp())::float8, {look} FROM {state}"""


class PostgresStore:
    """The outbox behind a connection, which is away until it has been opened, and whenever a transaction fails.

    Whoever changes anything has the state's row locked meanwhile, so that all changes come one after the other, and
    an account read there is that of the rows read beside it.
    """

    _opener: Opener

    def __init__(
        self, access: ClientState, outbox: RemoteListener, notify: Notify, log: RateLimitedLog, *,
        may_send: bool, lease_ttl: float, keep_lost: float,
    ) -> None:  # fmt: skip
        self.access = access
        learn = outbox.learn_pairs
        self.lease = PostgresLease(access, outbox, notify, self.warn, learn, may_send=may_send, ttl=lease_ttl)
        self.reach = Reach("PostgreSQL", outbox, notify, log)
        self._steps = WriteSteps(access, self.lease, outbox.place, self.warn)
        self._outbox = outbox
        self._notify = notify
        self._log = log
        self._keep_lost = keep_lost
        self._forget_at = 0.0
        self._still = 0  # polls since something has happened
        self._resets: deque[str] = deque()  # generations in which calls were held that are gone, to be counted

    @property
    def leads(self) -> bool:
        """The lease is ours, as far as is known."""
        return self.lease.leading

    @property
    def offset(self) -> float:
        """Seconds from the steady clock to the server's, as far as is known."""
        return self.access.offset

    def break_off_if_older(self, seconds: float) -> None:
        """From any thread: end a statement that has been under way for so long."""
        self.access.connection.break_off_if_older(seconds)

    # ── the log ──

    def warn(self, message: str) -> None:
        """Log a warning, once in a while."""
        self._log.warn(message, message)

    def report_set_back(self, generation: str, lost: int, under_way: int | None) -> None:
        """Log what it has cost that calls held in this generation are not all there any more. In any thread."""
        if lost or under_way:
            self._resets.append(generation)
        self.reach.report_set_back(REMEDY, lost, under_way)

    def _report_lost(self, calls: int, why: str) -> None:
        """Calls are lost that can be counted: the log's numbers add up to the account's."""
        self._log.lost("damaged", calls, why=lambda: why)

    # ── being there ──

    def open(self, claim: Claim) -> Committed:
        """Find the outbox. Where PostgreSQL does not answer now, `poll` goes on trying.

        Raises `OutboxError` if it or the outbox refuses us, and `NotNow`.
        """
        self._opener = Opener(claim, self._outbox.place)
        try:
            return self._connect()
        except OutboxError as error:
            if self._outbox.takes_refusal(error):
                self.access.connection.close()
                raise
            self._leave(error)
        except FAILURES as error:
            self._leave(error)
            self._notify(self._outbox.began_away)
        raise NotNow

    def _connect(self) -> Committed:
        """Be connected, and know what is there. Raises what `Connection.run` raises."""
        self.access.connection.connect()
        self.access.unseen.forget()
        opened = self._opener.open(self.access, self._outbox.learn_pairs)
        if self._opener.may_lose_commits:
            self.warn(
                f"{self._outbox.place} may lose the last calls when it crashes: set synchronous_commit on for this role"
            )
        if opened.before:
            self._notify(self._outbox.set_back, opened.now, opened.lost_from, opened.before)
            self.lease.lose()
        self.reach.found()
        self._still = 0
        return opened.now

    def _leave(self, error: Exception) -> None:
        """PostgreSQL is not to be had at present."""
        self.access.connection.close()
        if isinstance(error, OtherGeneration):
            self.reach.again()
            return
        self.reach.lost(error)
        self.lease.lapse()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Whatever fails meanwhile takes the place away, and is `NotNow`."""
        try:
            yield
        except FAILURES as error:
            self._leave(error)
            raise NotNow from None

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Raises `NotNow` while PostgreSQL is away, and when it has just gone."""
        if self.reach.away:
            raise NotNow
        with self._trying():
            yield

    # ── polling ──

    def poll(self) -> Committed | None:
        """All that others have done; or see whether PostgreSQL is back. Raises `NotNow`."""
        self.lease.lapse()
        if self.reach.away and not self.reach.is_time:
            raise NotNow
        with self._trying():
            try:
                if self.reach.away:
                    self._notify(self._outbox.is_back, self._connect())
                return self._poll()
            except OtherGeneration:
                self.reach.again()
                self._notify(self._outbox.is_back, self._connect())
                return None

    def _poll(self) -> Committed | None:
        if self.lease.may_send and not self.lease.leading:  # the loop shows that it goes round, or no lease is taken
            self._notify(self._outbox.polled, None)
        self._still += 1
        if self._still > IDLE_AFTER and self._still % IDLE_EVERY:
            return None
        revision, has_inbox = self._look()
        if self.lease.leading:
            admits = has_inbox and self._admit()
            if admits or self._forget():
                revision = -1
        if revision == self.access.revision and not self.access.has_unheard_pairs:
            return None
        return self._read_state()

    def _look(self) -> tuple[int, bool]:
        """The revision that is there, and whether the inbox has calls, in one short statement."""
        access = self.access
        rows = access.connection.run_alone(access.names.sql(_GLANCE, look=access.unseen.look(may_take_long=True)))
        if not rows:
            raise OtherGeneration
        generation, revision, lease, until, now, found, not_seen = rows[0]
        has_inbox = access.unseen.looked(found, not_seen)
        if generation != access.generation or revision < access.revision:
            raise OtherGeneration
        access.saw(now, until if lease else None)
        return revision, has_inbox

    def _read_state(self) -> Committed:
        """All that has become of the outbox since the last time."""
        access = self.access
        self._still = 0
        with access.connection.transaction(frozen=True):
            state = access.row.read()
            access.check(state)
            heard = access.news(state)
            access.hear_pairs(state, self._outbox.learn_pairs)
        return access.learned(state, heard=heard)

    def _admit(self) -> bool:
        """Accept what transactions of the application's have put; true if there was any."""
        any_there = False
        for _ in range(ADMISSIONS):
            admitted, more = self.access.inbox.admit_for(self.lease.token, self.access.check)
            any_there = any_there or admitted
            if not more:
                break
        return any_there

    def _forget(self) -> bool:
        """Once a minute, forget lost calls for their age or their number; true if there were any."""
        if steady() < self._forget_at:
            return False
        self._forget_at = steady() + FORGET_EVERY
        forgotten = self.access.forget(self._keep_lost)
        if forgotten:
            self.warn(f"{self._outbox.place} has forgotten lost calls, for their age or their number")
        return forgotten

    def lead(self) -> Lead | None:
        """Take the lease if it is free, or keep ours. Raises `NotNow`."""
        with self._there():
            return self.lease.keep()

    def reconcile(self, read_to: int) -> int | None:
        """Compare calls and account; the first that is to be read again, if there is one. Raises `NotNow`."""
        with self._there():
            missing, first = reconcile(self.access, self.lease.token)
        if missing:
            self._report_lost(missing, f"{self._outbox.place} does not have them any more, they were deleted there")
        return first if first is not None and first < read_to else None

    # ── writing and reading ──

    def ready(self) -> bool:
        """Transactions may be made now; false while PostgreSQL is away."""
        if self.reach.away:
            return False
        self.lease.lapse()
        try:
            with self._there():
                self._count_resets()
        except NotNow:
            return False
        return True

    def _count_resets(self) -> None:
        """Count in the account, once for all processes, that calls of a generation are gone."""
        while self._resets:
            with self.access.row.locked() as state:
                self.access.check(state)
                origin = state.origins.get(self._resets[0])
                if origin is not None and not origin.counted:
                    state.origins = {**state.origins, self._resets[0]: attrs.evolve(origin, counted=True)}
                    state.account.resets += 1
                    self.access.row.write(state)
            self._resets.popleft()
            self._notify(self._outbox.polled, self._read_state())

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Write a batch, in one transaction. Raises `NotNow`."""
        with self._there():
            self._still = 0
            return self._steps.write(take)

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for; such as cannot be read are set aside. Raises `NotNow`."""
        access = self.access
        with self._there():
            with access.connection.transaction(frozen=True):
                read, damaged = access.reader.read(reading, access.oldest, access.sent_below, self._outbox.check_call)
            aside = access.set_aside(self.lease.token, damaged) if damaged else 0
        if aside:
            self._report_lost(aside, f"what {self._outbox.place} has of them cannot be read, and was set aside")
        return read

    # ── the end ──

    def close(self) -> None:
        """Let another one send, and let go of the connection."""
        if not self.reach.away:
            try:
                self.lease.release()
            except FAILURES as error:
                self.warn(f"{self._outbox.place}: the lease could not be given back ({error}); it ends by itself")
        self.lease.valid_until = -1.0
        self.access.connection.close()

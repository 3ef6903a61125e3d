"""PostgreSQL as a `Store`: opening, polling, admitting, and every transaction of an outbox."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from .._outbox.away import FAILURES
from .._outbox.batch import Batch
from .._outbox.owner import Claim
from .._outbox.remote_listener import RemoteListener
from .._outbox.remote_store import RemoteStore
from .._outbox.store import Committed, Notify
from .._outbox.window import Read, Reading
from .._runtime.log import RateLimitedLog
from ._access import ClientState
from ._failures import TryAgain
from ._lease import PostgresLease
from ._opening import Opener
from ._reconcile import reconcile
from ._steps import WriteSteps

IDLE_AFTER = 40  # polls in which nothing has happened: ten seconds
IDLE_EVERY = 4  # of these, one asks the server from then on
ADMISSIONS = 10  # in one poll: the lease is to be kept in between


class PostgresStore(RemoteStore):
    """The outbox in PostgreSQL.

    Whoever changes anything has the state's row locked meanwhile, so that all changes come one after the other, and
    an account read there is that of the rows read beside it.
    """

    server = "PostgreSQL"
    remedy = "have replicas confirm (synchronous_commit), and restore no older data"
    failures = (*FAILURES, TryAgain)
    again = (TryAgain,)
    lease: PostgresLease
    _opener: Opener

    def __init__(
        self, access: ClientState, outbox: RemoteListener, notify: Notify, log: RateLimitedLog, *,
        may_send: bool, lease_ttl: float, keep_lost: float,
    ) -> None:  # fmt: skip
        self.access = access
        lease = PostgresLease(access, outbox, notify, self.warn, may_send=may_send, ttl=lease_ttl)
        super().__init__(access.connection, lease, outbox, notify, log, keep_lost=keep_lost)
        self._steps = WriteSteps(access, lease, outbox.place, self.warn)
        self._still = 0  # polls since something has happened

    @property
    def offset(self) -> float:
        """Seconds from the steady clock to the server's, as far as is known."""
        return self.access.offset

    # ── being there ──

    def _claim(self, claim: Claim) -> None:
        self._opener = Opener(claim, self._outbox.place)

    def _connect(self) -> Committed:
        """Be connected, and find the outbox. Raises what `Connection.run` raises, as all that follow."""
        self.access.connection.connect()
        self.access.unseen.forget()
        opened = self._opener.open(self.access, self._outbox.learn_pairs)
        if self._opener.may_lose_commits:
            self.warn(
                f"{self._outbox.place} may lose the last calls when it crashes: set synchronous_commit on for this role"
            )
        if opened.first is not None and opened.before:
            self._notify(self._outbox.set_back, opened.now, opened.first, opened.before)
            self.lease.lose()
        elif opened.first is not None:
            self._notify(self._outbox.started_again, opened.first)
        self._still = 0
        return opened.now

    # ── polling ──

    def _poll(self) -> Committed | None:
        self._still += 1
        if self._still > IDLE_AFTER and self._still % IDLE_EVERY:
            return None
        revision, has_inbox = self.access.look()
        if self.lease.leading:
            admits = has_inbox and self._admit()
            if admits or (self._is_time_to_forget() and self._forget()):
                revision = -1
        if revision == self.access.revision and not self.access.has_unheard_pairs:
            return None
        return self._read_state()

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
        """Forget lost calls for their age or their number; true if there were any."""
        forgotten = self.access.forget(self._keep_lost)
        if forgotten:
            self.warn(f"{self._outbox.place} has forgotten lost calls, for their age or their number")
        return forgotten

    def _reconcile(self, read_to: int) -> tuple[int, int | None]:
        missing, first = reconcile(self.access, self.lease.token)
        return missing, first if first is not None and first < read_to else None

    def _count_reset(self, generation: str) -> Committed:
        with self.access.row.locked() as state:
            self.access.check(state)
            origin = state.origins.get(generation)
            if origin is not None and not origin.counted:
                state.origins = {**state.origins, generation: attrs.evolve(origin, counted=True)}
                state.account.resets += 1
                self.access.row.write(state)
        return self._read_state()

    # ── writing and reading ──

    def _commit(self, take: Callable[[], Batch]) -> Committed:
        self._still = 0
        return self._steps.write(take)

    def _read(self, reading: Reading) -> tuple[Read, int]:
        access = self.access
        with access.connection.transaction(frozen=True):
            read, damaged = access.reader.read(reading, access.oldest, access.sent_below, self._outbox.check_call)
        return read, access.set_aside(self.lease.token, damaged) if damaged else 0

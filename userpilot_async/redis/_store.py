"""Redis as a `Store`: reconnecting, and what is known, or not, after an answer was lost."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from ._answers import reconciled_of
from ._codec import State, asked_for, read_of
from ._failures import FAILURES, OtherGeneration
from ._lease import RedisLease
from ._link import Connection
from ._made import sliced
from ._notes import MOST_IDS
from ._opening import Opener
from ._shapes import number
from ._steps import WriteSteps

FORGET_EVERY = 60.0  # seconds between two searches for lost calls that were kept for long enough

REMEDY = "have Redis keep what it has (appendonly yes), and flush no such database"


class RedisStore:
    """The outbox behind a connection, which is away until it has been opened, and whenever a command fails.

    *There*: commands are made. *Away*: each `poll` whose time has come tries to reconnect; callers wait meanwhile. Then
    the generation says what the server has become: the same, another run with the same data (`started_again`), or
    older data (`set_back`).
    """

    _opener: Opener

    def __init__(
        self, link: Connection, client: str, outbox: RemoteListener, notify: Notify, log: RateLimitedLog, *,
        may_send: bool, lease_ttl: float, keep_lost: float,
    ) -> None:  # fmt: skip
        self.access = ClientState(link, client)
        self.lease = RedisLease(self.access, outbox, notify, self.warn, may_send=may_send, ttl=lease_ttl)
        self._steps = WriteSteps(self.access, self.lease, outbox.place, self.warn, keep_lost)
        self._outbox = outbox
        self._notify = notify
        self._log = log
        self._keep_lost = keep_lost
        self.reach = Reach("Redis", outbox, notify, log)
        self._forget_at = 0.0
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
        """From any thread: end a command that has been under way for so long."""
        self.access.link.break_off_if_older(seconds)

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
        """Find the outbox, or make it. Where Redis does not answer now, `poll` goes on trying.

        Raises `OutboxError` if Redis or the outbox refuses us, and `NotNow`.
        """
        self._opener = Opener(claim, self._outbox.place)
        try:
            return self._connect()
        except OutboxError as error:
            if self._outbox.takes_refusal(error):
                raise
            self._leave(error)
        except FAILURES as error:
            self._leave(error)
            self._notify(self._outbox.began_away)
        raise NotNow

    def _connect(self) -> Committed:
        """Be connected, and know what is there. Raises what `Connection.run` raises."""
        access, lease = self.access, self.lease
        run_id = access.link.connect()
        self._warn_of_settings()
        opened = self._opener.open(access, lease, run_id)
        before, lost = access.generation, opened.outcome == "lost"
        if before != opened.generation:
            access.begins(opened.generation)
        if before and lost:
            access.forget()
        elif before != access.generation:
            access.revision = 0  # there may be fewer steps: those after `sure` are made again, by those who made them
        now = access.learned(opened.state)
        if before and lost:
            self._notify(self._outbox.set_back, now, opened.lost_from, before)
            lease.lose()
            self._explain(opened.explains_since)
        elif before and before != access.generation:
            if access.link.replicas:  # what was read may be such steps: that is not sent before it is there
                lease.lose()
            self._notify(self._outbox.started_again, opened.lost_from)
        self.reach.found()
        access.hear_pairs(self._outbox.learn_pairs)
        return now

    def _warn_of_settings(self) -> None:
        place, link = self._outbox.place, self.access.link
        if link.evicts:
            self.warn(f"{place} may throw calls away when its memory is full: set maxmemory-policy noeviction")
        if not link.knows_all_nodes:
            self.warn(
                f"{place}: this user may not ask which nodes the cluster has; once those in the URL are gone, it is "
                "not found: allow +cluster|slots"
            )

    def _explain(self, since: int | None) -> None:
        """Say what was sent under the last lease, if what there is now does not know it all and knows that lease.

        Whatever waits was not sent, but for that. Otherwise all of it may have been, and is counted when it is sent.
        """
        token, self.lease.last_token = self.lease.last_token, ""
        if since is not None:
            for stretches in sliced(self.lease.made.after(since), MOST_IDS):
                self.access.run("explain", token, json.dumps(stretches), 0)
            self.access.run("explain", token, "[]", 1)

    def _reconnect(self) -> None:
        self._notify(self._outbox.is_back, self._connect())

    def _leave(self, error: Exception) -> None:
        """Redis is not to be had at present."""
        self.access.link.close()
        if isinstance(error, OtherGeneration):
            self.reach.again()
            return
        self.reach.lost(error)
        self.lease.lapse()

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Whatever fails meanwhile takes Redis away, and is `NotNow`."""
        try:
            yield
        except FAILURES as error:
            self._leave(error)
            raise NotNow from None

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Raises `NotNow` while Redis is away, and when it has just gone."""
        if self.reach.away:
            raise NotNow
        with self._trying():
            yield

    # ── polling ──

    def poll(self) -> Committed | None:
        """All that others have done; or see whether Redis is back. Raises `NotNow`."""
        self.lease.lapse()
        if self.reach.away and not self.reach.is_time:
            raise NotNow
        with self._trying():
            try:
                if self.reach.away:
                    self._reconnect()
                return self._poll()
            except OtherGeneration:
                self.access.link.close()
                self.reach.again()
                self._reconnect()
                return None

    def _poll(self) -> Committed | None:
        access, lease = self.access, self.lease
        access.link.check_server()
        now = access.poll()
        while access.heard < access.revision:  # a job's end may be more than one answer holds
            self._notify(self._outbox.polled, now)
            now = access.read_state()
        if lease.may_send and not lease.leading:  # the loop shows that it goes round, or the lease is not taken
            self._notify(self._outbox.polled, None)
        if lease.leading and steady() >= self._forget_at:
            self._forget_at = steady() + FORGET_EVERY
            access.run("forget", lease.token, access.ago(self._keep_lost))
        access.hear_pairs(self._outbox.learn_pairs)
        return now

    def lead(self) -> Lead | None:
        """Take the lease if it is free, or keep ours. Raises `NotNow`."""
        with self._there():
            return self.lease.keep()

    def reconcile(self, read_to: int) -> int | None:
        """Compare calls and account; the first that is to be read again, if there is one. Raises `NotNow`."""
        with self._there():
            missing, first = reconciled_of(self.access.run("reconcile", self.lease.token, read_to))
        if missing:
            self._report_lost(missing, f"{self._outbox.place} does not have them any more, they were deleted there")
        return first

    # ── writing and reading ──

    def ready(self) -> bool:
        """Commands may be made now; false while Redis is away."""
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
        while self._resets:
            state = State(self.access.run("reset", self._resets[0], self.access.resets, self.access.heard))
            self._resets.popleft()
            self._notify(self._outbox.polled, self.access.learned(state))

    def commit(self, take: Callable[[], Batch]) -> Committed:
        """Make the next step of a batch; the lease is kept between two. Raises `NotNow`."""
        with self._there():
            lead = self.lease.keep() if self.lease.leading else None  # a job's end may be a hundred steps
            if lead is not None:
                self._notify(self._outbox.leads, lead)
            return self._steps.write(take)

    def read(self, reading: Reading) -> Read:
        """The calls that are asked for; such as cannot be read are set aside. Raises `NotNow`."""
        with self._there():
            last = max(reading.start, reading.end - 1)
            read, damaged = read_of(reading, self.access.run("read", reading.start, last, asked_for(reading)))
            if damaged:
                aside = number(self.access.run("aside", self.lease.token, *damaged))  # none, without the lease
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
        self.access.link.close()

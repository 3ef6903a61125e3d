"""Redis as a `Store`: what is known, or not, after an answer was lost, and the pieces of work, as scripts."""

from __future__ import annotations

import json
from collections.abc import Callable

from .._outbox.batch import Batch
from .._outbox.owner import Claim
from .._outbox.remote_listener import RemoteListener
from .._outbox.remote_store import RemoteStore
from .._outbox.store import Committed, Notify
from .._outbox.window import Read, Reading
from .._runtime.log import RateLimitedLog
from ._access import ClientState
from ._answers import reconciled_of
from ._codec import State, asked_for, read_of
from ._lease import RedisLease
from ._link import Connection
from ._made import sliced
from ._notes import MOST_IDS
from ._opening import Opener
from ._shapes import number
from ._steps import WriteSteps


class RedisStore(RemoteStore):
    """The outbox in Redis.

    When it is there again, the generation says what the server has become: the same, another run with the same data
    (`started_again`), or older data (`set_back`).
    """

    server = "Redis"
    remedy = "have Redis keep what it has (appendonly yes), and flush no such database"
    lease: RedisLease
    _opener: Opener

    def __init__(
        self, link: Connection, client: str, outbox: RemoteListener, notify: Notify, log: RateLimitedLog, *,
        may_send: bool, lease_ttl: float, keep_lost: float,
    ) -> None:  # fmt: skip
        self.access = ClientState(link, client)
        lease = RedisLease(self.access, outbox, notify, self.warn, may_send=may_send, ttl=lease_ttl)
        super().__init__(link, lease, outbox, notify, log, keep_lost=keep_lost)
        self._steps = WriteSteps(self.access, lease, outbox.place, self.warn, keep_lost)

    @property
    def offset(self) -> float:
        """Seconds from the steady clock to the server's, as far as is known."""
        return self.access.offset

    # ── being there ──

    def _claim(self, claim: Claim) -> None:
        self._opener = Opener(claim, self._outbox.place)

    def _connect(self) -> Committed:
        """Be connected, and find the outbox, or make it. Raises what `Connection.run` raises, as all that follow."""
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

    # ── polling ──

    def _poll(self) -> Committed | None:
        access = self.access
        access.link.check_server()
        now = access.poll()
        while access.heard < access.revision:  # a job's end may be more than one answer holds
            self._notify(self._outbox.polled, now)
            now = access.read_state()
        if self._is_time_to_forget():
            access.run("forget", self.lease.token, access.ago(self._keep_lost))
        access.hear_pairs(self._outbox.learn_pairs)
        return now

    def _reconcile(self, read_to: int) -> tuple[int, int | None]:
        return reconciled_of(self.access.run("reconcile", self.lease.token, read_to))

    def _count_reset(self, generation: str) -> Committed:
        access = self.access
        return access.learned(State(access.run("reset", generation, access.resets, access.heard)))

    # ── writing and reading ──

    def _commit(self, take: Callable[[], Batch]) -> Committed:
        """Make the next step of a batch; the lease is kept between two."""
        lead = self.lease.keep() if self.lease.leading else None  # a job's end may be a hundred steps
        if lead is not None:
            self._notify(self._outbox.leads, lead)
        return self._steps.write(take)

    def _read(self, reading: Reading) -> tuple[Read, int]:
        last = max(reading.start, reading.end - 1)
        read, damaged = read_of(reading, self.access.run("read", reading.start, last, asked_for(reading)))
        if not damaged:
            return read, 0
        return read, number(self.access.run("aside", self.lease.token, *damaged))  # none, without the lease

"""What the thread does with Redis, and tells the loop of."""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from .._account.ledger import CHUNK
from .._account.losses import counted, lost_calls_line
from .._errors.tree import OutboxError
from .._outbox.protocol import Opening
from .._outbox.window import Reading
from .._runtime.log import RateLimitedLog
from ._access import ClientState, steady
from ._answers import Opened, Owner, opened_of, reconciled_of
from ._codec import State, asked_for, read_of
from ._failures import FAILURES, Away, OddAnswer, OtherGeneration
from ._lease import Lease
from ._link import Connection, Step
from ._made import sliced
from ._notes import MOST_IDS
from ._shapes import number
from ._steps import WriteSteps

if TYPE_CHECKING:
    from ._outbox import RedisOutbox

VERSION = 2  # of keys, scripts, and the fingerprint
FORGET_EVERY = 60.0  # seconds between two looks at lost calls that were kept for long enough
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5  # seconds between two tries to reach a server that is away; callers wait for it


class Errands:
    """Between Redis, which may be slow, or away, and an outbox, which must not be touched from here but by `tell`."""

    def __init__(
        self, outbox: RedisOutbox, opening: Opening, link: Connection, client: str, *,
        may_send: bool, lease_ttl: float, keep_lost: float, rebind: bool,
    ) -> None:  # fmt: skip
        self.access = ClientState(link, client)
        self.lease = Lease(self.access, outbox, self._tell, self.warn, may_send=may_send, ttl=lease_ttl)
        self._attempts = WriteSteps(self.access, self.lease, outbox, self._tell, self.warn, keep_lost)
        self._outbox = outbox
        self._opening = opening
        self._keep_lost = keep_lost
        self._rebind = rebind
        self._known: Owner | None = None  # that has proved to be this client's account
        self._notices = RateLimitedLog(time.monotonic)
        self._last_read: Reading | None = None
        self._away = False
        self._retry_at = 0.0
        self._pause = FIRST_PAUSE
        self._forget_at = 0.0
        self._resets: deque[str] = deque()  # generations in which calls were held that are gone, to be counted

    def warn(self, message: str) -> None:
        """Into the log, once in a while."""
        self._notices.warn(message, message)

    def say_set_back(self, generation: str, lost: int, under_way: int | None) -> None:
        """What was told to be held in this generation is not all there any more: log what that has cost. In any thread.

        So many calls that waited are lost; others were under way, and may have arrived (``None``: nobody knows how many
        of the lost ones were).
        """
        place, remedy = self._outbox.place, "have Redis keep what it has (appendonly yes), and flush no such database"
        if lost or under_way:
            self._resets.append(generation)
        if lost:
            words = partial(lost_calls_line, place, under_way, remedy)
            self._notices.count("lost calls", lost, words=lambda: words, level=logging.ERROR)
            return
        cost = "no call that waited is lost, as far as this process knows"
        if under_way:
            cost = f"{counted(under_way)} that {'was' if under_way == 1 else 'were'} just being sent may have arrived"
        again = "what was sent, and is not noted there, is sent again and counted in possible_duplicates"
        message = f"{place} came back with older data, or was emptied: {cost}; {again}; {remedy}"
        self._notices.warn("set back", message)

    def _say_lost(self, calls: int, why: str) -> None:
        """Calls are lost that can be counted: the log's numbers add up to the account's."""
        self._notices.lost("damaged", calls, why=lambda: why)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        self._outbox.tell(self, function, *arguments)

    # ── being there ──

    def begin(self) -> bool:
        """Find the outbox, or make it. Where Redis does not answer now, go on looking for it."""
        try:
            self._begin()
        except OutboxError as error:
            if self._outbox.is_refused(error):
                self._tell(self._outbox.refused, error)
                return False
            self._leave(error)
        except FAILURES as error:
            self._leave(error)
            self._tell(self._outbox.began_away)
        return True

    def _begin(self) -> None:
        """Be connected, and know what is there."""
        access, run_id = self.access, self.access.link.connect()
        if access.link.evicts:
            self.warn(
                f"{self._outbox.place} may throw calls away when its memory is full: set maxmemory-policy noeviction"
            )
        if not access.link.knows_all_nodes:
            self.warn(
                f"{self._outbox.place}: this user may not ask which nodes the cluster has; once those in the URL "
                "are gone, it is not found: allow +cluster|slots"
            )
        opened = self._open_as_its_owner(run_id)
        self._rebind = False
        before, lost = access.generation, opened.fate == "lost"
        if before != opened.generation:
            access.begins(opened.generation)
        if before and lost:
            access.forget()
        elif before != access.generation:
            access.revision = 0  # there may be fewer steps: those after `sure` are made again, by whoever made them
        now = access.learned(opened.state)
        if not before:
            self._tell(self._outbox.began, now)
        elif lost:
            self._tell(self._outbox.set_back, now, opened.lost_from, before)
            self.lease.lose()
            self._explain(opened.explains_since)
        elif before != access.generation:
            if access.link.replicas:  # what was read may be such steps: nobody sends that before it is there
                self.lease.lose()
            self._tell(self._outbox.started_again, opened.lost_from)
        self._away, self._pause = False, FIRST_PAUSE
        self._tell(self._outbox.is_back, now)
        self.lease.keep()

    def _explain(self, since: int | None) -> None:
        """Say what was sent under the last lease, if what there is now does not know it all and knows that lease.

        Whatever waits was not sent, but for that. Otherwise all of it may have been, and is counted when it is sent.
        """
        token, self.lease.last_token = self.lease.last_token, ""
        if since is not None:
            for stretches in sliced(self.lease.made.after(since), MOST_IDS):
                self.access.run("explain", token, json.dumps(stretches), 0)
            self.access.run("explain", token, "[]", 1)

    def _open_as_its_owner(self, run_id: str) -> Opened:
        """Fingerprints are slow to make: none is made that nobody needs. Raises `OutboxError` as `_check` does."""
        opened = self._open(run_id, Owner(self._opening.destination, b"", ""), str(int(self._rebind)))
        if opened is None:  # it has no owner, or gets another one
            opened = self._open(run_id, self._owner(), str(int(self._rebind)))
        while opened is not None and self._check(opened.owner):
            opened = self._open(run_id, self._owner(), opened.owner.salt.hex() if opened.owner else "")
        if opened is None:
            raise OddAnswer("what is there was expected, and a salt was asked for once more")
        return opened

    def _owner(self) -> Owner:
        """This client's account, salted anew."""
        salt = os.urandom(16)
        self._known = Owner(self._opening.destination, salt, self._opening.fingerprint(salt))
        return self._known

    def _open(self, run_id: str, owner: Owner, instead: str) -> Opened | None:
        """``instead``: as the script has it. ``None`` if the owner has to have a fingerprint."""
        access = self.access
        step = Step(
            "open", access.generation, access.sure, self.lease.last_token, run_id, uuid4().hex, VERSION,
            owner.destination, owner.salt.hex(), owner.fingerprint, instead, CHUNK, min(access.heard, access.sure),
            access.ambiguous, "" if self.lease.made.since is None else self.lease.made.since, access.made,
            *access.generations_before,
        )  # fmt: skip
        try:
            return opened_of(access.link.run(step))
        except OutboxError as error:
            words = str(error)
            if "SALT" in words:
                return None
            if "OWNER" in words:
                raise self._nobodys() from None
            if "VERSION" in words:
                raise OutboxError(f"{self._outbox.place} is of a newer version than this one, {VERSION}") from None
            raise

    def _nobodys(self) -> OutboxError:
        return OutboxError(f"{self._outbox.place} does not say any more whose calls it has: rebind it")

    def _check(self, owner: Owner | None) -> bool:
        """Raises `OutboxError` if these are somebody else's calls; true if an earlier version has noted whose."""
        if owner is None:
            raise self._nobodys()
        if owner.destination != self._opening.destination:
            words = f"has calls for {owner.destination}, not for {self._opening.destination}"
            raise OutboxError(f"{self._outbox.place} {words}")
        if owner == self._known:
            return False
        if owner.fingerprint == self._opening.old_fingerprint(owner.salt):
            return True
        if owner.fingerprint != self._opening.fingerprint(owner.salt):
            raise OutboxError(
                f"{self._outbox.place} has calls for the account of another API key. If it is the same one, with a new "
                "key, say so: `userpilot-async outbox rebind`, or RedisOutbox(..., rebind=True)"
            )
        self._known = owner
        return False

    def _leave(self, error: Exception) -> None:
        """Redis is not to be had at present."""
        self.access.link.close()
        if isinstance(error, OtherGeneration):
            self._away, self._retry_at = True, 0.0
            return
        if isinstance(error, OutboxError):
            message = f"calls wait, and cannot be put: {error}; see to the rights and the settings of Redis"
            self._notices.state(logging.ERROR, "unusable", message, str(error))
        else:
            does = error.does if isinstance(error, Away) else Away.does
            why = str(error) or type(error).__name__
            message = f"{self._outbox.place} {does} ({why}); calls wait meanwhile; see whether Redis is up"
            self._notices.state(logging.WARNING, "away", message)
        if not self._away:
            self._tell(self._outbox.is_away)
        self._away = True
        self._retry_at = steady() + self._pause * (0.5 + random.random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.lease.lapse()

    # ── looking ──

    def look(self) -> None:
        """See what others have done, and to the lease; or whether Redis is back."""
        self._notices.flush_due()
        self.lease.lapse()
        if self._away and steady() < self._retry_at:
            return
        try:
            if self._away:
                self._begin()
            self._look()
        except OtherGeneration:
            self.access.link.close()
            self._away, self._retry_at = True, 0.0
            try:
                self._begin()
            except FAILURES as error:
                self._leave(error)
        except FAILURES as error:
            self._leave(error)

    def _look(self) -> None:
        access, lease = self.access, self.lease
        access.link.look_around()
        lease.keep()
        now = access.look()
        if now is not None:
            self._tell(self._outbox.heard, now)
        while access.heard < access.revision:  # a job's end may be more than one answer holds
            self._tell(self._outbox.heard, access.look_now())
        self._tell(self._outbox.looked)
        if lease.leading and steady() >= self._forget_at:
            self._forget_at = steady() + FORGET_EVERY
            access.run("forget", lease.token, access.ago(self._keep_lost))
        if now is not None:
            return
        read_to = self._outbox.misses_calls if lease.leading else None
        if read_to is not None:
            missing, first = reconciled_of(access.run("reconcile", lease.token, read_to))
            if missing:
                self._say_lost(missing, f"{self._outbox.place} does not have them any more, they were deleted there")
            if first is not None:
                self._tell(self._outbox.overlooked, read_to, first)

    # ── writing ──

    def work(self) -> bool:
        """Write a batch, read a window; true if there is more."""
        if self._away:
            return False
        self.lease.lapse()
        try:
            self._count_resets()
            more = self._attempts.write()
            self._read()
        except FAILURES as error:
            self._leave(error)
            return False
        # Not when a connection is there again: what is to be written may fail as it did before.
        self._notices.over(logging.WARNING, f"{self._outbox.place} answers again")
        return more

    def _count_resets(self) -> None:
        while self._resets:
            state = State(self.access.run("reset", self._resets[0], self.access.resets, self.access.heard))
            self._resets.popleft()
            self._tell(self._outbox.heard, self.access.learned(state))

    # ── reading ──

    def _read(self) -> None:
        reading = self._outbox.reading
        if reading is None or reading is self._last_read:
            return
        last = max(reading.start, reading.end - 1)
        read, damaged = read_of(reading, self.access.run("read", reading.start, last, asked_for(reading)))
        if damaged:
            aside = number(self.access.run("aside", self.lease.token, *damaged))  # none, without the lease
            self._say_lost(aside, f"what {self._outbox.place} has of them cannot be read, and was set aside")
        self._last_read = reading
        self._tell(self._outbox.arrived_for, reading, read)

    # ── the end ──

    def end(self) -> None:
        """Let another one send, and let go of the connection."""
        if not self._away:
            try:
                self.lease.release()
            except FAILURES as error:
                self.warn(f"{self._outbox.place}: the lease could not be given back ({error}); it ends by itself")
        self.lease.valid_until = -1.0
        self.access.link.close()

    def ended(self) -> None:
        """Whoever still waits is told."""
        self._notices.close()
        self._tell(self._outbox.closed)

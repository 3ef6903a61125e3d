"""The lease of a place across a network: who has it, sends. It ends by the server's clock, if it is not renewed."""

from __future__ import annotations

from collections.abc import Callable

from .._runtime.clocks import steady
from .remote_listener import RemoteListener
from .store import Lead, Notify

RENEWALS = 5  # in the time that a lease lasts
TRUSTED = 0.7  # of that time: then we do not send any more, if it could not be renewed; others may send after its end
LOOP_PATIENCE = 60.0  # seconds in which the event loop does nothing, after which another process had better send


class Lease:
    """``ttl`` is how long it lasts, in seconds. A kind of outbox says how it is asked for, given back and taken over.

    Its methods raise what those three raise.
    """

    def __init__(
        self, outbox: RemoteListener, notify: Notify, warn: Callable[[str], None], *, may_send: bool, ttl: float
    ) -> None:
        self.leading = False
        self.token = ""
        """What the server knows it by."""
        self.last_token = ""
        """What it last knew it by, though its time is over; "" once another process is known to have had it since."""
        self.term = 0
        """How often it has been lost."""
        self.valid_until = -1.0
        """By the steady clock: until then no other process has it, for certain. Any thread may read it."""
        self.renew_at = 0.0
        self.heard_from_loop = steady()
        """When it last did what it was asked."""
        self.may_send = may_send
        self._ttl = ttl
        self._outbox = outbox
        self._notify = notify
        self._warn = warn

    # ── what a kind of outbox says ──

    def _ask(self, *, wants: bool) -> str:
        """Renew the lease, or get it if it is free and this process ``wants`` it; its token, "" if it is not ours."""
        raise NotImplementedError

    def _give_back(self) -> None:
        """End the lease of our token at once."""
        raise NotImplementedError

    def _take_over(self, token: str, now: float) -> Lead | None:
        """Be the leader by this token, with what the one before has left; ``None`` if it is not ours any more."""
        raise NotImplementedError

    # ── its life ──

    def keep(self) -> Lead | None:
        """Take the lease if it is free, or keep ours; not ``None`` when it has just become ours."""
        now = steady()
        stuck = now - self.heard_from_loop > LOOP_PATIENCE
        if not (self.leading or self.may_send) or (self.leading and now < self.renew_at and not stuck):
            return None
        if stuck:
            self._resign()
            return None
        token = self._ask(wants=self.may_send)
        if self.leading and token == self.token:
            self.renewed(now)
            return None
        self.lose()
        self.last_token = ""
        return self._take_over(token, now) if token else None

    def lapse(self) -> None:
        """Lose the lease if what we know of it is too old: another process may have it."""
        if self.leading and steady() >= self.valid_until:
            self.lose()

    def lose(self) -> None:
        """Note that the lease is not ours any more."""
        if self.leading:
            self.leading = False
            self.term += 1
            self.valid_until = -1.0
            self._warn(f"{self._outbox.place}: this process does not send at present, it could not keep the lease")
            self._notify(self._outbox.deposed, self.term)
        self.token = ""

    def release(self) -> None:
        """Give the lease back; others may have it at once."""
        if self.token:
            self._give_back()
        self.leading, self.valid_until = False, -1.0

    def renewed(self, now: float) -> None:
        """The lease lasts from this moment on, or from a later one."""
        self.valid_until, self.renew_at = now + TRUSTED * self._ttl, now + self._ttl / RENEWALS

    def _resign(self) -> None:
        """The loop stands still: let another process send."""
        if self.leading:
            self._warn(f"{self._outbox.place}: the event loop has stood still for {LOOP_PATIENCE:.0f} s")
            self._give_back()
            self.lose()
            self.last_token = ""

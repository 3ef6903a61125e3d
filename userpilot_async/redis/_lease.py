"""The lease: who has it, sends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence

from .._calls.stored import UNREADABLE, key_in
from .._outbox.store import Lead, Notify
from .._schedule.takeover import Takeover, UnfinishedFile
from ._access import ClientState, steady
from ._answers import Left, left_of
from ._codec import Entry, decoded
from ._link import Step
from ._listener import RedisListener
from ._made import Made
from ._shapes import text

RENEWALS = 5  # in the time that a lease lasts
TRUSTED = 0.7  # of that time: then we do not send any more, if it could not be renewed; others may send after its end
LOOP_PATIENCE = 60.0  # seconds in which the event loop does nothing, after which another process had better send
LOST_TOKEN = 90.0  # seconds until a token comes back at the latest, as in the scripts: what says more is damaged
AT_ONCE = 500  # calls looked up in one round trip


class Lease:
    """``ttl`` is how long it lasts, in seconds. Raises what `Link.run` raises."""

    def __init__(
        self, access: ClientState, outbox: RedisListener, notify: Notify, warn: Callable[[str], None], *,
        may_send: bool, ttl: float,
    ) -> None:  # fmt: skip
        self.leading = False
        self.token = ""
        """What the server knows it by."""
        self.last_token = ""
        """What it last knew it by, though its time is over; "" once another process is known to have had it since."""
        self.made = Made()
        """The requests that were noted under it."""
        self.term = 0
        """How often it has been lost."""
        self.valid_until = -1.0
        """By the steady clock: until then no other process has it, for certain. Any thread may read it."""
        self.renew_at = 0.0
        self.heard_from_loop = steady()
        """When it last did what it was asked."""
        self._access = access
        self._outbox = outbox
        self._notify = notify
        self._warn = warn
        self.may_send = may_send
        self._ttl = ttl

    def keep(self) -> Lead | None:
        """Take the lease if it is free, or keep ours; not ``None`` when it has just become ours."""
        now = steady()
        stuck = now - self.heard_from_loop > LOOP_PATIENCE
        if not (self.leading or self.may_send) or (self.leading and now < self.renew_at and not stuck):
            return None
        if stuck:
            self._resign()
            return None
        token = self._ask(int(self.may_send))
        if self.leading and token == self.token:
            self._renewed(now)
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
            self._access.link.run(Step("release", self.token))
        self.leading, self.valid_until = False, -1.0

    def _ask(self, wants: int) -> str:
        access = self._access
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": access.ago(0.0) / 1_000}
        ttl = round(self._ttl * 1_000)
        return text(access.run("lease", self.token, access.client, ttl, json.dumps(about), wants))

    def _renewed(self, now: float) -> None:
        self.valid_until, self.renew_at = now + TRUSTED * self._ttl, now + self._ttl / RENEWALS

    def _resign(self) -> None:
        """The loop stands still: let another process send."""
        if self.leading:
            self._warn(f"{self._outbox.place}: the event loop has stood still for {LOOP_PATIENCE:.0f} s")
            self._access.link.run(Step("release", self.token))
            self.lose()
            self.last_token = ""

    def _take_over(self, token: str, now: float) -> Lead | None:
        self.token = self.last_token = token
        left = left_of(self._access.run("inherit", token, self._access.heard))
        if left is None:
            return None
        self._renewed(now)
        inheritance = self._inheritance(left)
        committed = self._access.learned(left.state)
        self._access.hear_pairs(self._outbox.learn_pairs)  # those of calls that the one before has settled
        self.made.begin(self._access.last_step)
        self.leading = True
        return Lead(inheritance, committed)

    def _inheritance(self, left: Left) -> Takeover:
        now = left.state.time
        tokens: dict[str, list[float]] = {}
        for budget, back in left.tokens:
            tokens.setdefault(budget, []).append(min(back - now, LOST_TOKEN))
        found = [self._unfinished(*one) for one in left.files]
        done = [file.filename for file in found if not file.last_calls]
        if done:  # their end could not be noted any more
            self._access.run("finish", self.token, *done)
        unknown = max(0.0, min(left.unknown_until - now, LOST_TOKEN))
        return Takeover(tokens, [file for file in found if file.last_calls], unknown)

    def _unfinished(self, filename: str, kind: str, last_calls: Sequence[int]) -> UnfinishedFile:
        keys: dict[str, int] = {}
        for start in range(0, len(last_calls), AT_ONCE):
            some = last_calls[start : start + AT_ONCE]
            for call_id, entry in zip(some, self._access.link.calls(some), strict=True):
                key = _key_of(entry, kind) if entry is not None else None
                if key is not None:
                    keys[key] = call_id
            now = steady()  # a file may have 10,000 rows, and the way to Redis may be long
            if now >= self.renew_at and self._ask(0):
                self._renewed(now)
        return UnfinishedFile(filename, kind, keys)


def _key_of(entry: Entry, kind: str) -> str | None:
    """The key of the row of this kind that a call belongs to; ``None`` if it is damaged."""
    try:
        return key_in(decoded(entry[1][b"c"])[0], kind)
    except UNREADABLE:
        return None

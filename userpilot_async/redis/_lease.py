"""The lease in Redis, and what a sender finds there of the one before it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence

from .._calls.stored import UNREADABLE, key_in
from .._outbox.lease import Lease
from .._outbox.remote_listener import RemoteListener
from .._outbox.store import Lead, Notify
from .._runtime.clocks import steady
from .._schedule.takeover import Takeover, UnfinishedFile
from ._access import ClientState
from ._answers import Left, left_of
from ._codec import Entry, decoded
from ._link import Step
from ._made import Made
from ._shapes import text

LOST_TOKEN = 90.0  # seconds until a token comes back at the latest, as in the scripts: what says more is damaged
AT_ONCE = 500  # calls looked up in one round trip


class RedisLease(Lease):
    """A key that expires. Raises what `Connection.run` raises."""

    def __init__(
        self, access: ClientState, outbox: RemoteListener, notify: Notify, warn: Callable[[str], None], *,
        may_send: bool, ttl: float,
    ) -> None:  # fmt: skip
        super().__init__(outbox, notify, warn, may_send=may_send, ttl=ttl)
        self.made = Made()
        """The requests that were noted under it."""
        self._access = access

    def _ask(self, *, wants: bool) -> str:
        access = self._access
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": access.ago(0.0) / 1_000}
        ttl = round(self._ttl * 1_000)
        return text(access.run("lease", self.token, access.client, ttl, json.dumps(about), int(wants)))

    def _give_back(self) -> None:
        self._access.link.run(Step("release", self.token))

    def _take_over(self, token: str, now: float) -> Lead | None:
        self.token = self.last_token = token
        left = left_of(self._access.run("inherit", token, self._access.heard))
        if left is None:
            return None
        self.renewed(now)
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
            if now >= self.renew_at and self._ask(wants=False):
                self.renewed(now)
        return UnfinishedFile(filename, kind, keys)


def _key_of(entry: Entry, kind: str) -> str | None:
    """The key of the row of this kind that a call belongs to; ``None`` if it is damaged."""
    try:
        return key_in(decoded(entry[1][b"c"])[0], kind)
    except UNREADABLE:
        return None

"""The lease: who has it, sends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._batch import Lead
from .._inheritance import Inheritance, UnfinishedFile
from .._stored import key_in
from ._access import Access, steady
from ._link import Step
from ._log import decoded, fields_of

if TYPE_CHECKING:
    from ._outbox import RedisOutbox

RENEWALS = 5  # in the time that a lease lasts
TRUSTED = 0.7  # of that time: then we do not send any more, if it could not be renewed; nobody else does before its end
LOOP_PATIENCE = 60.0  # seconds in which the event loop does nothing, after which somebody else had better send
AT_ONCE = 500  # calls looked up in one round trip


class Lease:
    """``ttl`` is how long it lasts, in seconds. Raises what `Link.run` raises."""

    def __init__(
        self, access: Access, outbox: RedisOutbox, tell: Callable[..., None], warn: Callable[[str], None], *,
        may_send: bool, ttl: float,
    ) -> None:  # fmt: skip
        self.leading = False
        self.token = ""
        """What the server knows it by."""
        self.last_token = ""
        """What it last knew it by, though it is lost."""
        self.term = 0
        """How often it has been lost."""
        self.valid_until = -1.0
        """By the steady clock: until then nobody else has it, for certain. Any thread may look."""
        self.renew_at = 0.0
        self.heard_from_loop = steady()
        """When it last did what it was told."""
        self._access = access
        self._outbox = outbox
        self._tell = tell
        self._warn = warn
        self._may_send = may_send
        self._ttl = ttl

    def keep(self) -> None:
        """Take it if it is free; keep it, if it is ours."""
        now = steady()
        stuck = now - self.heard_from_loop > LOOP_PATIENCE
        if not (self.leading or self._may_send) or (self.leading and now < self.renew_at and not stuck):
            return
        if stuck:
            self._resign()
            return
        token = self._ask(int(self._may_send))
        if self.leading and token == self.token:
            self._renewed(now)
            return
        self.lose()
        if token:
            self._take_over(token, now)

    def lapse(self) -> None:
        """What we know of it is too old to be trusted: somebody else may have it."""
        if self.leading and steady() >= self.valid_until:
            self.lose()

    def lose(self) -> None:
        """It is not ours any more."""
        if self.leading:
            self.leading = False
            self.term += 1
            self.valid_until = -1.0
            self._warn(f"{self._outbox.place}: this process does not send at present, it could not keep the lease")
            self._tell(self._outbox.deposed, self.term)
        self.token = ""

    def release(self) -> None:
        """Give it back."""
        if self.token:
            self._access.link.run(Step("release", self.token))
        self.leading, self.valid_until = False, -1.0

    def _ask(self, wants: int) -> str:
        access = self._access
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": access.ago(0.0) / 1_000}
        ttl = round(self._ttl * 1_000)
        token: bytes = access.run("lease", self.token, access.client, ttl, json.dumps(about), wants)
        return token.decode()

    def _renewed(self, now: float) -> None:
        self.valid_until, self.renew_at = now + TRUSTED * self._ttl, now + self._ttl / RENEWALS

    def _resign(self) -> None:
        """The loop stands still: let somebody send who can."""
        if self.leading:
            self._warn(f"{self._outbox.place}: the event loop has stood still for {LOOP_PATIENCE:.0f} s")
            self._access.link.run(Step("release", self.token))
            self.lose()

    def _take_over(self, token: str, now: float) -> None:
        self.token = self.last_token = token
        left = self._access.run("inherit", token, self._access.heard)
        if left is None:
            return
        self._renewed(now)
        spent, files, unknown_until, state = left
        inheritance = self._inheritance(spent, files, unknown_until, float(state[3]))
        committed = self._access.learned(state)
        self.leading = True
        self._tell(self._outbox.leads, Lead(inheritance, committed))

    def _inheritance(
        self, spent: Sequence[bytes], files: Sequence[bytes], unknown_until: bytes | None, now: float
    ) -> Inheritance:
        tokens: dict[str, list[float]] = {}
        for name, back in zip(spent[::2], spent[1::2], strict=True):
            tokens.setdefault(name.decode().partition(" ")[2], []).append(float(back) - now)
        found = [self._unfinished(*one) for one in zip(files[::2], files[1::2], strict=True)]
        done = [file.filename for file in found if not file.last_calls]
        if done:  # their end could not be noted any more
            self._access.run("finish", self.token, *done)
        unknown = max(0.0, float(unknown_until) - now) if unknown_until else 0.0
        if unknown:
            message = (
                "what was sent before Redis started again, or was emptied, is unknown, and the budget may be spent"
            )
            self._warn(f"nothing is sent for {unknown:.0f} s: {message}")
        return Inheritance(tokens, [file for file in found if file.last_calls], unknown)

    def _unfinished(self, filename: bytes, text: bytes) -> UnfinishedFile:
        kind, last_calls = json.loads(text)
        last_calls = [int(one) for one in last_calls or ()]
        keys: dict[str, int] = {}
        for start in range(0, len(last_calls), AT_ONCE):
            some = last_calls[start : start + AT_ONCE]
            for call_id, entry in zip(some, self._access.link.calls(some), strict=True):
                key = key_in(decoded(fields_of(entry)[b"c"])[0], kind) if entry is not None else None
                if key is not None:
                    keys[key] = call_id
            now = steady()  # a file may have 10,000 rows, and the way to Redis may be long
            if now >= self.renew_at and self._ask(0):
                self._renewed(now)
        return UnfinishedFile(filename.decode(), kind, keys)


def holder_of(value: bytes) -> Mapping[str, Any]:
    """Who has the lease, as it is noted there."""
    note = value.split(b" ", 2)[2]
    held: Mapping[str, Any] = json.loads(note)
    return held

"""What the thread does with Redis, and tells the loop of."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import attrs

from .._batch import Batch, Committed, Lead, Put
from .._errors import OutboxError
from .._inheritance import Inheritance, UnfinishedFile
from .._ledger import CHUNK
from .._notices import Notices
from .._outbox import Opening
from .._stored import key_in
from .._window import Reading
from ._link import Answer, Away, Full, Link, OtherGeneration, Step
from ._log import State, asked_for, decoded, encoded, fields_of, read_of
from ._notes import Notes, notes_of

if TYPE_CHECKING:
    from ._outbox import RedisOutbox

VERSION = 1  # of keys and scripts
RENEWALS = 5  # in the time that a lease lasts
TRUSTED = 0.7  # of that time: then we do not send any more, if it could not be renewed; nobody else does before its end
AT_ONCE = 500  # calls looked up in one round trip
FORGET_EVERY = 60.0  # seconds between two looks at lost calls that were kept for long enough
LOOP_PATIENCE = 60.0  # seconds in which the event loop does nothing, after which somebody else had better send
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5  # seconds between two tries to reach a server that is away; callers wait for it


def steady() -> float:
    """Seconds that go on while this machine sleeps, where there is such a clock."""
    return time.clock_gettime(_STEADY)


_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@attrs.define
class Attempt:
    """A batch that is being written, for as long as it takes."""

    batch: Batch
    puts: list[Put]
    """As they were sent the last time."""
    notes: list[Notes]
    """Those that are still to be written."""
    seq: int = 0
    """The step that is being made; 0 if there is none of which it is not known whether it was."""
    held: bool = False
    """They are there, or have failed."""
    term: int = 0
    """How often the lease had been lost when it was taken."""


class Errands:
    """Between Redis, which may be slow, or away, and an outbox, which must not be touched from here but by `tell`."""

    def __init__(
        self, outbox: RedisOutbox, opening: Opening, link: Link, client: str, *,
        may_send: bool, lease_ttl: float, keep_lost: float, rebind: bool,
    ) -> None:  # fmt: skip
        self.link = link
        self.term = 0
        """How often the lease has been lost."""
        self.valid_until = -1.0
        """By the steady clock: what we know of the lease. Any thread may look."""
        self.offset = 0.0
        """From the steady clock to the server's."""
        self.heard_from_loop = steady()
        """When it last did what it was told."""
        self._outbox = outbox
        self._opening = opening
        self._client = client
        self._may_send = may_send
        self._lease_ttl = lease_ttl
        self._keep_lost = keep_lost
        self._rebind = rebind
        self._notices = Notices(time.monotonic)
        self._generation = ""
        self._revision = self._heard = 0
        self._seq = self._requests = 0
        self._leading = False
        self._token = ""
        self._renew_at = 0.0
        self._attempt: Attempt | None = None
        self._last_read: Reading | None = None
        self._away = False
        self._retry_at = 0.0
        self._pause = FIRST_PAUSE
        self._forget_at = 0.0

    def warn(self, message: str) -> None:
        """Into the log, once in a while."""
        self._notices.say(logging.WARNING, message, message)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        self._outbox.tell(self, function, *arguments)

    # ── being there ──

    def begin(self) -> bool:
        """Find the outbox, or make it. Where Redis does not answer now, go on looking for it."""
        try:
            self._begin()
        except (Away, OtherGeneration) as error:
            self._leave(error)
            self._tell(self._outbox.began_away)
        except OutboxError as error:
            self._tell(self._outbox.refused, error)
            return False
        return True

    def _begin(self) -> None:
        """Be connected, and know what is there."""
        run_id = self.link.connect()
        salt = os.urandom(16)
        # fmt: off
        generation, fate, lost_from, owner, _, state = self._open(
            self._generation, self._revision, self._token, run_id, uuid4().hex, VERSION, self._opening.destination,
            salt.hex(), self._opening.fingerprint(salt), int(self._rebind), CHUNK, self._heard,
        )
        # fmt: on
        self._check(*(one.decode() for one in owner))
        self._rebind = False
        before, self._generation = self._generation, generation.decode()
        if before and fate == b"lost":
            self._revision = self._heard = 0
        now = self._learned(state)
        self._away, self._pause = False, FIRST_PAUSE
        if not before:
            self._tell(self._outbox.began, now)
        elif before != self._generation:
            if fate == b"lost":
                self._depose()
                message = f"{self._outbox.place} has lost calls: it started again, or was emptied; how many is unknown"
                self._notices.say(logging.ERROR, "lost", message)
            self._tell(self._outbox.started_again, now, int(lost_from), fate == b"lost")
        self._tell(self._outbox.is_back, now)
        self._keep_lease()

    def _open(self, *arguments: str | float) -> Answer:
        try:
            return self.link.run(Step("open", *arguments))
        except OutboxError as error:
            words = str(error)
            if "OWNER" in words:
                raise OutboxError(f"{self._outbox.place} does not say any more whose calls it has: rebind it") from None
            if "VERSION" in words:
                raise OutboxError(f"{self._outbox.place} is of a newer version than this one, {VERSION}") from None
            raise

    def _check(self, destination: str, salt: str, fingerprint: str) -> None:
        """Raises `OutboxError` if these are somebody else's calls."""
        if destination != self._opening.destination:
            raise OutboxError(f"{self._outbox.place} has calls for {destination}, not for {self._opening.destination}")
        if fingerprint != self._opening.fingerprint(bytes.fromhex(salt)):
            raise OutboxError(
                f"{self._outbox.place} has calls for the account of another API key. If it is the same one, with a new "
                "key, say so: `userpilot-async outbox rebind`, or RedisOutbox(..., rebind=True)"
            )

    def _leave(self, error: Exception) -> None:
        """Redis is not to be had at present."""
        self.link.close()
        if isinstance(error, OtherGeneration):
            self._away, self._retry_at = True, 0.0
            return
        if not self._away:
            words = str(error)
            full = "takes no more calls" if isinstance(error, Full) else "does not answer"
            self._notices.say(logging.WARNING, "away", f"{self._outbox.place} {full} ({words}); calls wait meanwhile")
            self._tell(self._outbox.is_away)
        self._away = True
        self._retry_at = steady() + self._pause * (0.5 + random.random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._lapse()

    def _learned(self, answer: Answer, first_put: int = 0) -> Committed:
        state = State(answer)
        if state.revision < self._revision:  # before anybody has noticed
            raise OtherGeneration
        self._revision, self._heard = state.revision, state.heard
        self.offset = state.time - steady()
        return state.committed(first_put)

    # ── the lease ──

    def _keep_lease(self) -> None:
        """Take it if it is free; keep it, if it is ours."""
        now = steady()
        stuck = now - self.heard_from_loop > LOOP_PATIENCE
        if not (self._leading or self._may_send) or (self._leading and now < self._renew_at and not stuck):
            return
        if stuck:
            self._resign()
            return
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": round(now + self.offset, 3)}
        wants = int(self._may_send)
        ttl = round(self._lease_ttl * 1_000)
        step = Step("lease", self._generation, self._token, self._client, ttl, json.dumps(about), wants)
        token = self.link.run(step).decode()
        if self._leading and token == self._token:
            self.valid_until, self._renew_at = now + TRUSTED * self._lease_ttl, now + self._lease_ttl / RENEWALS
            return
        if self._leading:
            self._depose()
        self._token = token
        if not token:
            return
        left = self.link.run(Step("inherit", self._generation, token, self._heard))
        if left is not None:
            self.valid_until, self._renew_at = now + TRUSTED * self._lease_ttl, now + self._lease_ttl / RENEWALS
            spent, files, unknown_until, state = left
            committed = self._learned(state)
            inheritance = self._inheritance(spent, files, unknown_until, float(state[3]))
            self._leading = True
            self._tell(self._outbox.leads, Lead(inheritance, committed))

    def _renew(self) -> None:
        """While taking over, and not sending yet. If it is lost, the first step after this says so."""
        now = steady()
        if now >= self._renew_at:
            ttl = round(self._lease_ttl * 1_000)
            if self.link.run(Step("lease", self._generation, self._token, self._client, ttl, "{}", 0)):
                self.valid_until, self._renew_at = now + TRUSTED * self._lease_ttl, now + self._lease_ttl / RENEWALS

    def _resign(self) -> None:
        """The loop stands still: let somebody send who can."""
        if self._leading:
            self.warn(f"{self._outbox.place}: the event loop has stood still for {LOOP_PATIENCE:.0f} s")
            self.link.run(Step("release", self._token))
            self._depose()

    def _lapse(self) -> None:
        """What we know of the lease is too old to be trusted: somebody else may have it."""
        if self._leading and steady() >= self.valid_until:
            self._depose()

    def _depose(self) -> None:
        if self._leading:
            self._leading = False
            self.term += 1
            self.valid_until = -1.0
            self.warn(f"{self._outbox.place}: this process does not send at present, it could not keep the lease")
            self._tell(self._outbox.deposed, self.term)
        self._token = ""

    def _inheritance(
        self, spent: Sequence[bytes], files: Sequence[bytes], unknown_until: bytes | None, now: float
    ) -> Inheritance:
        tokens: dict[str, list[float]] = {}
        for name, back in zip(spent[::2], spent[1::2], strict=True):
            tokens.setdefault(name.decode().partition(" ")[2], []).append(float(back) - now)
        found = [self._unfinished(*one) for one in zip(files[::2], files[1::2], strict=True)]
        done = [file.filename for file in found if not file.last_calls]
        if done:  # their end could not be noted any more
            self._seq += 1
            notes = Notes(forgotten=done).as_json()
            self.link.run(Step("note", self._generation, self._seq, "", self._token, 0, notes))
        unknown = max(0.0, float(unknown_until) - now) if unknown_until else 0.0
        return Inheritance(tokens, [file for file in found if file.last_calls], unknown)

    def _unfinished(self, filename: bytes, text: bytes) -> UnfinishedFile:
        kind, last_calls = json.loads(text)
        last_calls = [int(one) for one in last_calls or ()]
        keys: dict[str, int] = {}
        for start in range(0, len(last_calls), AT_ONCE):
            some = last_calls[start : start + AT_ONCE]
            for call_id, entry in zip(some, self.link.calls(some), strict=True):
                key = key_in(decoded(fields_of(entry)[b"c"])[0], kind) if entry is not None else None
                if key is not None:
                    keys[key] = call_id
            self._renew()  # a file may have 10,000 rows, and the way to Redis may be long
        return UnfinishedFile(filename.decode(), kind, keys)

    # ── looking ──

    def look(self) -> None:
        """See what others have done, and to the lease; or whether Redis is back."""
        self._lapse()
        if self._away and steady() < self._retry_at:
            return
        try:
            if self._away:
                self._begin()
            self._look()
        except OtherGeneration:
            self._away, self._retry_at = True, 0.0
            try:
                self._begin()
            except (Away, OtherGeneration, OutboxError) as error:
                self._leave(error)
        except (Away, OutboxError) as error:
            self._leave(error)

    def _look(self) -> None:
        self._keep_lease()
        known = self._revision if self._heard == self._revision else -1  # there is more to hear
        answer = self.link.run(Step("look", self._generation, self._heard, known))
        if answer is not None:
            self._tell(self._outbox.heard, self._learned(answer))
        self._tell(self._outbox.looked)
        if self._leading and steady() >= self._forget_at:
            self._forget_at = steady() + FORGET_EVERY
            self.link.run(Step("forget", self._generation, self._token, self._oldest_kept()))
        if answer is not None:
            return
        read_to = self._outbox.misses_calls if self._leading else None
        if read_to is not None:
            missing, first = self.link.run(Step("reconcile", self._generation, self._token, read_to))
            if missing:
                self.warn(f"{missing} calls are not in {self._outbox.place} any more: somebody has deleted them")
            if first:
                self._tell(self._outbox.overlooked, read_to, int(first.partition(b"-")[0]))

    # ── writing ──

    def work(self) -> bool:
        """Write a batch, read a window; true if there is more."""
        if self._away:
            return False
        self._lapse()
        try:
            more = self._write()
            self._read()
        except (Away, OtherGeneration, OutboxError) as error:
            self._leave(error)
            return False
        return more

    def _write(self) -> bool:
        attempt = self._attempt
        if attempt is None:
            if not self._outbox.has_batch():
                return False
            attempt = self._attempt = self._taken(self._outbox.next_batch())
        else:
            self._outbox.take_up(attempt.batch)
        try:
            self._carry_out(attempt)
        except (Away, OtherGeneration, OutboxError):
            self._outbox.park(attempt.batch)
            self._tell(self._outbox.tried, attempt.batch)
            raise
        self._attempt = None
        return self._outbox.has_batch()

    def _taken(self, batch: Batch) -> Attempt:
        ours = self._leading and batch.term == self.term
        for request in batch.requests:
            self._requests += 1
            request.number = f"{self._client}:{self._requests}" if ours else None
        if not ours:
            batch.drop_notes()  # of a sender that has been deposed since
        batch.puts = [put for put in batch.puts if not put.withdrawn]
        return Attempt(batch, batch.puts, notes_of(batch), term=self.term)

    def _carry_out(self, attempt: Attempt) -> None:
        """One step after the other, until all of it is written."""
        self._end_doubt(attempt)
        while attempt.notes or not attempt.held:
            if attempt.term != self.term:
                self._drop_notes(attempt)
            self._make_step(attempt)
            self._tell(self._outbox.looked)
            self._keep_lease()  # a job's end may be a hundred steps

    def _make_step(self, attempt: Attempt) -> None:
        """The calls, if they are not there yet, and some of the notes."""
        notes = attempt.notes[0].as_json() if attempt.notes else ""
        puts = [] if attempt.held else attempt.puts
        self._seq += 1
        attempt.seq = self._seq
        now = self._outbox.stamp()
        calls = [one for put in puts for one in (put.size, encoded(put, max(0.0, now - put.at)))]
        head = (self._generation, attempt.seq, self._heard, self._token, self._oldest_kept(), notes)
        step = Step("write" if puts else "note", *head, *calls)
        try:
            answer = self.link.run(step, wait=bool(puts))
        except Full as error:
            if not puts:
                raise
            attempt.seq = 0
            self._fail_puts(attempt, error)
            return
        if answer is None:
            raise Away("a step came late")
        first_put, first_refused, fenced, forgotten, state = answer
        if forgotten:
            self.warn(f"{self._outbox.place} keeps no more lost calls than this: older ones are forgotten")
        self._step_made(attempt, self._learned(state), first_put, first_refused, bool(fenced))

    def _oldest_kept(self) -> int:
        """When the oldest of the lost calls that are kept may have been lost, in ms, by the server's clock."""
        return max(0, round((steady() + self.offset - self._keep_lost) * 1_000))

    def _end_doubt(self, attempt: Attempt) -> None:
        """The answer to a step got lost: was it made? Calls that nobody waits for any more are taken back."""
        seq, attempt.puts = attempt.seq, attempt.puts if attempt.seq and not attempt.held else list(attempt.batch.puts)
        if not seq:
            return
        gone = [] if attempt.held else [place for place, put in enumerate(attempt.puts) if put.withdrawn]
        done = self.link.run(Step("resolve", self._generation, seq, *gone), wait=not attempt.held)
        if done is None:
            attempt.seq, attempt.puts = 0, list(attempt.batch.puts)
            return
        first_put, first_refused, fenced = done
        state = self.link.run(Step("look", self._generation, self._heard, -1))
        self._step_made(attempt, self._learned(state), first_put, first_refused, bool(fenced))

    def _step_made(self, attempt: Attempt, now: Committed, first_put: int, first_refused: int, fenced: bool) -> None:
        attempt.seq = 0
        if attempt.notes:
            notes = attempt.notes.pop(0)
            if notes.refused:  # all of them are in the first step
                now = attrs.evolve(now, first_refused=first_refused)
            if fenced and notes.needs_lease and attempt.term == self.term:
                self._depose()
        if not attempt.held:
            attempt.held = True
            ids = range(first_put, first_put + len(attempt.puts))
            if len(attempt.puts) > len(attempt.batch.puts):
                now = attrs.evolve(now, ids=[one for one, put in zip(ids, attempt.puts, strict=True)
                                             if not put.withdrawn])  # fmt: skip
            else:
                now = attrs.evolve(now, first_put=first_put)
        if attempt.term != self.term:
            self._drop_notes(attempt)
        self._tell(self._outbox.written, attempt.batch, now, not attempt.notes)

    def _drop_notes(self, attempt: Attempt) -> None:
        """The lease was lost since: only calls that found no room are noted."""
        attempt.notes = [Notes(refused=notes.refused) for notes in attempt.notes if notes.refused]
        for request in attempt.batch.requests:
            request.number = None

    def _fail_puts(self, attempt: Attempt, error: Full) -> None:
        """There is no room for calls; notes, which make room, must not wait behind them."""
        now = self._learned(self.link.run(Step("look", self._generation, self._heard, -1)))
        attempt.held = True
        refused = OutboxError(f"{self._outbox.place} takes no calls: {error}")
        self.warn(str(refused))
        self._tell(self._outbox.written, attempt.batch, attrs.evolve(now, puts_failed=refused), not attempt.notes)

    # ── reading ──

    def _read(self) -> None:
        reading = self._outbox.reading
        if reading is None or reading is self._last_read:
            return
        step = Step("read", self._generation, reading.start, max(reading.start, reading.end - 1), asked_for(reading))
        read, damaged = read_of(reading, self.link.run(step))
        if damaged:
            self.link.run(Step("aside", self._generation, self._token, *damaged))
            self.warn(f"{len(damaged)} damaged calls of {self._outbox.place} were set aside")
        self._last_read = reading
        self._tell(self._outbox.arrived_for, reading, read)

    # ── the end ──

    def end(self) -> None:
        """Let another one send, and let go of the connection."""
        if self._token and not self._away:
            try:
                self.link.run(Step("release", self._token))
            except (Away, OutboxError, OtherGeneration) as error:
                self.warn(f"{self._outbox.place}: the lease could not be given back ({error}); it ends by itself")
        self._leading, self.valid_until = False, -1.0
        self.link.close()

    def ended(self) -> None:
        """Whoever still waits is told."""
        self._tell(self._outbox.closed)


def holder_of(value: bytes) -> Mapping[str, Any]:
    """Who has the lease, as it is noted there."""
    note = value.split(b" ", 2)[2]
    held: Mapping[str, Any] = json.loads(note)
    return held

"""UserpilotClient: the door. It checks, counts and holds; everything else happens behind it."""

from __future__ import annotations

import logging
import os
import random
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar, Union
from uuid import uuid4

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from ._api import UserpilotAPI
from ._calls import Call, Identify, IdentifyCompany, Track, track_body
from ._coalesce import Kind
from ._endpoint import Key, Region
from ._errors import ClientClosed, InvalidCall, QueueFull
from ._event_names import EventNames
from ._lanes import Event, Facts
from ._ledger import Outcome
from ._letters import DeadCall, Letters, OnDead
from ._lifetime import Lifetime
from ._loops import clock_here, loop_here
from ._notices import Notices
from ._outbox import MemoryOutbox, Outbox
from ._receipt import Receipt
from ._room import Room
from ._schedule import Schedule
from ._sender import Sender
from ._settings import Settings
from ._settlements import call_of
from ._statistics import Report, Statistics
from ._values import Convertible, checked_company, checked_id, checked_moment, measured, size_of

if TYPE_CHECKING:
    from ._http import Transport

Checked = tuple[Kind, str, Union[Event, Facts], int]
Metadata = Union[Mapping[str, Convertible], None]
Self = TypeVar("Self", bound="UserpilotClient")

PAUSE_EVERY = 200  # calls: a tight loop of track() lets the sender work this often; fewer than `_sender.TAKE`
API_CONNECTIONS = 4  # of the pool, beside the sender's, for `client.api`
LAST_REQUESTS = 0.3  # seconds beyond the timeout of a close, to stop what is in flight
LAST_LETTERS = 0.5  # and for letters about what was dropped; both together are less than the second promised
NO_THREAD = -1  # no thread has this id: calls are refused
LOOK = 0.05  # seconds between two looks of a close whether anything can still happen before its end


class _Door(Enum):
    NEW = "is not open yet: use it as `async with UserpilotClient(...) as userpilot`"
    OPEN = "is open"
    CLOSED = "is closed"
    FORKED = "was open in the parent process: open one of its own in this one"


class UserpilotClient(anyio.AsyncContextManagerMixin):
    """Takes calls at once and gets every one of them to Userpilot.

    ``async with UserpilotClient("API_KEY") as userpilot:`` opens it and, on leaving, drains it for up to
    ``settings.close_timeout`` seconds. Without arguments it reads ``USERPILOT_API_KEY``, ``USERPILOT_REGION``
    and ``USERPILOT_BASE_URL``. ``api_key`` may be a callable, asked before each request, so that a key can be rotated.

    ``on_dead`` (sync or async) gets a `DeadCall` for every call that is lost. ``transport`` is httpx's.
    Raises `ValueError` for a key, URL or setting that cannot be right.
    """

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        region: Region | None = None,
        base_url: str | None = None,
        outbox: Outbox | str | None = None,
        settings: Settings | None = None,
        on_dead: OnDead | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._door = _Door.NEW
        if settings is not None and not isinstance(settings, Settings):
            raise ValueError(f"settings must be Settings, not {type(settings).__name__}")
        self.settings = settings if settings is not None else Settings()
        self._outbox = _outbox_at(outbox if outbox is not None else os.environ.get("USERPILOT_OUTBOX"))
        self._on_dead = on_dead
        self.api = UserpilotAPI(
            api_key,
            region=region,
            base_url=base_url,
            transport=transport,
            connections=API_CONNECTIONS + self.settings.concurrency,
            request_timeout=self.settings.request_timeout,
            upload_timeout=self.settings.upload_timeout,
        )
        """Every endpoint as one awaitable method, without the queue."""
        self._connection = self.api.reserve(self.settings.concurrency)
        self._random = random.Random()
        self._pid = os.getpid()
        self._thread = NO_THREAD
        self._loop: object = None
        self._now: Callable[[], float] = _no_time
        self._calls = 0
        self._room = Room(self._outbox, self.settings.max_wait)
        self._opened = self._ended = False
        self._closing: anyio.Event | None = None
        self._event_names = EventNames()
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<UserpilotClient {self.api.base_url}, {self._door.name.lower()}>"

    def __del__(self) -> None:
        if getattr(self, "_opened", False) and not self._ended and self._pid == os.getpid():
            self._sender.warn_unsent()

    def __asynccontextmanager__(self: Self) -> Lifetime[Self]:
        if self._door is not _Door.NEW:
            raise ClientClosed(f"a client is opened once; this one {self._door.value}")
        self._outbox.open(self.settings.max_queue_calls, self.settings.max_queue_bytes)
        return Lifetime(self, self._open, self._leave)

    async def _leave(self) -> None:
        """Drain. No scope cuts that short; a native cancellation (a second Ctrl-C) does, and is accounted for."""
        if self._door is _Door.FORKED:
            return
        try:
            await self.aclose()
        finally:
            if not self._ended:
                self._end()
            self._outbox.close()
            await self.api.aclose()

    def _open(self, tasks: TaskGroup) -> None:
        self.api.open(tasks)
        self._tasks = tasks
        self._now = now = clock_here()
        self._notices = Notices(now)
        self._letters = Letters(self._on_dead, self._notices)
        name = f"userpilot-async-{uuid4().hex[:12]}"
        self._schedule = Schedule(
            self.settings,
            chance=self._random.random,
            filename=lambda: f"{name}-{uuid4().hex}.ndjson",
            now=now(),
            server=self.api.base_url,
        )
        self._sender = Sender(self._outbox, self._schedule, self._connection, self._letters, self._notices, now, tasks)
        self._door, self._thread, self._loop = _Door.OPEN, get_ident(), loop_here()
        self._opened = True
        self._sender.start()

    # ── calls ──

    async def track(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None
    ) -> Receipt:
        """Accept an event: checked, encoded and held when this returns. It never waits for the network.

        ``occurred_at`` (aware) is kept with the call; the realtime endpoint has no field for it and dates
        events on arrival. A full queue is met as `Settings.when_full` says. Raises `InvalidCall`,
        `ClientClosed`, and `QueueFull` only if the settings ask for it.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._tracked(user_id, event_name, metadata, occurred_at)
        if isinstance(checked, Receipt):
            return checked
        kind, key, said, size = checked
        self._calls += 1
        if not self._calls % PAUSE_EVERY:
            await self._pause()
        if self._room.waiters or not self._outbox.has_room(size):
            return await self._squeeze(kind, key, said, size)
        return self._put(kind, key, said, size)

    def track_nowait(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None
    ) -> Receipt:
        """As `track`, for code that cannot await; a full queue never makes it wait: the call is dropped."""
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._tracked(user_id, event_name, metadata, occurred_at)
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def identify(self, user_id: str, metadata: Metadata = None, *, company: Metadata = None) -> Receipt:
        """Accept what is known of a user: properties that changed, ``None`` for those to remove.

        ``company`` needs its ``id`` (or ``company_id``), may have the company's own properties beside it, and
        moves the user to that company. Pending identifies of one user merge. Raises as `track` does.
        """
        checked = self._identified(user_id, metadata, company)
        return checked if isinstance(checked, Receipt) else await self._take(*checked)

    def identify_nowait(self, user_id: str, metadata: Metadata = None, *, company: Metadata = None) -> Receipt:
        """As `identify`, for code that cannot await; a full queue never makes it wait: the call is dropped."""
        checked = self._identified(user_id, metadata, company)
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def identify_company(self, company_id: str, metadata: Metadata = None) -> Receipt:
        """Accept what is known of a company; else as `identify`."""
        checked = self._company_identified(company_id, metadata)
        return checked if isinstance(checked, Receipt) else await self._take(*checked)

    def identify_company_nowait(self, company_id: str, metadata: Metadata = None) -> Receipt:
        """As `identify_company`, for code that cannot await; a full queue never makes it wait."""
        checked = self._company_identified(company_id, metadata)
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def enqueue(self, call: Call) -> Receipt:
        """Accept a call that exists as a value: from a file, or from `on_dead`."""
        if isinstance(call, Track):
            return await self.track(call.user_id, call.event_name, call.metadata, occurred_at=call.occurred_at)
        if isinstance(call, Identify):
            return await self.identify(call.user_id, call.metadata, company=call.company)
        if isinstance(call, IdentifyCompany):
            return await self.identify_company(call.company_id, call.metadata)
        raise InvalidCall("call", f"must be Track, Identify or IdentifyCompany, not {type(call).__name__}")

    # ── checking ──

    def _tracked(
        self, user_id: str, event_name: str, metadata: Metadata, occurred_at: datetime | None
    ) -> Checked | Receipt:
        try:
            body = track_body(user_id, event_name, metadata)
            said = body if occurred_at is None else (body, checked_moment(occurred_at))
        except InvalidCall as error:
            given = {"user_id": user_id, "event_name": event_name, "metadata": metadata, "occurred_at": occurred_at}
            return self._invalid(error, given)
        if event_name not in self._event_names.known:
            self._new_event_name(event_name)
        # A str that is an Enum has a hash of its own.
        return "track", user_id if type(user_id) is str else checked_id(user_id, "user_id"), said, len(body)

    def _new_event_name(self, event_name: str) -> None:
        if not self._event_names.fits(event_name):
            message = "event names take more than 512 KB together, the vendor's limit: put what varies into metadata"
            self._notices.say(logging.WARNING, "event_names", message)

    def _identified(self, user_id: str, metadata: Metadata, company: Metadata) -> Checked | Receipt:
        if get_ident() != self._thread:
            raise self._refusal()
        try:
            key, (properties, size) = checked_id(user_id, "user_id"), measured(metadata)
            its = checked_company(company)
            if its is not None:
                size += size_of(its)
            return "user", key, (properties, its, size), size
        except InvalidCall as error:
            return self._invalid(error, {"user_id": user_id, "metadata": metadata, "company": company})

    def _company_identified(self, company_id: str, metadata: Metadata) -> Checked | Receipt:
        if get_ident() != self._thread:
            raise self._refusal()
        try:
            key, (properties, size) = checked_id(company_id, "company_id"), measured(metadata)
            return "company", key, (properties, None, size), size
        except InvalidCall as error:
            return self._invalid(error, {"company_id": company_id, "metadata": metadata})

    def _invalid(self, error: InvalidCall, arguments: Mapping[str, Any]) -> Receipt:
        if self.settings.on_invalid == "raise":
            raise error
        letter = DeadCall(status="dead", reason="invalid", error=error, arguments=arguments)
        return self._lost(Outcome("dead", "invalid"), lambda: letter)

    def _refusal(self) -> ClientClosed:
        pending = self._outbox.ledger.pending
        if self._door is not _Door.OPEN:
            return ClientClosed(f"this UserpilotClient {self._door.value} ({pending} calls pending)")
        return ClientClosed(
            f"this UserpilotClient belongs to another event loop or thread, where {pending} calls are pending"
        )

    # ── holding ──

    async def _take(self, kind: Kind, key: str, said: Event | Facts, size: int) -> Receipt:
        self._calls += 1
        if not self._calls % PAUSE_EVERY:
            await self._pause()
        if self._room.waiters or not self._outbox.has_room(size):
            return await self._squeeze(kind, key, said, size)
        return self._put(kind, key, said, size)

    async def _pause(self) -> None:
        """Before the call is accepted: a caller cancelled here has not been accepted, and no third case is left."""
        await anyio.lowlevel.checkpoint()
        if get_ident() != self._thread or loop_here() is not self._loop:
            raise self._refusal()

    def _put(self, kind: Kind, key: str, said: Event | Facts, size: int) -> Receipt:
        if self._sender.asleep:
            self._rouse()
        return Receipt(self._outbox.ledger, self._outbox.put(kind, key, said, size, self._now()))

    def _put_nowait(self, kind: Kind, key: str, said: Event | Facts, size: int) -> Receipt:
        if (self._room.waiters or not self._outbox.has_room(size)) and not self._displace(size):
            return self._no_room(kind, key, said)
        return self._put(kind, key, said, size)

    def _rouse(self) -> None:
        """Wake the sender. It sleeps for ever where its loop has ended, so that is when to look at the loop."""
        if loop_here() is not self._loop:
            raise self._refusal()
        self._sender.rouse()

    async def _squeeze(self, kind: Kind, key: str, said: Event | Facts, size: int) -> Receipt:
        """The queue is full: do with this call what the settings say."""
        if self.settings.when_full == "wait":
            async with self._room.turn(size) as has_room:
                return self._put(kind, key, said, size) if has_room else self._no_room(kind, key, said)
        return self._put_nowait(kind, key, said, size)

    def _displace(self, size: int) -> bool:
        """Make room by giving up the oldest calls, if the settings say so."""
        if self.settings.when_full == "raise":
            raise QueueFull(f"{self.settings.max_queue_calls:,} calls or {self.settings.max_queue_bytes:,} bytes wait")
        if self.settings.when_full != "drop_oldest":
            return False
        self._sender.take_in()
        while not self._outbox.has_room(size):
            if not self._schedule.drop_oldest(Outcome("dropped", "queue_full")):
                return False
            self._sender.carry_on()
        return True

    def _no_room(self, kind: Kind, key: str, said: Event | Facts) -> Receipt:
        reason = "queue_full" if self._door is _Door.OPEN else "closed"

        def letter() -> DeadCall:
            return DeadCall(status="dropped", reason=reason, call=call_of(kind, key, said))

        return self._lost(Outcome("dropped", reason), letter)

    def _lost(self, outcome: Outcome, letter: Callable[[], DeadCall]) -> Receipt:
        call_id = self._outbox.refuse(outcome)
        self._sender.mourn(letter, outcome.reason or "")
        return Receipt(self._outbox.ledger, call_id)

    # ── waiting and leaving ──

    async def flush(self, timeout: float | None = None) -> Report:
        """Wait until everything accepted before this has an outcome, or ``timeout`` seconds are over.

        Meanwhile identifies do not linger for others to merge with. The report says what is left. Raises
        `ClientClosed` if the client is not open.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        started, mark = self._now(), self._outbox.ledger.accepted
        with self._hurrying(), anyio.move_on_after(timeout):
            await self._wait_settled(mark)
        return self._report(started, mark)

    async def aclose(self, timeout: float | None = None) -> Report:
        """Refuse new calls, drain for up to ``timeout`` seconds (default `Settings.close_timeout`), stop.

        Returns within the timeout and a second, whatever the server does, and earlier if nothing could be sent
        before its end. What was not delivered is dropped with reason ``closed``, except rows in a background
        job of the server's, which goes on without us. May be called again, also by several tasks at once, and
        goes on where a cancelled call of it stopped.
        """
        elsewhere = get_ident() != self._thread or loop_here() is not self._loop
        if self._door is _Door.FORKED or (self._door is _Door.OPEN and elsewhere):
            raise self._refusal()
        self._door, self._thread = _Door.CLOSED, NO_THREAD
        if self._opened:
            timeout = self.settings.close_timeout if timeout is None else timeout
            started = self._now()
            self._room.close()
            with anyio.move_on_after(timeout + LAST_REQUESTS + LAST_LETTERS + LOOK):
                while self._closing is not None:
                    await self._closing.wait()
                await self._close(started + timeout)
            return self._report(started, self._outbox.ledger.accepted)
        return Report(complete=True, elapsed=0.0, left=0, jobs=(), statistics=self.statistics())

    async def _close(self, deadline: float) -> None:
        if self._ended:
            return
        self._closing = anyio.Event()
        try:
            with self._hurrying(), anyio.move_on_after(deadline - self._now()):
                await self._drain(deadline)
                await self._letters.wait_delivered()
            with anyio.move_on_after(LAST_REQUESTS, shield=True):
                self._sender.closed = True
                await self._sender.stop()
            self._end()
            if self._letters.wants_task():
                self._tasks.start_soon(self._letters.deliver_all)
            with anyio.move_on_after(max(deadline - self._now(), LAST_LETTERS)):
                await self._letters.wait_delivered()
            self._letters.give_up()
        finally:
            self._closing.set()
            self._closing = None

    async def _drain(self, deadline: float) -> None:
        """Until nothing is pending, or nothing can happen before the deadline."""
        while self._outbox.ledger.pending and not self._sender.broken:
            with anyio.move_on_after(LOOK):
                await self._sender.wait_settled()
            idle = self._sender.asleep and self._sender.running and not self._schedule.in_flight
            if idle and self._sender.sleeps_until > deadline:
                return

    def _end(self) -> None:
        """Nobody sends any more: whatever is left is dropped, and accounted for."""
        self._ended = self._sender.closed = True
        while self._sender.take_in():
            pass
        self._schedule.abandon(Outcome("dropped", "closed"))
        self._sender.carry_on()
        self._sender.release()
        self._outbox.ledger.release()

    @contextmanager
    def _hurrying(self) -> Generator[None, None, None]:
        self._schedule.hurry += 1
        self._rouse()
        try:
            yield
        finally:
            self._schedule.hurry -= 1

    async def _wait_settled(self, mark: int) -> None:
        while self._outbox.ledger.oldest_pending() < mark and not self._ended:
            await self._sender.wait_settled()

    # ── numbers ──

    def statistics(self) -> Statistics:
        """A frozen snapshot, in which ``accepted == delivered + dead + dropped + merged + pending``."""
        ledger = self._outbox.ledger
        if not self._opened:
            return Statistics.of(ledger, self._outbox.waiting_bytes)
        schedule, now = self._schedule, self._now() if self._door is _Door.OPEN else 0.0
        return Statistics.of(
            ledger,
            self._outbox.waiting_bytes,
            in_flight=schedule.in_flight,
            requests=dict(self._connection.requests),
            retries=schedule.retries,
            possible_duplicates=schedule.possible_duplicates,
            rate_limited=schedule.rate_limited,
            jobs_completed=schedule.jobs_completed,
            job=schedule.slot.job,
            track_budget=schedule.track_bucket.left(now),
            identify_budget=schedule.identify_bucket.left(now),
            held=schedule.held,
            outage=schedule.outage,
            on_dead_failures=self._letters.failures,
        )

    def _report(self, started: float, mark: int) -> Report:
        left = self._outbox.ledger.pending_before(mark)
        job = self._schedule.slot.job
        jobs = (job.job_id or self._schedule.slot.batch.filename,) if job and self._schedule.slot.batch else ()
        return Report(
            complete=not left, elapsed=self._now() - started, left=left, jobs=jobs, statistics=self.statistics()
        )


def _outbox_at(place: Outbox | str | None) -> Outbox:
    if place is None or place == "memory://":
        return MemoryOutbox()
    if isinstance(place, str):
        raise ValueError('outbox must be an Outbox or "memory://": this version knows no other URLs')
    return place


def _no_time() -> float:
    return 0.0


_clients: weakref.WeakSet[UserpilotClient] = weakref.WeakSet()


def _after_fork() -> None:
    """A child has the parent's calls and none of its tasks: it must send nothing, and say so when asked."""
    for client in _clients:
        if client._door is _Door.OPEN:
            client._door, client._thread = _Door.FORKED, NO_THREAD


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The stage of the fault tests: a client, a server, and the judge, who speaks when the curtain falls.

`rehearsal` has the emulator in the same process and a clock that jumps: for what takes minutes. `on_sockets` has real
bytes and real, short, times. A test says what goes wrong and what is special about it; what must hold after *every*
fault (I1 to I12 of the matrix) is checked here, at the end of the block.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import attrs
import httpx
import pytest

from tests.harness import Event, Request, free_of_leaks, judge, same_events, same_state
from tests.harness.stage.calls import KEY, PERSON, Calls, Log, Side, marks_in, person
from userpilot_async import Report, Settings, UserpilotClient
from userpilot_async.emulator import ConnectionCut, Emulator, Fault

EPOCH = 1_600_854_600.0  # 09:50:00 UTC: a clock minute of the server's begins with the test
LIVE_WITHIN = 90.0  # I8
IDLE = 3_600.0

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


# ── virtual time, the emulator in process ──


class Network(httpx.AsyncBaseTransport):
    """The way to an emulator in the same process. The server goes on when a client has hung up.

    ``there`` and ``back`` say how long each request and each answer travels; ``refuses`` refuses connections;
    ``rewrite`` changes the JSON of an answer about jobs.
    """

    def __init__(self, emulator: Emulator) -> None:
        self.there: Callable[[], float] = float
        self.back: Callable[[], float] = float
        self.refuses = False
        self.refused = 0
        self.rewrite: Callable[[Any], Any] | None = None
        self.rewritten = 0
        self.lost: Counter[str] = Counter()
        """Calls whose answer the client did not get, or got in the shape of a gateway's excuse, or as the 400 that is
        Parcelvoy's for whatever went wrong inside it; by path."""
        self._inner = httpx.ASGITransport(emulator)
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Network]:
        async with anyio.create_task_group() as self._tasks:
            yield self
            self._tasks.cancel_scope.cancel()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.refuses:
            self.refused += 1
            raise httpx.ConnectError("All connection attempts failed")
        await request.aread()
        answers: list[httpx.Response | None] = []
        arrived = anyio.Event()
        assert self._tasks is not None
        self._tasks.start_soon(self._carry, request, answers, arrived)
        received = None
        try:
            await arrived.wait()
            received = answers[0]
        finally:
            excuses = (400, 502, 504) if request.url.path.startswith("/api/client") else (502, 504)
            if received is None or received.status_code in excuses:
                many = request.content.startswith(b"[")
                self.lost[request.url.path] += len(json.loads(request.content)) if many else 1
        if received is None:
            raise httpx.ReadError("the connection was cut")
        return received

    async def _carry(self, request: httpx.Request, answers: list[httpx.Response | None], arrived: anyio.Event) -> None:
        await anyio.sleep(self.there())
        try:
            answer = await self._inner.handle_async_request(request)
            content = self._rewritten(request, answer.status_code, await answer.aread())
            headers = {**answer.headers, "content-length": str(len(content))}
            # A stream, as from a socket: `content=` would make an answer that counts as read already.
            answers.append(httpx.Response(answer.status_code, headers=headers, stream=httpx.ByteStream(content)))
        except ConnectionCut:
            answers.append(None)
        await anyio.sleep(self.back())
        arrived.set()

    def _rewritten(self, request: httpx.Request, status: int, content: bytes) -> bytes:
        about_jobs = "background_jobs" in request.url.path or "bulk" in request.url.path
        if self.rewrite is None or not about_jobs or status >= 300:
            return content
        self.rewritten += 1
        return json.dumps(self.rewrite(json.loads(content))).encode()


@attrs.define(eq=False, kw_only=True)
class Rehearsal(Calls):
    """A scene on virtual time: see `rehearsal`."""

    emulator: Emulator
    network: Network
    promised: list[str] = attrs.field(factory=list)
    last_report: Report | None = None
    fired: Counter[str] = attrs.field(factory=Counter)

    def goes_wrong(self, name: str, *, times: int | None = None, **fields: Any) -> None:
        """Put a fault in place, until `recovers`; the end of the block makes sure that it happened."""
        self.emulator.faults.add(Fault(name=name, times=times, **fields))
        self.promised.append(name)

    def recovers(self) -> None:
        """Nothing goes wrong any more."""
        for armed in self.emulator.faults:
            self.fired[armed.fault.name] += armed.fired
        self.emulator.faults.clear()
        self.network.refuses = False

    def requests(self, *, path: str = "/", status: int | None = None) -> list[Any]:
        """What the server has in its log: of paths that begin so, answered so."""
        return [
            request
            for request in self.emulator.store.requests
            if request.path.startswith(path) and status in (None, request.status)
        ]

    @property
    def jobs(self) -> list[Any]:
        """The bulk jobs that the server has ever accepted from this client."""
        return [job for job in self.emulator.store.jobs if job.filename.startswith("userpilot-async-")]

    @property
    def events(self) -> list[Any]:
        return self.emulator.store.events

    async def drained(self, within: float) -> Report:
        """Flush, and everything has an outcome within so many seconds."""
        report: Report = await self.client.flush(within)
        assert report.complete, f"after {within:g} s: {report}"
        return report

    async def alive_again(self) -> None:
        """I8: a fresh event of a new user is there soon after the last fault."""
        receipt = await self.track(person(999_999), "fresh")
        outcome = await receipt.outcome(LIVE_WITHIN)
        assert "delivered" == outcome.status

    async def leaves(self, timeout: float) -> Report:
        """Close the client, within its bound (I6)."""
        began = anyio.current_time()
        self.last_report = await self.client.aclose(timeout)
        judge.within_bound(anyio.current_time() - began, timeout)
        return self.last_report

    async def end(self) -> Report:
        self.recovers()
        judge.happened(self.fired, *self.promised)
        if self.last_report is not None:
            return self.last_report
        await self.alive_again()
        await self.drained(6 * 3_600)
        await anyio.sleep(IDLE)  # a job whose rows are all there by now is still watched to its end
        sent = len(self.emulator.store.requests)
        await anyio.sleep(IDLE)
        assert sent == len(self.emulator.store.requests)
        return await self.leaves(self.client.settings.close_timeout)

    def judge_server(self) -> None:
        """I2 to I5 and I10, from the server's own log."""
        self.emulator.advance()
        store = self.emulator.store
        # An import's rows have come with their file, though they are worked off later.
        came = {job.job_id: job.submitted_at for job in store.jobs if job.kind == "import"}
        in_order = sorted(store.applied, key=lambda a: came.get(a.job_id or "", a.stamp))
        applied = [(a, mark) for a in in_order if a.kind != "company" for mark in marks_in(a.payload)]
        lost = self.network.lost[self.to.events]
        extra = judge.duplicates([mark for a, mark in applied if a.kind in ("track", "event")], lost)
        assert extra <= self.statistics.possible_duplicates <= lost
        judge.per_user_order((mark for _, mark in applied), self.may_move_ahead)
        kinds = ((user, "track" if a.kind == "event" else a.kind) for a, (user, _) in applied)
        judge.identify_before_track((user, kind) for user, kind in kinds if user in self._identified_first)
        self.to.judge_store(self, extra)


def _judge_userpilot(scene: Rehearsal, extra: int) -> None:
    store = scene.emulator.store
    key = next(r.key_fingerprint for r in store.requests if r.key_fingerprint != "anonymous")
    ours = [r for r in store.requests if r.key_fingerprint == key]
    judge.requests_in_any_minute(r.stamp for r in ours if r.family == "track")
    judge.requests_in_any_minute(r.stamp for r in ours if r.family in ("identify", "bulk", "jobs"))
    judge.conflicts(r.stamp for r in ours if r.status == 409)
    same_state(
        scene.model,
        {user.user_id: user.properties for user in store.users.values() if PERSON in user.user_id},
        {company.company_id: company.properties for company in store.companies.values()},
        {user.user_id: user.company_id for user in store.users.values()},
    )
    events = [Event(e.user_id, e.event_name, e.metadata, e.company_id) for e in store.events]
    same_events(scene.model, events, extra)


QUICK = Settings(request_timeout=0.4, upload_timeout=1.0, flush_interval=0, close_timeout=1.0)

USERPILOT = Side(
    name="userpilot",
    client=UserpilotClient,
    quick=QUICK,
    events="/v1/track",
    identifies="/v1/identify",
    rejects=400,
    identify=lambda client, user, said, company: client.identify(user, said, company=company),
    track=lambda client, user, name, said: client.track(user, name, said),
    judge_store=_judge_userpilot,
)


@asynccontextmanager
async def rehearsal(
    settings: Any = None,
    *,
    to: Side = USERPILOT,
    api_key: Callable[[], str] | str = KEY,
    breath: bool = True,
    **emulator: Any,
) -> AsyncIterator[Rehearsal]:
    """A client and an emulator on the test's clock; the whole judge at the end. For tests marked `virtual`."""
    server = Emulator(clock=lambda: EPOCH + anyio.current_time(), seed=1, **emulator)
    network = Network(server)
    letters: list[Any] = []
    with Log() as log:
        async with network.open():
            client = to.client(
                api_key, base_url="https://emulator.test", transport=network, on_dead=letters.append, settings=settings
            )
            async with client:
                if breath:  # most applications do something else first
                    await anyio.sleep(0)
                scene = Rehearsal(to=to, client=client, log=log, letters=letters, emulator=server, network=network)
                yield scene
                report = await scene.end()
        scene.judge_account(report)
        scene.judge_server()


# ── real time, real sockets ──

PATIENCE = 15.0  # real seconds for a few backoffs of at most 1, 2 and 4 s


@attrs.define(eq=False, kw_only=True)
class OnSockets(Calls):
    """A scene on real sockets: see `on_sockets`."""

    server: Any

    async def drained(self, within: float = PATIENCE) -> Report:
        report: Report = await self.client.flush(within)
        assert report.complete, f"after {within:g} s: {report}"
        return report

    def marks(self, path: str | None = None) -> list[tuple[str, int]]:
        """The calls that the server has applied, in its order, with repeats; events, unless the path is another."""
        applied: list[Request] = getattr(self.server, "applied", [])
        bodies = [json.loads(request.body) for request in applied if request.path == (path or self.to.events)]
        return [mark for body in bodies for mark in marks_in(body)]

    def judge_server(self) -> None:
        events = self.marks()
        judge.duplicates(events, self.statistics.possible_duplicates)
        judge.per_user_order(events)
        claimed = [mark for mark, receipt in self.receipts.items() if receipt.status == "delivered"]
        judge.nothing_lost(claimed, events + self.marks(self.to.identifies))


@asynccontextmanager
async def on_sockets(
    server: Any,
    settings: Any = None,
    *,
    to: Side = USERPILOT,
    url: str | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    server_counts: bool = True,
) -> AsyncIterator[OnSockets]:
    """A client of a misbehaving server. ``server`` has ``url``, and ``applied`` if it is one of ours.

    ``server_counts=False``: what was applied is in the log of another process, for the test to judge.
    """
    letters: list[Any] = []
    settings = settings or to.quick
    client = to.client(KEY, base_url=url or server.url, settings=settings, on_dead=letters.append, transport=transport)
    with Log() as log:
        async with free_of_leaks(), client:
            await anyio.sleep(0)
            scene = OnSockets(to=to, client=client, log=log, letters=letters, server=server if server_counts else None)
            yield scene
            began = anyio.current_time()
            report = await client.aclose()
            judge.within_bound(anyio.current_time() - began, settings.close_timeout)
    scene.judge_account(report)
    if server_counts:
        scene.judge_server()

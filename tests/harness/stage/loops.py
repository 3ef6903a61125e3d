"""Scenes for the faults of processes and loops: a client and a server in one loop, and ways to disturb them."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Barrier, Thread
from typing import Any, Generic, TypeVar

import anyio
import attrs
import httpx

from tests.harness import Program, loops, python
from userpilot_async import Settings, UserpilotClient
from userpilot_async.emulator import ConnectionCut, Emulator

T = TypeVar("T")

MINUTE_BEGINS = 1_600_854_600.0  # 09:50:00 UTC on 2020-09-23, so that a rate window begins when a loop does
KEY = "up-canary-3f1c"


def virtual_emulator(**options: Any) -> Emulator:
    """An emulator in this loop, whose clock is the loop's."""
    return Emulator(clock=lambda: MINUTE_BEGINS + anyio.current_time(), seed=1, **options)


class InProcess(httpx.ASGITransport):
    """An emulator in this loop as a network: a connection it cuts is a `ReadError`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except ConnectionCut as exc:
            raise httpx.ReadError("the connection was cut", request=request) from exc


def client_of(emulator: Emulator, *, on_dead: Any = None, **settings: Any) -> UserpilotClient:
    """A client, not yet open, that talks to an emulator in the same loop."""
    return UserpilotClient(KEY, transport=InProcess(emulator), on_dead=on_dead, settings=Settings(**settings))


@asynccontextmanager
async def running(client: UserpilotClient) -> AsyncIterator[UserpilotClient]:
    """The client, open, with its own tasks waiting for something to do."""
    async with client:
        await anyio.wait_all_tasks_blocked()
        yield client


def markers(emulator: Emulator) -> list[Any]:
    """The `n` of every event the emulator has, in its order."""
    return [event.metadata["n"] for event in emulator.store.events]


def markers_at(url: str) -> list[Any]:
    """The `n` of every event that the emulator at this URL has, in its order."""
    return [event["metadata"]["n"] for event in events_at(url)]


def events_at(url: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{url}/__emulator__/events", params={"limit": 1_000_000}, timeout=30)
    return answer.raise_for_status().json()["items"]


def add_fault(url: str, **fault: Any) -> None:
    """Arm a fault of the emulator at this URL."""
    httpx.post(f"{url}/__emulator__/faults", json=fault).raise_for_status()


async def wait_until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Look every few milliseconds; `TimeoutError` after `timeout` seconds of the loop's clock."""
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.005)


# ── cancelling ──


class CancelledAt(Generic[T]):
    """Awaits `awaitable`, and calls `cancel` while that is suspended for the `number`-th time, counted from 1."""

    def __init__(self, awaitable: Awaitable[T], number: int, cancel: Callable[[], object]) -> None:
        self._awaitable = awaitable
        self._number = number
        self._cancel = cancel
        self.suspended = 0
        """How often it has been suspended so far."""

    @property
    def happened(self) -> bool:
        return self.suspended >= self._number

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        resume: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                asked = resume()
            except StopIteration as stop:
                return stop.value
            self.suspended += 1
            if self.suspended == self._number:
                # The task still runs, so this takes effect as soon as it is suspended: at this await.
                self._cancel()
            try:
                answer = yield asked
            except BaseException as exc:
                error = exc
                resume = lambda: steps.throw(error)  # noqa: B023, E731  # called before the next round
            else:
                resume = lambda: steps.send(answer)  # noqa: B023, E731  # type: ignore[attr-defined]


async def cancelled_at(how: str, number: int, call: Callable[[], Awaitable[T]]) -> tuple[bool, T | None]:
    """Cancel `call()` at its `number`-th await, ``"natively"`` or by a ``"scope"``.

    Whether there was such an await, and what the call returned if it did in spite of it.
    """
    returned: list[T] = []
    happened: list[bool] = []

    async def by_scope() -> None:
        with anyio.CancelScope() as scope:
            attempt = CancelledAt(call(), number, scope.cancel)
            try:
                returned.append(await attempt)
            finally:
                happened.append(attempt.happened)

    async def natively() -> None:
        task = asyncio.current_task()
        assert task is not None
        attempt = CancelledAt(call(), number, task.cancel)
        try:
            returned.append(await attempt)
        finally:
            happened.append(attempt.happened)

    if how == "scope":
        await by_scope()
    else:
        await asyncio.wait({asyncio.create_task(natively())})
    return happened[0], returned[0] if returned else None


@contextmanager
def threads(number: int, work: Callable[[int], object]) -> Iterator[Callable[[], None]]:
    """So many threads that begin `work(n)` together; what is given joins them, and raises what one of them raised."""
    barrier, errors = Barrier(number), []

    def run(n: int) -> None:
        barrier.wait(30)
        try:
            work(n)
        except BaseException as error:
            errors.append(error)

    workers = [Thread(target=run, args=(n,), daemon=True) for n in range(number)]

    def join() -> None:
        for worker in workers:
            worker.join(30)
            assert not worker.is_alive()
        if errors:
            raise errors[0]

    for worker in workers:
        worker.start()
    yield join
    join()


def cancel_all_other_tasks() -> int:
    """What an application does that wants to end "everything that runs". Gives how many there were."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return len(others)


# ── programs ──

PROGRAM = """
import asyncio, json, logging, os, signal, sys, threading, time, warnings
from userpilot_async import ClientClosed, Settings, UserpilotClient

logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s")
logging.getLogger("httpx").setLevel(logging.WARNING)
warnings.simplefilter("always")

def say(what, value=None):
    os.write(1, f"SAID {what} {json.dumps(value)}\\n".encode())  # in one piece: the log writes here, too

async def until(holds):
    while not holds():
        await asyncio.sleep(0.001)

def account(userpilot):
    names = ("accepted", "delivered", "dead", "dropped", "merged", "pending")
    return {name: getattr(userpilot.statistics(), name) for name in names}

"""


@contextmanager
def script(source: str, url: str) -> Iterator[Program]:
    """Run a program that finds a client's key and URL in its environment, and may `say` things to the test."""
    env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}
    with python("-c", loops.IN_A_PROGRAM + PROGRAM + textwrap.dedent(source), env=env) as running:
        yield running


def said(program: Program) -> dict[str, Any]:
    """What the program said so far, the last value by name."""
    lines = [line.split(" ", 2) for line in program.output.splitlines() if line.startswith("SAID ")]
    return {name: json.loads(value) for _, name, value in lines}


@attrs.frozen
class Account:
    """The numbers for the law of conservation, as they came out of another process."""

    accepted: int
    delivered: int
    dead: int
    dropped: int
    merged: int
    pending: int

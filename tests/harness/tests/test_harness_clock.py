from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import timedelta

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.clock import VirtualTimeDeadlock, VirtualTimeLoop, run_virtual, unhandled

DAY = timedelta(days=1).total_seconds()

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.virtual
async def test_a_year_of_daily_sleeps_passes_in_well_under_a_second() -> None:
    began = time.perf_counter()
    for _ in range(365):
        await anyio.sleep(DAY)

    assert pytest.approx(anyio.current_time(), abs=1e-6) == 365 * DAY
    assert 0.9 > time.perf_counter() - began


@pytest.mark.virtual
async def test_every_test_starts_at_zero() -> None:
    assert 0 == anyio.current_time()


@pytest.mark.virtual
async def test_sleepers_wake_in_the_order_of_their_timers() -> None:
    woken: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time()))

    async with anyio.create_task_group() as tasks:
        for seconds in (3600.0, 0.001, 60.0, 59.999):
            tasks.start_soon(sleep, seconds)

    assert [(s, s) for s in (0.001, 59.999, 60.0, 3600.0)] == woken


@pytest.mark.virtual
async def test_fail_after_fires_at_its_deadline_and_not_before() -> None:
    with anyio.fail_after(61):
        await anyio.sleep(60)
    with pytest.raises(TimeoutError):
        with anyio.fail_after(5):
            await anyio.sleep(6)

    assert 65 == anyio.current_time()


@pytest.mark.virtual
async def test_a_task_that_never_waits_does_not_move_the_clock() -> None:
    async def jump() -> None:
        await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jump)
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
            assert 0 == anyio.current_time()


@pytest.mark.virtual
async def test_sockets_work_while_no_time_passes() -> None:
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            with anyio.fail_after(3600):
                for _ in range(100):
                    await stream.send(b"ping")
                    assert b"ping" == await stream.receive()
        tasks.cancel_scope.cancel()

    assert 3600 > anyio.current_time()


@pytest.mark.virtual
async def test_a_worker_thread_wakes_a_loop_without_timers() -> None:
    def slow_answer() -> str:
        time.sleep(0.05)
        return "done"

    assert "done" == await anyio.to_thread.run_sync(slow_answer)
    assert 0 == anyio.current_time()


@pytest.mark.virtual
async def test_a_worker_thread_is_invisible_to_a_clock_with_a_timer() -> None:
    """The trap of every jumping clock. If this ever fails, the module's warning can go."""
    release = threading.Event()
    with anyio.move_on_after(3600) as scope:
        await anyio.to_thread.run_sync(release.wait, 0.05, abandon_on_cancel=True)
    release.set()

    assert scope.cancelled_caught


@pytest.mark.virtual(jump_after=0.5)
async def test_patience_before_each_jump_lets_a_thread_answer() -> None:
    with anyio.fail_after(3600):
        await anyio.to_thread.run_sync(time.sleep, 0.05)

    assert 0 == anyio.current_time()


def test_a_deadlock_ends_with_an_error_that_says_where_each_task_waits(backend: str) -> None:
    async def waits_for_ever() -> None:
        await anyio.Event().wait()

    began = time.perf_counter()
    with pytest.raises(VirtualTimeDeadlock, match=r"(?s)deadlock in virtual time.*0\.1 real seconds.*waits_for_ever"):
        run_virtual(waits_for_ever, backend, deadlock_after=0.1)

    assert 2 > time.perf_counter() - began


@pytest.mark.virtual(deadlock_after=0.1)
@pytest.mark.xfail(raises=VirtualTimeDeadlock, strict=True)
async def test_a_deadlock_fails_a_marked_test() -> None:
    await anyio.Event().wait()


def test_a_deadlock_reaches_through_task_groups(backend: str) -> None:
    async def nested() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.Event().wait)

    with pytest.raises(VirtualTimeDeadlock):
        run_virtual(nested, backend, deadlock_after=0.1)


def test_call_soon_threadsafe_wakes_a_loop_without_timers() -> None:
    async def wait_for_outsider() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        outsider = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(answer.set_result, "hello"))
        outsider.start()
        try:
            return await answer
        finally:
            outsider.join()

    assert "hello" == run_virtual(wait_for_outsider)


def test_the_default_executor_shuts_down_without_a_warning() -> None:
    async def resolve() -> None:
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)

    run_virtual(resolve)


def test_plain_sockets_are_watched_by_the_virtual_loop() -> None:
    async def exchange() -> bytes:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"over")
            return await loop.sock_recv(right, 100)

    assert b"over" == run_virtual(exchange)


def test_the_loop_is_monotonic_and_exact_over_a_century() -> None:
    """Floats lose precision with size; a timer must still not wake its sleeper early, nor spin."""

    async def sleep() -> list[float]:
        loop = asyncio.get_running_loop()
        overshoots = []
        await asyncio.sleep(100 * 365 * DAY)
        for _ in range(100):
            due = loop.time() + 0.1
            await asyncio.sleep(0.1)
            overshoots.append(loop.time() - due)
        return overshoots

    overshoots = run_virtual(sleep)
    assert 1e-6 > max(overshoots)
    assert -1e-6 < min(overshoots)


def test_run_virtual_returns_the_result_and_raises_what_was_raised(backend: str) -> None:
    async def double(number: int) -> int:
        await anyio.sleep(DAY)
        return 2 * number

    async def fail() -> None:
        raise LookupError("as is")

    assert 42 == run_virtual(double, backend, 21)
    with pytest.raises(LookupError, match="as is"):
        run_virtual(fail, backend)


@settings(max_examples=25, deadline=None)
@given(naps=st.lists(st.floats(0, 1e6), max_size=5))
@pytest.mark.parametrize("backend_name", ["asyncio", "trio"])
def test_every_hypothesis_example_has_its_own_clock(backend_name: str, naps: list[float]) -> None:
    async def sleep() -> float:
        began = anyio.current_time()
        for nap in naps:
            await anyio.sleep(nap)
        return began

    assert 0 == run_virtual(sleep, backend_name)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'asyncio' or 'trio', not 'curio'"):
        run_virtual(anyio.sleep, "curio")


def test_a_loop_reports_a_task_whose_exception_nobody_fetched() -> None:
    async def fail() -> None:
        raise LookupError("lost")

    async def forget_a_task() -> None:
        task = asyncio.get_running_loop().create_task(fail())
        await asyncio.sleep(1)
        assert task.done()

    run_virtual(forget_a_task)

    assert ["Task exception was never retrieved: LookupError('lost')"] == unhandled
    unhandled.clear()


async def test_unmarked_tests_run_on_real_time() -> None:
    began = time.perf_counter()
    await anyio.sleep(0.05)

    assert 0.04 < time.perf_counter() - began


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.virtual
async def test_one_backend_can_be_chosen_and_stays_virtual() -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualTimeLoop)

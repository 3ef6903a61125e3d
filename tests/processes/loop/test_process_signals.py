"""Rows 40, 41, 42: a program is told to stop, told again, or has less time than one request takes."""

from __future__ import annotations

import re
import signal
import time

import anyio
import pytest

from tests.harness import ProgramFailed, RawServer, emulator_thread, judge, silent
from tests.harness.stage.loops import Account, client_of, markers_at, running, said, script, virtual_emulator
from userpilot_async import Settings, UserpilotClient

# ── 40: a bare `asyncio.run` under SIGTERM runs no `finally`, so the program has to listen ──

LEAVES_THE_BLOCK = """
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with UserpilotClient() as userpilot:
        for n in range(50):
            await userpilot.track("u", "clicked", {"n": n})
        say("ready")
        await stop.wait()
        report = await userpilot.aclose()
    say("account", account(userpilot))
    say("report", str(report))

asyncio.run(main())
"""

CANCELS_ITSELF = """
async def main():
    userpilot = UserpilotClient()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    try:
        async with userpilot:
            for n in range(50):
                await userpilot.track("u", "clicked", {"n": n})
            say("ready")
            await asyncio.sleep(3_600)
    finally:
        say("account", account(userpilot))

try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
"""

ON_ANYIO = """
import anyio

async def main():
    async with UserpilotClient() as userpilot:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce, userpilot)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                say("ready")
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    break
    say("account", account(userpilot))

async def produce(userpilot):
    for n in range(50):
        await userpilot.track("u", "clicked", {"n": n})
    await anyio.sleep_forever()

anyio.run(main, backend="BACKEND")
"""


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(LEAVES_THE_BLOCK, id="a handler that sets an event"),
        pytest.param(CANCELS_ITSELF, id="a handler that cancels the main task"),
        pytest.param(ON_ANYIO.replace("BACKEND", "asyncio"), id="anyio on asyncio"),
        pytest.param(ON_ANYIO.replace("BACKEND", "trio"), id="anyio on trio"),
    ],
)
def test_row_40_a_program_that_listens_for_sigterm_delivers_everything_before_it_ends(source: str) -> None:
    with emulator_thread("--latency", "0.02") as url:
        with script(source, url) as program:
            program.wait_for_line("SAID ready")
            program.terminate()
            status = program.wait(10.0 + 1.0)
        arrived = markers_at(url)

    account = Account(**said(program)["account"])
    assert 0 == status
    assert list(range(50)) == arrived
    assert 50 == account.delivered == judge.conservation(account)
    assert "Traceback" not in program.output


# ── 41 ──

DRAINING = """
userpilot = UserpilotClient(settings=Settings(close_timeout=30.0), on_dead=lambda letter: say("dead", letter.reason))

def is_asleep():
    # A KeyboardInterrupt out of the middle of the loop's own code may lose what asyncio was about to wake.
    main = sys._current_frames()[threading.main_thread().ident]
    return main.f_code.co_name == "select" and all(it.name != "userpilot_async" for it in threading.enumerate())

def watch():
    while "closed" not in repr(userpilot) or not is_asleep():
        time.sleep(0.005)
    say("draining")

async def main():
    try:
        async with userpilot:
            for n in range(5):
                await userpilot.track("u", "clicked", {"n": n})
            say("ready")
            await asyncio.sleep(3_600)
    finally:
        say("account", account(userpilot))

threading.Thread(target=watch, daemon=True).start()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    say("interrupted")
"""


def test_row_41_a_second_sigint_ends_the_drain_at_once_and_the_calls_are_accounted_for() -> None:
    with RawServer(silent()) as server, script(DRAINING, server.url) as program:
        program.wait_for_line("SAID ready")
        program.send_signal(signal.SIGINT)
        program.wait_for_line("SAID draining")
        program.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        try:
            status = program.wait(10)
        except ProgramFailed:
            if "Exception ignored in" not in program.output:
                raise
            program.send_signal(signal.SIGINT)  # Python dropped the first one, in a callback of a weak reference
            interrupted = time.monotonic()
            status = program.wait(10)
        took = time.monotonic() - interrupted

    told = said(program)
    judge.within_bound(took, 1.0)
    assert 0 == status
    assert "interrupted" in told
    assert re.search("userpilot: 5 of 5 calls dropped on close: the close was cancelled after ", program.output)
    account = Account(**told["account"])
    assert 5 == account.dropped == judge.conservation(account)


# ── 42 ──


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("close_timeout", [0.0, 0.05, 1.0])
async def test_row_42_a_close_timeout_shorter_than_one_request_is_kept_and_what_is_left_is_reported(
    close_timeout: float,
) -> None:
    emulator = virtual_emulator(latency=10.0)
    client = client_of(emulator, close_timeout=close_timeout)
    async with running(client) as userpilot:
        for n in range(20):
            await userpilot.track(f"u{n}", "clicked", {"n": n})
        await userpilot.identify("u", {"plan": "pro"})
        await anyio.sleep(0.01)
        in_flight = userpilot.statistics().in_flight
        report = await userpilot.aclose()

    judge.within_bound(report.elapsed, close_timeout)
    assert in_flight > 0, "nothing was under way: nothing was tested"
    assert 0 == report.remaining
    assert {"closed": 21} == report.statistics.lost_by_reason
    assert 21 == judge.conservation(report.statistics)
    assert 0 == client.statistics().in_flight


@pytest.mark.anyio
@pytest.mark.parametrize("close_timeout", [0.0, 0.5])
async def test_row_42_a_close_of_connections_to_a_silent_server_is_kept_within_the_bound(close_timeout: float) -> None:
    with RawServer(silent()) as server:
        client = UserpilotClient("KEY", base_url=server.url, settings=Settings(close_timeout=close_timeout))
        async with running(client) as userpilot:
            for n in range(20):
                await userpilot.track(f"u{n}", "clicked", {"n": n})
            await anyio.to_thread.run_sync(server.wait_for_requests, 8)
            leaving = time.monotonic()

        judge.within_bound(time.monotonic() - leaving, close_timeout)
    assert {"closed": 20} == client.statistics().lost_by_reason

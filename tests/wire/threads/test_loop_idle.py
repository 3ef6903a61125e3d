"""I7 and I11 around the faults of the loop: nothing runs when nothing is to do, and nothing stays behind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest
import trio

from tests.harness import RawServer, VirtualTimeLoop, free_of_leaks, silent
from tests.harness.stage.loops import KEY, client_of, markers_at, running, virtual_emulator, wait_until
from userpilot_async import UserpilotClient

DAY = 86_400.0


class CountingLoop(VirtualTimeLoop):
    """Knows how often it has turned."""

    turns = 0

    def _run_once(self) -> None:
        self.turns += 1
        super()._run_once()  # type: ignore[misc]  # asyncio's own, in no stub


class CountingInstrument(trio.abc.Instrument):
    turns = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.turns += 1


def turns_of_an_idle_day(backend: str, prepare: Any) -> int:
    """How often the loop turned (trio: how many steps its tasks took) in a day without a call."""
    counter: Any = CountingInstrument()
    options: dict[str, Any] = {"instruments": [counter], "clock": trio.testing.MockClock(autojump_threshold=0)}

    async def scene() -> int:
        nonlocal counter
        if backend == "asyncio":
            counter = asyncio.get_running_loop()
        async with running(client_of(virtual_emulator())) as userpilot:
            await prepare(userpilot)
            before = counter.turns
            await anyio.sleep(DAY)
            return counter.turns - before

    if backend == "asyncio":
        options = {"loop_factory": CountingLoop}
    return anyio.run(scene, backend=backend, backend_options=options)


async def _nothing(userpilot: UserpilotClient) -> None:
    pass


async def _some_calls(userpilot: UserpilotClient) -> None:
    for n in range(300):
        await userpilot.identify(f"u{n}", {"n": n}, company={"id": "acme", "plan": "pro"})
        await userpilot.track(f"u{n}", "clicked", {"n": n})
    report = await userpilot.flush(3_600)
    assert report.complete


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("prepare", [_nothing, _some_calls])
def test_an_idle_client_turns_the_loop_hardly_ever_in_a_whole_day(backend: str, prepare: Any) -> None:
    turns = turns_of_an_idle_day(backend, prepare)

    assert turns <= 20


@pytest.mark.anyio
async def test_sixty_clients_opened_used_and_closed_leave_nothing_behind(emulator_url: str) -> None:
    async def used(n: int) -> None:
        async with UserpilotClient(KEY, base_url=emulator_url) as userpilot:
            await userpilot.track("u", "clicked", {"n": n})
            await userpilot.api.identify("u")

    await used(-1)
    async with free_of_leaks(memory_slack_bytes=8 * 1024 * 1024):
        for n in range(60):
            await used(n)

    assert list(range(-1, 60)) == markers_at(emulator_url)


@pytest.mark.anyio
async def test_waiting_for_an_answer_costs_no_cpu() -> None:
    with RawServer(silent()) as server:
        async with running(UserpilotClient(KEY, base_url=server.url)) as userpilot:
            await userpilot.track("u", "clicked")
            await wait_until(lambda: userpilot.statistics().in_flight == 1)
            started = time.process_time()
            await anyio.sleep(1)
            busy = time.process_time() - started
            await userpilot.aclose(0)

    assert busy <= 0.1

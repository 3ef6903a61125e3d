"""Rows 26 (the plain API) and 45, with a server in another process: cancelled at any await, in either way."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from tests.harness import emulator_thread, free_of_leaks, judge
from tests.harness.stage.loops import (
    KEY,
    Account,
    events_at,
    said,
    script,
)
from userpilot_async import UserpilotClient

pytestmark = pytest.mark.anyio
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


CLOSES_CANCELLED = """
import anyio
from tests.harness.stage.loops import cancelled_at

async def closed_twice(number):
    userpilot = UserpilotClient(settings=Settings(close_timeout=0.3))
    async with userpilot:
        await anyio.wait_all_tasks_blocked()
        for n in range(5):
            await userpilot.track("u", "clicked", {{"n": n}})
        happened, report = await cancelled_at({how!r}, number, userpilot.aclose)
        say(f"cancelled-{{number}}", happened)
        started = time.monotonic()
    say(f"left-{{number}}", {{"took": time.monotonic() - started, "account": account(userpilot)}})
    return happened

async def main():
    number = 1
    while await closed_twice(number):
        number += 1
    say("rounds", number)

anyio.run(main, backend={backend!r})
"""


@pytest.mark.parametrize(("backend", "how"), [("asyncio", "natively"), ("asyncio", "scope"), ("trio", "scope")])
def test_row_45_after_a_close_cancelled_at_any_await_the_block_is_left_within_the_close_timeout(
    backend: str, how: str
) -> None:
    source = CLOSES_CANCELLED.format(backend=backend, how=how)
    with emulator_thread("--latency", "1") as url, script(source, url) as program:
        program.wait_for_line("SAID cancelled-1 true")
        number = 1
        # From line to line, because what hangs is to be seen soon.
        while program.wait_for_line(rf"SAID cancelled-{number} (true|false)")[1] == "true":
            program.wait_for_line(f"SAID left-{number} ", timeout=3)
            number += 1
        status = program.wait()

    told = said(program)
    assert 0 == status
    assert told["rounds"] > 3, "the drain hardly waited: little was tested"
    for round_ in range(1, told["rounds"] + 1):
        judge.within_bound(told[f"left-{round_}"]["took"], 0.3)
        account = Account(**told[f"left-{round_}"]["account"])
        assert 5 == judge.conservation(account)
        assert 0 == account.pending


@ON_ASYNCIO
async def test_row_26_thousands_of_natively_cancelled_api_calls_leave_the_pool_healthy() -> None:
    ended = {"cancelled": 0, "answered": 0}

    async def impatient(userpilot: UserpilotClient, patience: float) -> None:
        try:
            await asyncio.wait_for(userpilot.api.identify("u", {"plan": "pro"}), patience)
            ended["answered"] += 1
        except TimeoutError:
            ended["cancelled"] += 1

    with emulator_thread("--latency", "0.002", "--rate-limit", "1000000") as url:
        async with free_of_leaks(), UserpilotClient(KEY, base_url=url) as userpilot:
            await userpilot.api.identify("u")
            for round_ in range(20):
                patience = (round_ % 10) * 0.001
                await asyncio.gather(*(impatient(userpilot, patience) for _ in range(100)))
            with anyio.fail_after(5):
                await userpilot.api.identify("u", {"last": True})
            await userpilot.track("u", "clicked", {"n": 1})
            report = await userpilot.flush(5)

        assert ended["cancelled"] >= 1_000, f"too few were cancelled in mid-request: {ended}"
        assert report.complete
        assert 1 == len(events_at(url))

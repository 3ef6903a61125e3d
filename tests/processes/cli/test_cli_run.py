"""The phases of a run: a signal ends the one that is under way, and what comes behind it goes on."""

from __future__ import annotations

import signal
import sys

import anyio
import pytest

from userpilot_async.cli._run import Phases

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.skipif(sys.platform == "win32", reason="no signal handlers"),
]


async def test_each_signal_ends_the_phase_that_is_under_way() -> None:
    phases, ended = Phases(winds_up=True), []
    async with anyio.create_task_group() as helpers:
        await phases.heed_signals(helpers)
        with anyio.fail_after(5):
            for received in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                with phases.begin() as phase:
                    signal.raise_signal(received)
                    await anyio.sleep_forever()
                ended.append((phase.cancelled_caught, phases.interrupted))
        helpers.cancel_scope.cancel()

    assert [(True, True)] * 3 == ended


async def test_a_signal_before_the_first_phase_ends_that_and_no_later_one() -> None:
    phases = Phases(winds_up=True)
    async with anyio.create_task_group() as helpers:
        await phases.heed_signals(helpers)
        signal.raise_signal(signal.SIGTERM)
        with anyio.fail_after(5):
            while not phases.interrupted:
                await anyio.sleep(0.001)
            with phases.begin() as first:
                await anyio.sleep_forever()
        with phases.begin() as last:
            await anyio.sleep(0)
        helpers.cancel_scope.cancel()

    assert (True, False) == (first.cancelled_caught, last.cancelled_caught)


async def test_where_a_run_does_not_wind_up_a_second_signal_is_pythons() -> None:
    phases = Phases()
    async with anyio.create_task_group() as helpers:
        await phases.heed_signals(helpers)
        with anyio.fail_after(5):
            with phases.begin():
                signal.raise_signal(signal.SIGTERM)
                await anyio.sleep_forever()
            while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                await anyio.sleep(0.001)
        helpers.cancel_scope.cancel()

    assert phases.interrupted


async def test_a_phase_ends_after_its_time_and_can_be_cut_short() -> None:
    phases = Phases()
    phases.cut_short()  # there is none: nothing happens
    with anyio.fail_after(5):
        with phases.begin(0.01) as timed:
            await anyio.sleep_forever()
        with phases.begin() as cut:
            phases.cut_short()
            await anyio.sleep_forever()

    assert (True, True, False) == (timed.cancelled_caught, cut.cancelled_caught, phases.interrupted)

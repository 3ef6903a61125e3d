"""The variable `LOOP` in the environment chooses the loop, of tests and of the programs they start."""

from __future__ import annotations

import asyncio
import sys

import pytest

from tests.harness import loops, python
from tests.harness.clock import run_virtual

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)

TELLS = """
import asyncio

async def nothing():
    pass

async def main():
    task = asyncio.create_task(nothing())
    print("LOOP", type(asyncio.get_running_loop()).__module__.split(".")[0], "eager" if task.done() else "lazy")

asyncio.run(main())
"""


async def is_eager() -> bool:
    """A task of this loop runs before `create_task` returns."""
    task = asyncio.create_task(asyncio.sleep(0, True))
    begun = task.get_coro() is None or task.get_coro().cr_await is not None
    await task
    return begun


@ON_ASYNCIO
async def test_a_test_runs_on_the_loop_that_was_chosen() -> None:
    kind = type(asyncio.get_running_loop())

    assert (loops.CHOSEN == "uvloop") == any(parent.__module__.startswith("uvloop") for parent in kind.__mro__)
    assert (loops.CHOSEN == "eager") == await is_eager()


def test_a_test_on_a_virtual_clock_has_eager_tasks_if_they_were_chosen() -> None:
    assert (loops.CHOSEN == "eager") == run_virtual(is_eager)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ("", "LOOP asyncio lazy"),
        pytest.param(
            "eager",
            "LOOP asyncio eager",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12"),
        ),
        ("uvloop", "LOOP uvloop lazy"),
    ],
)
def test_a_program_runs_on_the_loop_that_was_chosen(chosen: str, told: str) -> None:
    if chosen == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is for `nox -s loops`")
    first = "from tests.harness.loops import install; install()\n" if chosen else ""

    with python("-c", first + TELLS, env={"LOOP": chosen}) as program:
        status = program.wait(30)

    assert (0, told) == (status, program.output.strip())

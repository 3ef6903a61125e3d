"""Which asyncio loop the tests run on: `LOOP=uvloop` or `LOOP=eager` in the environment, as `nox -s loops` sets it.

`uvloop` replaces the real loops, in this process and in those that tests start; a clock that jumps has a loop of its
own. `eager` (Python 3.12) starts every task before `create_task` returns, on all of them.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from typing import Any

CHOSEN = os.environ.get("LOOP", "")
assert CHOSEN in ("", "uvloop", "eager"), f"LOOP is {CHOSEN}: it may be uvloop or eager"

# For the first lines of a program that a test starts; empty where nothing is to be done.
IN_A_PROGRAM = "from tests.harness.loops import install; install()\n" if CHOSEN else ""


def hasten(loop: asyncio.AbstractEventLoop) -> None:
    """Give this loop eager tasks, if that was asked for."""
    if CHOSEN == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # new in Python 3.12


def install() -> None:
    """Let `asyncio.run` and `asyncio.new_event_loop` make such loops, if that was asked for."""
    if not CHOSEN:
        return
    with warnings.catch_warnings():  # 3.14 would rather have `loop_factory`, which programs of users do not know of
        warnings.simplefilter("ignore", DeprecationWarning)
        default: Any = asyncio.DefaultEventLoopPolicy
        if CHOSEN == "uvloop":
            import uvloop

            default = uvloop.EventLoopPolicy

        class Policy(default):  # type: ignore[misc]  # chosen above
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                loop: asyncio.AbstractEventLoop = super().new_event_loop()
                hasten(loop)
                return loop

        asyncio.set_event_loop_policy(Policy())

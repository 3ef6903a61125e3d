"""`userpilot-async emulate`: a server on this machine, for development without an account.

The command is the emulator's own, `emulator/_command.py`, since `python -m userpilot_async.emulator` is the same one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import anyio
import click

from .._runtime.http import httpx
from ._children import start
from ._exits import NotPossible, Unreachable

SPEED = 60  # times the vendor's: 2,000 rows take a second instead of a minute
START = 20.0  # seconds for the emulator to start
FAREWELL = 5.0  # seconds for it to stop
EVERYTHING = 1_000_000  # records of a page


def emulator_package() -> ModuleType:
    """`userpilot_async.emulator`; ends the command if what it needs is missing."""
    try:
        from .. import emulator
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] == "userpilot_async":
            raise
        raise NotPossible(f'the emulator needs {exc.name}: pip install "userpilot-async[emulator]"') from None
    return emulator


class _Emulate(click.Command):
    """The emulator's own command, which is imported when it runs: it needs packages that no other command does."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:  # Any: as click's own
        """The context of the emulator's command; ends this one if what it needs is missing."""
        emulator_package()
        from ..emulator._command import emulate

        return emulate.make_context(info_name, args, parent, **extra)


emulate = _Emulate("emulate", short_help="Serve an emulator of both servers, with a page.")


# ── for demonstrations ──


@asynccontextmanager
async def emulator_process(*options: str) -> AsyncIterator[str]:
    """The URL of an emulator in a process of its own, in a group that a Ctrl-C does not reach."""
    command = [sys.executable, "-m", "userpilot_async.emulator", "--port", "0", "--speed", str(SPEED), *options]
    process = await start(command, listened_to=True)
    try:
        yield await _url(process)
    finally:
        with anyio.move_on_after(FAREWELL, shield=True):  # then it is killed
            if process.returncode is None:
                process.terminate()
            await process.aclose()


async def _url(process: anyio.abc.Process) -> str:
    output = b""
    assert process.stdout is not None
    with anyio.move_on_after(START):
        async for chunk in process.stdout:
            output += chunk
            if match := re.search(rb"listening on (\S+)\n", output):
                return match[1].decode()
    raise Unreachable("the emulator did not start")


async def records(url: str, name: str) -> Sequence[dict[str, Any]]:
    """All users, companies or events of the emulator, by its control routes."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as http:
        answer = await http.get(f"/__emulator__/{name}", params={"limit": EVERYTHING})
    items: Sequence[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return items

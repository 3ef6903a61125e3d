"""`userpilot-async emulate`: a server on this machine, for development without an account."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import anyio
import click
import httpx

from ._children import start
from ._console import echo
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


@click.command(short_help="Serve an emulator of both servers.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Speed of jobs, as a multiple of the vendor's.")  # fmt: skip
@click.option("--api-key", multiple=True, metavar="KEY", help="Accept this key only; may be repeated. Default: any.")
@click.option("--rate-limit", type=click.IntRange(min=1), default=600, show_default=True, help="Requests a minute.")
@click.option("--latency", type=click.FloatRange(min=0), default=0.0, show_default=True,
              help="Seconds by which every answer is delayed.")  # fmt: skip
@click.option("--no-imports", is_flag=True, help="Refuse imports, as for a plan without them.")
@click.option("--allow-host", multiple=True, metavar="NAME",
              help="Answer requests for this host, too, such as a container's name; may be repeated.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse with 422 what a Parcelvoy server answers with 204 and loses.")
def emulate(
    host: str, port: int, speed: float, api_key: tuple[str, ...], rate_limit: int, latency: float, no_imports: bool,
    allow_host: tuple[str, ...], strict: bool,
) -> None:  # fmt: skip
    """Serve an emulator of Userpilot's realtime API, and of Parcelvoy's client API, until Ctrl-C.

    What it received is shown under /__emulator__/: users, companies, events, requests, jobs, counters.

    It answers requests for localhost, and for the address that it listens on; and changes nothing for web pages of
    another origin.
    """
    emulator = emulator_package()
    try:
        app = emulator.Emulator(
            api_keys=api_key or None, speed=speed, rate_limit=rate_limit, latency=latency,
            imports_enabled=not no_imports, allow_hosts=allow_host, strict=strict,
        )  # fmt: skip
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None

    def announce(url: str) -> None:
        key = "<the key you gave>" if api_key else "anything"
        echo(f"listening on {url}")
        echo(f"  export USERPILOT_BASE_URL={url} USERPILOT_API_KEY={key}", err=True)
        echo(f"  export PARCELVOY_BASE_URL={url} PARCELVOY_API_KEY={key}", err=True)
        echo(f"  received: {url}/__emulator__/counters; Ctrl-C ends it", err=True)

    try:
        asyncio.run(emulator.serve(app, host, port, announce))
    except OSError as exc:
        raise NotPossible(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc


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

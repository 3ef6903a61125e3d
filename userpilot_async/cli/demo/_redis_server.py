"""A private Redis server for a demonstration: no other one is touched."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from subprocess import DEVNULL

import anyio
from anyio import to_thread

from .._children import start
from .._emulate import FAREWELL, START
from .._exits import NotPossible, Unreachable

PROGRAM = "redis-server"
POLL = 0.02  # seconds between two checks whether it answers
ATTEMPTS = 3  # a port that was free may be taken a moment later


def redis_program() -> str:
    """The path of `redis-server`; ends the command if that, or redis-py, is not installed."""
    try:
        import_module("...redis", __package__)
    except ImportError as exc:
        raise NotPossible(str(exc)) from None
    program = shutil.which(PROGRAM)
    if program is None:
        install = "apt-get install redis-server, or brew install redis"
        raise NotPossible(f"demo --pods starts a Redis of its own, and there is no {PROGRAM} on PATH: {install}")
    return program


@asynccontextmanager
async def redis_process(program: str) -> AsyncIterator[str]:
    """The URL of a server on a free port of the loopback, in a process group without Ctrl-C; it keeps no files."""
    with tempfile.TemporaryDirectory(prefix="userpilot-async-") as directory:
        port, process = await _started(program, directory)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            with anyio.move_on_after(FAREWELL, shield=True):  # then it is killed
                if process.returncode is None:
                    process.terminate()
                await process.aclose()


async def _started(program: str, directory: str) -> tuple[int, anyio.abc.Process]:
    for _ in range(ATTEMPTS):
        port = _free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", directory]
        process = await start([program, *options], listened_to=False, stderr=DEVNULL)
        try:
            with anyio.move_on_after(START):
                while process.returncode is None:
                    if await to_thread.run_sync(_pid_of, port) == process.pid:
                        return port, process
                    await anyio.sleep(POLL)
        except BaseException:
            process.kill()
            raise
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.aclose()
    raise Unreachable(f"{PROGRAM} did not start")


def _pid_of(port: int) -> int | None:
    """The process id of the server that answers on this port, which may be another one's."""
    import redis

    with redis.Redis(port=port, socket_timeout=1.0) as client:
        try:
            return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

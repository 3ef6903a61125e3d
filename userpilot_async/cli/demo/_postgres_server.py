"""A private PostgreSQL for a demonstration: no other one is touched."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, STDOUT
from typing import Any
from urllib.parse import quote

import anyio
import attrs
from anyio import to_thread

from .._children import start
from .._emulate import FAREWELL, START
from .._exits import NotPossible, Unreachable

DEBIAN = Path("/usr/lib/postgresql")  # one folder a version: its programs are not on PATH
SUPERUSER = "postgres"
PORT = 5432  # names the socket; said to both sides, or libpq takes it from PGPORT
POLL = 0.02  # seconds between two checks whether it answers
INSTALL = "apt-get install postgresql, or brew install postgresql"


@attrs.frozen
class Programs:
    """The programs of PostgreSQL that make and run a server."""

    initdb: str
    postgres: str
    owner: dict[str, Any]
    """The user that they run as, in the words of `subprocess.Popen`: PostgreSQL refuses to run as root."""


def postgres_programs() -> Programs:
    """The programs that are installed; ends the command if they, or psycopg, are not."""
    try:
        import_module("...postgres", __package__)
    except ImportError as exc:
        raise NotPossible(str(exc)) from None
    found = [_program(name) for name in ("initdb", "postgres")]
    owner = _owner()
    if found[0] is None or found[1] is None or owner is None:
        missing = "and runs it as no user but root" if all(found) else f"and there is none on PATH: {INSTALL}"
        raise Unreachable(f"demo --transactions starts a PostgreSQL of its own, {missing}")
    return Programs(found[0], found[1], owner)


def _program(name: str) -> str | None:
    """The path of a program: on PATH, or of the newest version that Debian has installed."""
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda one: float(one.parent.name), reverse=True)
    return shutil.which(name) or next((found for one in versions if (found := shutil.which(name, path=one))), None)


def _owner() -> dict[str, Any] | None:
    """An ordinary user: this one, or for root another one; ``None`` if there is no other."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return {}
    import pwd

    for name in (SUPERUSER, "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": [], "cwd": "/"}
    return None


@asynccontextmanager
async def postgres_process(programs: Programs) -> AsyncIterator[str]:
    """The URL of a server's database, as its superuser; in a process group without Ctrl-C, in a temporary directory.

    It asks for no password, and listens on a socket in that directory alone, which no other user can enter.
    """
    with tempfile.TemporaryDirectory(prefix="userpilot-async-", ignore_cleanup_errors=True) as directory:
        if "user" in programs.owner:
            os.chown(directory, programs.owner["user"], programs.owner["group"])
        data = os.path.join(directory, "data")
        await _make(programs, data)
        url = f"postgresql:///{SUPERUSER}?host={quote(directory)}&port={PORT}&user={SUPERUSER}"
        # The power does not fail here.
        options = {"port": PORT, "listen_addresses": "", "unix_socket_directories": directory, "fsync": "off"}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [programs.postgres, "-D", data, *words]
        process = await start(command, listened_to=False, stderr=DEVNULL, **programs.owner)
        try:
            await _wait_ready(process, url)
            yield url
        finally:
            with anyio.move_on_after(FAREWELL, shield=True):  # then it is killed
                if process.returncode is None:
                    process.send_signal(signal.SIGQUIT)  # at once: nobody needs its data any more
                await process.aclose()


async def _make(programs: Programs, data: str) -> None:
    """Make the files of an empty server. Raises `Unreachable` with what `initdb` says."""
    options = ("-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    initdb = await start([programs.initdb, *options], listened_to=True, stderr=STDOUT, **programs.owner)
    assert initdb.stdout is not None
    async with initdb:
        said = b"".join([chunk async for chunk in initdb.stdout]).decode(errors="replace").splitlines()
    if initdb.returncode:
        why = next((line for line in said if line.startswith("initdb: ")), "it does not say why")
        raise Unreachable(f"PostgreSQL cannot be set up here: {why}")


async def _wait_ready(process: anyio.abc.Process, url: str) -> None:
    with anyio.move_on_after(START):
        while process.returncode is None:
            if await to_thread.run_sync(_answers, url):
                return
            await anyio.sleep(POLL)
    raise Unreachable("the PostgreSQL of the demonstration did not start")


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True

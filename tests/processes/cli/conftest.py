"""Servers, and the command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import anyio
import click.testing
import httpx
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import REPOSITORY, emptied
from tests.harness.redis_server import RedisServer
from userpilot_async import Settings, UserpilotClient
from userpilot_async._userpilot.calls import from_dict
from userpilot_async.cli import cli
from userpilot_async.parcelvoy import ParcelvoyClient, from_line

KEY = "SECRET-KEY"
NAMES = ("USERPILOT", "PARCELVOY")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Env = dict[str, str | None]
Received = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def worker_server() -> Iterator[str]:
    """An emulator in a thread, one for all tests of this worker: see `server`."""
    with emulator_thread("--speed", "60", "--api-key", KEY) as url:
        yield url


@pytest.fixture
def server(worker_server: str) -> str:
    """An emulator that takes one key and works off a thousand rows in half a second; empty again for each test."""
    return emptied(worker_server)


@pytest.fixture
def received(server: str) -> Received:
    """Ask the emulator what it holds: `received("users")`, `received("parcelvoy/users")`."""

    def received(what: str) -> list[dict[str, Any]]:
        with httpx.Client(base_url=server, trust_env=False) as http:
            items: list[dict[str, Any]] = http.get(f"/__emulator__/{what}", params={"limit": 100_000}).json()["items"]
            return items

    return received


@pytest.fixture
def environment(server: str) -> Env:
    """What a user of that emulator would export."""
    return {f"{name}_{what}": value for name in NAMES for what, value in (("BASE_URL", server), ("API_KEY", KEY))}


def userpilot(
    *arguments: str, env: Mapping[str, str | None] | None = None, stdin: str = "", timeout: float = 30.0
) -> subprocess.CompletedProcess[str]:
    """Run `python -m userpilot_async` to its end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NAMES)}
    given = {**inherited, "PYTHONPATH": str(REPOSITORY), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "userpilot_async", *arguments],
        cwd=REPOSITORY,
        env={name: value for name, value in given.items() if value is not None},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextmanager
def piped_in(text: str) -> Iterator[None]:
    """Let the file descriptor 0 of this process be a pipe with this text: commands do not read from `sys.stdin`."""
    mine = os.dup(0)
    out, into = os.pipe()
    os.dup2(out, 0)
    os.close(out)

    def write() -> None:
        with suppress(BrokenPipeError), open(into, "w") as pipe:  # a command need not read it all; closing writes, too
            pipe.write(text)
            pipe.flush()

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        os.dup2(mine, 0)  # this closes the pipe's end, and with that ends a writer that still waits
        os.close(mine)
        writer.join()


@pytest.fixture
def run(environment: Env, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line against the emulator, in this process; `env` changes what it sees.

    A process takes half a second to import what it needs. One test of each command has one: see `run_apart`.
    """
    for name in [name for name in os.environ if name.startswith(NAMES)]:
        monkeypatch.delenv(name)

    def run(*arguments: str, env: Env | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        seen = {**environment, **(env or {})}
        with piped_in(stdin):
            result = click.testing.CliRunner().invoke(cli, arguments, env=seen, input=stdin)  # a prompt reads there
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def run_apart(environment: Env) -> Run:
    """Run the command line against the emulator, as a process of its own; `env` changes what it sees."""

    def run_apart(*arguments: str, env: Env | None = None, **rest: Any) -> subprocess.CompletedProcess[str]:
        return userpilot(*arguments, env={**environment, **(env or {})}, **rest)

    return run_apart


# ── outboxes on disk, and in Redis ──

Calls = Sequence["dict[str, Any]"]
NOBODY = "http://127.0.0.1:9"  # the discard port: what is not to be sent is not
MARKED, OTHER = "MARKED-person-1", "other-person-2"  # the person who is erased, and one who is not


def url_of(where: Path | str, **options: str) -> str:
    """Of a file, or of an outbox in Redis, which is a URL already."""
    if isinstance(where, Path):
        where, options = f"sqlite:///{where}", {"durability": "process", **options}
    return f"{where}{'&' if '?' in where else '?'}{urlencode(options)}"


def waiting(server: RedisServer) -> list[tuple[int, dict[str, Any]]]:
    """Ids of calls in the log, and what they say."""
    with server.client() as redis:
        entries: Any = redis.xrange("{userpilot_async}:log")
    return [(int(key.split(b"-")[0]), json.loads(fields[b"c"].split(b"\n", 4)[4])) for key, fields in entries]


def client_of(where: Path | str, base_url: str = NOBODY, sender: str = "true", **options: Any) -> UserpilotClient:
    """A client of the outbox, which gives up at once when it is closed; ``options`` are settings."""
    settings = Settings(close_timeout=0.1, **options)
    return UserpilotClient(KEY, base_url=base_url, outbox=url_of(where, sender=sender), settings=settings)


def fill(where: Path | str, calls: Calls, *, base_url: str = NOBODY, key: str = KEY, to: str = "userpilot") -> None:
    """Have a process without a sender accept these calls, which then wait in the outbox."""
    place = url_of(where, sender="false")

    async def put() -> None:
        if to == "parcelvoy":
            async with ParcelvoyClient(key, base_url, outbox=place) as parcelvoy:
                for call in calls:
                    await parcelvoy.enqueue(from_line(json.dumps(call)))
        else:
            async with UserpilotClient(key, base_url=base_url, outbox=place) as userpilot:
                for call in calls:
                    await userpilot.enqueue(from_dict(call))

    anyio.run(put)


def lose(where: Path | str, calls: Calls, *, base_url: str = NOBODY, key: str = KEY) -> None:
    """Have a sender accept these calls, and let them die of age."""
    settings = Settings(max_age=1e-6)

    async def expire() -> None:
        place = url_of(where)
        async with UserpilotClient(key, base_url=base_url, outbox=place, settings=settings) as userpilot:
            for call in calls:
                await userpilot.enqueue(from_dict(call))
            await userpilot.flush(20)

    anyio.run(expire)


def track(user: str = "u1", serial: int = 1) -> dict[str, Any]:
    return {"type": "track", "user_id": user, "event_name": "Opened", "metadata": {"serial": serial}}


def identify(user: str = "u1", company: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    call = {"type": "identify", "user_id": user, "metadata": metadata}
    return call if company is None else {**call, "company": company}


def wait_until(holds: Callable[[], bool], within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen within {within} s"
        time.sleep(0.01)  # between two checks


async def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    """Wait in a loop until a condition holds."""
    with anyio.fail_after(within):
        while not holds():
            await anyio.sleep(0.01)  # between two checks


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., click.testing.Result]:
    """Run the command line in this process, in an environment without any account."""
    for name in NAMES:
        for what in ("API_KEY", "BASE_URL", "REGION", "OUTBOX"):
            monkeypatch.delenv(f"{name}_{what}", raising=False)

    def invoke(*arguments: object, stdin: str | None = None) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, list(map(str, arguments)), input=stdin)

    return invoke

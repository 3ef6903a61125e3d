"""Servers, and the command line as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import click.testing
import httpx
import pytest

from tests.harness.processes import REPOSITORY, emulator_process
from userpilot_async import Settings, UserpilotClient
from userpilot_async._userpilot.calls import from_dict
from userpilot_async.cli import cli
from userpilot_async.parcelvoy import ParcelvoyClient, from_line

KEY = "SECRET-KEY"
NAMES = ("USERPILOT", "PARCELVOY")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Env = dict[str, str | None]
Received = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def server() -> Iterator[str]:
    """An emulator that takes one key and works off a thousand rows in half a second."""
    with emulator_process("--speed", "60", "--api-key", KEY) as url:
        yield url


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


@pytest.fixture
def run(environment: Env) -> Run:
    """Run the command line against the emulator; `env` changes what it sees."""

    def run(*arguments: str, env: Env | None = None, **rest: Any) -> subprocess.CompletedProcess[str]:
        return userpilot(*arguments, env={**environment, **(env or {})}, **rest)

    return run


# ── outboxes on disk, and in Redis ──

Calls = Sequence["dict[str, Any]"]
NOBODY = "http://127.0.0.1:9"  # the discard port: what is not to be sent is not


def url_of(where: Path | str, **options: str) -> str:
    """Of a file, or of an outbox in Redis, which is a URL already."""
    if isinstance(where, Path):
        where, options = f"sqlite:///{where}", {"durability": "process", **options}
    return f"{where}{'&' if '?' in where else '?'}{urlencode(options)}"


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
        time.sleep(0.01)  # between two looks


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., click.testing.Result]:
    """Run the command line in this process, in an environment without any account."""
    for name in NAMES:
        for what in ("API_KEY", "BASE_URL", "REGION", "OUTBOX"):
            monkeypatch.delenv(f"{name}_{what}", raising=False)

    def invoke(*arguments: object, stdin: str | None = None) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli, list(map(str, arguments)), input=stdin)

    return invoke

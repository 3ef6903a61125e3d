"""Servers, and the command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

import httpx
import pytest

from tests.harness.processes import REPOSITORY, emulator_process

KEY = "SECRET-KEY"
NAMES = ("USERPILOT", "PARCELVOY")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Env = dict[str, Optional[str]]
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

"""Programs in processes of their own, and counting what a test leaves behind in ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).resolve().parents[2]

LISTENING = re.compile(r"listening on (?P<url>http://\S+)")
UVICORN_LISTENING = re.compile(r"Uvicorn running on (?P<url>http://\S+)")


class ProgramFailed(AssertionError):
    """A program ended, or kept silent, before it said what the test waits for. Carries its output."""


class Program:
    """A running program: its output so far, its signals, its end."""

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str | None] | None = None) -> None:
        self.command = list(command)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            self.command,
            cwd=REPOSITORY,
            env=_environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # A group of its own, so that a server's worker processes end with it.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; ``None`` while it runs, negative for the signal that ended it."""
        return self._process.poll()

    @property
    def output(self) -> str:
        """Everything it wrote so far, stdout and stderr as they came."""
        with self._news:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str | re.Pattern[str], timeout: float = 10.0) -> re.Match[str]:
        """The first match in a line of the output, past lines included. Raises `ProgramFailed`."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        looked_at = 0
        with self._news:
            while True:
                for line in self._lines[looked_at:]:
                    if match := wanted.search(line):
                        return match
                looked_at = len(self._lines)
                if self._ended:
                    raise self._failed(f"ended without a line matching {wanted.pattern!r}")
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise self._failed(f"wrote no line matching {wanted.pattern!r} within {timeout:g} s")

    def wait(self, timeout: float = 10.0) -> int:
        """The exit status, once it has ended and its output is complete."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._failed(f"still runs after {timeout:g} s") from None
        self._reader.join(timeout)
        return status

    def send_signal(self, number: int) -> None:
        """To the program alone, as `kill` does; SIGSTOP and SIGCONT work too. Nothing if it has ended."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def end(self, patience: float = 5.0) -> int:
        """End it and all it started: SIGTERM, `patience` seconds, SIGKILL. Harmless when it has ended."""
        if self.returncode is None:
            self.send_signal(signal.SIGCONT)
            self.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait()
        self._reader.join(patience)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _failed(self, what: str) -> ProgramFailed:
        # Not `self.output`: the caller may hold the lock.
        return ProgramFailed(f"{' '.join(self.command)} {what}. Its output:\n{''.join(self._lines) or '(none)'}")


@contextmanager
def program(command: Sequence[str], *, env: Mapping[str, str | None] | None = None) -> Iterator[Program]:
    """Run `command` in the repository's root until the block ends. In `env`, None removes a variable."""
    running = Program(command, env=env)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def python(*arguments: str, env: Mapping[str, str | None] | None = None) -> Iterator[Program]:
    """Run this Python with `arguments`, such as `"-m", "uvicorn", …` or `"-c", script`."""
    with program([sys.executable, *arguments], env=env) as running:
        yield running


@contextmanager
def emulator_process(*arguments: str, env: Mapping[str, str | None] | None = None) -> Iterator[str]:
    """The base URL of an emulator started with `arguments` on a free port of the loopback."""
    with python("-m", "userpilot_async.emulator", "--port", "0", *arguments, env=env) as running:
        yield running.wait_for_line(LISTENING)["url"]


def emptied(url: str) -> str:
    """The URL of an emulator, whose account is an empty one again, with fresh rate windows and no faults."""
    httpx.post(f"{url}/__emulator__/reset", trust_env=False).raise_for_status()
    return url


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    inherited = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY)}
    return {name: value for name, value in {**inherited, **changes}.items() if value is not None}

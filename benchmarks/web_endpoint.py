"""Requests a second of a FastAPI endpoint that tracks one event, against the same endpoint without."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from urllib.parse import urlsplit

from benchmarks.fresh import ROOT, measure
from benchmarks.results import Row
from benchmarks.sink import running_sink
from benchmarks.subjects import OURS, POSTHOG
from benchmarks.web_app import BARE

NAME = "web_endpoint"
GOAL = 0.85
CONTROL = "(nothing)"
NOISE = 0.05  # what the control may be off before the goal is not judged
CONNECTIONS = 8
WARM_UP = 300
REQUESTS = 2_000
SETTLE = 1.5  # seconds: our burst of 100 requests, once in a pause, is not what a second of a busy server looks like
LONGEST = 10.0  # seconds of load in one round


@contextmanager
def running_app(subject: str, sink: str) -> Iterator[tuple[str, int]]:
    """The URL of the app in a process of its own, and the id of that."""
    command = [sys.executable, "-m", "uvicorn", "benchmarks.web_app:app", "--port", "0", "--no-access-log"]
    environment = {**os.environ, "SUBJECT": subject, "SINK": sink}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if "running on " in line:
                    yield line.split("running on ")[1].split()[0], process.pid
                    break
            else:
                raise RuntimeError(f"the app with {subject} did not start")
        finally:
            process.kill()


async def load(url: str, requests: int) -> float:
    """Requests a second over a few connections that are kept alive."""
    address = urlsplit(url)
    numbers = iter(range(requests))
    answered = 0
    started = perf_counter()

    async def ask() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for number in numbers:
            writer.write(f"POST /reports/{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b" 200 " not in head[:20]:
                raise RuntimeError(head.decode())
            await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            answered += 1
            if perf_counter() - started > LONGEST:
                break
        writer.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return answered / (perf_counter() - started)


def cpu_of(pid: int) -> float:
    """CPU seconds that a process has taken, threads included; 0 where /proc is not."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rates(subject: str, sink: str) -> tuple[float, float]:
    """Requests a second, and CPU seconds of the app for each request."""
    few = subject == BARE
    requests = 150 if few else REQUESTS
    with running_app(subject, sink) as (url, pid):
        measure(load, beside=True, url=url, requests=20 if few else WARM_UP)
        sleep(SETTLE)
        before = cpu_of(pid)
        rate = float(measure(load, beside=True, url=url, requests=requests))
        return rate, (cpu_of(pid) - before) / requests


def run(quick: bool) -> Row:
    subjects = [OURS, POSTHOG, "snowplow", BARE, CONTROL]
    speeds: dict[str, list[float]] = {name: [] for name in subjects}
    costs: dict[str, list[float]] = {name: [] for name in subjects}
    plain: list[float] = []
    with running_sink() as sink:
        for _ in range(3 if quick else 9):
            for subject in subjects:
                # A, B, A for each: what the machine does meanwhile meets both.
                (before, cpu_before), (tracked, cpu), (after, cpu_after) = (
                    rates(name, sink) for name in (CONTROL, subject, CONTROL)
                )
                plain += [before, after]
                speeds[subject].append(tracked / ((before + after) / 2))
                costs[subject].append((cpu_before + cpu_after) / 2 / cpu if cpu else math.nan)
    figures = {name: median(values) for name, values in speeds.items()}
    by_cpu = {name: median(values) for name, values in costs.items()}
    quiet = abs(figures[CONTROL] - 1) <= NOISE
    return Row(
        name=NAME,
        what="requests/s of an endpoint that tracks, against the same without",
        unit="ratio",
        goal=f"≥ {GOAL}",
        met=figures[OURS] >= GOAL if quiet else None,
        figures=figures,
        more_is_better=True,
        notes=(
            f"without: {median(plain):,.0f} requests/s; the control should be 1.00"
            + ("" if quiet else ": it is not, so this run says nothing about the goal"),
            *(
                f"{name}: {', '.join(f'{ratio:.2f}' for ratio in values)}; "
                f"by the app's CPU for a request {by_cpu[name]:.2f}"
                for name, values in speeds.items()
            ),
        ),
    )

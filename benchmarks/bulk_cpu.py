"""CPU seconds for identifies delivered in bulk: of as many users, and of few users many times."""

from __future__ import annotations

import asyncio
import json
import socket
from time import process_time
from urllib.parse import urlsplit

from benchmarks.fast_loop import FastLoop
from benchmarks.fresh import measure
from benchmarks.payloads import profile, user_id
from benchmarks.results import Figures, Row, best_of, column, interleaved
from benchmarks.sink import counts, running_sink
from benchmarks.subjects import FLOOR, OPENINGS, OURS, PAUSE_EVERY, POSTHOG, pause

NAME = "bulk_cpu"
CALLS = 100_000
GOAL = 0.5  # of the best peer's

MERGED_NAME = "merged_cpu"
MERGED_CALLS = 1_000_000
MERGED_USERS = 10_000
MERGED_GOAL = 4.8  # CPU seconds

SPEED = 50.0  # of the clock once all calls are in; deadlines are lengthened so that none is met for that
PATIENCE = 6_000.0


LOOP = FastLoop


async def identified(subject: str, url: str, calls: int, users: int, **settings: float) -> Figures:
    """CPU seconds of this process, threads included, from the first call until everything is delivered."""
    if subject == OURS:
        settings = {"request_timeout": PATIENCE, "upload_timeout": PATIENCE, **settings}
    client = await OPENINGS[subject](url, calls + 1, **settings)
    assert client.identify is not None
    before = process_time()
    for number in range(calls):
        said = client.identify(user_id(number % users), profile(number))
        if client.awaited:
            await said
        elif not number % PAUSE_EVERY:
            await pause()
    accepted = process_time()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FastLoop)
    if subject == OURS:
        loop.speed_up(SPEED)
    await client.drain()
    return {"cpu": process_time() - before, "to accept": accepted - before, **received(url)}


def received(url: str) -> Figures:
    """The calls that arrived at the sink."""
    told = counts(url)
    files = sum(count for path, count in told["requests"].items() if path.endswith("/bulk_identify"))
    return {"requests": sum(told["requests"].values()), "files": files, "rows": told["events"]}


def by_hand(url: str, calls: int) -> Figures:
    """The floor: json and a socket, arrays of 500, nothing checked, nothing kept."""
    address = urlsplit(url)
    before = process_time()
    with socket.create_connection((address.hostname, address.port)) as connection:
        for start in range(0, calls, 500):
            rows = [{"user_id": user_id(n), "metadata": profile(n)} for n in range(start, start + 500)]
            body = json.dumps({"users": rows}).encode()
            head = f"POST /v1/users/bulk_identify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.recv(65_536)
    cpu = process_time() - before
    return {"cpu": cpu, "to accept": 0.0, **received(url)}


def once(subject: str, calls: int, users: int) -> Figures:
    with running_sink() as url:
        if subject == FLOOR:
            return dict(measure(by_hand, url=url, calls=calls))
        return dict(measure(identified, subject=subject, url=url, calls=calls, users=users))


def run(quick: bool) -> Row:
    # A quick run gives peers a fifth of the calls and multiplies; they have no fixed costs worth mentioning.
    share = 5 if quick else 1

    def one(subject: str) -> Figures:
        part = 1 if subject == OURS else share
        return {name: figure * part for name, figure in once(subject, CALLS // part, CALLS // part).items()}

    results = interleaved([OURS, POSTHOG, "segment", "mixpanel", FLOOR], 3, one)
    cpu = column(results, "cpu")
    return Row(
        name=NAME,
        what=f"CPU for {CALLS:,} identifies of as many users, delivered",
        unit="s",
        goal=f"≤ {GOAL} of the best peer",
        met=cpu[OURS] <= GOAL * best_of(cpu),
        figures=cpu,
        notes=(
            f"ours is {cpu[OURS] / best_of(cpu):.2f} of the best peer, {cpu[OURS] / cpu[FLOOR]:.1f} × the floor",
            *(
                f"{name}: {figures['cpu']:.2f} s, of it {figures['to accept']:.2f} s until all calls were in; "
                f"{figures['requests']:,.0f} requests, {figures['rows']:,.0f} profiles arrived"
                for name, figures in results.items()
            ),
            "snowplow has no identify. The floor is json.dumps and a socket, arrays of 500.",
        ),
    )


def run_merged(quick: bool) -> Row:
    results = interleaved([OURS], 1 if quick else 3, lambda name: once(name, MERGED_CALLS, MERGED_USERS))
    ours = results[OURS]
    return Row(
        name=MERGED_NAME,
        what=f"CPU for {MERGED_CALLS:,} identifies of {MERGED_USERS:,} users, delivered",
        unit="s",
        goal=f"one bulk job, ≤ {MERGED_GOAL} s",
        met=ours["cpu"] <= MERGED_GOAL and ours["files"] == 1,
        figures=column(results, "cpu"),
        notes=(
            f"{ours['files']:.0f} bulk jobs, {ours['rows']:,.0f} rows; "
            f"{ours['to accept']:.2f} s CPU until all calls were in",
            "no peer merges",
        ),
    )

"""Machines, each a process here, that use one outbox in Redis: it starts, stops and kills them, and judges."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import judge
from tests.harness.redis_server import RedisServer
from tests.harness.stage.loops import KEY, said
from tests.harness.stage.redis_scenes import Books
from tests.processes.programs.outbox_host import Host, Worker, _number, job_spans, marks_of, stamps_of, told_by


class RemoteHost(Host):
    """The processes of one outbox on a server, into which there are ``books``."""

    def __init__(self, folder: Path, url: str, books: Any, place: str, **orders: Any) -> None:
        super().__init__(folder, url, **orders)
        self.books = books
        self.place = place
        self.holders_stopped = 0

    def holder(self) -> int | None:
        held: int | None = self.books.holder()
        return held

    def holding(self) -> Worker | None:
        """The one that has the lease, if it lives and it is one of ours."""
        pid = self.holder()
        return next((worker for worker in self.living if worker.program.pid == pid), None)

    def finish(self, within: float, **orders: Any) -> Worker:
        """Stop whoever lives; a last process sends what is left."""
        self.stop(*self.living, within=40.0)
        last = self.start("last", **{"users": 0, "people": 0, "flush": within, **orders})
        assert last.program.wait(within + 30) == 0, last.program.output
        last.ended = time.monotonic()
        told = said(last.program)
        assert told["flushed"]["complete"], (told, last.program.output)
        return last

    def freeze(self, *workers: Worker) -> None:
        """Stop these processes by SIGSTOP."""
        for worker in workers:
            self.holders_stopped += worker.program.pid == self.holder()
            worker.program.send_signal(signal.SIGSTOP)

    def thaw(self, *workers: Worker) -> None:
        """Have stopped processes go on, by SIGCONT."""
        for worker in workers:
            worker.program.send_signal(signal.SIGCONT)


class RedisHost(RemoteHost):
    """The processes of one outbox in Redis."""

    runs = "redis_worker"

    def __init__(self, folder: Path, url: str, server: RedisServer, place: str, **orders: Any) -> None:
        super().__init__(folder, url, Books(server), place, **orders)


@contextmanager
def redis_host(folder: Path, url: str, server: RedisServer, place: str = "", **orders: Any) -> Iterator[RedisHost]:
    """Processes that all have ended when the block does. ``orders`` are for each of them."""
    one = RedisHost(folder, url, server, place or server.url, **orders)
    try:
        yield one
    finally:
        one.end()


def judge_machines(one: RemoteHost, *, limit: int = 600, may_reset: bool = False) -> dict[str, Any]:
    """What must hold when nothing is left to send, whoever was stopped or killed; how often what happened.

    With ``may_reset`` the place may have lost what nobody was told that it has.
    """
    applied, requests = told_by(one.url, "applied"), told_by(one.url, "requests")
    accepted, tried = one.accepted(), one.tried()
    in_order = [(mark.rsplit(".", 2)[0], mark, write["kind"]) for write in applied for mark in marks_of(write)]
    there = {mark for _, mark, _ in in_order}
    assert accepted, "nothing was accepted: nothing was tested"
    judge.nothing_lost(accepted, there)
    assert there <= tried, "the server has calls that nobody made"
    assert len(set(accepted.values())) == len(accepted), "two calls were given the same id"

    account: Counter[str] = one.books.balanced()
    assert may_reset or 0 == account["resets"]
    assert len(accepted) <= account["accepted"] <= len(tried), (len(accepted), dict(account), len(tried))
    assert account["accepted"] == account["delivered"] + account["merged"] == len(there), dict(account)

    tracks = [mark for _, mark, kind in in_order if kind == "track"]
    doubles = judge.duplicates(tracks, account["ambiguous"])
    identifies = {mark for _, mark, kind in in_order if kind == "identify"}
    judge.per_user_order(
        ((user, _number(mark)) for user, mark, _ in in_order),
        lambda user, number: f"{user}.{number // 1_000_000}.{number % 1_000_000}" in identifies,
    )
    judge.identify_before_track((user, kind) for user, _, kind in in_order)
    worst = {
        family: judge.requests_in_any_minute(stamps_of(requests, family), limit).count
        for family in ("track", "identify")
    }
    judge.one_job_at_a_time(job_spans(one.url))
    judge.conflicts(request["stamp"] for request in requests if request["status"] == 409)
    judge.no_canary({"output": one.output(), **one.books.everything()}, [KEY])
    assert "Traceback" not in one.output(), one.output()
    return {
        "accepted": len(accepted),
        "unacknowledged": account["accepted"] - len(accepted),
        "merged": account["merged"],
        "duplicates": doubles,
        "ambiguous": account["ambiguous"],
        "leases": one.books.fence(),
        "jobs": len(job_spans(one.url)),
        "holders killed": one.holders_killed,
        "holders stopped": one.holders_stopped,
        "refused": sum(request["status"] == 429 for request in requests),
        "worst minute": worst,
    }


def sending_of(worker: Worker) -> float | None:
    """When this process last noted that it sends; nothing if it does not."""
    said = worker.notes("sends")
    return float(said[-1][1]) if said and said[-1][0] == "1" else None


def now() -> float:
    """The clock of all processes here."""
    return time.monotonic()

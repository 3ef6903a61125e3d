"""A host on which several processes use one file: it starts and ends them, and judges what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import httpx

from tests.harness import Program, judge
from tests.harness.stage.loops import KEY, Account, said

IN_FLIGHT = 8  # `Settings.concurrency`: so many answers can be lost with one sender
LAST = 60.0  # seconds for the last process to send what the others have left


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 15.0) -> Any:
    """Wait until the condition holds; gives its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.003)
    return value


@attrs.define
class Worker:
    """A process, and what it has written down."""

    slot: str
    program: Program
    witness: Path
    ended: float | None = None
    """When it was told to end, or killed: the last moment at which it lived for sure."""

    def notes(self, what: str) -> list[list[str]]:
        """The complete lines about this."""
        with suppress(FileNotFoundError):
            text = self.witness.read_text()
            lines = text[: text.rfind("\n") + 1].splitlines()
            return [words[1:] for words in map(str.split, lines) if words[0] == what]
        return []

    def wait_accepted(self, count: int, timeout: float = 15.0) -> None:
        """Until so many of its calls were accepted."""
        what = f"{self.slot} has {count} accepted calls"
        wait_for(lambda: len(self.notes("accepted")) >= count, what, timeout)

    @property
    def sends(self) -> bool:
        """True if the process was the sender when it last checked."""
        said = self.notes("sends")
        return bool(said) and said[-1][0] == "1"

    def sending(self) -> list[tuple[float, float]]:
        """When it was the sender, for sure."""
        spans, begun = [], None
        for now, at in self.notes("sends"):
            if now == "1":
                begun = float(at)
            elif begun is not None:
                spans.append((begun, min(float(at), self.ended or float(at))))
                begun = None
        if begun is not None and self.ended is not None and begun < self.ended:
            spans.append((begun, self.ended))
        return spans


class Host:
    """The processes of one file."""

    runs = "outbox_worker"
    """The program of each process."""

    def __init__(self, folder: Path, url: str, **orders: Any) -> None:
        self.file = folder / "outbox" / "events.db"
        self.place = str(self.file)
        self.url = url
        self.workers: list[Worker] = []
        self.holders_killed = 0
        self._folder = folder
        self._orders = orders
        self._lives: dict[str, int] = {}

    def start(self, slot: str, *, under: Sequence[str] = (), **orders: Any) -> Worker:
        """A process in this slot, as ordered, ``under`` a debugger perhaps; it may take a moment until it is ready."""
        life = self._lives[slot] = self._lives.get(slot, -1) + 1
        witness = self._folder / f"{slot}.{life}.witness"
        all_orders = {"file": self.place, **self._orders, **orders, "slot": slot, "life": life, "witness": str(witness)}
        command = (*under, sys.executable, "-m", f"tests.processes.programs.{self.runs}", json.dumps(all_orders))
        program = Program(command, env={"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": self.url})
        worker = Worker(slot, program, witness)
        self.workers.append(worker)
        return worker

    def ready(self, *workers: Worker) -> None:
        """Each of them has opened the file."""
        for worker in workers:
            worker.program.wait_for_line("SAID ready", 20)

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.ended is None]

    def holder(self) -> int | None:
        """The process that took the lease last, as it says."""
        with suppress(OSError, ValueError):
            return int(json.loads(self.file.with_name(self.file.name + ".lease").read_text())["pid"])
        return None

    def kill(self, *workers: Worker) -> None:
        """Kill these processes by SIGKILL."""
        for worker in workers:
            before = self.holder()
            worker.ended = time.monotonic()
            worker.program.kill()
            worker.program.wait(10)
            self.holders_killed += worker.program.pid in (before, self.holder())

    def stop(self, *workers: Worker, within: float = 20.0) -> None:
        """SIGTERM, and until each of them has ended well."""
        for worker in workers:
            worker.ended = time.monotonic()
            worker.program.terminate()
        for worker in workers:
            status = worker.program.wait(within)
            assert status == 0, worker.program.output

    def drain(self, **orders: Any) -> Account:
        """Stop whoever lives, let a last process send what is left; the account that it gives."""
        self.stop(*self.living)
        last = self.start("last", **{"users": 0, "people": 0, "flush": LAST, **orders})
        assert last.program.wait(LAST + 30) == 0, last.program.output
        last.ended = time.monotonic()
        told = said(last.program)
        assert told["flushed"]["complete"], (told, last.program.output)
        return self.account(last)

    def account(self, worker: Worker) -> Account:
        """What a process said when it left."""
        return Account(**said(worker.program)["account"])

    def accepted(self) -> dict[str, int]:
        """Every call that was acknowledged to any process: its mark, and the id it was given."""
        notes = [note for worker in self.workers for note in worker.notes("accepted")]
        marks = {mark: int(call_id) for mark, call_id in notes}
        assert len(marks) == len(notes), "a mark was used twice: the test is wrong"
        return marks

    def tried(self) -> set[str]:
        """Every call that was made, acknowledged or not."""
        return {note[0] for worker in self.workers for note in worker.notes("tried")}

    def output(self) -> str:
        return "".join(worker.program.output for worker in self.workers)

    def end(self) -> None:
        for worker in self.workers:
            worker.program.end()


@contextmanager
def host(folder: Path, url: str, **orders: Any) -> Iterator[Host]:
    """Processes that all have ended when the block does. ``orders`` are for each of them."""
    one = Host(folder, url, **orders)
    try:
        yield one
    finally:
        one.end()


# ── the judge ──


def told_by(url: str, what: str) -> list[dict[str, Any]]:
    """A log of the emulator at this URL."""
    answer = httpx.get(f"{url}/__emulator__/{what}", params={"limit": 10_000_000}, timeout=60)
    items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return items


def wait_told(url: str, what: str, count: int, timeout: float = 20.0) -> None:
    """Until one of the emulator's logs is so long."""
    wait_for(lambda: len(told_by(url, what)) >= count, f"the emulator has {count} {what}", timeout)


def marks_of(applied: dict[str, Any]) -> list[str]:
    """The marks of one write, in the order in which the calls with them were made."""
    payload = applied["payload"]
    if applied["kind"] == "track":
        return [payload["metadata"]["mark"]]
    properties = payload.get("metadata") or {}
    marks = [name.split(" ", 1)[1] for name in properties if name.startswith("mark ")]
    return sorted(marks, key=_number)


def _number(mark: str) -> int:
    _, life, n = mark.rsplit(".", 2)
    return int(life) * 1_000_000 + int(n)


def judge_all(one: Host, account: Account, *, limit: int) -> dict[str, int]:
    """What must hold in the end, when nothing is left to send; how often what happened."""
    applied = told_by(one.url, "applied")
    accepted, tried = one.accepted(), one.tried()
    in_order = [(mark.rsplit(".", 2)[0], mark, write["kind"]) for write in applied for mark in marks_of(write)]
    there = {mark for _, mark, _ in in_order}
    assert accepted, "nothing was accepted: nothing was tested"
    judge.nothing_lost(accepted, there)
    assert there <= tried, "the server has calls that nobody made"
    assert len(set(accepted.values())) == len(accepted), "two calls were given the same id"

    # I1, the account in the file: what was accepted without a word got in between commit and acknowledgement.
    assert len(accepted) <= judge.conservation(account) <= len(tried)
    assert account.accepted == account.delivered + account.merged
    assert len(there) == account.accepted

    tracks = [mark for _, mark, kind in in_order if kind == "track"]
    doubles = judge.duplicates(tracks, IN_FLIGHT * one.holders_killed)
    identifies = {mark for _, mark, kind in in_order if kind == "identify"}
    judge.per_user_order(
        ((user, _number(mark)) for user, mark, _ in in_order),
        lambda user, number: f"{user}.{number // 1_000_000}.{number % 1_000_000}" in identifies,
    )
    judge.identify_before_track((user, kind) for user, _, kind in in_order)

    requests = told_by(one.url, "requests")
    for family in ("track", "identify"):
        judge.requests_in_any_minute(stamps_of(requests, family), limit)
    assert 0 == sum(request["status"] == 429 for request in requests), "a client that is alone ran into the limit"
    judge.one_job_at_a_time(job_spans(one.url))
    judge.conflicts(request["stamp"] for request in requests if request["status"] == 409)
    most = one_sender_at_a_time(one)
    judge.no_canary({"output": one.output(), **contents(one.file.parent)}, [KEY])
    assert "Traceback" not in one.output(), one.output()
    return {
        "accepted": len(accepted),
        "duplicates": doubles,
        "senders": most,
        "jobs": len(job_spans(one.url)),
        "unacknowledged": account.accepted - len(accepted),
        "holders killed": one.holders_killed,
    }


def stamps_of(requests: list[dict[str, Any]], family: str) -> list[float]:
    """When the server took requests in that count for this budget: tracks, or all others."""
    return [one["stamp"] for one in requests if (one["path"] == "/v1/track") == (family == "track")]


def job_spans(url: str) -> list[tuple[float, float | None]]:
    """When each background job held the slot."""
    return [(_seconds(job["start_time"]), _seconds(job["end_time"])) for job in told_by(url, "jobs")]


def _seconds(stamp: str | None) -> Any:
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() if stamp else None


def one_sender_at_a_time(one: Host) -> int:
    """No two processes sent at the same time, as far as they know; how many took their turn."""
    spans = sorted((*span, worker.slot) for worker in one.workers for span in worker.sending())
    for number, (begin, _, after) in enumerate(spans[1:]):
        _, end, before = spans[number]
        assert end <= begin, f"{after} began to send {end - begin:.3f} s before {before} had ended"
    return len(spans)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

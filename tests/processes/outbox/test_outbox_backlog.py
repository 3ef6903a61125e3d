"""Row 60: as many calls wait as an outage of days leaves. `nox -s kill_cycles` has a million of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest

from tests.harness import emulator_thread, judge, length, program
from tests.harness.stage.loops import KEY, Account, said
from tests.processes.programs.outbox_host import told_by
from userpilot_async import UserpilotClient
from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._outbox.batch import Batch, Put
from userpilot_async._outbox.owner import Claim
from userpilot_async._outbox.protocol import Opening
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._runtime.clocks import steady
from userpilot_async.sqlite import SQLiteOutbox
from userpilot_async.sqlite._file import File
from userpilot_async.sqlite._store import SQLiteStore

MANY = length.of(100_000, least=60_000, soak=1_000_000)  # fewer would not take MORE_MEMORY if they took any
FEW = 10_000  # what a sender holds of a file at once
MORE_MEMORY = 8 * 1024 * 1024  # bytes, of some 30 MB that the few take: what allocators and SQLite's cache differ by
READY = 2.0  # seconds
USERS = 5_000


class ListeningOutbox(SQLiteOutbox):
    """An outbox that remembers its opening."""

    async def open(self, opening: Opening) -> None:
        self.opening = opening
        await super().open(opening)


def fill(path: Path, url: str, calls: int) -> None:
    """Have so many calls wait in a file for this server, put by the library itself, without a loop around it."""
    outbox = ListeningOutbox(path, durability="process", sender=False)

    async def bind() -> None:
        async with UserpilotClient(KEY, base_url=url, outbox=outbox):
            pass

    anyio.run(bind)
    store = SQLiteStore(File(path, "process", pause=lambda seconds: False))
    start = store.open(Claim(outbox.opening.destination, outbox.opening.fingerprint)).account.next_id
    for first in range(start, calls, 20_000):
        puts = list(some_calls(range(first, min(first + 20_000, calls))))
        store.commit(partial(Batch, puts=puts))
    store.close()


def some_calls(numbers: range) -> Iterator[Put]:
    receipt = Receipt(SharedLedger().pages)
    for n in numbers:
        said = b'{"user_id":"user-%d","event_name":"clicked","metadata":{"n":%d}}' % (n % USERS, n)
        yield Put("track", f"user-{n % USERS}", said, len(said), 0.0, steady(), receipt, True)


@attrs.frozen
class Start:
    """What a process that started with a backlog said, and what the server got from it."""

    ready: float
    first: float
    pending: int
    grown: int
    account: Account
    sent: list[int]


def start(folder: Path, calls: int) -> Start:
    path = folder / str(calls) / "events.db"
    with emulator_thread("--rate-limit", "1000000") as url:
        fill(path, url, calls)
        command = [sys.executable, "-m", "tests.processes.programs.outbox_backlog", str(path)]
        with program(command, env={"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url}) as running:
            assert 0 == running.wait(60), running.output
        told = said(running)
        sent = [event["metadata"]["n"] for event in told_by(url, "events") if event["event_name"] == "clicked"]
    return Start(told["ready"], told["first"], **told["told"], account=Account(**told["account"]), sent=sent)


@pytest.mark.night
def test_row_60_a_great_backlog_starts_as_soon_as_a_small_one_and_takes_no_more_memory(tmp_path: Path) -> None:
    few, many = start(tmp_path, FEW), start(tmp_path, MANY)

    for calls, one in ((FEW, few), (MANY, many)):
        print(
            f"{calls} calls: ready after {one.ready:.3f} s, first delivery after {one.first:.3f} s, {one.grown} bytes"
        )
        assert calls == one.pending == judge.conservation(one.account)
        judge.per_user_order((n % USERS, n) for n in one.sent)
        judge.duplicates(one.sent, 0)
        assert one.account.delivered <= len(one.sent) <= one.account.delivered + 8, "eight were under way at its end"
        assert max(one.sent) < FEW, "the oldest go first"
    assert READY >= max(few.ready, many.ready)
    assert few.grown + MORE_MEMORY >= many.grown

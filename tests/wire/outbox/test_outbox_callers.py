"""Rows 45 and 49 with a file: callers that are cancelled at any await, children of a fork; and where the key is not."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from tests.harness import emulator_thread, free_of_leaks, judge
from tests.harness.stage.loops import KEY, Account, cancelled_at, markers_at, said, script
from tests.harness.stage.outbox_files import an_emulator, look_into, marks_at, put, sent, with_file
from tests.processes.programs.outbox_host import contents, wait_for
from userpilot_async import ClientClosed, InvalidCall, Receipt, UserpilotClient
from userpilot_async.sqlite import SQLiteOutbox

pytestmark = pytest.mark.anyio

IN_EACH_WAY = pytest.mark.parametrize(
    ("anyio_backend", "how"),
    [("asyncio", "natively"), ("asyncio", "scope"), ("trio", "scope")],
    indirect=["anyio_backend"],
)
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


# ── 45: a call that is cancelled is not in the file, or was accepted and said so ──


def held(file: Path) -> set[str]:
    """The marks of the calls in the file."""
    said = look_into(file, "SELECT said FROM calls WHERE kind = 'track'")
    return {json.loads(body)["metadata"]["mark"] for (body,) in said}


@attrs.define
class Ends:
    """How calls ended, as their callers were told."""

    returned: set[str] = attrs.field(factory=set)
    said_so: set[str] = attrs.field(factory=set)
    """Cancelled natively, with the word that the call was accepted all the same."""
    cancelled: set[str] = attrs.field(factory=set)

    async def call(self, userpilot: UserpilotClient, mark: str) -> None:
        """Track, and note how that ended."""
        try:
            await userpilot.track("u", "clicked", {"mark": mark})
        except asyncio.CancelledError as cancelled:
            (self.said_so if "accepted all the same" in str(cancelled) else self.cancelled).add(mark)
            raise
        except BaseException:
            self.cancelled.add(mark)
            raise
        self.returned.add(mark)


@IN_EACH_WAY
async def test_row_45_thousands_of_calls_cancelled_at_random_instants_are_in_the_file_if_and_only_if_so_told(
    how: str, tmp_path: Path
) -> None:
    file, ends, chance = tmp_path / "outbox" / "events.db", Ends(), random.Random(7)

    async def impatient(userpilot: UserpilotClient, mark: str) -> None:
        # None, from before the writer sees it to after the commit, and any: how busy the machine is decides nothing.
        patience = chance.choice([0.0, 10 ** chance.uniform(-5.0, -2.0), 60.0])
        if how == "scope":
            with anyio.move_on_after(patience):
                await ends.call(userpilot, mark)
            return
        task = asyncio.create_task(ends.call(userpilot, mark))
        await asyncio.sleep(0)  # it has begun
        if patience:
            await asyncio.wait({task}, timeout=patience)
        task.cancel()
        await asyncio.wait({task})

    async with free_of_leaks(), with_file(file) as userpilot:
        for round_ in range(30):
            async with anyio.create_task_group() as callers:
                for n in range(100):
                    callers.start_soon(impatient, userpilot, f"{round_}.{n}")
        await put(userpilot, ["last"])
        statistics = userpilot.statistics()

    accepted = ends.returned | ends.said_so
    print(f"{len(ends.returned)} returned, {len(ends.said_so)} said so, {len(ends.cancelled)} cancelled")
    assert len(ends.cancelled) >= 50, "too few were cancelled: little was tested"
    assert len(ends.returned) >= 50, "too few got in: little was tested"
    assert 3_000 == len(accepted) + len(ends.cancelled)
    assert not accepted & ends.cancelled
    assert {*accepted, "last"} == held(file)
    assert len(accepted) + 1 == statistics.accepted == judge.conservation(statistics)


@IN_EACH_WAY
async def test_row_45_a_call_may_be_cancelled_at_each_await_in_turn(how: str, tmp_path: Path) -> None:
    """With the writer held up, so that it is known where the call waits."""
    file, ends = tmp_path / "outbox" / "events.db", Ends()
    async with with_file(file) as userpilot:
        for number in range(1, 20):
            with file.with_name("events.db.lock").open() as turn:
                await anyio.to_thread.run_sync(fcntl.flock, turn, fcntl.LOCK_EX)
                happened: list[bool] = []

                async def call(number: int = number, happened: list[bool] = happened) -> None:
                    mark = f"at {number}"
                    happened.append((await cancelled_at(how, number, lambda: ends.call(userpilot, mark)))[0])

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    await anyio.wait_all_tasks_blocked()
                    fcntl.flock(turn, fcntl.LOCK_UN)
            if not happened[0]:
                break
        await put(userpilot, ["last"])

    assert not happened[0]
    assert number > 1, "it never waited: nothing was tested"
    assert {*ends.returned, *ends.said_so, "last"} == held(file)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_row_45_a_client_whose_opening_is_cancelled_leaves_no_thread_and_no_lease(tmp_path: Path) -> None:
    file = tmp_path / "outbox" / "events.db"
    async with with_file(file) as userpilot:
        await put(userpilot, range(3))
    emulator = an_emulator()
    async with free_of_leaks():
        with file.with_name("events.db.lock").open() as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            with anyio.move_on_after(0.05) as scope:
                async with with_file(file, emulator):
                    pass
        assert scope.cancelled_caught, "it opened in spite of the lock: nothing was tested"
    async with with_file(file, emulator) as userpilot:
        await sent(userpilot)

    assert [0, 1, 2] == sorted(marks_at(emulator))


# ── many deletions ──


class CrowdedOutbox(SQLiteOutbox):
    """Counts calls that wait for a commit side by side."""

    waiting = most = 0

    async def hold(self, *call: Any) -> Receipt | None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            return await super().hold(*call)
        finally:
            self.waiting -= 1


async def test_deletions_wait_for_the_disk_together(tmp_path: Path) -> None:
    """One commit each made 10,000 of them a matter of minutes."""
    outbox = CrowdedOutbox(tmp_path / "outbox" / "events.db", durability="process", sender=False)
    users = [f"u{number}" for number in range(1_000)]
    async with with_file(outbox.path, outbox=outbox) as userpilot:
        receipts = await userpilot.delete_users(users)

    assert outbox.most >= 100
    assert len({receipt.id for receipt in receipts}) == 1_000
    held = look_into(outbox.path, "SELECT key FROM calls WHERE kind = 'delete_user'")
    assert sorted(json.loads(key) for (key,) in held) == sorted(users)


async def test_a_deletion_that_comes_too_late_says_so_by_itself(tmp_path: Path) -> None:
    """Not in a group of errors: callers catch `ClientClosed`."""
    async with with_file(tmp_path / "outbox" / "events.db") as userpilot:
        await userpilot.delete_users(["u1"])
    with pytest.raises(ClientClosed):
        await userpilot.delete_users(["u1", "u2"])


# ── 49: forks ──

FORKS = """
import multiprocessing
from userpilot_async.sqlite import SQLiteOutbox

userpilot = UserpilotClient(outbox=SQLiteOutbox({file!r}), settings=Settings(burst=2, track_per_minute=600))
CALLS = {{
    "track": lambda: userpilot.track("u", "clicked", {{"n": "child"}}),
    "identify": lambda: userpilot.identify("u"),
    "flush": lambda: userpilot.flush(1),
    "aclose": lambda: userpilot.aclose(1),
}}

def child():
    for name, call in CALLS.items():
        async def attempt():
            await call()
        try:
            asyncio.run(attempt())
            say(name, "")
        except Exception as error:
            say(name, f"{{type(error).__name__}}: {{error}}")
    say("child-ready")
    time.sleep(60)  # holding what it has inherited, until it is killed

async def main():
    async with userpilot:
        for n in range(20):
            await userpilot.track("u", "clicked", {{"n": n}})
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        say("child", process.pid)
        for n in range(20, 40):
            await userpilot.track("u", "clicked", {{"n": n}})
        say("parent-ready")
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def wait_to_be_sender(userpilot: UserpilotClient) -> None:
    with anyio.fail_after(5):
        while not userpilot.statistics().is_sender:
            await anyio.sleep(0.01)


@ON_ASYNCIO
async def test_row_49_a_forked_child_refuses_and_holds_neither_lease_nor_lock_when_its_parent_is_dead(
    tmp_path: Path,
) -> None:
    """A lock of `flock` lives as long as any copy of its descriptor: a child that kept one would be a dead sender."""
    file = tmp_path / "outbox" / "events.db"
    with emulator_thread("--rate-limit", "600000") as url:
        with script(FORKS.format(file=str(file)), url) as program:
            program.wait_for_line("SAID child-ready")
            program.wait_for_line("SAID parent-ready")
            child = int(program.wait_for_line(r"SAID child (\d+)")[1])
            program.kill()
            wait_for(lambda: program.returncode is not None, "the parent is dead")
            assert Path(f"/proc/{child}").exists(), "the child is dead, too: nothing was tested"
            with script(SUCCEEDS.format(file=str(file)), url) as successor:
                status = successor.wait(20)
            assert Path(f"/proc/{child}").exists()
        arrived = markers_at(url)

    told = said(program)
    assert 0 == status, successor.output
    for call in ("track", "identify", "flush", "aclose"):
        assert str(told[call]).startswith("ClientClosed: "), told[call]
        assert "was open in the parent process" in told[call]
    judge.nothing_lost(range(40), arrived)
    assert "child" not in arrived
    account = Account(**said(successor)["account"])
    assert 40 == account.delivered == judge.conservation(account)
    judge.duplicates(arrived, 8)


SUCCEEDS = """
from userpilot_async.sqlite import SQLiteOutbox

async def main():
    async with UserpilotClient(outbox=SQLiteOutbox({file!r})) as userpilot:
        await userpilot.flush(15)
    say("account", account(userpilot))

asyncio.run(main())
"""


# ── the key, and what people said of themselves ──


@ON_ASYNCIO
async def test_the_key_is_in_no_file_of_the_outbox_and_in_no_log_line_or_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At any time: with a log beside the file, after a close, with a dead call in it, and with a damaged file."""
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "outbox" / "events.db"
    texts: dict[str, Any] = {}
    emulator = an_emulator()
    async with with_file(file, emulator) as userpilot:
        await put(userpilot, range(20))
        with pytest.raises(InvalidCall):
            await userpilot.track("u", "clicked", {"n": float("nan")})
        await sent(userpilot)
        texts.update({f"open {name}": content for name, content in contents(file.parent).items()})
        texts["repr"] = repr(userpilot) + repr(userpilot._outbox) + repr(userpilot.statistics())
    async with with_file(file) as userpilot:
        await put(userpilot, range(20))
    texts.update({f"closed {name}": content for name, content in contents(file.parent).items()})
    with pytest.raises(Exception, match="another API key") as refusal:
        async with with_file(file, key="up-another-key-77aa"):
            pass
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE calls SET crc = 0 WHERE id = 30")
    async with with_file(file, emulator) as userpilot:
        await sent(userpilot)
    with file.open("r+b") as opened:
        opened.write(bytes(100))
    async with with_file(file, emulator) as userpilot:
        await put(userpilot, ["fresh"])
        await sent(userpilot)
    texts.update({f"repaired {name}": content for name, content in contents(file.parent).items()})
    texts["refusal"] = repr(refusal.value) + str(refusal.value.__cause__)
    texts["log"] = caplog.text

    assert len(texts) > 12
    assert "damaged" in caplog.text, "the log says nothing: nothing was searched"
    judge.no_canary(texts, [KEY, "up-another-key-77aa"])
    judge.no_canary({"log": caplog.text}, ['"mark"', "clicked"])
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in [file.parent, *file.parent.iterdir()]}
    assert {"0o700"} == {modes.pop("outbox")}
    assert {"0o600"} == set(modes.values()), modes

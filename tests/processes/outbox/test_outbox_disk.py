"""Rows 53, 54, 55: a disk that is full, denies, or goes away; and one that must have been written to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import attrs
import pytest

from tests.harness import emulator_thread, judge
from tests.harness.stage.loops import said, script
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent, with_file
from tests.processes.programs.outbox_host import host, told_by
from userpilot_async import OutboxError, UserpilotClient

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
SMALL = 12 * 1024 * 1024  # bytes of a disk that holds the ballast and some thousand calls
LARGE_CALL = "x" * 8_000
NOBODY = 65_534
UNREACHABLE = "http://127.0.0.1:9"


# ── 53: no room ──


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path) -> Path:
    """Somebody else's file, which leaves not one byte."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x")
    assert 0 == os.statvfs(place).f_bavail
    return filler


async def until_refused(userpilot: UserpilotClient, prefix: str, times: int) -> tuple[list[str], list[str]]:
    """Put large calls until so many in a row were refused: the accepted ones, and the refused."""
    accepted: list[str] = []
    refused: list[str] = []
    in_a_row = 0
    with anyio.fail_after(60):
        while in_a_row < times:
            mark = f"{prefix}{len(accepted) + len(refused)}"
            try:
                await userpilot.track("u", "clicked", {"mark": mark, "large": LARGE_CALL})
            except OutboxError:
                refused.append(mark)
                in_a_row += 1
            else:
                accepted.append(mark)
                in_a_row = 0
    return accepted, refused


@ON_ASYNCIO
async def test_row_53_on_a_full_disk_new_calls_are_refused_and_deliveries_are_recorded_all_the_same(
    small_disk: Path,
) -> None:
    emulator = an_emulator(latency=0.05)  # what was accepted takes some seconds to deliver
    file = small_disk / "outbox" / "events.db"
    accepted = [f"before {n}" for n in range(800)]
    async with with_file(file, emulator, durability="power") as userpilot:
        async with anyio.create_task_group() as callers:
            for mark in accepted:
                callers.start_soon(userpilot.track, f"user of {mark}", "clicked", {"mark": mark})
        filler = fill(small_disk)
        filled = userpilot.statistics()
        more, refused = await until_refused(userpilot, "meanwhile ", 5)
        report = await sent(userpilot, 15)
        full = os.statvfs(small_disk).f_bavail * 4_096
        filler.unlink()
        await put(userpilot, ["afterwards"])
        await sent(userpilot)

    accepted += [*more, "afterwards"]
    assert filled.pending > 100, "nearly all was delivered before the disk was full: little was tested"
    assert refused
    judge.conservation_by_id(accepted, {"delivered": set(marks_at(emulator))})
    judge.duplicates(marks_at(emulator), 0)
    assert len(accepted) - 1 == report.statistics.delivered
    assert full < SMALL / 2
    async with with_file(file) as userpilot:
        assert len(accepted) == userpilot.statistics().delivered == judge.conservation(userpilot.statistics())


@ON_ASYNCIO
async def test_row_53_calls_that_fill_the_disk_themselves_are_all_delivered(small_disk: Path) -> None:
    """No process sends at first. The disk is full of calls when a sender comes, and it gets rid of all of them."""
    emulator = an_emulator()
    file = small_disk / "outbox" / "events.db"
    async with with_file(file) as userpilot:
        accepted, refused = await until_refused(userpilot, "", 5)
    async with with_file(file, emulator) as userpilot:
        await sent(userpilot)
        await put(userpilot, ["afterwards"])
        await sent(userpilot)

    assert len(accepted) > 100
    assert 5 <= len(refused)
    judge.conservation_by_id([*accepted, "afterwards"], {"delivered": marks_at(emulator)})


@ON_ASYNCIO
async def test_row_53_a_sender_starts_on_a_disk_without_a_byte_left(small_disk: Path) -> None:
    emulator = an_emulator()
    file = small_disk / "outbox" / "events.db"
    async with with_file(file) as userpilot:
        await put(userpilot, range(200))
    fill(small_disk)
    async with with_file(file, emulator) as userpilot:
        await sent(userpilot)

    assert list(range(200)) == sorted(marks_at(emulator))


@ON_ASYNCIO
async def test_row_53_a_full_disk_outlasts_a_sender_that_notes_each_call_by_itself(small_disk: Path) -> None:
    """Each is a transaction, and all of them more than the ballast had room for: the log must not fill the disk."""
    emulator = an_emulator()
    file = small_disk / "outbox" / "events.db"
    async with with_file(file) as userpilot:
        await put(userpilot, range(200))
    fill(small_disk)
    async with with_file(file, emulator, concurrency=1) as userpilot:
        await sent(userpilot)

    assert list(range(200)) == sorted(marks_at(emulator))


LIMITED = """
import resource
from userpilot_async import OutboxError
from userpilot_async.sqlite import SQLiteOutbox

async def until_refused(userpilot, prefix, times):
    n = in_a_row = 0
    while in_a_row < times:
        try:
            await userpilot.track(f"u{{n % 9}}", "clicked", {{"mark": f"{{prefix}}{{n}}", "large": "x" * 8_000}})
        except OutboxError as error:
            in_a_row += 1
            say("refused", str(error))
        else:
            in_a_row = 0
            os.write(witness, f"{{prefix}}{{n}}\\n".encode())
        n += 1

async def main():
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, most))
    settings = Settings(track_per_minute=60_000, burst=50, max_wait=3.0)
    async with UserpilotClient(outbox=SQLiteOutbox({file!r}), settings=settings) as userpilot:
        await until_refused(userpilot, "limited ", 3)
        say("delivered-then", userpilot.statistics().delivered)
        report = await userpilot.flush(15)
        say("complete", report.complete)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        deadline = time.monotonic() + 15
        n = 0
        while n < 60:
            try:
                await userpilot.track("u", "clicked", {{"mark": f"free {{n}}", "large": "x" * 8_000}})
            except OutboxError:  # it does not look for room with every call
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                os.write(witness, f"free {{n}}\\n".encode())
                n += 1
        await userpilot.flush(15)
    say("account", account(userpilot))

witness = os.open({witness!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
asyncio.run(main())
"""


@pytest.mark.night
def test_row_53_a_file_that_may_not_grow_refuses_calls_and_records_deliveries(tmp_path: Path) -> None:
    file, witness = tmp_path / "outbox" / "events.db", tmp_path / "witness"
    with emulator_thread("--rate-limit", "60000", "--latency", "0.1") as url:
        with script(LIMITED.format(file=str(file), witness=str(witness)), url) as program:
            status = program.wait(60)
        arrived = [event["metadata"]["mark"] for event in told_by(url, "events")]

    told = said(program)
    accepted = witness.read_text().splitlines()
    assert 0 == status, program.output
    assert "refused" in told
    assert told["complete"], program.output[-3000:]
    judge.conservation_by_id(accepted, {"delivered": set(arrived)})
    judge.duplicates(arrived, 0)
    assert len(accepted) == told["account"]["delivered"] == told["account"]["accepted"]


# ── 54: denied ──


@pytest.fixture
def nobodys(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user without rights; not in `tmp_path`, which lets nobody else in."""
    if os.getuid():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)
        for place in Path(folder).iterdir():
            if place.is_dir():
                place.chmod(0o700)


UNPRIVILEGED = """
from userpilot_async import OutboxError
from userpilot_async.sqlite import SQLiteOutbox

async def main():
    outbox = SQLiteOutbox({file!r})
    started = time.monotonic()
    try:
        async with UserpilotClient(outbox=outbox, settings=Settings(close_timeout=0.5)) as userpilot:
            await userpilot.track("u", "clicked")
            say("raised", "nothing")
    except OutboxError as error:
        say("raised", "OutboxError")
        say("message", str(error))
    say("took", time.monotonic() - started)

async def warm_up():  # import what only a client that is open needs, while we may
    async with UserpilotClient():
        pass

asyncio.run(warm_up())
if os.getuid() == 0:
    os.setgroups([])
    os.setgid({nobody})
    os.setuid({nobody})
asyncio.run(main())
"""


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below it, with its mode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


async def an_outbox(folder: Path) -> Path:
    """An outbox with three calls, owned by a user without rights."""
    file = folder / "outbox" / "events.db"
    async with with_file(file, base_url=UNREACHABLE) as userpilot:
        await put(userpilot, range(3))
    if not os.getuid():
        for path in [file.parent, *file.parent.iterdir()]:
            os.chown(path, NOBODY, NOBODY)
    return file


@ON_ASYNCIO
@pytest.mark.parametrize(
    ("what", "mode"),
    [
        ("the file is read-only", 0o400),
        ("the file is denied", 0o000),
        ("the folder is read-only", 0o500),
        ("the folder is denied", 0o000),
        ("there is no folder, and none may be made", 0o500),
        ("the file is a folder", 0o700),
        ("the folder is a file", 0o600),
    ],
)
async def test_row_54_a_file_that_is_denied_is_an_outbox_error_at_once_and_nothing_is_changed(
    nobodys: Path, what: str, mode: int
) -> None:
    if what == "there is no folder, and none may be made":
        (nobodys / "outbox").mkdir()
        os.chown(nobodys / "outbox", (os.getuid() and -1) or NOBODY, -1)
        (nobodys / "outbox").chmod(mode)
        file = nobodys / "outbox" / "inner" / "events.db"
    elif what == "the file is a folder":
        file = nobodys / "outbox" / "events.db"
        file.mkdir(parents=True)
        shutil.chown(file, os.getuid() or NOBODY)
        shutil.chown(file.parent, os.getuid() or NOBODY)
    elif what == "the folder is a file":
        (nobodys / "outbox").write_text("mine")
        shutil.chown(nobodys / "outbox", os.getuid() or NOBODY)
        file = nobodys / "outbox" / "events.db"
    else:
        file = await an_outbox(nobodys)
        (file if "file" in what else file.parent).chmod(mode)
    before = tree(nobodys)
    with script(UNPRIVILEGED.format(file=str(file), nobody=NOBODY), UNREACHABLE) as program:
        status = program.wait(20)
    after = tree(nobodys)

    told = said(program)
    assert 0 == status, program.output
    assert "OutboxError" == told["raised"]
    assert "events.db" in told["message"]
    judge.within_bound(told["took"], 0.5)
    beside = (".lock", ".lease", "-wal", "-shm")  # none of them holds a call
    assert before == {name: now for name, now in after.items() if name in before or not name.endswith(beside)}
    assert "Traceback" not in program.output


@pytest.mark.parametrize("what", ["the folder", "the file", "the file and its log", "the locks"])
async def test_row_54_what_is_removed_while_in_use_is_an_outbox_error_and_no_new_file(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A new file in its place would look healthy, and have lost everything."""
    emulator = an_emulator()
    file = tmp_path / "outbox" / "events.db"
    async with with_file(file, emulator, max_wait=5.0, close_timeout=2.0) as userpilot:
        await put(userpilot, range(10))
        await sent(userpilot)
        if what == "the folder":
            shutil.rmtree(file.parent)
        elif what == "the locks":
            for name in ("events.db.lock", "events.db.lease"):
                file.with_name(name).unlink()
        else:
            for name in ("events.db", "events.db-wal", "events.db-shm")[: 1 if what == "the file" else 3]:
                file.with_name(name).unlink(missing_ok=True)
        with anyio.fail_after(5.0 + 1.0):
            outcomes = [await attempt(userpilot, n) for n in range(10, 13)]
        before_leaving = anyio.current_time()
    took = anyio.current_time() - before_leaving

    judge.within_bound(took, 2.0)
    if what == "the locks":  # they are made anew; nothing is lost
        assert 3 * ["accepted"] == outcomes
    else:
        assert 3 * ["OutboxError"] == outcomes
        assert not file.exists()
        assert list(range(10)) == sorted(marks_at(emulator))


async def attempt(userpilot: UserpilotClient, mark: int) -> str:
    try:
        await userpilot.track("u", "clicked", {"mark": mark})
    except OutboxError:
        return "OutboxError"
    return "accepted"


# ── 55: power ──

SYNC = re.compile(r"(?:fsync|fdatasync)\(\d+<(?P<path>[^>]*)>")
WRITE = re.compile(r"(?:write|pwrite64)\(\d+<(?P<path>[^>]*)>, \"(?P<text>[^\"]*)")
CALLS = 40


@attrs.frozen
class Step:
    """Something that a process did to a file. A sync counts when it has returned, a write when it begins."""

    what: str
    path: str
    text: str = ""


def traced(folder: Path, **orders: object) -> list[Step]:
    """What a process did that was ordered to put calls, in the order in which it was done."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run(["strace", "-f", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"strace cannot trace here: {probe.stderr[-200:]}")
    log = folder / "strace"
    strace = ("strace", "-f", "-y", "-s", "20", "-o", str(log), "-e", "trace=fsync,fdatasync,write,pwrite64")
    # Without a sender, the time to flush is over at once: it leaves when all calls are accepted.
    with host(folder, UNREACHABLE, sender=False, flush=0.01, **orders) as one:
        worker = one.start("w", under=strace)
        assert 0 == worker.program.wait(60), worker.program.output
    return list(steps(log.read_text()))


def steps(log: str) -> Iterator[Step]:
    begun: dict[str, str] = {}
    for line in log.splitlines():
        pid, what = line.split(None, 1)
        if match := WRITE.match(what):
            yield Step("write", Path(match["path"]).name, match["text"])
        elif match := SYNC.match(what):
            if "<unfinished" in what:
                begun[pid] = match["path"]
            else:
                yield Step("sync", Path(match["path"]).name)
        elif "resumed>" in what and "sync" in what:
            yield Step("sync", Path(begun.pop(pid)).name)


def acknowledged(trace: list[Step]) -> int:
    return sum(step.text.startswith("accepted") for step in trace)


def test_row_55_a_sync_precedes_every_acknowledgement(tmp_path: Path) -> None:
    trace = traced(tmp_path, durability="power", users=1, at_most=CALLS, pause=0.0)

    unsynced = folder_synced = False
    written = 0
    for step in trace:
        if step.path == "events.db-wal":
            unsynced = step.what == "write"
            written += step.what == "write"
        elif step.path == "outbox" and step.what == "sync":
            folder_synced = True
        elif step.text.startswith("accepted"):
            assert written, "acknowledged, but nothing was written before"
            assert not unsynced, "acknowledged, but what was written last was not synced"
            assert folder_synced, "acknowledged, but the folder may not know the file after a power cut"
            written = 0
    assert CALLS == acknowledged(trace)


def test_row_55_callers_that_wait_together_share_a_sync(tmp_path: Path) -> None:
    trace = traced(tmp_path, durability="power", users=0, people=CALLS, at_most=3)

    syncs = sum(step.what == "sync" and step.path == "events.db-wal" for step in trace)
    assert 3 * CALLS == acknowledged(trace)
    assert 3 <= syncs <= 3 * CALLS / 4, f"{syncs} syncs for {3 * CALLS} calls"


def test_row_55_no_sync_is_waited_for_where_only_the_process_may_die(tmp_path: Path) -> None:
    trace = traced(tmp_path, durability="process", users=1, at_most=CALLS, pause=0.0)

    last = max(number for number, step in enumerate(trace) if step.text.startswith("accepted"))
    first = min(number for number, step in enumerate(trace) if step.text.startswith("accepted"))
    assert CALLS == acknowledged(trace)
    assert any(step.what == "write" and step.path == "events.db-wal" for step in trace[:first])
    assert not [step for step in trace[first:last] if step.what == "sync"]

"""Rows 56 and 59: a file that is damaged, of another version, or none of ours at all."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import attrs
import pytest

from tests.harness import emulator_thread, judge, length
from tests.harness.stage.loops import events_at
from tests.harness.stage.outbox_files import an_emulator, look_into, marks_at, put, sent, with_file
from tests.processes.programs.outbox_host import host, wait_for
from userpilot_async import OutboxError, Statistics
from userpilot_async.sqlite._schema import MIGRATIONS, prepare

pytestmark = pytest.mark.anyio

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
CALLS = 400  # beside which the pages of empty tables are few
FLIPS = length.of(24, least=8, soak=400)
"""Bytes that are flipped, one in each run, evenly over the file."""
LARGE = "personal " * 20


# ── 56: damage ──


async def a_file(folder: Path, calls: int = CALLS) -> Path:
    """A file in which so many calls wait, and nothing else beside it."""
    file = folder / "outbox" / "events.db"
    async with with_file(file) as userpilot:
        for n in range(calls):
            await userpilot.track(f"u{n % 7}", "clicked", {"mark": n, "large": LARGE})
    assert not file.with_name("events.db-wal").exists()
    return file


@attrs.frozen
class Aftermath:
    """What a sender made of a damaged file."""

    arrived: list[int]
    statistics: Statistics
    quarantined: list[Path]

    @property
    def damaged(self) -> int:
        return self.statistics.lost_by_reason.get("damaged", 0)


async def salvaged(file: Path) -> Aftermath:
    """Start a client on the file, have everything sent, and one call more; then judge what must always hold."""
    emulator = an_emulator()
    async with with_file(file, emulator) as userpilot:
        await put(userpilot, ["fresh"])
        with anyio.fail_after(10):
            while not (report := await userpilot.flush(10)).complete:  # it may end when the damage is found
                await anyio.sleep(0.01)
        statistics = report.statistics
        judge.conservation(statistics)
    events = {json.dumps(event.metadata["mark"]): dict(event.metadata) for event in emulator.store.events}
    arrived = [mark for mark in marks_at(emulator) if mark != "fresh"]
    assert "fresh" in marks_at(emulator)
    for mark in arrived:
        assert {"mark": mark, "large": LARGE} == events[json.dumps(mark)], "a damaged call was sent"
    judge.duplicates(arrived, 0)
    judge.per_user_order((f"u{mark % 7}", mark) for mark in arrived)
    assert 0 == statistics.pending
    assert len(arrived) + 1 == statistics.delivered
    return Aftermath(arrived, statistics, sorted(file.parent.glob("*.damaged-*")))


def zero_header(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(100))


def zero_first_page(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(bytes(4_096))


def negative_version(file: Path) -> None:
    """The highest bit of it."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = -2147483647")


def misspelt(table: str) -> Callable[[Path], None]:
    """Change a letter of the statement that made a table: no table can be read then."""

    def misspell(file: Path) -> None:
        content = file.read_bytes()
        statement = f"CREATE TABLE {table} (".encode()
        assert 1 == content.count(statement)
        file.write_bytes(content.replace(statement, statement.replace(b"TABLE", b"TABKE")))

    return misspell


def garbage(file: Path) -> None:
    file.write_bytes(os.urandom(file.stat().st_size))


def text(file: Path) -> None:
    file.write_text("not a database\n" * 1_000)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(share: float) -> Callable[[Path], None]:
    def cut(file: Path) -> None:
        os.truncate(file, int(file.stat().st_size * share))

    return cut


@ON_ASYNCIO
@pytest.mark.parametrize(
    ("damage", "at_least"),
    [
        pytest.param(zero_header, CALLS, id="zeroed header"),
        pytest.param(zero_first_page, 0, id="zeroed first page"),
        pytest.param(negative_version, CALLS, id="a bit of the version"),
        pytest.param(misspelt("calls"), CALLS, id="a letter of the schema"),
        pytest.param(misspelt("files"), CALLS, id="a letter of another table's"),
        pytest.param(garbage, 0, id="garbage"),
        pytest.param(text, 0, id="text"),
        pytest.param(cut(0.9), CALLS // 2, id="cut at 90 %"),
        pytest.param(cut(0.5), CALLS // 5, id="cut in the middle"),
        pytest.param(cut(0.51), CALLS // 5, id="cut within a page"),
        pytest.param(cut(0.05), 0, id="cut at 5 %"),
    ],
)
async def test_row_56_a_client_starts_on_a_damaged_file_and_sends_what_can_be_read_of_it(
    tmp_path: Path, damage: Callable[[Path], None], at_least: int
) -> None:
    file = await a_file(tmp_path)
    damage(file)
    broken = file.read_bytes()
    after = await salvaged(file)

    print(f"{len(after.arrived)} of {CALLS} sent, {after.damaged} damaged")
    assert at_least <= len(after.arrived) <= CALLS
    assert len(after.quarantined) >= 1
    kept = after.quarantined[0].read_bytes()
    assert broken[100:] == kept[100 : len(broken)], "what was left of the old file is kept as it was"
    if at_least:  # the counts could be read: every loss is counted
        assert CALLS + 1 == after.statistics.accepted
        assert CALLS == len(after.arrived) + after.damaged


@ON_ASYNCIO
async def test_row_56_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    file = await a_file(tmp_path)
    empty(file)
    after = await salvaged(file)

    assert [] == after.arrived
    assert 1 == after.statistics.accepted


@ON_ASYNCIO
async def test_row_56_without_its_log_a_file_is_what_it_was_at_the_last_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "outbox" / "events.db"
    copy = tmp_path / "copy" / "events.db"
    copy.parent.mkdir()
    async with with_file(file) as userpilot:
        await put(userpilot, range(10))
    async with with_file(file) as userpilot:
        await put(userpilot, range(10, 20))
        assert file.with_name("events.db-wal").stat().st_size > 0
        shutil.copy(file, copy)
    emulator = an_emulator()
    async with with_file(copy, emulator) as userpilot:
        await sent(userpilot)

    assert list(range(10)) == sorted(marks_at(emulator))


@ON_ASYNCIO
async def test_row_56_one_flipped_byte_anywhere_costs_few_calls_and_none_is_sent_that_nobody_made(
    tmp_path: Path,
) -> None:
    original = await a_file(tmp_path / "original")
    size = original.stat().st_size
    lost: dict[int, int] = {}
    failed: dict[int, str] = {}
    for number in range(FLIPS):
        at = (size * number) // FLIPS + number * 37 % 101
        file = copy_of(original, tmp_path / str(number))
        with file.open("r+b") as opened:
            opened.seek(at)
            (byte,) = opened.read(1)
            opened.seek(at)
            opened.write(bytes([byte ^ 0x10]))
        try:
            lost[at] = await counted(file)
        except Exception as error:
            failed[at] = repr(error)[:300]

    print(f"lost by offset, of {size} bytes: { {at: count for at, count in lost.items() if count} }")
    assert {} == failed
    assert any(lost.values()), "no flipped byte hit a call: nothing was tested"
    assert sum(lost.values()) < FLIPS * CALLS / 4


@ON_ASYNCIO
async def test_row_56_a_flipped_bit_in_the_name_of_a_column_loses_no_call(tmp_path: Path) -> None:
    original = await a_file(tmp_path / "original", calls=20)
    names = ("budget", "landed_at", "last_calls", "moment", "said BLOB", "sent INTEGER", "id INTEGER", "filename TEXT")
    outcomes: dict[str, object] = {}
    for name in names:
        file = copy_of(original, tmp_path / name)
        content, wrong = file.read_bytes(), chr(ord(name[0]) ^ 0x10) + name[1:]
        assert name.encode() in content
        file.write_bytes(content.replace(name.encode(), wrong.encode()))
        after = await salvaged(file)
        outcomes[name] = len(after.arrived), after.damaged

    assert dict.fromkeys(names, (20, 0)) == outcomes


def copy_of(original: Path, folder: Path) -> Path:
    """The file with all that is beside it."""
    shutil.copytree(original.parent, folder / "outbox")
    return folder / "outbox" / original.name


async def counted(file: Path) -> int:
    """How many calls a damaged file has lost; all of them are counted, unless the counts are lost, too."""
    after = await salvaged(file)
    lost = CALLS - len(after.arrived)
    assert lost == after.damaged or after.quarantined, f"{lost} lost, {after.damaged} counted"
    return lost


def scribble(file: Path, chance: random.Random) -> None:
    at = chance.randrange(file.stat().st_size)
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(chance.randbytes(min(chance.choice([2, 8, 100, 4_096, 20_000]), file.stat().st_size - at)))


def zero_a_page(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as opened:
        opened.seek(chance.randrange(file.stat().st_size // 4_096) * 4_096)
        opened.write(bytes(4_096))


def repeat_a_page(file: Path, chance: random.Random) -> None:
    """As a disk does that writes to the wrong place: one page is there twice, and another one not at all."""
    pages = file.stat().st_size // 4_096
    with file.open("r+b") as opened:
        opened.seek(chance.randrange(pages) * 4_096)
        page = opened.read(4_096)
        opened.seek(chance.randrange(pages) * 4_096)
        opened.write(page)


def cut_somewhere(file: Path, chance: random.Random) -> None:
    os.truncate(file, chance.randrange(file.stat().st_size))


@ON_ASYNCIO
@pytest.mark.parametrize(
    "damage",
    [
        scribble,
        zero_a_page,
        repeat_a_page,
        cut_somewhere,
    ],
)
async def test_row_56_no_damage_by_chance_keeps_a_client_from_starting(
    tmp_path: Path, damage: Callable[[Path, random.Random], None]
) -> None:
    original = await a_file(tmp_path / "original")
    failed: dict[int, str] = {}
    lost = 0
    for seed in range(length.of(8, least=3, soak=100)):
        file = copy_of(original, tmp_path / str(seed))
        damage(file, random.Random(seed))
        try:
            lost += await counted(file)
        except Exception as error:
            failed[seed] = repr(error)[:300]

    assert {} == failed
    assert lost, "no damage hit a call: nothing was tested"


def cells_of(file: Path, page: int) -> list[int]:
    """Where in the file the cells of this page of a table are, in their order; sqlite.org/fileformat.html."""
    content = file.read_bytes()[(page - 1) * 4_096 : page * 4_096]
    start = 12 if content[0] == 5 else 8
    count = int.from_bytes(content[3:5], "big")
    places = [int.from_bytes(content[start + 2 * n :][:2], "big") for n in range(count)]
    return [(page - 1) * 4_096 + place for place in places]


def overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(content)


@ON_ASYNCIO
@pytest.mark.parametrize(
    "instead",
    [
        "its neighbour",
        "an empty page",
    ],
)
async def test_row_56_calls_on_a_page_that_is_not_where_it_should_be_are_found_or_counted(
    tmp_path: Path, instead: str
) -> None:
    """A wrong byte in the root of the table: SQLite does not always see that anything is wrong."""
    file = await a_file(tmp_path)
    ((root,),) = look_into(file, "SELECT rootpage FROM sqlite_master WHERE name = 'calls'")
    ((empty,),) = look_into(file, "SELECT rootpage FROM sqlite_master WHERE name = 'lost'")
    second, third = cells_of(file, root)[1:3]
    page = file.read_bytes()[third : third + 4] if instead == "its neighbour" else empty.to_bytes(4, "big")
    overwrite(file, second, page)

    assert await counted(file) < CALLS / 2


@ON_ASYNCIO
async def test_row_56_a_call_with_a_wrong_number_is_set_aside_and_nobody_is_misled_by_it(tmp_path: Path) -> None:
    file = await a_file(tmp_path)
    ((root,),) = look_into(file, "SELECT rootpage FROM sqlite_master WHERE name = 'calls'")
    leaf = int.from_bytes(file.read_bytes()[cells_of(file, root)[0] :][:4], "big")
    first = cells_of(file, leaf)[0]
    payload_length = 2 if file.read_bytes()[first] & 0x80 else 1
    assert 0 == file.read_bytes()[first + payload_length], "the first call has number 0"
    overwrite(file, first + payload_length, b"\x7f")

    assert 1 <= await counted(file) < CALLS / 2


@ON_ASYNCIO
async def test_row_56_a_damaged_row_is_set_aside_counted_and_the_rest_is_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await a_file(tmp_path)
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("UPDATE calls SET said = replace(said, 'clicked', 'klicked') WHERE id IN (3, 50, 239)")
        db.execute("UPDATE calls SET key = '\"somebody else\"' WHERE id = 60")
    after = await salvaged(file)

    assert 4 == after.damaged
    assert CALLS - 4 == len(after.arrived)
    assert not after.quarantined
    assert [(3,), (50,), (60,), (239,)] == look_into(file, "SELECT id FROM damaged ORDER BY id")
    said = [re.match(r"userpilot: (\d+) calls? lost, reason damaged: ", one.getMessage()) for one in caplog.records]
    assert 4 == sum(int(found[1]) for found in said if found is not None), caplog.text


@pytest.mark.parametrize("what", ["header", "everything"])
def test_row_56_other_processes_go_on_in_the_new_file(tmp_path: Path, what: str) -> None:
    """The one that finds the damage renames the file; no call that the others accept may go into the old one."""
    quick = {"track_per_minute": 60_000, "identify_per_minute": 60_000, "flush_interval": 0.1}
    with (
        emulator_thread("--rate-limit", "60000") as url,
        host(tmp_path, url, settings=quick, pause=0.01) as one,
    ):
        both = [one.start("w0"), one.start("w1")]
        one.ready(*both)
        for worker in both:
            worker.wait_accepted(20)
        with one.file.open("r+b") as opened:
            opened.write(os.urandom(one.file.stat().st_size if what == "everything" else 100))
        log = one.file.with_name("events.db-wal")
        with log.open("r+b") as opened:
            opened.write(os.urandom(log.stat().st_size))
        another = one.start("w2")  # it opens the file, so that somebody looks at its first page again
        one.ready(another)
        one.kill(another)
        wait_for(lambda: list(one.file.parent.glob("*.damaged-*")), "the damage is found")
        found = {worker.slot: len(worker.notes("accepted")) for worker in both}
        for worker in both:
            worker.wait_accepted(found[worker.slot] + 30)
        later = {note[0] for worker in both for note in worker.notes("accepted")[found[worker.slot] + 5 :]}
        one.drain(settings=quick)
        there = {event["metadata"]["mark"] for event in events_at(url)}

    tracked = {mark for mark in later if int(mark.rsplit(".", 1)[1]) % 7}
    judge.nothing_lost(tracked, there)
    assert there <= one.tried()


# ── 59: other versions ──


@ON_ASYNCIO
async def test_row_59_a_file_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = await a_file(tmp_path, 5)
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    with pytest.raises(OutboxError, match="version 99, which a newer userpilot_async wrote"):
        async with with_file(file, an_emulator()):
            pass

    assert before == file.read_bytes()
    assert not list(file.parent.glob("*.damaged-*"))


@ON_ASYNCIO
async def test_row_59_somebody_elses_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "theirs.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE theirs (said TEXT)")
        db.execute("INSERT INTO theirs VALUES ('precious')")
    before = file.read_bytes()
    with pytest.raises(OutboxError, match="no outbox of userpilot_async"):
        async with with_file(file, an_emulator()):
            pass

    assert before == file.read_bytes()
    assert not list(file.parent.glob("*.damaged-*"))


SECOND = "ALTER TABLE calls ADD COLUMN colour TEXT; CREATE TABLE more (said TEXT); UPDATE calls SET colour = 'red'"
BROKEN = "ALTER TABLE calls ADD COLUMN shape TEXT; UPDATE nothing SET colour = 'blue'; CREATE TABLE most (said TEXT)"


def shape_of(file: Path) -> tuple[int, list[str]]:
    (version,) = look_into(file, "PRAGMA user_version")[0]
    return version, [
        sql for (sql,) in look_into(file, "SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")
    ]


@ON_ASYNCIO
async def test_row_59_an_older_file_is_migrated_with_all_its_calls(tmp_path: Path) -> None:
    file = await a_file(tmp_path, 5)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        prepare(db, [*MIGRATIONS, SECOND])
        prepare(db, [*MIGRATIONS, SECOND])  # a second time there is nothing to do

    assert len(MIGRATIONS) + 1 == shape_of(file)[0]
    assert 5 * [("red",)] == look_into(file, "SELECT colour FROM calls")


@ON_ASYNCIO
async def test_row_59_a_migration_that_fails_leaves_the_older_version_whole(tmp_path: Path) -> None:
    file = await a_file(tmp_path, 5)
    before = shape_of(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        with pytest.raises(sqlite3.OperationalError, match="nothing"):
            prepare(db, [*MIGRATIONS, SECOND, BROKEN])
        assert not db.in_transaction
    after = shape_of(file)
    emulator = an_emulator()
    async with with_file(file, emulator) as userpilot:
        await sent(userpilot)

    assert before == after
    assert 5 == len(marks_at(emulator))


@ON_ASYNCIO
async def test_row_59_a_migration_cut_by_a_crash_leaves_the_older_version_whole(tmp_path: Path) -> None:
    """The files as they are in the middle of the transaction are what a crash would leave."""
    file = await a_file(tmp_path, 5)
    before = shape_of(file)
    copied = tmp_path / "copy"
    copied.mkdir()

    def crash(statement: str) -> None:
        if statement.lstrip().startswith("UPDATE"):
            for path in file.parent.iterdir():
                shutil.copy(path, copied / path.name)

    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.set_trace_callback(crash)
        prepare(db, [*MIGRATIONS, SECOND])

    assert (copied / "events.db").exists(), "the crash never happened"
    assert before == shape_of(copied / "events.db")
    assert before != shape_of(file)

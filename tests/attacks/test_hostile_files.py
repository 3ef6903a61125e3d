"""Files that somebody else has made: to be imported, to be sent, or in the place where ours should be."""

from __future__ import annotations

import gzip
import sqlite3
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.attacks._ground import MEGABYTE, little_memory
from tests.harness.stage.outbox_files import an_emulator, put, sent, with_file
from tests.harness.stage.scenes import asyncio_only
from userpilot_async import InvalidCall, OutboxError
from userpilot_async.imports import CONVERTERS, UnreadableFile, lines
from userpilot_async.sqlite._schema import APPLICATION_ID

pytestmark = pytest.mark.anyio

ROW = b'{"event_type":"track","user_id":"u","event_name":"e","inserted_at":"2024-12-01T08:55:43Z"}\n'


# ── to be imported ──


def packed(content: bytes, layers: int = 1) -> bytes:
    for _ in range(layers):
        content = gzip.compress(content)
    return content


BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: packed(bytes(256 * MEGABYTE)),
    "one line": lambda: packed(b'{"user_id":"' + b"u" * 128 * MEGABYTE),
    "a row, and one line": lambda: packed(ROW + b"x" * 128 * MEGABYTE),
    "empty lines": lambda: packed(ROW + b"\n" * MEGABYTE),
    "spaces": lambda: packed(ROW + b" " * 128 * MEGABYTE),
    "a bomb in a bomb": lambda: packed(bytes(128 * MEGABYTE), 3),
    "many small members": lambda: packed(ROW) + packed(b"") * 20_000,
    "deep": lambda: packed((b"[" * 500_000 + b"\n") * 20 + ROW),
    "objects, deep": lambda: packed((b'{"a":' * 180_000 + b"\n") * 20 + ROW),
    "many names": lambda: packed((b"{" + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}\n") * 5 + ROW),
    "CSV of one quote": lambda: packed(b'event_type,user_id\n"' + (b"x" * 100 + b"\n") * 30_000),
    "CSV of commas": lambda: packed(b"event_type,user_id\n" + b"," * 64 * MEGABYTE),
    "CSV of columns": lambda: packed(b"event_type" + b",c" * 400_000 + b"\n" + b"," * 400_000 + b"\n"),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_read_line_by_line_or_refused(bomb: Callable[[], bytes], tmp_path: Path) -> None:
    file = tmp_path / "bomb.ndjson.gz"
    file.write_bytes(bomb())

    with little_memory(64 * MEGABYTE):
        try:
            for line in lines(file):
                assert len(line.raw) <= 2 * MEGABYTE
        except UnreadableFile as error:
            assert str(error).isprintable()


def an_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../etc/cron.d/evil", ROW)
        archive.writestr("/absolute", ROW)


def test_an_archive_is_read_and_nothing_of_it_is_written_anywhere(tmp_path: Path) -> None:
    """Its members are streams: their names lead to no place on the disk."""
    inside = tmp_path / "inside"
    inside.mkdir()
    an_archive(inside / "rows.ndjson")

    assert 1 == sum(line.error is None for line in lines(inside / "rows.ndjson"))  # hidden names are left out
    assert ["rows.ndjson"] == [file.name for file in inside.iterdir()]
    assert ["inside"] == [file.name for file in tmp_path.iterdir()]
    assert not Path("/etc/cron.d/evil").exists()
    assert not Path("/absolute").exists()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/random", "/proc/self/mem", "/dev/full"])
def test_a_device_is_no_file_to_import_without_end(device: str) -> None:
    with little_memory(64 * MEGABYTE), pytest.raises((UnreadableFile, OSError)):
        for number, _ in enumerate(lines(device)):
            assert 100 >= number


VALUES: list[Any] = [
    None, 5, [], {}, "x", True, 1e308, "\ud800", "\x00", "=cmd|' /C calc'!A0", "2024-13-45", "9" * 5_000, -1e308,
    {"$ref": "#"}, [[[[]]]], {"__class__": "x"}, "\r\n{}", "../../x",
]  # fmt: skip
NAMES = (
    "type", "event", "userId", "user_id", "anonymousId", "groupId", "traits", "properties", "context", "timestamp",
    "distinct_id", "event_type", "event_properties", "user_properties", "time", "$set", "device_id", "name",
)  # fmt: skip


@pytest.mark.parametrize("tool", CONVERTERS)
def test_an_export_of_anything_is_rows_or_refused_line_by_line(tool: str) -> None:
    """Each name with each value, beside plausible others."""
    plausible = {"type": "track", "event": "e", "userId": "u", "timestamp": "2024-11-30T09:00:00Z", "properties": {}}
    for name in NAMES:
        for value in VALUES:
            try:
                rows = CONVERTERS[tool]({**plausible, name: value})
                assert all(isinstance(row, Mapping) for row in rows)
            except InvalidCall as error:
                assert str(error).isprintable()


# ── in the place of an outbox ──


@pytest.mark.parametrize("application", [0, APPLICATION_ID, 0x55705F32, 0x47504B47])
@pytest.mark.parametrize("version", [0, 1, 99, -1, 2**31 - 1])
@asyncio_only
async def test_a_database_of_somebody_elses_is_no_outbox_whatever_it_says_it_is(
    application: int, version: int, tmp_path: Path
) -> None:
    file = tmp_path / "theirs.db"
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("CREATE TABLE theirs (said TEXT)")
        db.execute("INSERT INTO theirs VALUES ('precious')")
        db.execute(f"PRAGMA application_id = {application}")
        db.execute(f"PRAGMA user_version = {version}")
    before = file.read_bytes()

    with suppress(OutboxError):
        async with with_file(file):
            pass
    if application != APPLICATION_ID:
        assert before == file.read_bytes()
    # One that says in so many words that it is ours may be taken for a damaged one, which is kept.
    kept = next(tmp_path.glob("*.damaged-1"), file)
    with closing(sqlite3.connect(kept)) as db:
        assert [("precious",)] == db.execute("SELECT said FROM theirs").fetchall()


SCHEMAS: dict[str, str] = {
    "1,000 tables": "".join(f"CREATE TABLE t{n} (a);" for n in range(1_000)),
    "a table of a megabyte": f"CREATE TABLE big ({', '.join(f'column_{n}' for n in range(1_900))})",
    "a name that is a command": 'CREATE TABLE "; DROP TABLE calls; --" (a)',
    "another column": "ALTER TABLE calls ADD COLUMN evil TEXT DEFAULT 'x'",
    "a column that is gone": "ALTER TABLE calls DROP COLUMN sent",
    "a table that is gone": "DROP TABLE news",
    "an index that counts": "CREATE UNIQUE INDEX evil ON calls (key)",
    "an index over an expression": "CREATE INDEX evil ON calls (length(hex(said)))",
    "no schema that can be read": "PRAGMA writable_schema = ON;"
    "UPDATE sqlite_master SET sql = 'CREATE TABLE calls (nonsense' WHERE name = 'calls'",
    "a root page that is another's": "PRAGMA writable_schema = ON;"
    "UPDATE sqlite_master SET rootpage = 1 WHERE name = 'calls'",
    "a root page beyond the end": "PRAGMA writable_schema = ON;"
    "UPDATE sqlite_master SET rootpage = 1000000 WHERE name = 'account'",
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@asyncio_only
async def test_a_schema_that_somebody_changed_ends_in_an_error_or_in_delivery_and_never_in_silence(
    schema: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.db"
    async with with_file(file) as userpilot:
        await put(userpilot, range(20), users=20)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.executescript(schema)
    emulator = an_emulator()

    try:
        async with with_file(file, emulator, close_timeout=5.0) as userpilot:
            receipts = await put(userpilot, ["fresh"])
            report = await userpilot.flush(10)
            assert report.complete
            assert {"delivered"} == {receipt.status for receipt in receipts}
            statistics = report.statistics
            gone = 21 - statistics.delivered
            assert gone == sum(statistics.lost_by_reason.values())
    except OutboxError as error:
        assert str(file) in str(error)


@asyncio_only
async def test_what_was_delivered_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    """A disk that is thrown away, a backup that is leaked: nobody is in it any more who was told of."""
    file = tmp_path / "outbox" / "events.db"
    emulator = an_emulator()
    async with with_file(file, emulator) as userpilot:
        for n in range(200):
            await userpilot.track(f"anna.kowalska+{n}@example.org", "opened", {"mail": "anna.kowalska", "n": n})
        await sent(userpilot)

    assert 200 == len(emulator.store.events)
    for left in file.parent.iterdir():
        assert b"kowalska" not in left.read_bytes(), left.name

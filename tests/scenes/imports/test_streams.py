"""A stream is imported once, and goes on with the same bytes after an interruption; others are refused."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenes.imports.conftest import doubled, marks, track, uploads, user
from userpilot_async import Rejected
from userpilot_async.emulator import Fault
from userpilot_async.imports import (
    AlreadyImported,
    ImportConflict,
    ImportReport,
    UnreadableFile,
    check_stream,
    import_stream,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

ROWS = [*(track(n) for n in range(20)), user("u1", {"plan": "pro"}), *(track(n) for n in range(20, 40))]


def ndjson(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


CSV = b"event_type,user_id,event_name,inserted_at,metadata\n" + b"".join(
    f'track,u1,opened,2024-12-01T08:55:43Z,"{{""mark"": {n}}}"\n'.encode() for n in range(40)
)


@pytest.fixture
def run(new_api, tmp_path) -> Callable[..., Any]:
    async def run(content: bytes, journal: Path | None = None, **options: Any) -> ImportReport:
        async with new_api() as api:
            place = journal or tmp_path / "stdin.import"
            return await import_stream(api, io.BytesIO(content), journal=place, max_rows=7, **options)

    return run


@pytest.mark.parametrize("content", [ndjson(ROWS), gzip.compress(ndjson(ROWS)), CSV], ids=["plain", "gzip", "csv"])
@pytest.mark.parametrize("at", [0, 3])
async def test_the_same_bytes_are_gone_on_with(run, emulator, content, at):
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=at))
    with pytest.raises(Rejected):
        await run(content)
    report = await run(content)

    assert report.complete
    assert {} == doubled(emulator)
    assert list(range(40)) == marks(emulator)
    with pytest.raises(AlreadyImported):
        await run(content)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (ndjson([track(99), *ROWS[1:]]), r"its first \d+ lines are not the ones that it was begun with"),
        (ndjson(ROWS[:10]), "lines are not the ones"),
        (b"\n" + ndjson(ROWS), "lines are not the ones"),
    ],
    ids=["another line", "fewer", "a blank line"],
)
async def test_other_bytes_are_refused_and_nothing_of_them_is_sent(run, emulator, other, words):
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
    with pytest.raises(Rejected):
        await run(ndjson(ROWS))
    before = uploads(emulator)
    with pytest.raises(ImportConflict, match=words):
        await run(other)

    assert before == uploads(emulator)


async def test_a_csv_header_is_part_of_what_must_be_the_same(run, emulator):
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
    with pytest.raises(Rejected):
        await run(CSV)
    with pytest.raises(ImportConflict, match="not the ones"):
        await run(CSV.replace(b"event_name", b"user_agent", 1))


@pytest.mark.parametrize("other", [ndjson(ROWS[:-1]), ndjson([*ROWS, track(99)])], ids=["less", "more"])
async def test_after_its_end_other_bytes_are_no_import_that_was_done(run, emulator, other):
    """A pipeline that uses one journal for all days would lose all but the first, and be told that all is well."""
    await run(ndjson(ROWS))
    with pytest.raises(ImportConflict, match="is the journal of a stream that was imported on") as e:
        await run(other)

    assert not isinstance(e.value, AlreadyImported)


async def test_refused_rows_lie_beside_the_journal(run, tmp_path):
    report = await run(ndjson([track(0), {"event_type": "track"}]))

    assert tmp_path / "stdin.import.rejected.ndjson" == report.rejected
    assert 2 == json.loads(report.rejected.read_text())["line"]


async def test_what_cannot_be_read_from_a_stream_is_said(run):
    with pytest.raises(UnreadableFile, match="an archive cannot be read from a stream"):
        await run(b"PK\x03\x04...")
    with pytest.raises(UnreadableFile, match="the file is empty"):
        await run(b"")
    with pytest.raises(UnreadableFile, match="the file breaks off"):
        await run(gzip.compress(ndjson(ROWS))[:-9])


async def test_a_check_and_a_dry_run_need_no_journal(tmp_path):
    report = await check_stream(io.BytesIO(ndjson(ROWS)))
    written = await import_stream(None, io.BytesIO(ndjson(ROWS)), dry_run=tmp_path / "out")

    assert (41, 0, 41) == (report.valid, report.refused, written.valid)
    assert {"out"} == {one.name for one in tmp_path.iterdir()}


async def test_an_import_without_a_journal_is_refused(new_api):
    async with new_api() as api:
        with pytest.raises(ValueError, match="journal is missing"):
            await import_stream(api, io.BytesIO(ndjson(ROWS)))

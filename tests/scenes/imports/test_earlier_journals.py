"""Journals that an earlier version left on somebody's disk are gone on with: each row arrives once.

The files in ``journals`` were written by the version before a file's life had a state machine of its own. Each is of an
import of the same ten events, four a file, that was killed at one point.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.scenes.imports.conftest import marks, track
from userpilot_async import UserpilotAPI
from userpilot_async.emulator import Emulator, Fault
from userpilot_async.imports import ImportReport, import_file, journal_path
from userpilot_async.imports._journal import Journal

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

JOURNALS = Path(__file__).with_name("journals")
SOURCE = "history.ndjson"


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lay the file of ten events, and its journal as it was left, into the working directory."""

    def left(how: str) -> Path:
        monkeypatch.chdir(tmp_path)
        path = Path(SOURCE)
        path.write_text("".join(f"{json.dumps(track(n))}\n" for n in range(10)))
        journal_path(path).write_bytes(gzip.decompress((JOURNALS / f"{how}.import.gz").read_bytes()))
        return path

    return left


async def submit_first(api: UserpilotAPI, path: Path) -> None:
    """Let the server have the first file of the journal, as it was uploaded before the process died."""
    with closing(Journal(journal_path(path))) as journal:
        journal.load()
        part = journal.first_part()
        assert part is not None
        content, filename = journal.content(part), journal.filename(part)
    await api.import_rows(content, filename=filename)


async def go_on(api: UserpilotAPI, path: Path) -> ImportReport:
    report = await import_file(api, path, max_rows=4)
    assert report.complete
    return report


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_file_in_doubt_is_looked_for_and_sent_again_only_if_it_is_not_there(
    new_api, left, emulator: Emulator, arrived: bool
) -> None:
    path = left("in_doubt")
    async with new_api() as api:
        if arrived:
            await submit_first(api, path)
        report = await go_on(api, path)

    assert list(range(10)) == marks(emulator)
    assert (10, 0 if arrived else 4) == (report.uploaded, report.possible_duplicates)
    assert 3 == len({job.filename for job in emulator.store.jobs})


async def test_a_running_job_is_watched_to_its_end(new_api, left, emulator: Emulator) -> None:
    """The job's id is one that this server does not know, but the list has its filename."""
    path = left("running")
    async with new_api() as api:
        await submit_first(api, path)
        report = await go_on(api, path)

    assert list(range(10)) == marks(emulator)
    assert (10, 10, 0) == (report.uploaded, report.completed, report.possible_duplicates)


async def test_a_file_whose_job_failed_once_goes_on_under_its_new_name(new_api, left, emulator: Emulator) -> None:
    path = left("failed_once")
    async with new_api() as api:
        report = await go_on(api, path)
    names = sorted(str(job.filename) for job in emulator.store.jobs)

    assert list(range(10)) == marks(emulator)
    assert names[0].endswith("-000001-1.ndjson")
    assert (10, 4) == (report.uploaded, report.possible_duplicates)


async def test_what_is_left_of_a_halved_file_goes_and_the_refused_row_stays_refused(
    new_api, left, emulator: Emulator
) -> None:
    path = left("halved")
    emulator.faults.add(Fault(path="/v1/imports", body_contains='"mark":1}', status=400, times=None))
    async with new_api() as api:
        report = await go_on(api, path)

    assert list(range(2, 10)) == marks(emulator), "the first row was uploaded by the run before"
    assert (10, 9, 1, 9) == (report.read, report.valid, report.refused, report.uploaded)

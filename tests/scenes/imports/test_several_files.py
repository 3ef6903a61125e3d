"""Several files in one import: their rows share uploads, and each row is there once, whatever became of the files."""

from __future__ import annotations

import gzip
import json
import zipfile
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
    InvalidRow,
    UnreadableFile,
    check_file,
    import_file,
    write_csv,
)
from userpilot_async.imports._journal import Journal

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


@pytest.fixture
def run(new_api) -> Callable[..., Any]:
    """An import of a list of files by a client of its own."""

    async def run(paths: list[Path] | Path, **options: Any) -> ImportReport:
        async with new_api() as api:
            return await import_file(api, paths, **options)

    return run


@pytest.fixture
def hours(written) -> list[Path]:
    """Twelve files of five events each."""
    return [written([track(hour * 5 + n) for n in range(5)], f"hour{hour:02}.ndjson") for hour in range(12)]


def end_at(emulator, upload: int) -> None:
    """Have the server refuse the upload of this number, from 0: the import ends there."""
    emulator.faults.add(Fault(name="end", path="/v1/imports", status=401, skip=upload))


async def test_many_files_are_few_uploads(run, hours, emulator):
    report = await run(hours, max_rows=25)

    assert [25, 25, 10] == [rows for _, rows in uploads(emulator)]
    assert (60, 60, 3, True) == (report.read, report.completed, report.files, report.complete)
    assert list(range(60)) == marks(emulator)


@pytest.mark.parametrize("at", range(4))
async def test_the_same_files_are_gone_on_with_wherever_it_ended(run, hours, emulator, at):
    end_at(emulator, at)
    with pytest.raises(Rejected):
        await run(hours, max_rows=17)
    await run(hours, max_rows=17)

    assert {} == doubled(emulator)
    assert list(range(60)) == marks(emulator)
    with pytest.raises(AlreadyImported):
        await run(hours)


async def test_each_file_is_of_its_own_kind(run, written, tmp_path, emulator):
    packed, table, archive = tmp_path / "1.gz", tmp_path / "2.csv", tmp_path / "3.zip"
    packed.write_bytes(gzip.compress(json.dumps(track(0)).encode()))
    write_csv(table, [track(1), track(2)])
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.ndjson", json.dumps(track(3)))
        file.writestr("b.ndjson", json.dumps(track(4)))
    await run([packed, table, archive, written([track(5)])])

    assert 1 == len(uploads(emulator))
    assert [0, 1, 2, 3, 4, 5] == marks(emulator)


async def test_a_refused_row_is_named_by_its_file_and_line(run, written, tmp_path, emulator):
    archive = tmp_path / "b.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("1.ndjson", f"{json.dumps(track(2))}\n")
        file.writestr("2.ndjson", f"{json.dumps(track(3))}\nno row\n")
    files = [written([track(0), "{}"], "a"), archive, written(["\n", track(4), track(5, user_id="bad")], "c")]
    emulator.faults.add(Fault(path="/v1/imports", status=422, user_id="bad", times=20))
    report = await run(files)

    where = [(str(files[0]), 2), (f"{archive}/2.ndjson", 2), (str(files[2]), 4)]
    lines = (tmp_path / "a.and-more.rejected.ndjson").read_text().splitlines()
    assert where == [(one["file"], one["line"]) for one in map(json.loads, lines)]
    assert where == list(zip(report.first_errors_in, [line for line, *_ in report.first_errors], strict=True))
    assert [0, 2, 3, 4] == marks(emulator)


async def test_strict_looks_at_all_files_before_any_is_sent(run, written, emulator):
    good, bad = written([track(0)], "good"), written([track(1), {"event_type": "track"}], "bad")
    with pytest.raises(InvalidRow, match=r"/bad: line 2: user_id is missing"):
        await run([good, bad], strict=True)
    with pytest.raises(InvalidRow, match=r"/bad: line 2: user_id is missing"):
        await check_file([good, bad], strict=True)

    assert [] == uploads(emulator)
    written([track(1)], "bad")
    assert 2 == (await run([good, bad], strict=True)).completed


async def test_a_file_that_breaks_off_is_named(run, hours, tmp_path):
    broken = tmp_path / "x.gz"
    broken.write_bytes(gzip.compress(b"".join(b'{"a": %d}\n' % n for n in range(10_000)))[:-10])
    with pytest.raises(UnreadableFile, match=r"x\.gz: the file breaks off"):
        await run([hours[0], broken])


async def test_files_that_were_added_since_are_read_behind_the_others(run, hours, written, emulator):
    earlier = written([track(60)], "hour-0.ndjson")
    end_at(emulator, 1)
    with pytest.raises(Rejected):
        await run(hours[:6], max_rows=10)
    report = await run([earlier, *hours], max_rows=10)

    added = "hour-0.ndjson, hour06.ndjson, hour07.ndjson and 4 more"
    assert (f"added since the import began, and read behind the others: {added}",) == report.remarks
    assert [*range(30), 60, *range(30, 60)] == marks(emulator)


async def test_only_what_is_new_of_a_finished_import_is_sent(run, hours, written, emulator):
    who = [written([user("u1", {"plan": "pro"})], "hour0"), written([user("u1", {"seats": 3})], "hour9")]
    await run([who[0], *hours[:3]])
    report = await run([who[0], *hours[:5], who[1]])

    remark = "imported before, and not sent again: hour0, hour00.ndjson, hour01.ndjson and 1 more"
    assert (11, (remark,)) == (report.completed, report.remarks)
    assert list(range(25)) == marks(emulator)
    assert {"plan": "pro", "seats": 3} == emulator.store.users["u1"].properties
    with pytest.raises(AlreadyImported):
        await run(hours[1:4])


async def test_files_that_were_imported_alone_are_not_sent_again(run, hours, emulator):
    await run(hours[1])
    report = await run(hours[:3])

    assert 10 == report.completed
    assert {} == doubled(emulator)
    with pytest.raises(AlreadyImported):
        await run(hours[2])
    with pytest.raises(AlreadyImported):
        await run(hours[1])


async def test_a_file_of_an_import_that_is_not_complete_is_not_sent_alone(run, hours, emulator):
    end_at(emulator, 0)
    with pytest.raises(Rejected):
        await run(hours[:3])
    with pytest.raises(ImportConflict, match=r"hour01\.ndjson is one of the files of an import that is not complete"):
        await run(hours[1])


async def test_a_file_whose_own_import_is_not_complete_is_given_alone_first(run, hours, emulator):
    end_at(emulator, 0)
    with pytest.raises(Rejected):
        await run(hours[1])
    with pytest.raises(ImportConflict, match=r"hour01\.ndjson has an import of its own that is not complete"):
        await run(hours)

    await run(hours[1])
    await run(hours)
    assert {} == doubled(emulator)
    assert 60 == len(marks(emulator))


async def test_a_file_that_changed_or_went_before_it_was_read_is_said_in_one_sentence(run, hours, written, emulator):
    end_at(emulator, 0)
    with pytest.raises(Rejected):
        await run(hours, max_rows=5)
    kept = hours[5].read_bytes()
    written([track(100)], hours[5].name)
    words = (
        r"hour00\.ndjson\.and-more\.import is the journal of an import of 12 files that is not complete, and of these "
        r"were since then 1 changed \(hour05\.ndjson\) and 1 taken away \(hour11\.ndjson\): give it the files as they "
        r"were, or take the journal away to begin anew \(0 of their rows"
    )
    with pytest.raises(ImportConflict, match=words):
        await run(hours[:-1], max_rows=5)

    hours[5].write_bytes(kept)
    await run(hours, max_rows=5)
    assert list(range(60)) == marks(emulator)


async def test_a_file_that_was_read_may_go_and_another_may_be_renamed(run, hours, emulator, tmp_path):
    end_at(emulator, 3)
    with pytest.raises(Rejected):
        await run(hours, max_rows=5)
    hours[0].unlink()
    hours[11] = hours[11].rename(tmp_path / "last.ndjson")
    report = await run(hours[1:], max_rows=5)

    assert ("taken away since the import began, and read before: hour00.ndjson",) == report.remarks
    assert list(range(60)) == marks(emulator)


async def test_a_finished_files_changed_content_is_not_sent_by_itself(run, hours, written, emulator):
    await run(hours[:3])
    written([track(1), track(99)], hours[1].name)
    with pytest.raises(ImportConflict, match="has changed since"):
        await run(hours[:4])
    with pytest.raises(ImportConflict, match="has changed since"):
        await run(hours[1])

    assert 15 == len(marks(emulator))


async def test_a_dry_run_of_several_files_writes_few(hours, tmp_path, emulator):
    report = await import_file(None, hours, dry_run=tmp_path / "out", max_rows=50)

    assert [50, 10] == [len(one.read_text().splitlines()) for one in sorted((tmp_path / "out").iterdir())]
    assert (2, 60) == (report.files, report.valid)
    assert {"out"} == {one.name for one in tmp_path.iterdir()} - {path.name for path in hours}


async def test_a_list_is_sent_again_as_a_whole_if_it_is_forced_and_once_after_an_end(run, hours, emulator):
    """One file of it was imported alone, too: forced, it is sent as well."""
    await run(hours[1])
    await run(hours[:3])
    emulator.advance()
    emulator.store.events.clear()
    end_at(emulator, 2)
    with pytest.raises(Rejected):
        await run(hours[:3], force=True, max_rows=4)
    await run(hours[:3], force=True, max_rows=4)

    assert list(range(15)) == marks(emulator)
    with pytest.raises(AlreadyImported):
        await run(hours[:3])


async def test_what_is_lost_with_a_journal_of_two_imports_is_said(run, hours, written, emulator):
    await run(hours[:2])
    end_at(emulator, 0)
    with pytest.raises(Rejected):
        await run(hours[:4])
    written([track(99)], hours[3].name)

    with pytest.raises(ImportConflict, match=r"would be there twice, as would those of 2 files that it knows as impo"):
        await run(hours[:4])


async def test_a_new_file_with_a_bad_row_may_be_corrected_and_given_again_with_those_that_were_imported(
    run, hours, written, emulator
):
    await run(hours[:2])
    bad = written([track(10), {"event_type": "track"}], "new")
    with pytest.raises(InvalidRow, match=r"/new: line 2"):
        await run([*hours[:2], bad], strict=True)
    written([track(10), track(11)], "new")
    report = await run([*hours[:2], bad], strict=True)

    assert 2 == report.completed
    assert list(range(12)) == marks(emulator)

    written([track(0)], hours[0].name)
    with pytest.raises(ImportConflict, match=r"was imported on 20.* and has changed since"):
        await run([*hours[:2], bad])


async def test_an_import_that_has_taken_no_line_is_of_no_files(run, hours, written, emulator):
    """It was ended while it learnt, or checked, and keeps nobody from naming other files."""
    await run(hours[:1])
    await run(hours[1:3])
    bad = written([track(10), {"event_type": "track"}], "new")
    with pytest.raises(InvalidRow):
        await run([*hours[1:3], bad], strict=True)
    with pytest.raises(AlreadyImported):
        await run(hours[1:3])
    kept = hours[1].read_bytes()
    written([track(0)], hours[1].name)
    with pytest.raises(ImportConflict, match=r"\(changed: hour01\.ndjson\) was imported on 20.* and has changed since"):
        await run(hours[1:4])
    hours[1].write_bytes(kept)
    await run(hours[1:4])
    await run(bad)

    assert [*range(20), 10] == marks(emulator)


async def test_empty_files_among_others_are_passed_over_and_named(run, hours, written, emulator):
    empty = [written(["", " "], f"empty{n}") for n in range(2)]
    empty[1].write_bytes(gzip.compress(b""))
    files = [empty[0], hours[0], empty[1], written([track(60), "{"], "bad")]
    end_at(emulator, 1)
    with pytest.raises(Rejected):
        await run(files, max_rows=3)
    report = await run(files, max_rows=3)

    assert ("empty, and passed over: empty0, empty1",) == report.remarks == (await check_file(files)).remarks
    assert (2, str(files[3])) == (report.first_errors[0][0], report.first_errors_in[0])
    assert [*range(5), 60] == marks(emulator)
    with pytest.raises(UnreadableFile, match="the files are all empty"):
        await run(empty)


async def test_a_file_that_is_named_twice_is_read_once(run, hours, emulator, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(hours[0])
    await run([hours[0], link, tmp_path / "." / hours[0].name, hours[1]])

    assert list(range(10)) == marks(emulator)


async def test_a_file_that_changed_is_named_and_so_is_a_journal_of_others(run, hours, written, tmp_path):
    journal = tmp_path / "journal"
    await run(hours[:2], journal=journal)
    with pytest.raises(AlreadyImported, match=r"hour00\.ndjson was imported on"):
        await run(hours[0], journal=journal)
    with pytest.raises(ImportConflict, match="is the journal of another source, which was imported on"):
        await run(hours[2], journal=journal)
    written([track(1)], hours[1].name)
    with pytest.raises(ImportConflict, match=r"hour00\.ndjson and 1 more \(changed: hour01\.ndjson\) was imported on"):
        await run(hours[:2], journal=journal)

    alone = tmp_path / "alone"
    await run(hours[3], journal=alone)
    with pytest.raises(ImportConflict, match="is the journal of another source"):
        await run(hours[3:5], journal=alone)


async def test_files_beside_an_import_that_is_under_way_wait_for_its_end(run, hours, new_api):
    """Nobody else can see which files it has."""
    journal = Journal(Path(f"{hours[0]}.and-more.import"))
    try:
        for other in (hours[5], hours[5:7]):
            with pytest.raises(ImportConflict, match="imports several files that lie here, and these may be among"):
                await run(other)
    finally:
        journal.close()

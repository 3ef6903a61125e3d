"""Anonymous people of several files that are one import: all of them say who somebody became, whatever ended it."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scenes.imports.conftest import doubled, uploads
from userpilot_async import Rejected
from userpilot_async.emulator import Fault
from userpilot_async.imports import (
    Conversion,
    ImportConflict,
    ImportReport,
    InvalidRow,
    Series,
    check_file,
    check_stream,
    import_file,
    import_stream,
    mapping_from,
)
from userpilot_async.imports._anonymous import JOINED, STAYED

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

JOIN = Conversion("segment", anonymous="join")


def call(mark: int, who: str, **ids: str) -> dict[str, Any]:
    """An event of an anonymous id, as Segment has it; with a ``userId`` it says who that became."""
    at = f"2024-12-01T08:{mark:02}:00Z"
    return {"type": "track", "anonymousId": who, "event": "e", "timestamp": at, "properties": {"mark": mark}, **ids}


@pytest.fixture
def run(new_api) -> Callable[..., Any]:
    """An import that joins, by a client of its own."""

    async def run(paths: list[Path] | Path, **options: Any) -> ImportReport:
        async with new_api() as api:
            return await import_file(api, paths, **{"converted_from": JOIN, **options})

    return run


@pytest.fixture
def days(written) -> list[Path]:
    """Four files of three events each; the last one says who the three ids became, but for one."""
    files = [written([call(3 * day + n, f"a{n}") for n in range(3)], f"day{day}") for day in range(3)]
    return [*files, written([call(9, "a0", userId="u0"), call(10, "a1", userId="u1"), call(11, "a2")], "day3")]


def people(emulator) -> dict[int, str]:
    """Whose each event is, by its mark."""
    emulator.advance()
    return {event.metadata["mark"]: event.user_id for event in emulator.store.events}


WHOLE = {mark: ("u0", "u1", "a2")[mark % 3] for mark in range(12)}


def end_at(emulator, upload: int) -> None:
    """Have the server refuse the upload of this number, from 0: the import ends there."""
    emulator.faults.add(Fault(name="end", path="/v1/imports", status=401, skip=upload))


def as_list(files: list[Path]) -> list[Path]:
    return files


def as_folder(files: list[Path]) -> Path:
    folder = files[0].with_name("folder")
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    return folder


def as_zip(files: list[Path]) -> Path:
    with zipfile.ZipFile(files[0].with_name("all.zip"), "w") as archive:
        for file in files:
            archive.write(file, file.name)
    return files[0].with_name("all.zip")


def as_list_with_tar(files: list[Path]) -> list[Path]:
    with tarfile.open(files[0].with_name("last.tar"), "w") as archive:
        for file in files[3:]:
            archive.add(file, file.name)
    return [*files[:3], files[0].with_name("last.tar")]


@pytest.mark.parametrize("given", [as_list, as_folder, as_zip, as_list_with_tar])
async def test_the_last_file_says_who_the_people_of_the_first_became(run, days, written, emulator, given):
    days[1:1] = [written([], "empty")]
    report = await run(given(days))

    assert WHOLE == people(emulator)
    assert {JOINED: 6, STAYED: 4} == dict(report.notes)
    assert 1 == len(uploads(emulator))


async def test_files_that_are_checked_as_one_are_learnt_from_as_one(days):
    assert {JOINED: 6, STAYED: 4} == dict((await check_file(days, converted_from=JOIN)).notes)


@pytest.mark.parametrize("at", range(3))
async def test_the_same_files_are_gone_on_with_wherever_it_ended(run, days, emulator, at):
    end_at(emulator, at)
    with pytest.raises(Rejected):
        await run(days, max_rows=4)
    await run([days[3], *days[:3]], max_rows=4)  # they are read, and learnt from, in the order of the journal

    assert {} == doubled(emulator)
    assert WHOLE == people(emulator)


async def test_an_import_that_was_begun_takes_no_files_more_nor_fewer(run, days, emulator):
    """Those would say who people became whose rows are sent already, or not say it any more."""
    end_at(emulator, 5)
    with pytest.raises(Rejected):
        await run(days[:3], max_rows=1)
    with pytest.raises(ImportConflict, match="begun with other files, which say who its anonymous people became"):
        await run(days, max_rows=1)
    kept = days[0].read_bytes()
    days[0].unlink()  # its lines are in the journal
    with pytest.raises(ImportConflict, match=r"of these were since then 1 taken away \(day0\)"):
        await run(days[1:3], max_rows=1)

    days[0].write_bytes(kept)
    await run(days[:3], max_rows=1)
    assert {} == doubled(emulator)
    assert {mark: f"a{mark % 3}" for mark in range(9)} == people(emulator)


async def test_files_of_which_all_was_read_may_go(run, days, emulator):
    end_at(emulator, 0)
    with pytest.raises(Rejected):
        await run(days)
    days[0].unlink()
    await run(days[1:])

    assert WHOLE == people(emulator)


async def test_files_that_were_imported_before_say_it_too_and_stay_as_they_were_sent(run, days, emulator):
    await run([days[3], days[0]])
    await run([days[3], *days[:3]])

    assert WHOLE == people(emulator)


async def test_what_new_files_say_of_people_is_known_of_profiles_that_were_sent_before(run, written, emulator):
    def who(minute: int, traits: dict[str, Any], **ids: str) -> dict[str, Any]:
        return {**call(minute, "a0", **ids), "type": "identify", "traits": traits}

    first = [written([who(1, {"plan": "pro"})], "first"), written([call(2, "a0")], "second")]
    await run(first)
    await run([*first, written([who(3, {"seats": 3}, userId="u0")], "third")])

    emulator.advance()
    assert {"plan": "pro", "seats": 3} == emulator.store.users["u0"].properties


async def test_what_is_new_does_not_move_what_was_sent(run, days, emulator):
    await run(days[:2])
    await run(days)

    assert {} == doubled(emulator)
    assert {**WHOLE, **{mark: f"a{mark % 3}" for mark in range(6)}} == people(emulator)


async def test_a_finished_import_with_new_files_is_gone_on_with_by_the_same_files(run, days, emulator):
    await run([days[3], days[0]])
    end_at(emulator, 1)
    with pytest.raises(Rejected):
        await run([days[3], *days[:3]], max_rows=2)
    with pytest.raises(ImportConflict, match="give the same files again"):
        await run(days[1:3], max_rows=2)
    await run([days[3], *days[:3]], max_rows=2)

    assert {} == doubled(emulator)
    assert WHOLE == people(emulator)


async def test_people_are_joined_before_the_map_is_applied(run, days, emulator):
    rules = {"events": {"rename": {"e": "Opened"}}, "properties": {"constant": {"from": "segment"}}}
    mapped = Conversion("segment", anonymous="join", mapping=mapping_from(rules))
    report = await run(days, converted_from=mapped)

    assert WHOLE == people(emulator)
    assert {("Opened", "segment")} == {(one.event_name, one.metadata["from"]) for one in emulator.store.events}
    assert {JOINED: 6, STAYED: 4} == dict(report.notes)


async def test_a_map_and_people_are_what_an_import_goes_on_with(run, days, emulator):
    mapping = mapping_from({"properties": {"drop": ["x"]}})
    end_at(emulator, 1)
    with pytest.raises(Rejected):
        await run(days, max_rows=4, converted_from=Conversion("segment", anonymous="join", mapping=mapping))
    words = "begun as an export of segment, with anonymous people joined, mapped by [0-9a-f]{12}: go on in the same way"
    for other in (JOIN, Conversion("segment", mapping=mapping), Conversion("segment", anonymous="drop")):
        with pytest.raises(ImportConflict, match=words):
            await run(days, max_rows=4, converted_from=other)


async def test_a_bad_line_is_named_by_its_file_although_people_are_joined(run, days, written, emulator):
    bad = written([call(12, "a0"), call(13, "a1", event="")], "bad")
    with pytest.raises(InvalidRow, match=r"/bad: line 2: event is missing"):
        await run([*days, bad], strict=True)

    assert [] == uploads(emulator)


async def test_a_list_within_a_series_learns_from_all_of_the_series(run, days, emulator):
    series = Series(*days)
    try:
        await run(days[:2], series=series)
        await run(days[2:], series=series)
    finally:
        series.close()

    assert WHOLE == people(emulator)


async def test_a_stream_is_read_once_so_nobody_is_joined(new_api, tmp_path):
    stream = io.BytesIO(json.dumps(call(1, "a1")).encode())
    async with new_api() as api:
        with pytest.raises(ValueError, match="a stream can be read once: save it as a file"):
            await import_stream(api, stream, journal=tmp_path / "j", converted_from=JOIN)
    with pytest.raises(ValueError, match="a stream can be read once: save it as a file"):
        await check_stream(stream, converted_from=JOIN)

    assert not (tmp_path / "j").exists()

"""A history in several files: what one says of a user is in the rows of the next, whatever ended a run in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.scenes.imports.conftest import company, track, user
from userpilot_async import Rejected
from userpilot_async.emulator import Fault
from userpilot_async.imports import (
    AlreadyImported,
    Conversion,
    ImportConflict,
    ImportReport,
    InvalidRow,
    Series,
    check_file,
    import_file,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

JOINED = Conversion("segment", anonymous="join")


@pytest.fixture
def new_series() -> Iterator[Callable[[], Series]]:
    made: list[Series] = []

    def new() -> Series:
        made.append(Series())
        return made[-1]

    yield new
    for series in made:
        series.close()


@pytest.fixture
def run(new_api, new_series) -> Callable[..., Any]:
    """A run over some files: one report each, ``None`` for what was imported before."""

    async def run(*paths: Path, **options: Any) -> list[ImportReport | None]:
        series, reports = new_series(), []
        async with new_api() as api:
            for path in paths:
                try:
                    reports.append(await import_file(api, path, series=series, **options))
                except AlreadyImported:
                    reports.append(None)
        return reports

    return run


@pytest.fixture
def days(written) -> list[Path]:
    return [
        written([user("u1", {"plan": "free", "seats": 3}), company("acme", {"name": "Acme", "size": 1})], "day1"),
        written([user("u1", {"plan": "pro"}, company_id="acme"), user("u2", {"a": 1})], "day2"),
        written([user("u1", {"seats": None}), company("acme", {"size": 2}), user("u2", {"b": 2}), track(1)], "day3"),
    ]


def assert_whole(emulator) -> None:
    emulator.advance()
    users = emulator.store.users
    assert {"plan": "pro"} == users["u1"].properties
    assert "acme" == users["u1"].company_id
    assert {"a": 1, "b": 2} == users["u2"].properties
    assert {"name": "Acme", "size": 2} == emulator.store.companies["acme"].properties
    assert 1 == len(emulator.store.events)


async def test_what_one_file_says_is_in_the_next_ones_rows(run, days, emulator):
    await run(*days)

    assert_whole(emulator)


async def test_files_that_an_earlier_run_imported_are_known_all_the_same(run, days, emulator):
    await run(days[0])
    await run(*days[:2])
    reports = await run(*days)

    assert [True, True, False] == [report is None for report in reports]
    assert_whole(emulator)


@pytest.mark.parametrize("at", range(7))
async def test_a_run_that_ended_anywhere_is_gone_on_with_by_the_next(run, days, emulator, at):
    emulator.faults.add(Fault(name="end", path="/v1/imports", status=401, skip=at))
    try:
        await run(*days, max_rows=1)
    except Rejected:
        await run(*days, max_rows=1)

    assert 1 == emulator.faults.fired("end")
    assert_whole(emulator)


async def test_a_file_that_was_begun_behind_others_is_not_gone_on_with_without_them(run, days, emulator):
    """The file's users would lose what the others said of them."""
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=2))
    with pytest.raises(Rejected):
        await run(*days, max_rows=2)

    with pytest.raises(ImportConflict, match=r"begun behind other files, .* give the same files again"):
        await run(*days[1:])
    with pytest.raises(ImportConflict, match="begun behind other files"):
        await run(days[2])


def call(minute: int, who: str, kind: str = "track", **ids: str) -> dict[str, Any]:
    """A call of an anonymous id, as Segment has it."""
    return {"type": kind, "anonymousId": who, "event": "e", "timestamp": f"2024-12-01T08:{minute:02}:00Z", **ids}


@pytest.fixture
def calls(written) -> list[Path]:
    return [
        written([call(1, "a1"), call(2, "a2"), call(3, "a3")], "calls1"),
        written([call(4, "a1", "identify", userId="u1"), call(5, "a2")], "calls2"),
        written([call(6, "a2", "identify", userId="u2")], "calls3"),
    ]


@pytest.fixture
def run_twice(new_api, emulator) -> Callable[..., Any]:
    """A run that the answer to one upload ends, and one that goes on."""

    async def run_twice(paths: list[Path], *, at: int, told: bool) -> None:
        emulator.faults.add(Fault(name="end", path="/v1/imports", status=401, skip=at))
        for _ in range(2):
            series = Series(*paths if told else ())
            try:
                async with new_api() as api:
                    for path in paths:
                        with suppress(AlreadyImported):
                            await import_file(api, path, series=series, converted_from=JOINED, max_rows=1)
            except Rejected:
                continue
            finally:
                series.close()
        emulator.advance()
        assert 1 == emulator.faults.fired("end")

    return run_twice


@pytest.mark.parametrize("at", range(6))
async def test_people_are_joined_over_files_whatever_ended_a_run(run_twice, calls, emulator, at):
    """Each run learns again who is who, also of files that were imported before."""
    await run_twice(calls, at=at, told=True)

    assert ["u1", "u2", "a3", "u2"] == [event.user_id for event in emulator.store.events]
    assert {"u1", "u2"} == set(emulator.store.users)


@pytest.mark.parametrize("at", range(4))
async def test_a_series_that_was_not_told_its_files_knows_what_those_before_said(run_twice, written, emulator, at):
    """Also of a file that the run before has read, or has sent to its end."""
    named = written([call(1, "a1", "identify", userId="u1"), call(2, "a2")], "named")
    last = written([*(call(minute, f"a{minute}") for minute in range(3, 9)), call(9, "a1")], "last")
    await run_twice([named, last], at=at, told=False)

    assert ["a2", "a3", "a4", "a5", "a6", "a7", "a8", "u1"] == [event.user_id for event in emulator.store.events]


async def test_an_import_that_joins_goes_on_with_the_same_files_only(new_api, calls, emulator):
    """Other files could say otherwise who somebody became, and half of a person's rows are sent."""
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))

    async def run(*paths: Path) -> None:
        series = Series(*paths)
        try:
            async with new_api() as api:
                await import_file(api, paths[0], series=series, converted_from=JOINED, max_rows=1)
        finally:
            series.close()

    with pytest.raises(Rejected):
        await run(*calls)
    with pytest.raises(ImportConflict, match="begun with other files, which say who its anonymous people became"):
        await run(*calls[:2])
    await run(*calls)

    emulator.advance()
    assert 3 == len(emulator.store.events)


async def test_a_check_of_several_files_sees_what_they_make_together(written, new_series):
    first = written([user("u1", {f"a{n}": n for n in range(400)})], "day1")
    second = written([user("u1", {f"b{n}": n for n in range(200)})], "day2")
    series = new_series()
    reports = [await check_file(path, series=series) for path in (first, second)]

    assert [(1, 0), (0, 1)] == [(report.valid, report.refused) for report in reports]


async def test_strict_looks_at_what_files_make_together_before_it_sends_the_second(run, written, emulator):
    first = written([user("u1", {f"a{n}": n for n in range(400)})], "day1")
    second = written([track(1), user("u1", {f"b{n}": n for n in range(200)})], "day2")
    with pytest.raises(InvalidRow, match="line 2: metadata makes 600 properties"):
        await run(first, second, strict=True, max_rows=1)

    emulator.advance()
    assert [] == emulator.store.events


async def test_a_dry_run_writes_whole_rows_too(days, tmp_path, new_series):
    series = new_series()
    for number, path in enumerate(days):
        await import_file(None, path, dry_run=tmp_path / str(number), series=series)

    (file,) = (tmp_path / "1").iterdir()
    assert '"metadata":{"plan":"pro","seats":3}' in file.read_text().splitlines()[0].replace(" ", "")

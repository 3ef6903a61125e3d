"""A file, or rows, and a server that obeys its document or does not, on a clock that jumps: each row arrives once."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness.examples.awkward import Late, Lazy, Liar, Misbehaves, NaTType
from tests.scenes.imports.conftest import AT, company, doubled, marks, rejected, track, uploads, user
from userpilot_async import InvalidCall, Rejected, UserpilotAPI, UserpilotClient
from userpilot_async.emulator import Fault
from userpilot_async.imports import (
    AlreadyImported,
    IdentifyUser,
    ImportConflict,
    ImportProgress,
    ImportReport,
    InvalidRow,
    JournalError,
    TrackEvent,
    UnreadableFile,
    check_file,
    import_file,
    import_rows,
    journal_path,
    rejected_path,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

BAD = '{"event_type": "trakc"}'


@pytest.fixture
def run(new_api) -> Callable[..., Any]:
    """Import a file, with an API of its own."""

    async def run(path: Path, api_key: str = "KEY", **options: Any) -> ImportReport:
        async with new_api(api_key) as api:
            return await import_file(api, path, **options)

    return run


def rows_of(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


# ── a file ──


async def test_every_row_arrives_in_order_and_the_report_adds_up(run, written, emulator):
    path = written(track(n) for n in range(250))

    report = await run(path, max_rows=100)

    assert list(range(250)) == marks(emulator)
    assert [100, 100, 50] == [rows for _, rows in uploads(emulator)]
    assert (250, 250, 0, 250, 250) == (report.read, report.valid, report.refused, report.uploaded, report.completed)
    assert (3, 0, None, True) == (report.files, report.possible_duplicates, report.rejected, report.complete)
    assert list(report.jobs) == [job.job_id for job in emulator.store.jobs]


async def test_files_are_named_by_the_source_and_never_alike(run, written, emulator):
    path = written((track(n) for n in range(4)), "Zoë's export (1).ndjson")
    await run(path, max_rows=2)
    await run(path, max_rows=2, force=True)
    names = [name for name, _ in uploads(emulator)]

    assert 4 == len(set(names))
    assert all(str(name).startswith("Zo-s-export-1-ndjson-") for name in names)


async def test_events_keep_their_own_time(run, written, emulator):
    await run(written([track(1)]))

    assert datetime.fromisoformat(AT).replace(tzinfo=UTC).timestamp() == emulator.store.events[0].occurred_at


async def test_files_are_cut_by_bytes_too(run, written, emulator, cable, monkeypatch):
    monkeypatch.setattr("userpilot_async.imports._journal_access.MAX_BYTES", 2_000)
    await run(written(track(n) for n in range(40)))

    sizes = [job.file_size for job in emulator.store.jobs]
    assert list(range(40)) == marks(emulator)
    assert 2_000 >= max(sizes)
    assert 1_700 <= min(sizes[:-1])


async def test_a_packed_csv_file_is_imported(run, tmp_path, emulator):
    path = tmp_path / "a.csv.gz"
    text = "event_type,user_id,event_name,inserted_at,metadata.mark\n" + "".join(
        f"track,u{n},opened,{AT},{n}\n" for n in range(5)
    )
    path.write_bytes(gzip.compress(text.encode()))
    report = await run(path)

    assert ["0", "1", "2", "3", "4"] == marks(emulator)
    assert 5 == report.uploaded


async def test_profiles_are_not_blanked_by_later_rows_with_less(run, written, emulator):
    """The emulator does blank, as the vendor says that its import can."""
    path = written(
        [
            user("u1", {"plan": "free", "city": "Köln"}, company_id="acme"),
            company("acme", {"seats": 3, "name": "Acme"}),
            track(1, user_id="u1"),
            user("u1", {"plan": "pro", "city": None}),
            company("acme", {"seats": 4}),
        ]
    )
    await run(path, max_rows=2)
    emulator.advance()

    assert {"plan": "pro"} == emulator.store.users["u1"].properties
    assert {"seats": 4, "name": "Acme"} == emulator.store.companies["acme"].properties
    assert "acme" == emulator.store.users["u1"].company_id


async def test_another_tools_export_is_converted(run, written, emulator):
    line = {"type": "track", "userId": "u1", "event": "opened", "properties": {"mark": 5}, "timestamp": AT + "Z"}
    report = await run(written([line, {"type": "nonsense"}]), converted_from="segment")

    assert [5] == marks(emulator)
    assert (2, 1, 1) == (report.read, report.valid, report.refused)


async def test_a_tool_that_nobody_knows_is_a_mistake_of_the_caller(run, written):
    with pytest.raises(ValueError, match="converted_from must be one of amplitude, "):
        await run(written([track(1)]), converted_from="excel")


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "many"])
async def test_max_rows_is_a_number_above_0(run, written, most):
    with pytest.raises(ValueError, match="max_rows must be an int above 0"):
        await run(written([track(1)]), max_rows=most)


async def test_nothing_but_the_journal_is_left_behind_and_it_is_small(run, written):
    path = written(track(n) for n in range(2_000))
    await run(path)

    assert [path.name, path.name + ".import"] == sorted(os.listdir(path.parent))
    assert 60_000 > journal_path(path).stat().st_size


async def test_a_file_without_a_good_row_is_done_with_nothing_sent(run, written, emulator):
    path = written([BAD.replace("trakc", "x"), "{}"])
    report = await run(path)

    assert (2, 0, 2, 0, True) == (report.read, report.valid, report.refused, report.files, report.complete)
    assert [] == uploads(emulator)


# ── bad rows ──


async def test_bad_rows_are_written_beside_the_file_and_the_good_ones_go(run, written, emulator):
    path = written([track(0), BAD, track(1), "not json", track(2)])
    report = await run(path)

    assert [0, 1, 2] == marks(emulator)
    assert [(2, "event_type", BAD), (4, "line", "not json")] == [
        (one["line"], one["field"], one["row"]) for one in rejected(path)
    ]
    assert (rejected_path(path), 2) == (report.rejected, report.refused)
    assert [(2, "event_type"), (4, "line")] == [error[:2] for error in report.first_errors]
    assert 0o600 == rejected_path(path).stat().st_mode & 0o777


async def test_bad_rows_go_where_they_are_wanted(run, written, tmp_path):
    place = tmp_path / "bad.ndjson"
    path = written([track(0), BAD])
    report = await run(path, rejected=place)

    assert place == report.rejected
    assert 1 == len(place.read_text().splitlines())
    assert not rejected_path(path).exists()


async def test_the_rejected_file_of_an_earlier_import_does_not_stay(run, written):
    await run(written([BAD]))
    path = written([track(0)])
    assert rejected_path(path).exists()
    report = await run(path)

    assert report.rejected is None
    assert not rejected_path(path).exists()


async def test_the_rejected_file_is_never_the_source(run, written):
    path = written([track(0)])

    with pytest.raises(ValueError, match="rejected must be another file"):
        await run(path, rejected=path.parent / "." / path.name)
    assert path.exists()


@pytest.mark.parametrize("which", ["", "-wal"])
async def test_the_rejected_file_is_never_the_journal(run, written, which):
    path = written([track(0), BAD])

    with pytest.raises(ValueError, match="rejected must be another file"):
        await run(path, rejected=f"{journal_path(path)}{which}")


@pytest.mark.parametrize("content", ["", '{"line": 1, "field": "row", "reason": "old", "row": "{}"}\n'])
async def test_what_an_earlier_import_refused_makes_place(run, written, tmp_path, content):
    place = tmp_path / "other"
    place.write_text(content)
    await run(written([track(0)]), rejected=place)

    assert not place.exists()


async def test_a_file_of_others_in_the_place_of_the_rejected_one_stays_as_it_is(run, written, tmp_path, emulator):
    place = written([track(5)], "precious.ndjson")
    before, path = place.read_bytes(), written([track(0), BAD])
    for attempt in (run(path, rejected=place), check_file(path, rejected=place)):
        with pytest.raises(JournalError, match=r"precious.ndjson is no file of refused rows"):
            await attempt

    assert before == place.read_bytes()
    assert [] == uploads(emulator)


async def test_a_row_that_completes_a_profile_of_too_many_properties_is_refused(run, written, emulator):
    path = written([user("u1", {f"a{n}": n for n in range(300)}), user("u1", {f"b{n}": n for n in range(300)})])
    report = await run(path)

    assert [(2, "metadata")] == [error[:2] for error in report.first_errors]
    assert (1, 1, 1) == (report.valid, report.refused, report.uploaded)


async def test_strict_raises_before_anything_is_sent_and_a_mended_file_goes(run, written, emulator):
    """Half of it uploaded, and the other half in a file that is no longer the same, would be a trap."""
    path = written([*(track(n) for n in range(5_000)), BAD])
    with pytest.raises(InvalidRow, match=r"^line 5001: event_type must be one of ") as caught:
        await run(path, strict=True, max_rows=10)
    before = uploads(emulator), journal_path(path).exists(), rejected_path(path).exists()
    written(track(n) for n in range(20))
    report = await run(path, strict=True, max_rows=10)

    assert ([], False, False) == before
    assert (5_001, "event_type") == (caught.value.line, caught.value.field)
    assert isinstance(caught.value, InvalidCall)
    assert 20 == report.uploaded


async def test_strict_and_a_check_see_what_rows_make_together(run, written, emulator):
    rows = [user("u1", {f"a{n}": n for n in range(500)}), *(track(n) for n in range(50)), user("u1", {"more": 1})]
    path = written(rows)
    found = await check_file(path)
    with pytest.raises(InvalidRow, match="line 52: metadata makes 501 properties with those of earlier rows"):
        await run(path, strict=True, max_rows=10)

    assert (52, 51, 1) == (found.read, found.valid, found.refused)
    assert [(52, "metadata")] == [error[:2] for error in found.first_errors]
    assert [] == uploads(emulator)
    assert [path.name] == os.listdir(path.parent), "nor does it leave a journal, or its log"


async def test_one_of_500_properties_can_be_replaced(run, written, emulator):
    report = await run(written([user("u1", {f"p{n}": n for n in range(500)}), user("u1", {"p0": None, "q": 1})]))
    emulator.advance()

    assert 0 == report.refused
    assert {*(f"p{n}" for n in range(1, 500)), "q"} == set(emulator.store.users["u1"].properties)


async def test_a_file_that_is_none_is_refused_before_anything_is_sent(run, tmp_path, emulator):
    path = tmp_path / "picture.ndjson"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    with pytest.raises(UnreadableFile):
        await run(path)

    assert [] == emulator.store.requests
    assert [path.name] == os.listdir(tmp_path)


async def test_a_packed_file_that_breaks_off_keeps_what_was_read(run, tmp_path, emulator):
    path = tmp_path / "a.ndjson.gz"
    whole = gzip.compress("".join(json.dumps(track(n)) + "\n" for n in range(50_000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFile, match="breaks off"):
        await run(path)

    assert journal_path(path).exists()


# ── the server's moods ──


async def test_another_import_under_way_is_waited_for(run, written, emulator, new_api):
    async with new_api() as other:
        await other.import_rows([{**track(1_000 + n), "source": "backend-http"} for n in range(900)])
    seen: list[ImportProgress] = []
    report = await run(written(track(n) for n in range(3)), on_progress=seen.append)

    assert {0, 1, 2} < set(marks(emulator))
    assert (3, 0) == (report.completed, report.possible_duplicates)
    assert "another import of this account is running; next try in 5 s" in {one.waiting_for for one in seen}
    assert "another import of this account is running; next try in 10 s" in {one.waiting_for for one in seen}


@pytest.mark.parametrize("status", [429, 503, 500, 408])
async def test_an_outage_costs_time_and_nothing_else(run, written, emulator, status):
    emulator.faults.add(Fault(name="outage", path="/v1/imports", status=status, times=60))
    seen: list[ImportProgress] = []
    report = await run(written(track(n) for n in range(30)), max_rows=10, on_progress=seen.append)

    assert 60 == emulator.faults.fired("outage")
    assert list(range(30)) == marks(emulator)
    assert 0 == report.possible_duplicates
    assert any(f"the server answered {status}" in (one.waiting_for or "") for one in seen)


async def test_no_network_costs_time_and_nothing_else(run, written, emulator, cable):
    cable.refusals = 100
    report = await run(written(track(n) for n in range(3)))

    assert [0, 1, 2] == marks(emulator)
    assert 0 == report.possible_duplicates


async def test_an_outage_while_a_job_is_watched_costs_time_and_nothing_else(run, written, emulator):
    emulator.faults.add(Fault(name="outage", path="/v1/background_jobs/*", status=503, times=60))
    report = await run(written(track(n) for n in range(3)))

    assert 60 == emulator.faults.fired("outage")
    assert (3, 0) == (report.completed, report.possible_duplicates)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405, 301])
async def test_an_account_or_a_url_without_imports_ends_it_at_once_and_it_can_go_on_later(
    run, written, emulator, status
):
    path = written(track(n) for n in range(30))
    emulator.faults.add(Fault(path="/v1/imports", status=status, skip=1))
    with pytest.raises(Rejected) as caught:
        await run(path, max_rows=10)
    report = await run(path, max_rows=10)

    assert status == caught.value.status
    assert list(range(30)) == marks(emulator)
    assert (3, 30, 0) == (report.files, report.completed, report.possible_duplicates)


@pytest.mark.parametrize(("cut", "files", "possible"), [("after", 3, 0), ("before", 3, 10)])
async def test_after_a_lost_answer_the_file_is_looked_for_before_it_is_sent_again(
    run, written, emulator, cut, files, possible
):
    emulator.faults.add(Fault(name="cut", path="/v1/imports", cut=cut, skip=1))
    report = await run(written(track(n) for n in range(30)), max_rows=10)

    assert 1 == emulator.faults.fired("cut")
    assert list(range(30)) == marks(emulator)
    assert (files, possible) == (report.files, report.possible_duplicates)
    names = [one.filename for one in emulator.store.requests if one.family == "imports" and one.filename]
    assert 3 == len(set(names))


async def test_it_is_looked_for_after_2_and_after_10_more_seconds(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", cut="before"))
    await run(written([track(0)]))
    first, *rest = emulator.store.requests

    looks = [one.stamp - first.stamp for one in rest[:3]]
    assert [("jobs", 2), ("jobs", 12), ("imports", 12)] == [
        (one.family, round(seconds)) for one, seconds in zip(rest, looks, strict=False)
    ]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_upload_that_worked_although_the_answer_says_otherwise_is_found(run, written, emulator, status):
    emulator.faults.add(Fault(name="lie", path="/v1/imports", status=status, apply=True))
    await run(written(track(n) for n in range(10)))

    assert 1 == emulator.faults.fired("lie")
    assert list(range(10)) == marks(emulator)


async def test_a_job_list_that_cannot_be_had_is_waited_for_before_anything_is_sent_again(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", cut="after"))
    emulator.faults.add(Fault(name="list", path="/v1/background_jobs", status=503, times=30))
    report = await run(written(track(n) for n in range(10)))

    assert 30 == emulator.faults.fired("list")
    assert list(range(10)) == marks(emulator)
    assert 0 == report.possible_duplicates


async def test_a_file_that_is_too_large_is_halved_by_bytes_and_the_next_ones_are_smaller(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", body_over=6_000, status=413, times=None))
    await run(written(track(n) for n in range(200)), max_rows=50)

    assert list(range(200)) == marks(emulator)
    refused = [one for one in emulator.store.requests if one.status == 413]
    assert 2 >= len(refused), "the one under way, and the one that was ready by then"


async def test_a_row_that_is_too_large_alone_is_refused_and_makes_no_other_file_small(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", body_contains="huge", status=413, times=None))
    path = written([*(track(n) for n in range(20)), track(20, event_name="huge"), *(track(n) for n in range(21, 400))])
    report = await run(path, max_rows=40)

    assert [n for n in range(400) if n != 20] == marks(emulator)
    assert [(21, "row", "the server answered 413")] == list(report.first_errors)
    assert 40 > len(uploads(emulator))


@pytest.mark.parametrize("status", [400, 422])
async def test_rows_that_the_server_refuses_are_found_by_halving_and_written_with_its_words(
    run, written, emulator, status
):
    emulator.faults.add(Fault(path="/v1/imports", body_contains="poison", status=status, times=None))
    rows = [track(n, event_name="poison" if n in (3, 4, 77) else "fine") for n in range(100)]
    path = written(["", *rows])
    report = await run(path)

    assert [n for n in range(100) if n not in (3, 4, 77)] == marks(emulator)
    assert [5, 6, 79] == [one["line"] for one in rejected(path)]
    assert json.dumps(rows[77]) == rejected(path)[2]["row"], "the line as it was"
    assert {f"the server answered {status}: scripted fault fault-1"} == {one["reason"] for one in rejected(path)}
    assert {f"the server answered {status}"} == {error[2] for error in report.first_errors}, "its words may quote a row"
    assert (97, 3, 97) == (report.valid, report.refused, report.uploaded)


async def test_a_server_that_refuses_everything_does_not_reject_the_whole_file(run, written, emulator, monkeypatch):
    monkeypatch.setattr("userpilot_async.imports._uploading.MOST_REFUSALS", 50)
    emulator.faults.add(Fault(name="no", path="/v1/imports", status=400, times=None))
    path = written(track(n) for n in range(300))
    with pytest.raises(Rejected, match="400"):
        await run(path)
    emulator.faults.clear()
    report = await run(path)

    assert report.complete
    assert 25 >= report.refused
    assert 300 == report.refused + len(marks(emulator)) == report.read


async def test_what_was_sent_is_kept_with_a_refused_row_that_carried_the_cause(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", body_contains="poison", status=400, times=None))
    path = written([user("u1", {"bio": "poison"}), user("u1", {"plan": "pro"}), track(1, event_name="poison")])
    await run(path)

    assert {"bio": "poison", "plan": "pro"} == json.loads(rejected(path)[1]["sent"])["metadata"]
    assert {"plan": "pro"} == json.loads(rejected(path)[1]["row"])["metadata"]
    assert "sent" not in rejected(path)[2]


async def test_a_job_that_fails_after_its_file_was_halved_is_tried_once_more_too(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", body_contains="poison", status=400, times=None))
    emulator.faults.add(Fault(path="/v1/imports", job="failed"))
    report = await run(written([track(0), track(1, event_name="poison")]))

    assert [0] == marks(emulator)
    assert [(2, "row", "the server answered 400")] == list(report.first_errors)


async def test_rows_that_a_completed_job_left_out_are_not_called_completed(run, written, emulator):
    emulator.faults.add(
        Fault(path="/v1/background_jobs/*", status=200, times=None,
              body={"job_id": "j", "status": "completed", "total_rows": "10", "completed_rows": "3"})
    )  # fmt: skip
    report = await run(written(track(n) for n in range(10)))

    assert (10, 3, 7) == (report.uploaded, report.completed, report.unconfirmed)


async def test_a_job_that_fails_is_tried_once_more(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", job="failed"))
    report = await run(written(track(n) for n in range(10)))

    assert list(range(10)) == marks(emulator)
    assert (2, 10, 10, 0) == (report.files, report.possible_duplicates, report.uploaded, report.refused)
    assert 2 == len({job.filename for job in emulator.store.jobs}) == len(report.jobs)


async def test_a_row_that_makes_jobs_fail_is_found_by_halving(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", fail_if_row_contains="poison", times=None))
    path = written(track(n, event_name="poison" if n == 9 else "fine") for n in range(16))
    report = await run(path)

    assert [n for n in range(16) if n != 9] == marks(emulator)
    assert [(10, "row", "job_failed")] == list(report.first_errors)
    assert (15, 1, 15, 15) == (report.valid, report.refused, report.uploaded, report.completed)


async def test_a_job_under_an_unknown_status_is_watched_on(run, written, emulator):
    life = {"status_sequence": [["queued", 5], ["dreaming", 500], "completed"]}
    emulator.faults.add(Fault(path="/v1/imports", job=life))
    report = await run(written([track(0)]))

    assert 1 == report.completed


async def test_a_job_that_its_id_does_not_know_is_found_in_the_list(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/background_jobs/*", status=404, times=None))
    report = await run(written(track(n) for n in range(3)))

    assert (3, 0, 0) == (report.completed, report.unconfirmed, report.possible_duplicates)


async def test_a_job_that_nobody_knows_any_more_is_not_sent_again(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/background_jobs/*", status=404, times=None))
    emulator.faults.add(Fault(path="/v1/background_jobs", status=200, body=[], times=None))
    report = await run(written(track(n) for n in range(3)))

    assert [0, 1, 2] == marks(emulator)
    assert (3, 0, 3, True) == (report.uploaded, report.completed, report.unconfirmed, report.complete)


async def test_an_answer_without_an_id_is_watched_by_its_filename(run, written, emulator):
    emulator.faults.add(Fault(path="/v1/imports", status=200, body={"status": "queued"}, apply=True))
    report = await run(written(track(n) for n in range(3)))

    assert [0, 1, 2] == marks(emulator)
    assert (3, ()) == (report.completed, report.jobs)


# ── whose journal it is ──


async def test_a_file_that_was_imported_is_not_imported_again_unless_told(run, written, emulator):
    path = written(track(n) for n in range(3))
    first = await run(path)
    with pytest.raises(AlreadyImported, match=r"was imported on .* UTC: force=True would import it again") as caught:
        await run(path)
    once = marks(emulator)
    await run(path, force=True)

    assert [0, 1, 2] == once
    assert {0: 2, 1: 2, 2: 2} == doubled(emulator)
    assert (first.uploaded, first.jobs, True) == (
        caught.value.report.uploaded,
        caught.value.report.jobs,
        caught.value.report.complete,
    )


async def test_another_file_in_its_place_needs_to_be_told_too(run, written, emulator):
    path = written(track(n) for n in range(3))
    await run(path)
    written(track(n) for n in range(10, 14))
    with pytest.raises(ImportConflict, match="has changed since: force=True imports all of it, and doubles"):
        await run(path)
    report = await run(path, force=True)

    assert [0, 1, 2, 10, 11, 12, 13] == marks(emulator)
    assert (4, 1) == (report.read, report.files)


@pytest.fixture
def stopped(run, written, emulator) -> Callable[..., Any]:
    """A file of 30 rows whose import has stopped after the first 10."""

    async def stopped(**options: Any) -> Path:
        path = written(track(n) for n in range(30))
        emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
        with pytest.raises(Rejected):
            await run(path, max_rows=10, **options)
        return path

    return stopped


async def test_again_goes_on_with_an_import_that_is_not_complete(run, stopped, emulator):
    """The same command is repeated after a crash."""
    path = await stopped()
    await run(path, force=True, max_rows=10)

    assert list(range(30)) == marks(emulator)


@pytest.mark.parametrize("force", [False, True])
async def test_a_file_that_changed_while_its_import_waited_is_refused(run, stopped, written, emulator, force):
    path = await stopped()
    written(track(n) for n in range(31))

    with pytest.raises(ImportConflict, match=r"not complete, and .* is another source or has changed since"):
        await run(path, force=force)
    assert 10 == len(marks(emulator))


async def test_a_file_that_was_only_touched_is_the_same(run, stopped, emulator):
    """So is a copy on another machine, or one that a script has written anew."""
    path = await stopped()
    os.utime(path, ns=(1, 1))
    await run(path, max_rows=10)
    os.utime(path, ns=(2, 2))
    with pytest.raises(AlreadyImported):
        await run(path)

    assert list(range(30)) == marks(emulator)


async def test_a_change_in_the_middle_of_a_file_is_seen(run, written):
    rows = [track(n) for n in range(5_000)]
    await run(written(rows))
    rows[2_500]["user_id"] = "uX"

    with pytest.raises(ImportConflict, match="has changed since"):
        await run(written(rows))


@pytest.mark.parametrize(("key", "url"), [("OTHER", "https://emulator"), ("KEY", "https://elsewhere")])
async def test_another_account_or_server_is_never_taken_for_one_that_has_it_already(
    run, cable, written, emulator, key, url
):
    """After a trial with the emulator, the command would otherwise say that all is there."""
    path = written([track(0)])
    await run(path)
    async with UserpilotAPI(key, base_url=url, transport=cable) as api:
        with pytest.raises(ImportConflict, match="another API key or at another server, https://emulator") as caught:
            await import_file(api, path)
        once = marks(emulator)
        await import_file(api, path, force=True)

    assert not isinstance(caught.value, AlreadyImported)
    assert ([0], [0, 0]) == (once, marks(emulator))


async def test_a_file_of_which_nothing_went_needs_no_again(run, written, emulator):
    await run(written([BAD]))
    report = await run(written([track(0)]))

    assert [0] == marks(emulator)
    assert (1, 0) == (report.uploaded, report.refused)


async def test_another_key_is_refused_until_it_is_said_to_be_the_same_account(run, stopped, emulator):
    path = await stopped()
    with pytest.raises(ImportConflict, match="was begun with another API key or server; rebind=True goes on") as caught:
        await run(path, "OTHER")
    await run(path, "OTHER", rebind=True)

    assert list(range(30)) == marks(emulator)
    assert "OTHER" not in str(caught.value)
    assert b"OTHER" not in journal_path(path).read_bytes()


def make_old(path):
    """Let an earlier version have written the journal; its fingerprint of the key."""
    old = hashlib.sha256(bytes(16) + b"KEY").hexdigest()[:32]
    with closing(sqlite3.connect(journal_path(path))) as journal, journal:
        about = json.loads(journal.execute("SELECT said FROM about").fetchone()[0])
        journal.execute("UPDATE about SET said = ?", (json.dumps({**about, "salt": bytes(16).hex(), "key": old}),))
    return old


@pytest.mark.parametrize("key", ["KEY", "OTHER"])
async def test_a_journal_of_an_earlier_version_goes_on_with_its_key_and_is_salted_anew(run, stopped, emulator, key):
    """Earlier journals had a fingerprint from which a short key could be guessed."""
    path = await stopped()
    old = make_old(path)
    if key == "KEY":
        await run(path, key)
    else:
        with pytest.raises(ImportConflict, match="was begun with another API key"):
            await run(path, key)

    assert (key == "OTHER") == (old.encode() in journal_path(path).read_bytes())
    assert list(range(30 if key == "KEY" else len(marks(emulator)))) == marks(emulator)


async def test_a_complete_journal_of_an_earlier_version_is_salted_anew_too(run, written):
    path = written([track(0)])
    await run(path)
    old = make_old(path)
    with pytest.raises(ImportConflict, match="another API key"):
        await run(path, "OTHER")
    kept = old.encode() in journal_path(path).read_bytes()
    for _ in range(2):
        with pytest.raises(AlreadyImported):
            await run(path)

    assert kept
    assert old.encode() not in journal_path(path).read_bytes()


async def test_another_conversion_is_refused(run, stopped):
    path = await stopped()

    with pytest.raises(ImportConflict, match="was begun as import rows: go on in the same way"):
        await run(path, converted_from="segment")


async def test_the_journal_can_be_elsewhere(run, written, tmp_path):
    (tmp_path / "state").mkdir()
    place = tmp_path / "state" / "a.journal"
    path = written([track(0)])
    await run(path, journal=place)

    assert place.exists()
    assert not journal_path(path).exists()
    with pytest.raises(AlreadyImported):
        await run(path, journal=place)


async def test_a_journal_that_cannot_be_written_says_where(run, written, tmp_path):
    with pytest.raises(JournalError, match=r"nowhere/j cannot be opened: No such file or directory"):
        await run(written([track(0)]), journal=tmp_path / "nowhere" / "j")


async def test_two_at_once_are_refused(new_api, written, emulator):
    path = written(track(n) for n in range(30))
    outcomes: list[object] = []

    async def one(api: Any) -> None:
        try:
            outcomes.append(await import_file(api, path, max_rows=10))
        except ImportConflict as conflict:
            outcomes.append(conflict)

    async with new_api() as api, anyio.create_task_group() as tasks:
        tasks.start_soon(one, api)
        tasks.start_soon(one, api)

    assert list(range(30)) == marks(emulator)
    assert 1 == sum(isinstance(outcome, ImportReport) for outcome in outcomes)
    assert 1 == sum(isinstance(outcome, ImportConflict) for outcome in outcomes), "or it came when all was done"


# ── rows ──


async def test_typed_rows_and_mappings_are_imported(new_api, emulator):
    typed = [IdentifyUser(user_id="u1", inserted_at=AT, metadata={"plan": "pro"})]
    typed += [TrackEvent(user_id="u1", event_name="opened", inserted_at=AT, metadata={"mark": 0})]
    async with new_api() as api:
        report = await import_rows(api, [*typed, track(1)])

    assert [0, 1] == marks(emulator)
    assert {"plan": "pro"} == emulator.store.users["u1"].properties
    assert (3, 3, True) == (report.read, report.completed, report.complete)


async def test_a_row_whose_own_code_fails_is_refused_and_the_others_go_on(new_api, emulator):
    """pandas' NaT in one row ended the whole import."""
    rows = [
        track(1),
        track(2, inserted_at=NaTType(1, 1, 1)),
        Lazy("items", ValueError),
        Liar(Misbehaves),
        track(5, metadata={"at": Late.PRO}),
        track(6),
    ]
    async with new_api() as api:
        report = await import_rows(api, rows)

    assert ([1, 6], 2, 4) == (marks(emulator), report.valid, report.refused)
    assert [(2, "inserted_at"), (3, "row"), (4, "row"), (5, "metadata['at']")] == [
        (number, field) for number, field, _ in report.first_errors
    ]


@pytest.mark.parametrize("rows", ["history.ndjson", b"x", Path("history.ndjson")])
async def test_a_path_is_no_iterable_of_rows(new_api, rows):
    async with new_api() as api:
        with pytest.raises(TypeError, match="a path is for import_file"):
            await import_rows(api, rows)


async def test_an_async_iterable_may_take_its_time(new_api, emulator):
    async def slowly():
        for n in range(25):
            await anyio.sleep(10)
            yield track(n)

    async with new_api() as api:
        report = await import_rows(api, slowly(), max_rows=10)

    assert list(range(25)) == marks(emulator)
    assert 3 == report.files


async def test_bad_rows_of_an_iterable_are_named_by_their_number(new_api, emulator):
    rows: list[Any] = [track(0), 5, {"event_type": "track"}, track(1)]
    async with new_api() as api:
        report = await import_rows(api, rows)

    assert [0, 1] == marks(emulator)
    assert [(2, "row", "must be a row or a mapping, not int"), (3, "user_id", "is missing")] == list(
        report.first_errors
    )


async def test_an_async_generator_is_closed_when_the_import_fails(new_api, emulator):
    """The generator may have a cursor open."""
    closed = []

    async def rows():
        try:
            for n in range(50):
                yield track(n)
        finally:
            closed.append(True)

    emulator.faults.add(Fault(path="/v1/imports", status=401))
    async with new_api() as api:
        with pytest.raises(Rejected):
            await import_rows(api, rows(), max_rows=5)

    assert [True] == closed


async def test_strict_stops_at_the_first_bad_row_of_an_iterable(new_api, emulator):
    def rows():
        yield from (track(n) for n in range(5_000))
        yield {"event_type": "track"}
        yield from (track(n) for n in range(5_000, 6_000))

    async with new_api() as api:
        with pytest.raises(InvalidRow, match="line 5001: user_id is missing"):
            await import_rows(api, rows(), strict=True)

    assert [] == uploads(emulator)


async def test_what_the_iterable_raises_comes_out_as_it_is(new_api, emulator):
    def rows():
        yield track(0)
        raise ZeroDivisionError

    async with new_api() as api:
        with pytest.raises(ZeroDivisionError):
            await import_rows(api, rows())


async def test_with_a_journal_the_rows_go_on_where_they_stopped(new_api, emulator, tmp_path):
    place = tmp_path / "rows.import"
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
    async with new_api() as api:
        with pytest.raises(Rejected):
            await import_rows(api, map(track, range(45)), journal=place, max_rows=10)
        report = await import_rows(api, map(track, range(45)), journal=place, max_rows=7)
        with pytest.raises(AlreadyImported, match=r"rows\.import is the journal of rows that were imported on "):
            await import_rows(api, map(track, range(45)), journal=place)

    assert list(range(45)) == marks(emulator)
    assert (45, 45) == (report.read, report.uploaded)


@pytest.mark.parametrize(
    ("others", "most"), [(range(1, 46), 10), (range(5), 10), (range(1, 46), 100), (range(44), 100), (range(46), 100)]
)
async def test_other_rows_are_refused_by_the_journal_before_anything_is_sent(new_api, emulator, tmp_path, others, most):
    place = tmp_path / "rows.import"
    emulator.faults.add(Fault(path="/v1/imports", status=401))
    async with new_api() as api:
        with pytest.raises(Rejected):
            await import_rows(api, map(track, range(45)), journal=place, max_rows=most)
        with pytest.raises(ImportConflict, match="is the journal of an import of other rows"):
            await import_rows(api, map(track, others), journal=place, max_rows=3)

    assert 1 == len([one for one in emulator.store.requests if one.family == "imports"])


async def test_the_client_imports_with_its_own_key_and_server(cable, written, emulator):
    async with UserpilotClient("KEY", base_url="https://emulator", transport=cable) as client:
        first = await client.import_file(written([track(0)]))
        second = await client.import_rows([track(1)])

    assert [0, 1] == marks(emulator)
    assert (1, 1) == (first.uploaded, second.uploaded)


# ── without sending ──


async def test_a_dry_run_writes_what_would_be_uploaded_and_sends_nothing(written, tmp_path):
    path = written([*(user("u1", {f"p{n}": n}) for n in range(5)), BAD])
    report = await import_file(None, path, dry_run=tmp_path / "out", max_rows=2)
    files = sorted((tmp_path / "out").iterdir())

    assert [2, 2, 1] == [len(rows_of(file.read_bytes())) for file in files]
    assert {f"p{n}": n for n in range(5)} == rows_of(files[-1].read_bytes())[0]["metadata"]
    assert (3, 0, 1, True) == (report.files, report.uploaded, report.refused, report.complete)
    assert {path.name, "out"} == set(os.listdir(tmp_path))


async def test_without_an_api_only_a_dry_run_works(written):
    with pytest.raises(ValueError, match="api is missing: only a dry run needs none"):
        await import_file(None, written([track(0)]))


async def test_a_check_counts_and_writes_nothing(written, tmp_path):
    path = written([track(0), BAD, track(1)])
    seen: list[ImportProgress] = []
    report = await check_file(path, on_progress=seen.append)

    assert (3, 2, 1, None) == (report.read, report.valid, report.refused, report.rejected)
    assert [(2, "event_type")] == [error[:2] for error in report.first_errors]
    assert [path.name] == os.listdir(tmp_path)
    assert path.stat().st_size == seen[-1].bytes_read == seen[-1].bytes_total


async def test_a_check_writes_the_bad_rows_where_it_is_told(written, tmp_path):
    place = tmp_path / "bad.ndjson"
    report = await check_file(written([BAD] * 50), rejected=place)

    assert list(range(1, 51)) == [json.loads(line)["line"] for line in place.read_text().splitlines()]
    assert (place, 50, 20) == (report.rejected, report.refused, len(report.first_errors))


async def test_a_strict_check_raises(written):
    with pytest.raises(InvalidRow, match="line 2: "):
        await check_file(written([track(0), BAD]), strict=True)


# ── what is said ──


async def test_progress_goes_forward_and_ends_at_the_end(run, written, emulator):
    path = written(track(n) for n in range(30))
    seen: list[ImportProgress] = []
    report = await run(path, max_rows=10, on_progress=seen.append)

    for name in ("bytes_read", "read", "valid", "files", "uploaded", "elapsed"):
        values = [getattr(one, name) for one in seen]
        assert sorted(values) == values, name
    assert (path.stat().st_size, 30, 30) == (seen[-1].bytes_read, seen[-1].read, seen[-1].uploaded)
    assert {"completed"} <= {one.job.status.value for one in seen if one.job is not None}
    assert report.elapsed >= seen[-1].elapsed


async def test_what_on_progress_raises_comes_out_and_the_import_can_go_on(run, written, emulator):
    def fails(progress: ImportProgress) -> None:
        if progress.files == 2:
            raise ZeroDivisionError

    path = written(track(n) for n in range(30))
    with pytest.raises(ZeroDivisionError):
        await run(path, max_rows=10, on_progress=fails)
    await run(path, max_rows=10)

    assert list(range(30)) == marks(emulator)

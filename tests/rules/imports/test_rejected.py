"""The file of refused rows: what a transaction did not get to its end is not in it, or not for long."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from userpilot_async.imports import JournalError
from userpilot_async.imports._rejected import RejectedFile
from userpilot_async.imports._schema import Progress, Refusal


def refusal(line: int, raw: str = "{}") -> Refusal:
    return Refusal(line, "user_id", "is missing", raw)


def lines(path: Path) -> list[int]:
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.rejected.ndjson"


def test_it_says_where_and_why_and_what(path):
    RejectedFile(path).write(Progress(max_bytes=1), [refusal(3, '{"zoë": "\\ud800"}')])

    text = path.read_text()
    assert {"line": 3, "field": "user_id", "reason": "is missing", "row": '{"zoë": "\\ud800"}'} == json.loads(text)


def test_a_lone_surrogate_in_a_row_does_not_stop_it(path):
    RejectedFile(path).write(Progress(max_bytes=1), [refusal(3, "\ud800")])

    assert [3] == lines(path)


def test_without_a_bad_row_there_is_no_file(path):
    RejectedFile(path).write(Progress(max_bytes=1), [])

    assert not path.exists()


def test_what_was_written_for_a_transaction_that_failed_is_written_over(path):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    file.write(Progress(max_bytes=1, rejected=known.rejected, rejected_bytes=known.rejected_bytes), [refusal(2)])
    file.write(known, [refusal(3)])

    assert [1, 3] == lines(path)
    assert path.stat().st_size == known.rejected_bytes


def test_what_a_process_that_was_killed_wrote_for_nothing_is_cut_off(path):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    with path.open("a") as stream:
        stream.write('{"line": 2, "fie')
    file.clear(known)

    assert [1] == lines(path)


def test_one_that_somebody_moved_away_begins_anew(path):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    path.unlink()
    file.clear(known)
    file.write(known, [refusal(2)])
    file.write(known, [refusal(3)])

    assert [2, 3] == lines(path)


def test_what_somebody_else_wrote_is_never_cut_off_or_taken_away(path):
    path.write_text('{"line": "up"}\n')
    for known in (Progress(max_bytes=1), Progress(max_bytes=1, rejected=str(path), rejected_bytes=3)):
        with pytest.raises(JournalError, match="is no file of refused rows: move it away"):
            RejectedFile(path).clear(known)

    assert '{"line": "up"}\n' == path.read_text()


def test_a_place_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    with pytest.raises(JournalError, match=r"nowhere/r cannot be written: No such file or directory"):
        RejectedFile(tmp_path / "nowhere" / "r").write(Progress(max_bytes=1), [refusal(1)])


# ── in a folder that others may write ──


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    victim.write_text('{"line": 1, "field": "x"}\n')  # it could be taken for one
    victim.chmod(0o644)
    return victim


def trap(path: Path, victim: Path, what: str) -> None:
    path.unlink(missing_ok=True)
    {
        "link": lambda: path.symlink_to(victim), "link to nowhere": lambda: path.symlink_to(victim.with_name("new")),
        "other name": lambda: os.link(victim, path), "FIFO": lambda: os.mkfifo(path), "directory": path.mkdir,
    }[what]()  # fmt: skip


@pytest.mark.parametrize("what", ["link", "link to nowhere", "other name", "FIFO", "directory"])
def test_a_trap_in_its_place_is_refused_whenever_it_is_set(path, victim, what):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    before = victim.read_text()
    trap(path, victim, what)

    for act in (file.check, lambda: file.clear(known), lambda: file.write(known, [refusal(2)])):
        with pytest.raises(JournalError, match=r"cannot be written: a\.rejected\.ndjson (is|has) "):
            act()
    assert (["victim"], before, 0o644) == (
        os.listdir(victim.parent), victim.read_text(), victim.stat().st_mode & 0o777
    )  # fmt: skip


def test_somebodys_own_file_that_is_put_in_its_place_is_not_written_over(path):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    path.write_text("precious")

    with pytest.raises(JournalError, match="is no file of refused rows"):
        file.write(known, [refusal(2)])
    assert "precious" == path.read_text()


@pytest.mark.parametrize("act", ["write", "clear"])
def test_one_that_others_could_read_is_only_its_owners_from_then_on(path, act):
    file, known = RejectedFile(path), Progress(max_bytes=1)
    file.write(known, [refusal(1)])
    path.chmod(0o644)
    file.write(known, [refusal(2)]) if act == "write" else file.clear(known)

    assert 0o600 == path.stat().st_mode & 0o777

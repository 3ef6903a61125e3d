"""The journal: whose it is, who may have it open, and that each step happens as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._runtime import database_files
from userpilot_async.imports import ImportConflict, JournalError
from userpilot_async.imports._import import Writer
from userpilot_async.imports._journal import Journal
from userpilot_async.imports._pieces import first_half
from userpilot_async.imports._schema import About, Part, Refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.ndjson.import"


@pytest.fixture
def new(path: Path) -> Iterator[Callable[[], Journal]]:
    """Make one, begun unless it was already."""
    made = []

    def new() -> Journal:
        journal = Journal(path)
        made.append(journal)
        if journal.created:
            journal.begin(About(name="history-1", source="s"), 1_000)
        else:
            journal.load()
        return journal

    yield new
    for journal in made:
        journal.close()


def lines(first: int, last: int) -> list[bytes]:
    return [b'{"row": %d}\n' % number for number in range(first, last)]


def filled(journal: Journal, *pieces: int) -> Part:
    """A part of pieces of so many rows, each row of the line ten times its place."""
    first = 0
    with journal.change() as now:
        for rows in pieces:
            numbers = array("Q", range(10 * first, 10 * (first + rows), 10))
            journal.write_piece(now, lines(first, first + rows), numbers)
            first += rows
        journal.seal(now)
    part = journal.first_part()
    assert part is not None
    return part


# ── the file ──


def test_only_its_owner_may_read_it(new, path):
    new()

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_an_empty_file_in_its_place_is_only_its_owners_from_then_on(new, path):
    path.touch(0o644)
    new()

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_one_that_was_restored_open_to_others_is_only_its_owners_from_then_on_with_its_log(new, path):
    journal = new()
    filled(journal, 10)
    for one in path.parent.iterdir():
        shutil.copy(one, one.with_name(f"restored-{one.name}"))
    restored = path.with_name(f"restored-{path.name}")
    for one in path.parent.glob("restored-*"):
        one.chmod(0o644)
    again = Journal(restored)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.glob("restored-*")}
    again.close()

    assert {restored.name: 0o600, f"{restored.name}-wal": 0o600} == modes


def test_one_that_sqlite_cannot_open_is_not_held_on_to(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", Mock(side_effect=sqlite3.OperationalError("too many open files")))
    with pytest.raises(JournalError, match="too many open files"):
        Journal(path)

    assert database_files.inode_of(path.stat()) not in database_files._open


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
@pytest.mark.parametrize("what", ["link", "link to nowhere", "other name", "FIFO", "directory"])
def test_a_trap_in_its_place_or_beside_it_is_refused_and_leads_nowhere(new, path, tmp_path, suffix, what):
    new().close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim, place = elsewhere / "victim", path.with_name(path.name + suffix)
    victim.write_text("precious")
    victim.chmod(0o644)
    place.unlink(missing_ok=True)
    {
        "link": lambda: place.symlink_to(victim), "link to nowhere": lambda: place.symlink_to(elsewhere / "new"),
        "other name": lambda: os.link(victim, place), "FIFO": lambda: os.mkfifo(place), "directory": place.mkdir,
    }[what]()  # fmt: skip

    with pytest.raises(JournalError, match=rf"cannot be opened: history\.ndjson\.import{suffix} (is|has) "):
        Journal(path)
    assert (["victim"], "precious", 0o644) == (
        os.listdir(elsewhere), victim.read_text(), stat.S_IMODE(victim.stat().st_mode)
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_is_refused_and_whose_it_is_said(new, path):
    new().close()
    os.chown(path, 12_345, 12_345)

    with pytest.raises(JournalError, match="belongs to uid 12345, and this process runs as uid 0"):
        Journal(path)


def test_closed_it_is_one_file(new, path):
    journal = new()
    filled(journal, 10)
    journal.close()

    assert [path.name] == os.listdir(path.parent)


def test_a_second_one_is_refused_in_the_same_process(new):
    new()

    with pytest.raises(ImportConflict, match="is in use: another process works on this import"):
        new()


@pytest.mark.parametrize("content", [b"my notes\n" * 100, b"x", b"\0" * 5_000])
def test_a_file_that_is_none_is_refused_and_stays_as_it_was(path, content):
    path.write_bytes(content)
    path.chmod(0o644)

    with pytest.raises(ImportConflict, match="is no journal of an import"):
        Journal(path)
    assert (content, 0o644) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    assert [path.name] == os.listdir(path.parent)


def test_another_database_is_refused_and_stays_as_it_was(path):
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE mine (a); INSERT INTO mine VALUES (1);")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(ImportConflict, match="is a database, but no journal of an import"):
        Journal(path)
    assert before == path.read_bytes()


def test_another_programs_log_is_not_written_back(path):
    """The log is the other program's, and may be another user's."""
    with closing(sqlite3.connect(path)) as theirs:
        theirs.executescript("PRAGMA journal_mode = WAL; PRAGMA user_version = 1; CREATE TABLE mine (a);")
        before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
        with pytest.raises(ImportConflict, match="is a database, but no journal of an import"):
            Journal(path)
        after = {one.name: one.read_bytes() for one in path.parent.iterdir()}

    assert before == after


@pytest.mark.parametrize(
    "program",
    [
        "CREATE TRIGGER evil AFTER INSERT ON parts BEGIN SELECT hex(zeroblob(9e8)); END",
        "DROP TABLE jobs; CREATE VIEW jobs AS SELECT 1 AS number, 'j' AS job_id",
    ],
)
def test_a_journal_with_somebody_elses_programs_is_refused(new, path, program):
    new().close()
    connection = sqlite3.connect(path)
    connection.executescript(program)
    connection.close()

    with pytest.raises(ImportConflict, match="has views, triggers or virtual tables"):
        Journal(path)


def test_a_newer_version_is_refused(new, path):
    new().close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 3")
    connection.close()

    with pytest.raises(ImportConflict, match="is of version 3, which a newer userpilot_async wrote"):
        Journal(path)


def test_a_place_that_is_not_there_is_an_error_that_names_it(tmp_path):
    with pytest.raises(JournalError, match=r"nowhere/a\.import cannot be opened: No such file or directory"):
        Journal(tmp_path / "nowhere" / "a.import")


def test_an_empty_file_is_a_new_journal(new, path):
    """What a process leaves that is killed between making the file and its first transaction."""
    path.touch()

    assert new().created


def test_one_that_was_discarded_is_gone(new, path):
    new().discard()

    assert not path.exists()


# ── steps ──


def test_a_step_that_fails_has_not_happened(new):
    journal = new()
    with pytest.raises(ZeroDivisionError), journal.change() as now:
        now.read += 5
        journal.write_piece(now, lines(0, 3), array("Q", [1, 2, 3]))
        journal.seal(now)
        raise ZeroDivisionError

    assert (0, 0, 1) == (journal.progress.read, journal.progress.rows, journal.progress.root)
    assert journal.first_part() is None


def test_it_is_all_there_when_it_is_opened_again(new):
    journal = new()
    part = filled(journal, 3, 4)
    journal.sending(part)
    journal.running(part, "job:1")
    journal.note_errors([])
    before = journal.progress, journal.about, journal.first_part()
    journal.close()
    journal = new()

    assert before == (journal.progress, journal.about, journal.first_part())
    assert ("job:1",) == journal.jobs()


def test_a_part_is_in_doubt_from_before_it_is_sent_until_it_is_answered(new):
    journal = new()
    part = filled(journal, 3)
    doubts = [part.in_doubt]
    for step in (journal.sending, journal.answered, journal.sending, journal.sending, journal.answered):
        step(part)
        doubts.append(journal.first_part().in_doubt)

    assert [False, True, False, True, True, True] == doubts


def test_a_part_that_is_not_found_may_be_sent_again_and_is_counted(new):
    journal = new()
    part = filled(journal, 3)
    journal.sending(part)
    journal.not_found(part)

    assert not journal.first_part().in_doubt
    assert 3 == journal.progress.possible_duplicates


def test_the_content_of_a_part_is_all_of_its_pieces(new):
    journal = new()

    assert b"".join(lines(0, 12)) == journal.content(filled(journal, 5, 4, 3))


def test_halves_of_halves_share_the_rows_in_order(new):
    journal = new()
    whole = filled(journal, 5, 4, 3)
    journal.split(whole)
    first = journal.first_part()
    journal.split(first)
    seen = []
    while (part := journal.first_part()) is not None:
        seen.append((part.place, part.rows, journal.content(part), journal.line_of(part), part.size))
        journal.completed(part, part.rows)

    assert ["000001.0.0", "000001.0.1", "000001.1"] == [place for place, *_ in seen]
    assert [3, 3, 6] == [rows for _, rows, *_ in seen]
    assert b"".join(lines(0, 12)) == b"".join(content for _, _, content, *_ in seen)
    assert [0, 30, 60] == [line for *_, line, _ in seen]
    assert all(len(content) == size for _, _, content, _, size in seen)
    assert 12 == journal.progress.completed


def test_the_rows_go_with_the_last_of_their_parts(new):
    journal = new()
    journal.split(filled(journal, 4))
    counts = []
    while (part := journal.first_part()) is not None:
        counts.append(journal.rows("SELECT count(*) FROM pieces")[0][0])
        journal.completed(part, part.rows)

    assert [1, 1] == counts
    assert [(0,)] == journal.rows("SELECT count(*) FROM pieces")


def test_a_file_whose_job_failed_gets_another_name(new):
    """The job list knows the old one, as a failure: a lost answer could not be told from it."""
    journal = new()
    part = filled(journal, 3)
    before = journal.filename(part)
    journal.running(part, "job:1")
    journal.once_more(part)
    again = journal.first_part()

    assert "history-1-000001.ndjson" == before
    assert "history-1-000001-1.ndjson" == journal.filename(again)
    assert (0, 3, 1) == (journal.progress.uploaded, journal.progress.possible_duplicates, again.failures)


def test_a_row_that_is_refused_moves_from_valid_to_refused(new):
    journal = new()
    part = filled(journal, 1)
    with journal.change() as now:
        now.valid = 1
    written = []
    journal.refuse(part, Refusal(7, "row", "no", "{}"), lambda now, refusals: written.extend(refusals))

    assert (0, 1) == (journal.progress.valid, journal.progress.refused)
    assert ((7, "row", "no"),) == journal.errors()
    assert [Refusal(7, "row", "no", "{}")] == written
    assert journal.first_part() is None


def test_only_the_first_twenty_errors_are_remembered(new):
    journal = new()
    for first in (0, 15, 30):
        with journal.change():
            journal.note_errors([Refusal(first + n, "f", "r", "") for n in range(15)])

    assert list(range(20)) == [line for line, _, _ in journal.errors()]


def test_a_finished_journal_is_small_and_knows_its_counts(new, path):
    journal = new()
    part = filled(journal, 50_000)
    journal.running(part, "job:1")
    journal.completed(part, part.rows)
    with journal.change():
        journal.connection.executemany(
            "INSERT INTO profiles VALUES ('identify_user', ?, ?)", [(f"u{n}", "x" * 100) for n in range(5_000)]
        )
    journal.finish("2026-01-01")
    journal.close()

    assert 100_000 > path.stat().st_size
    again = new()
    assert ("2026-01-01", 50_000, ("job:1",)) == (again.progress.finished, again.progress.completed, again.jobs())


@given(st.lists(st.integers(1, 100), min_size=2, max_size=50))
def test_neither_half_is_empty_and_the_first_is_no_more_than_half_if_it_can_be(sizes):
    rows = first_half(sizes)

    assert 0 < rows < len(sizes)
    assert rows == 1 or sum(sizes[:rows]) <= sum(sizes) // 2


# ── what a dry run writes of it ──


def test_a_dry_runs_file_is_its_owners_alone_and_not_written_where_a_link_leads(new, tmp_path):
    journal = new()
    part, folder = filled(journal, 10), tmp_path / "new" / "upload"
    Writer(folder, journal)._write(part)
    file = folder / journal.filename(part)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (folder.parent, folder, file)]
    file.rename(tmp_path / "victim")
    file.symlink_to(tmp_path / "victim")
    part = filled(journal, 3)

    assert [0o700, 0o700, 0o600] == modes
    with pytest.raises(JournalError, match=r"cannot be written: .* is a symbolic link"):
        Writer(folder, journal)._write(attrs.evolve(part, place="000001"))
    assert 10 == len((tmp_path / "victim").read_text().splitlines())

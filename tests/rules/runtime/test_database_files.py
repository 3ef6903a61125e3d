"""A database's files: private before SQLite opens them, and refused where they are not what they should be."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.harness.stage.outbox_files import private_connection
from userpilot_async._runtime.database_files import DatabaseFile
from userpilot_async._runtime.private_files import UnsafeFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE one (a)")
    return path


@contextmanager
def used(path: Path) -> Iterator[sqlite3.Connection]:
    """As the library does it, with something in the log."""
    with private_connection(path) as db:
        db.execute("INSERT INTO one VALUES (1)")
        yield db


def modes(path: Path) -> dict[str, str]:
    return {one.name: oct(stat.S_IMODE(one.stat().st_mode)) for one in path.parent.iterdir()}


def open_descriptors() -> list[str]:
    return sorted(os.listdir("/dev/fd"))


def test_what_sqlite_makes_beside_a_file_that_was_open_to_others_is_not(path: Path) -> None:
    path.chmod(0o644)
    with used(path):
        during = modes(path)

    assert dict.fromkeys(["a.db", "a.db-wal", "a.db-shm"], "0o600") == during


def test_a_log_that_was_restored_open_to_others_is_not_any_more(path: Path) -> None:
    with used(path), closing(DatabaseFile(path)) as another:
        for name in modes(path):
            path.with_name(name).chmod(0o644)
        another.make_private()
        during = modes(path)

    assert {"0o600"} == set(during.values())


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("how", ["link", "link to nowhere", "other name", "FIFO", "directory"])
def test_what_lies_beside_it_and_must_not_is_refused(path: Path, tmp_path: Path, suffix: str, how: str) -> None:
    victim, side = tmp_path / "victim", path.with_name(path.name + suffix)
    victim.write_text("precious")
    victim.chmod(0o644)
    put = {
        "link": lambda: side.symlink_to(victim), "link to nowhere": lambda: side.symlink_to(tmp_path / "new"),
        "other name": lambda: os.link(victim, side), "FIFO": lambda: os.mkfifo(side), "directory": side.mkdir,
    }  # fmt: skip
    put[how]()

    with closing(DatabaseFile(path)) as held, pytest.raises(UnsafeFile, match=f"a.db{suffix} "):
        held.make_private()
    assert ("precious", 0o644) == (victim.read_text(), stat.S_IMODE(victim.stat().st_mode))


def test_a_file_that_is_exchanged_before_sqlite_opens_it_is_found_out(path: Path) -> None:
    with closing(DatabaseFile(path)) as held:
        path.rename(path.with_name("moved"))
        path.touch()

        with pytest.raises(UnsafeFile, match=r"a\.db was exchanged for another file while it was being opened"):
            held.confirm()


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = open_descriptors()
    numbers = []
    with used(path):
        for _ in range(5):
            with used(path):
                pass
            numbers.append(len(open_descriptors()))
    assert numbers[-1] == numbers[0], "with each who comes and goes there are more"
    os.link(path, path.with_name("other name"))
    with pytest.raises(UnsafeFile):
        DatabaseFile(path)

    assert before == open_descriptors()


def test_to_close_it_twice_is_to_close_it_once(path: Path) -> None:
    with used(path):
        other = DatabaseFile(path)
        other.close()
        other.close()
        with closing(DatabaseFile(path)) as again:
            assert again.size == path.stat().st_size

"""Locks that this process has on a database's files, as another program meets them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness.processes import python
from tests.harness.stage.outbox_files import private_connection
from userpilot_async._runtime.database_files import DatabaseFile
from userpilot_async._runtime.private_files import UnsafeFile
from userpilot_async.imports import ImportConflict
from userpilot_async.imports._journal import Journal
from userpilot_async.imports._schema import About

TRY = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("locked")
    else:
        print("free")
"""
OPEN = """
import sys
from pathlib import Path
from userpilot_async.imports import ImportConflict
from userpilot_async.imports._journal import Journal
try:
    Journal(Path(sys.argv[1]))
except ImportConflict as conflict:
    print(conflict)
else:
    print("opened")
"""


def printed(script: str, path: Path) -> str:
    """What another program prints that does this with the file."""
    with python("-c", script, str(path)) as program:
        assert 0 == program.wait(60), program.output
        return program.output


def test_locks_of_another_connection_of_this_process_outlast_those_who_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript("PRAGMA journal_mode = WAL; CREATE TABLE one (a);")
    with private_connection(path) as db:
        db.execute("INSERT INTO one VALUES (1)")
        for _ in range(3):
            with private_connection(path) as another:
                another.execute("INSERT INTO one VALUES (1)")
        os.link(path, path.with_name("other name"))
        with pytest.raises(UnsafeFile):
            DatabaseFile(path)
        seen = {file.name: printed(TRY, file) for file in (path, path.with_name("a.db-shm"))}

    assert {"a.db": "locked\n", "a.db-shm": "locked\n"} == seen


def test_a_journal_is_refused_in_another_process_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "history.ndjson.import"
    journal = Journal(path)
    journal.begin(About(name="history-1", source="s"), 1_000)
    with pytest.raises(ImportConflict):  # an attempt in this process must not take the lock away
        Journal(path)
    during = printed(OPEN, path)
    journal.close()

    assert f"{path} is in use" in during
    assert "opened\n" == printed(OPEN, path)

"""What is noted of requests, when the disk fails in the middle of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from userpilot_async import OutboxError
from userpilot_async._outbox.batch import Batch, Landed
from userpilot_async._outbox.owner import Claim
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.sqlite._file import File
from userpilot_async.sqlite._store import SQLiteStore


class FillingUp(File):
    """While ``full``, the disk takes the beginning of a transaction and not its end."""

    full = False

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with super().transaction() as db:
            yield db
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(FillingUp(tmp_path / "host" / "events.db", "process", pause=lambda seconds: True))
    store.open(Claim("a server", lambda salt: f"KEY {salt.hex()}"))
    assert store.file.lease.try_take()
    yield store
    store.close()


def fill(store: SQLiteStore, full: bool) -> None:
    """While it is ``full``, nothing can be written to its end."""
    assert isinstance(store.file, FillingUp)
    store.file.full = full


def commit(store: SQLiteStore, batch: Batch) -> None:
    store.commit(lambda: batch)


def test_a_request_that_could_not_be_noted_was_not_made(store: SQLiteStore) -> None:
    fill(store, True)
    with pytest.raises(OutboxError, match="disk is full"):
        commit(store, Batch(requests=[RequestNote("track")]))
    fill(store, False)

    assert {} == dict(store.inherit()[0].spent)


def test_a_request_that_could_not_be_noted_takes_no_other_ones_note_away(store: SQLiteStore) -> None:
    """The sender lets it land all the same, without an answer; the next one has got its number meanwhile."""
    failed, noted = RequestNote("track"), RequestNote("track")
    fill(store, True)
    with pytest.raises(OutboxError, match="disk is full"):
        commit(store, Batch(requests=[failed]))
    fill(store, False)
    commit(store, Batch(requests=[noted]))
    commit(store, Batch(landed=[Landed(failed, None, False)]))

    assert ["track"] == list(store.inherit()[0].spent)

"""What is noted of requests, when the disk fails in the middle of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from userpilot_async import OutboxError
from userpilot_async._outbox.batch import Batch, Landed
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.sqlite._store import File


class FillingUp(File):
    """While ``full``, the disk takes the beginning of a transaction and not its end."""

    full = False

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with super()._transaction() as db:
            yield db
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FillingUp]:
    file = FillingUp(tmp_path / "host" / "events.db", "process", pause=lambda seconds: True)
    file.open("a server", lambda salt: f"KEY {salt.hex()}")
    assert file.lease.try_take()
    yield file
    file.close()


def commit(file: File, batch: Batch) -> None:
    file.commit(lambda: batch)


def test_a_request_that_could_not_be_noted_was_not_made(file: FillingUp) -> None:
    file.full = True
    with pytest.raises(OutboxError, match="disk is full"):
        commit(file, Batch(requests=[RequestNote("track")]))
    file.full = False

    assert {} == dict(file.inherit()[0].spent)


def test_a_request_that_could_not_be_noted_takes_no_other_ones_note_away(file: FillingUp) -> None:
    """The sender lets it land all the same, without an answer; the next one has got its number meanwhile."""
    failed, noted = RequestNote("track"), RequestNote("track")
    file.full = True
    with pytest.raises(OutboxError, match="disk is full"):
        commit(file, Batch(requests=[failed]))
    file.full = False
    commit(file, Batch(requests=[noted]))
    commit(file, Batch(landed=[Landed(failed, None, False)]))

    assert ["track"] == list(file.inherit()[0].spent)

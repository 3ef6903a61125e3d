"""Calls that were put alone: their rows are written, the account is not, and whoever reads that counts them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import ticket_id
from userpilot_async._calls.stored import unsealed
from userpilot_async._errors.tree import OutboxError
from userpilot_async._outbox import window
from userpilot_async.sqlite import _append
from userpilot_async.sqlite._ballast import Ballast
from userpilot_async.sqlite._tables import Tables

NewOutbox = Callable[[], InlineOutbox]
DROPPED = Outcome("dropped", "queue_full")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host" / "events.db"


@pytest.fixture
def outbox(path: Path) -> Iterator[NewOutbox]:
    """Opens the same file with each call, as another process would that only puts."""
    made: list[InlineOutbox] = []

    def outbox() -> InlineOutbox:
        made.append(InlineOutbox(path, durability="process", sender=False))
        open_now(made[-1])
        return made[-1]

    yield outbox
    for one in made:
        at_once(one.aclose())


def put(outbox: InlineOutbox, calls: int = 1, key: Any = "u1", dedupe: DedupeKey | None = None) -> list[int]:
    """Put calls one by one; their ids."""
    return [outbox.put("track", key, b"{}", 10, 0.0, dedupe).id for _ in range(calls)]


def in_the_file(path: Path) -> tuple[int, int]:
    """The next id that the account has, and how many calls lie behind it, in a file that may be in use."""
    with closing(sqlite3.connect(path)) as db:
        next_id = unsealed(db.execute("SELECT said FROM account").fetchone()[0])["next_id"]
        return next_id, db.execute("SELECT count(*) FROM calls WHERE id >= ?", (next_id,)).fetchone()[0]


def seen_by(outbox: InlineOutbox) -> tuple[int, int, int]:
    """What a process knows of the calls in all: accepted ones, waiting ones, and the bytes of those."""
    outbox.poll()
    return outbox.ledger.accepted, outbox.ledger.pending, outbox.waiting_bytes


def test_calls_put_one_by_one_are_counted_by_all_though_the_account_is_behind(path: Path, outbox: NewOutbox) -> None:
    ours, theirs = outbox(), outbox()

    ids = put(ours, 7)

    assert (1, 6) == in_the_file(path), "the first one notes the owner's account, the others are appended"
    assert list(range(7)) == ids
    assert (7, 7, 70) == seen_by(ours) == seen_by(theirs) == seen_by(outbox())


def test_the_account_is_written_again_before_it_is_too_far_behind(
    path: Path, outbox: NewOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_append, "MOST_UNCOUNTED", 3)
    ours = outbox()

    behind = []
    for _ in range(9):
        put(ours)
        behind.append(in_the_file(path))

    assert [(1, 0), (1, 1), (1, 2), (1, 3), (5, 0), (5, 1), (5, 2), (5, 3), (9, 0)] == behind


def test_room_is_looked_for_whenever_the_account_is_written_again(
    path: Path, outbox: NewOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_append, "MOST_UNCOUNTED", 3)
    monkeypatch.setattr(Ballast, "make", lambda self: False)  # the disk has no room for it
    ours = outbox()
    path.with_name("events.db.ballast").touch(mode=0o600)
    put(ours, 2)

    path.with_name("events.db.ballast").unlink()

    assert [2, 3] == put(ours, 2), "it was there when the account was written last"
    assert [-1] == put(ours)


def test_room_is_looked_for_after_each_poll(path: Path, outbox: NewOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ballast, "make", lambda self: False)  # the disk has no room for it
    ours = outbox()
    path.with_name("events.db.ballast").touch(mode=0o600)
    put(ours, 2)

    path.with_name("events.db.ballast").unlink()
    ours.refuse(DROPPED)  # the account is written whole, without a call for which room would be looked for
    assert [3] == put(ours)
    ours.poll()

    assert [-1] == put(ours)


def test_a_process_whose_lock_file_is_deleted_while_sqlite_has_it_wait_gives_no_id_twice(
    path: Path, outbox: NewOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = outbox()
    put(ours, 3)
    put_if_same = Tables.put_if_same

    def waits(self: Tables, *arguments: Any) -> bool:
        monkeypatch.undo()
        path.with_name("events.db.lock").unlink()
        outbox().refuse(DROPPED)  # has the turn by a new file, and a number without a row
        return put_if_same(self, *arguments)

    monkeypatch.setattr(Tables, "put_if_same", waits)

    assert [4] == put(ours)
    assert (5, 4, 40) == seen_by(ours) == seen_by(outbox())


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_calls_are_not_appended_into_the_room_that_was_made_for_notes(
    path: Path, outbox: NewOutbox, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    ours = outbox()
    sender = ours if whose == "ours" else outbox()
    put(ours, 2)
    seen_by(sender)
    monkeypatch.setattr(Ballast, "make", lambda self: False)  # the disk is as full as it was

    sender.store.file.ballast.give_up()  # as it does for a note on a full disk
    sender.store.file.shorten_log()
    sender.refuse(DROPPED)
    seen_by(ours)

    assert [-1] == put(ours)


@pytest.mark.parametrize("what", ["a key", "a person", "a refusal"])
def test_what_is_more_than_calls_brings_the_account_up_to_date(path: Path, outbox: NewOutbox, what: str) -> None:
    ours = outbox()
    put(ours, 3)

    if what == "a refusal":
        ours.refuse(DROPPED)
    else:
        dedupe = DedupeKey(b"k" * 16, 60.0) if what == "a key" else None
        put(ours, key=("u1", "a1") if what == "a person" else "u1", dedupe=dedupe)

    assert (4, 0) == in_the_file(path)


def test_two_processes_that_put_in_turn_give_no_id_twice(outbox: NewOutbox) -> None:
    ours, theirs = outbox(), outbox()

    ids = [one for _ in range(5) for one in (*put(ours, 3), *put(theirs, 2))]

    assert list(range(25)) == ids
    assert (25, 25, 250) == seen_by(ours) == seen_by(theirs)


def test_a_process_that_dies_leaves_nothing_uncounted(path: Path, outbox: NewOutbox) -> None:
    died = outbox()
    put(died, 5)
    died.die()

    after = outbox()

    assert (1, 4) == in_the_file(path)
    assert (5, 5, 50) == seen_by(after)
    assert [5, 6] == put(after, 2)


def test_a_file_at_rest_has_all_its_calls_in_the_account(path: Path, outbox: NewOutbox) -> None:
    ours = outbox()
    put(ours, 5)

    at_once(ours.aclose())

    assert (5, 0) == in_the_file(path)


def test_rows_of_another_program_behind_a_gap_are_none_of_the_calls(path: Path, outbox: NewOutbox) -> None:
    ours = outbox()
    put(ours, 3)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO calls SELECT id + 5, at, kind, key, said, moment, size, crc, sent FROM calls")

    theirs = outbox()

    assert (3, 3, 30) == seen_by(ours) == seen_by(theirs)


def damaged(path: Path) -> Path:
    """A copy of a file in use, as a crash would leave it: its account is behind, and a page of calls is broken."""
    copied = path.with_name("copy") / "events.db"
    copied.parent.mkdir()
    for name in ("", "-wal"):
        shutil.copy(f"{path}{name}", f"{copied}{name}")
    with closing(sqlite3.connect(copied)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = copied.read_bytes()
    leaves = [
        at for at in range(0, len(content), 4_096) if content[at] == 13 and b'"padding' in content[at : at + 4_096]
    ]
    assert len(leaves) > 2
    with copied.open("r+b") as file:
        file.seek(leaves[0])
        file.write(bytes(4_096))
    return copied


def test_damage_in_the_middle_of_calls_behind_the_account_is_counted(path: Path, outbox: NewOutbox) -> None:
    ours = outbox()
    body = json.dumps({"padding": "x" * 200}).encode()
    for _ in range(60):
        ours.put("track", "u1", body, 10, 0.0)
    assert (1, 59) == in_the_file(path)

    mended = InlineOutbox(damaged(path), durability="process", sender=False)
    open_now(mended)
    there = mended.store.file.db.execute("SELECT count(*) FROM calls").fetchone()[0]
    account = mended.store.file.tables.account()
    at_once(mended.aclose())

    assert 0 < there < 60
    assert (60, there, 60 - there) == (account.accepted, account.waiting, account.dead.get("damaged"))


def test_a_sender_hears_of_calls_alone_by_their_number_and_of_all_else_as_a_change(path: Path) -> None:
    client, came = Client(), list[int]()
    ours = InlineOutbox(path, durability="process")
    open_now(ours, attrs.evolve(client.opening(), calls_came=came.append))
    before = client.changes
    put(ours, 3)
    alone = client.changes - before
    ours.refuse(DROPPED)
    changed = client.changes > before
    at_once(ours.aclose())

    assert ([1, 1, 1], 0, True) == (came, alone, changed)


def test_a_sender_reads_calls_that_were_appended_when_it_had_as_many_in_hand_as_may_be(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "READ", 2)
    ours = InlineOutbox(path, durability="process")
    open_now(ours)
    put(ours, 4)
    took = [ticket_id(ticket) for _ in range(4) for ticket in ours.take(10)]
    at_once(ours.aclose())

    assert [0, 1, 2, 3] == took


def test_a_process_of_an_older_version_does_nothing_to_a_file_that_a_newer_one_has_changed(
    path: Path, outbox: NewOutbox
) -> None:
    older = outbox()
    put(older, 2)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:  # as a migration does while others are at work
        db.execute("PRAGMA user_version = 99")

    assert [-1] == put(older)
    with pytest.raises(OutboxError, match=r"events.db is of version 99, which a newer userpilot_async wrote"):
        older.store.poll()
    with closing(sqlite3.connect(path)) as db:
        assert [(0,), (1,)] == db.execute("SELECT id FROM calls").fetchall()


def test_a_sender_of_an_older_version_lets_one_send_that_knows_the_file(path: Path) -> None:
    older = InlineOutbox(path, durability="process")
    open_now(older)
    put(older)
    assert older.sends
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 99")

    older.poll()
    assert not older.sends
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 5")

    newer = InlineOutbox(path, durability="process")
    open_now(newer)
    older.poll()
    assert (False, True) == (older.sends, newer.sends)
    for one in (newer, older):
        at_once(one.aclose())

"""Whatever sqlite3 and the operating system raise, and whatever other programs write into the file: no bug of ours."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from userpilot_async import ConfigurationError, OutboxError
from userpilot_async._calls.outcome import DELIVERED, Outcome, Words
from userpilot_async._calls.stored import sealed
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.sqlite import SQLiteOutbox
from userpilot_async.sqlite._admin import SQLiteAdmin

REJECTED = Outcome("dead", "rejected")

ERRORS: dict[str, Exception] = {
    "Warning": sqlite3.Warning("odd"), "Error": sqlite3.Error("odd"), "InterfaceError": sqlite3.InterfaceError("odd"),
    "DatabaseError": sqlite3.DatabaseError("malformed"), "DataError": sqlite3.DataError("too big"),
    "OperationalError": sqlite3.OperationalError("disk I/O error"),
    "full": sqlite3.OperationalError("database or disk is full"),
    "IntegrityError": sqlite3.IntegrityError("odd"), "InternalError": sqlite3.InternalError("odd"),
    "ProgrammingError": sqlite3.ProgrammingError("closed"), "NotSupportedError": sqlite3.NotSupportedError("odd"),
    "MemoryError": MemoryError(), "OverflowError": OverflowError("too large"), "OSError": OSError(errno.EIO, "I/O"),
}  # fmt: skip
LONGEST = 60  # statements of one scene: it has fewer


@attrs.define
class Trouble:
    """The statement of this number raises this."""

    error: BaseException
    at: int
    met: bool = False

    def counts(self) -> None:
        self.at -= 1
        if self.at == 0:
            self.met = True
            raise self.error


@contextmanager
def troubled_statements(trouble: Trouble) -> Iterator[None]:
    """Of all connections that are made."""

    class Troubled(sqlite3.Connection):
        def execute(self, *arguments: Any) -> Any:
            trouble.counts()
            return super().execute(*arguments)

        def executemany(self, *arguments: Any) -> Any:
            trouble.counts()
            return super().executemany(*arguments)

        def close(self) -> None:
            super().close()
            if trouble.at == 1:
                trouble.counts()

    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite3, "connect", lambda *where, **how: connect(*where, **{**how, "factory": Troubled}))
        yield


def outbox_at(path: Path) -> InlineOutbox:
    return InlineOutbox(path, durability="process")


def put(outbox: SQLiteOutbox, count: int = 1) -> list[Receipt]:
    return [outbox.put("track", f"u{n}", b"{}", 2, 0.0) for n in range(count)]


def lives(outbox: InlineOutbox, receipts: list[Receipt]) -> None:
    """Calls come in, are sent and settled, one after the other."""
    for _ in range(2):
        receipts += put(outbox, 2)
        outbox.poll()
        request = RequestNote("track", [])
        at_once(outbox.send_log.sending(request))
        for call_id, *_ in outbox.take(1):
            outbox.settle(Settlement([call_id], (), DELIVERED, 2, None))
        outbox.send_log.landed(request, answered=True, lost=False)


def judge(outbox: InlineOutbox, receipts: list[Receipt]) -> None:
    """Nothing was seen of it; a fresh call is held; whoever comes next finds what this one has been told is there."""
    for _ in range(3):
        outbox.poll()
    outbox.store.file.ballast._tried_at = -math.inf  # a second later: what reads like a full disk gives its room up
    (fresh,) = put(outbox)
    ledger = outbox.ledger

    assert outbox.bug is None
    assert (0, 0) == (outbox.unheld, outbox._session.incoming.bytes)
    assert fresh.id >= 0, fresh
    assert ledger.accepted == ledger.delivered + ledger.pending + ledger.merged + sum(ledger.losses().values())
    held = {one.id for one in [*receipts, fresh] if one.id >= 0 and one.status == "pending"}
    at_once(outbox.aclose())
    with closing(sqlite3.connect(outbox.path)) as db:
        assert held <= {row[0] for row in db.execute("SELECT id FROM calls")}


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_sqlite_raises_at_whichever_statement_a_client_lives_on(tmp_path: Path, error: str) -> None:
    met = 0
    for number in range(1, LONGEST, 3):
        receipts: list[Receipt] = []
        outbox = outbox_at(tmp_path / str(number) / "events.db")
        open_now(outbox, Client().opening())
        trouble = Trouble(ERRORS[error], number)
        # On a connection that was made before it came: those that are made anew are troubled, too.
        outbox.store.file.disconnect()
        with troubled_statements(trouble):
            lives(outbox, receipts)
        met += trouble.met
        judge(outbox, receipts)
        assert not list(tmp_path.glob("*/*.damaged-*")) or error == "DatabaseError"

    assert met > 5, "hardly any statement was troubled"


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_sqlite_raises_at_the_opening_it_opens_or_says_why(tmp_path: Path, error: str) -> None:
    path = tmp_path / "events.db"
    before = outbox_at(path)
    open_now(before, Client().opening())
    receipts = put(before, 2)
    at_once(before.send_log.sending(RequestNote("track", [0], filename="f", kind="user", last_calls=[1])))
    before.die()
    refused = 0
    for number in range(1, LONGEST, 2):
        outbox = outbox_at(path)
        with troubled_statements(Trouble(ERRORS[error], number)):
            try:
                open_now(outbox, Client().opening())
            except OutboxError:
                refused += 1
            else:
                at_once(outbox.aclose())
    after = outbox_at(path)
    open_now(after, Client().opening())

    assert refused or error in ("DatabaseError", "full")
    assert 2 == after.ledger.pending
    assert [0, 1] == [ticket[0] for ticket in after.take(10)] == [one.id for one in receipts]
    at_once(after.aclose())


# ── the operating system ──

CALLS: dict[str, tuple[Any, str]] = {
    "stat": (os, "stat"), "open": (os, "open"), "close": (os, "close"), "flock": (fcntl, "flock"),
    "fstat": (os, "fstat"),
    "statvfs": (os, "statvfs"), "pwrite": (os, "pwrite"), "chmod": (os, "chmod"), "unlink": (os, "unlink"),
}  # fmt: skip


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EMFILE, errno.ENOLCK])
@pytest.mark.parametrize("call", CALLS)
def test_whatever_the_system_refuses_a_client_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    module, name = CALLS[call]
    real = getattr(module, name)
    for number in range(1, 14, 2):
        receipts: list[Receipt] = []
        outbox = outbox_at(tmp_path / str(number) / "events.db")
        trouble = Trouble(OSError(code, os.strerror(code)), 0)

        def troubled(*arguments: Any, trouble: Trouble = trouble, outbox: InlineOutbox = outbox, **more: Any) -> Any:
            # pytest has files of its own.
            if isinstance(arguments[0], int) or str(arguments[0]).startswith(str(outbox.path.parent)):
                trouble.counts()
            return real(*arguments, **more)

        open_now(outbox, Client().opening())
        trouble.at = number
        with monkeypatch.context() as patched:
            patched.setattr(module, name, troubled)
            lives(outbox, receipts)
        judge(outbox, receipts)


def test_a_path_that_is_none_is_refused_where_it_is_given() -> None:
    with pytest.raises(ConfigurationError, match="path is no name of a file"):
        SQLiteOutbox("events\0.db")


# ── other programs ──

HUGE, BLOB = 2**62, "x'ff00'"
INSERT = "INSERT INTO calls (id, at, kind, key, said, moment, size, crc, sent) VALUES"
LAST = 2**63 - 1
FOREIGN: dict[str, str] = {
    "a call under a settled number": f"{INSERT} (0, 1.0, 'track', '\"u\"', x'7b7d', NULL, 2, 7, 0)",
    "a call under the next number": f"{INSERT} (4, 1.0, 'track', '\"u\"', x'7b7d', NULL, 2, 7, 0)",
    "a call of a huge number": f"{INSERT} ({HUGE}, 1.0, 'x', 'x', x'', NULL, 2, 7, 0)",
    "a call of the last number": f"{INSERT} ({LAST}, 1.0, 'x', 'x', x'', NULL, 2, 7, 0)",
    "a call of a negative number": f"{INSERT} (-5, 1.0, 'x', 'x', x'', NULL, 2, 7, 0)",
    "a call of other types": f"{INSERT} (4, 'x', {BLOB}, {BLOB}, 'text', {BLOB}, 'x', 'x', 'x')",
    "a call that is changed": f"UPDATE calls SET key = {BLOB}, said = 'x', at = 'x', crc = 'x', size = 1e308",
    "calls that sum up to infinity": "UPDATE calls SET size = 1.7e308",
    "lists within lists": "UPDATE calls SET said = CAST(replace(hex(zeroblob(50000)), '00', '[') AS BLOB)",
    "news of other types": f"INSERT INTO news VALUES (1000, {BLOB})",
    "news that are none": "INSERT INTO news VALUES (1000, '[1,2]#00000000')",
    "requests of other types": f"INSERT INTO requests VALUES (77, 'x', 'x', {BLOB}, {BLOB})",
    "an endless request": "INSERT INTO requests VALUES (77, 1.0, 9e999, 'track', 'x')",
    "a file of other types": f"INSERT INTO files VALUES ({BLOB}, {BLOB}, {BLOB})",
    "parts of other types": f"INSERT INTO parts VALUES (2, {BLOB})",
    "lost calls of other types": "INSERT INTO lost VALUES "
    f"(99, 'x', {BLOB}, {BLOB}, 'x', {BLOB}, 'x', 'x', 'x', {BLOB}, {BLOB}, {BLOB})",
    "nobody's": "UPDATE about SET said = 'x'",
}  # fmt: skip
SEALED: dict[str, tuple[str, Any]] = {
    **{f"an account that is {said!r}": ("UPDATE account SET said = ?", said) for said in ([], 7, "x", None, True)},
    "an account of texts": ("UPDATE account SET said = ?", {"accepted": "4", "next_id": "4"}),
    "an account whose losses are a list": ("UPDATE account SET said = ?", {"accepted": 4, "next_id": 4, "dead": [1]}),
    **{f"news that are {said!r}": ("INSERT INTO news VALUES (1000, ?)", said)
       for said in (7, "x", [7], [[]], [["x"] * 4], [["dead", "x", [[1]], []]], [["dead", "x", 7, []]], {"a": 1})},
    **{f"calls of a request that are {said!r}": ("INSERT INTO requests VALUES (77, 1.0, NULL, 'track', ?)", said)
       for said in (7, "x", [7, "x"], [[1]], [[[]]], {"a": 1}, [[2**70, 2**71]])},
    **{f"calls of a file that are {said!r}": ("INSERT INTO files VALUES ('f', 'user', ?)", said)
       for said in (7, "x", ["x"], [[]], [None], {"a": 1}, [2**70], [1])},
    **{f"a part that is {said!r}": ("INSERT INTO parts VALUES (2, ?)", said)
       for said in (7, [], [2], "x", [2, [], {}])},
    **{f"an owner that is {said!r}": ("UPDATE about SET said = ?", said)
       for said in (7, [], {"salt": "zz"}, {"salt": 7}, {"destination": "a server", "salt": "00"})},
}  # fmt: skip


def _foreign(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        if name in FOREIGN:
            db.execute(FOREIGN[name])
        else:
            statement, said = SEALED[name]
            db.execute(statement, (sealed(said),))


@pytest.mark.parametrize("name", [*FOREIGN, *SEALED])
def test_what_another_program_writes_is_set_aside_or_passed_over(tmp_path: Path, name: str) -> None:
    path = tmp_path / "events.db"
    outbox = outbox_at(path)
    outbox.passes_on = False
    open_now(outbox, Client().opening())
    put(outbox, 4)
    outbox.take(2)
    outbox.settle(Settlement([0], (), DELIVERED, 2, None))
    outbox.settle(Settlement([1], (), REJECTED, 2, None))
    _foreign(path, name)
    (receipt,) = put(outbox)
    for _ in range(3):
        outbox.poll()
    ledger = outbox.ledger
    assert outbox.bug is None
    assert receipt.id >= 4, "a fresh call is not held"
    assert 0 == outbox.unheld

    outbox.die()
    other = outbox_at(path)
    other.passes_on = False
    open_now(other, Client().opening())
    left = [ticket[0] for _ in range(3) for ticket in (other.poll(), other.take(100))[1]]
    (fresh,) = put(other)
    ledger = other.ledger
    assert fresh.id >= 5
    assert len(left) == len(set(left)) and receipt.id in left
    assert ledger.accepted == ledger.delivered + ledger.pending + ledger.merged + sum(ledger.losses().values())
    other.settle(Settlement([*left], (), DELIVERED, 2 * len(left), None))
    other.take(100)
    other.settle(Settlement([fresh.id], (), DELIVERED, 2, None))
    for _ in range(3):
        other.poll()
        other.take(100)
    assert (0, 0) == (other.ledger.pending, other.waiting_bytes)
    at_once(other.aclose())


@pytest.mark.parametrize("name", [*FOREIGN, *SEALED])
def test_people_see_what_another_program_has_written_or_are_told_that_it_is_damaged(tmp_path: Path, name: str) -> None:
    path = tmp_path / "events.db"
    outbox = outbox_at(path)
    open_now(outbox, Client().opening())
    put(outbox, 4)
    outbox.take(2)
    outbox.settle(Settlement([0], (), DELIVERED, 2, None))
    outbox.settle(Settlement([1], (), REJECTED, 2, None))
    at_once(outbox.aclose())
    _foreign(path, name)
    visits: list[Callable[[], Any]] = [
        lambda: SQLiteAdmin(path).inspect(),
        lambda: [str(one) for one in SQLiteAdmin(path).dead_letters().kept],
        lambda: SQLiteAdmin(path).retry(),
        lambda: SQLiteAdmin(path).purge(Subject("user", "u1")),
        lambda: SQLiteAdmin(path).purge(Subject("company", "c")),
    ]  # fmt: skip

    for visit in visits:
        try:
            visit()
        except OutboxError as error:
            assert "damaged" in str(error)


def test_a_part_on_a_page_of_another_call_is_not_taken_for_that_calls(tmp_path: Path) -> None:
    """The server would never be told of this call's company."""
    path = tmp_path / "events.db"
    outbox = outbox_at(path)
    open_now(outbox, Client().opening())
    said = ({"plan": "pro"}, None, 40, ("company", "acme", {"name": "Acme"}, 20))
    for user in ("u0", "u1"):
        outbox.put("user", user, said, 40, 0.0)
    outbox.die()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO parts VALUES (0, ?)", (sealed([1, "company", "acme"]),))
    after = outbox_at(path)
    open_now(after, Client().opening())

    assert [said, said] == [ticket[4] for ticket in after.take(10)]
    at_once(after.aclose())


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
PROGRAMS: dict[str, str] = {
    "a trigger that deletes": "CREATE TRIGGER evil AFTER INSERT ON calls BEGIN DELETE FROM calls; END",
    "a trigger that fills the memory": "CREATE TRIGGER evil AFTER INSERT ON calls BEGIN SELECT hex(zeroblob(9e8)); END",
    "a trigger that loads a library":
        "CREATE TRIGGER evil AFTER UPDATE ON calls BEGIN SELECT load_extension('/tmp/evil.so'); END",
    "a view in a table's place": f"DROP TABLE calls; CREATE VIEW calls AS {ENDLESS}",
    "a view of another name": f"CREATE VIEW evil AS {ENDLESS}",
    "a view with a trigger": "ALTER TABLE news RENAME TO old; CREATE VIEW news AS SELECT * FROM old;"
        "CREATE TRIGGER evil INSTEAD OF INSERT ON news BEGIN INSERT INTO old VALUES (1, 'x'); END",
    "a virtual table": "DROP TABLE lost; CREATE VIRTUAL TABLE lost USING fts5(id, at, kind, key, said)",
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_file_with_somebody_elses_programs_is_refused_and_not_touched(tmp_path: Path, name: str) -> None:
    """Each of them would run with the application's rights when a call comes in, or when one is looked for."""
    path = tmp_path / "events.db"
    outbox = outbox_at(path)
    open_now(outbox, Client().opening())
    put(outbox, 4)
    at_once(outbox.aclose())
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(PROGRAMS[name])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    people: list[Callable[[], Any]] = [
        lambda: open_now(outbox_at(path), Client().opening()), lambda: SQLiteAdmin(path).inspect(),
        lambda: SQLiteAdmin(path).retry(), lambda: SQLiteAdmin(path).purge(Subject("user", "u1")),
    ]  # fmt: skip

    for visit in people:
        with pytest.raises(OutboxError, match="has views, triggers or virtual tables"):
            visit()
    assert before == path.read_bytes()


def test_an_answer_whose_words_hold_a_lone_surrogate_is_kept(tmp_path: Path) -> None:
    outbox = outbox_at(tmp_path / "events.db")
    open_now(outbox, Client().opening())
    put(outbox)
    outbox.take(1)
    outbox.settle(Settlement([0], (), REJECTED, 2, None, Words("no: \ud800")))

    assert {"rejected": 1} == dict(outbox.ledger.losses())
    at_once(outbox.aclose())

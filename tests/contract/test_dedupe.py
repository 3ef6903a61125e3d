"""The same fact once: a call with the key of an earlier one is none, in every outbox, for all processes that share it.

Each outbox of the second half stands for a process, as in the other contract tests of durable outboxes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from tests.contract.conftest import NewOutbox, NewProcess, Process, those
from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from userpilot_async import MemoryOutbox
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import BY_BULK, DELIVERED, Outcome
from userpilot_async._errors.tree import OutboxError
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.postgres._schema import TABLES
from userpilot_async.redis._outbox import RedisOutbox
from userpilot_async.sqlite import _keys, _salvage, _tables

WEEK = 7 * 86_400.0
EXPIRED = Outcome("dead", "expired")
CLOSED = Outcome("dropped", "closed")
ENDS = [DELIVERED, BY_BULK, EXPIRED, CLOSED]


def fact(name: str, seconds: float = WEEK) -> DedupeKey:
    return DedupeKey.of(name, seconds)


def put(outbox: Outbox, name: str | None = None, user: str = "u1", seconds: float = WEEK) -> Receipt:
    """Put a track, with the name of a fact as its key, or without any."""
    key = fact(name, seconds) if name is not None else None
    return outbox.put("track", user, b"{}", 2, 0.0, key)


def hold(outbox: Outbox, name: str) -> Receipt:
    receipt = at_once(outbox.hold("track", "u1", b"{}", 2, 0.0, None, fact(name)))
    assert receipt is not None
    return receipt


def end(outbox: Outbox, call_id: int, outcome: Outcome) -> None:
    outbox.take(100)
    outbox.settle(Settlement([call_id], (), outcome, 2, b"{}"))


# ── every outbox ──


def test_the_same_fact_is_one_call(outbox: Outbox) -> None:
    receipts = [put(outbox, "order-1"), put(outbox, "order-1"), hold(outbox, "order-1"), put(outbox, "order-2")]
    ledger = outbox.ledger

    assert [False, True, True, False] == [one.is_duplicate for one in receipts]
    assert [receipts[0].id, receipts[3].id] == [ticket[0] for ticket in outbox.take(10)]
    assert (2, 2, 0, 2) == (ledger.accepted, ledger.pending, ledger.merged, ledger.duplicates)


def test_calls_without_a_key_are_all_calls(outbox: Outbox) -> None:
    for _ in range(3):
        put(outbox)

    assert (3, 0) == (outbox.ledger.accepted, outbox.ledger.duplicates)


def test_a_fact_is_a_fact_whatever_kind_of_call_tells_it_and_of_whom(outbox: Outbox) -> None:
    first = put(outbox, "order-1")
    second = outbox.put("company", "acme", ({}, None, 40, None), 40, 0.0, fact("order-1"))

    assert (True, first.id) == (second.is_duplicate, second.id)


def test_a_duplicate_needs_no_room(outbox: Outbox) -> None:
    put(outbox, "order-1")
    before = outbox.waiting_bytes
    put(outbox, "order-1")

    assert before == outbox.waiting_bytes


@pytest.mark.parametrize("outcome", ENDS, ids=str)
def test_the_receipt_of_a_duplicate_shows_what_becomes_of_the_first(outbox: Outbox, outcome: Outcome) -> None:
    first, second = put(outbox, "order-1"), put(outbox, "order-1")
    before = second.status, second.reason, second.route
    waited: list[Outcome] = []
    second._watch(waited.append)
    end(outbox, first.id, outcome)
    same = Outcome("merged", outcome.reason, outcome)

    assert (first.id, ("merged", None, None)) == (second.id, before)
    assert ("merged", outcome.reason, outcome.route) == (second.status, second.reason, second.route)
    assert [same] == waited == [at_once(second.outcome())]


@pytest.mark.parametrize("outcome", ENDS, ids=str)
def test_a_fact_that_was_settled_is_told_no_more_and_its_receipt_says_what_became_of_it(
    outbox: Outbox, outcome: Outcome
) -> None:
    first = put(outbox, "order-1")
    end(outbox, first.id, outcome)
    second = put(outbox, "order-1")

    assert [] == list(outbox.take(10))
    assert Outcome("merged", outcome.reason, outcome) == at_once(second.outcome())


def test_the_receipt_of_a_duplicate_shows_the_end_of_the_row_that_the_first_was_merged_into(outbox: Outbox) -> None:
    said = ({}, None, 40, None)
    first = outbox.put("user", "u1", said, 40, 0.0, fact("order-1"))
    row = outbox.put("user", "u1", said, 40, 0.0)
    before = outbox.put("user", "u1", said, 40, 0.0, fact("order-1"))
    outbox.take(10)
    outbox.merged([first.id], 40)
    outbox.settle(Settlement([row.id], [first.id], BY_BULK, 40, None))
    after = outbox.put("user", "u1", said, 40, 0.0, fact("order-1"))

    assert [Outcome("merged", None, BY_BULK)] * 3 == [at_once(one.outcome()) for one in (first, before, after)]


def test_a_call_that_found_no_room_takes_no_key(outbox: Outbox) -> None:
    outbox.refuse(Outcome("dropped", "queue_full"))

    assert not put(outbox, "order-1").is_duplicate
    assert (2, 1) == (outbox.ledger.accepted, outbox.ledger.pending)


def test_refused_calls_have_numbers_behind_those_that_were_put_beside_duplicates(outbox: Outbox) -> None:
    put(outbox, "order-1"), put(outbox, "order-1")
    refused = outbox.refuse(Outcome("dropped", "queue_full"))
    last = put(outbox)

    assert (1, 2) == (refused.id, last.id)


# ── for how long ──


@attrs.define
class Time:
    """A clock that a test sets, for outboxes in memory and in a file."""

    client: Client
    passed: float = 0.0

    def go_on(self, seconds: float) -> None:
        self.passed += seconds
        self.client.time += seconds


@pytest.fixture(params=["memory", "sqlite"])
def timed(request: pytest.FixtureRequest, new_outbox_at: Callable[[str, Time], Outbox]) -> tuple[Outbox, Time]:
    time = Time(Client())
    outbox = new_outbox_at(request.param, time)
    open_now(outbox, time.client.opening())
    return outbox, time


@pytest.fixture
def new_outbox_at(tmp_path: Path) -> Iterator[Callable[[str, Time], Outbox]]:
    made: list[Outbox] = []

    def new(kind: str, time: Time) -> Outbox:
        outbox: Outbox = MemoryOutbox()
        if kind == "sqlite":
            file = InlineOutbox(tmp_path / "events.db", durability="process")
            file.wall = lambda: 1_800_000_000.0 + time.passed  # type: ignore[method-assign,misc,assignment]
            file.steady = lambda: 1_000.0 + time.passed  # type: ignore[method-assign,misc,assignment]
            file.boot = lambda: None  # type: ignore[method-assign,misc,assignment]
            outbox = file
        made.append(outbox)
        return outbox

    yield new
    for outbox in made:
        at_once(outbox.aclose())


def test_a_key_counts_for_as_long_as_it_says_and_then_the_fact_is_a_new_one(timed: tuple[Outbox, Time]) -> None:
    outbox, time = timed
    receipts = [put(outbox, "order-1")]
    for seconds in (WEEK - 1, 2, WEEK - 1, 2):
        time.go_on(seconds)
        receipts.append(put(outbox, "order-1"))

    assert [False, True, False, True, False] == [one.is_duplicate for one in receipts]
    assert [0, 0, 1, 1, 2] == [one.id for one in receipts]
    assert 1 == (keys_in(outbox) if isinstance(outbox, InlineOutbox) else len(outbox._keys))  # type: ignore[attr-defined]


def test_a_short_time_is_no_longer_for_the_long_one_of_another_call(timed: tuple[Outbox, Time]) -> None:
    outbox, time = timed
    put(outbox, "order-1", seconds=WEEK), put(outbox, "order-2", seconds=60)
    time.go_on(61)

    assert [True, False] == [put(outbox, name).is_duplicate for name in ("order-1", "order-2")]


@those(server="redis")
def test_a_key_in_redis_expires_by_itself_when_its_time_is_over(new_outbox: NewOutbox) -> None:
    outbox = new_outbox()
    assert isinstance(outbox, InlineRedisOutbox)
    put(outbox, "order-1")
    (name,) = outbox.redis.keys(f"{{{outbox.name}}}:dedupe:*")
    before = outbox.redis.pexpiretime(name)
    put(outbox, "order-1")
    end(outbox, 0, DELIVERED)
    after = outbox.redis.pexpiretime(name)
    outbox.redis.delete(name)  # as its expiry does

    assert 0 < before == after
    assert WEEK == pytest.approx(before / 1_000 - outbox.redis.time()[0], abs=600)
    assert not put(outbox, "order-1").is_duplicate


@those(server="redis")
@pytest.mark.parametrize("seconds", [0.0001, 1e300])
def test_no_time_is_too_short_or_too_long_for_redis(new_outbox: NewOutbox, seconds: float) -> None:
    outbox = new_outbox()

    assert not put(outbox, "order-1", seconds=seconds).is_duplicate


# ── processes with the same outbox ──


def test_a_fact_is_one_call_for_all_processes(process: NewProcess) -> None:
    first, second = process(), process(sender=False)
    receipts = [put(first, "order-1"), put(second, "order-1"), put(second, "order-2"), put(first, "order-2")]
    first.poll(), second.poll()

    assert [False, True, False, True] == [one.is_duplicate for one in receipts]
    assert [(2, 2, 2)] * 2 == [(one.accepted, one.pending, one.duplicates) for one in (first.ledger, second.ledger)]


def test_a_fact_of_a_process_that_was_killed_is_known_to_the_next(process: NewProcess) -> None:
    first = process()
    call_id = put(first, "order-1").id
    first.die()
    second = process()
    receipt = put(second, "order-1")
    before = receipt.status
    end(second, call_id, EXPIRED)

    assert (True, call_id, "merged") == (receipt.is_duplicate, receipt.id, before)
    assert Outcome("merged", "expired", EXPIRED) == at_once(receipt.outcome())


@pytest.mark.parametrize("outcome", ENDS, ids=str)
def test_what_became_of_a_fact_before_is_known_to_those_who_come_later(process: NewProcess, outcome: Outcome) -> None:
    first = process()
    end(first, put(first, "order-1").id, outcome)
    at_once(first.aclose())
    receipt = put(process(), "order-1")

    assert Outcome("merged", outcome.reason, outcome) == at_once(receipt.outcome())


def test_a_duplicate_and_the_end_of_the_first_in_one_batch(process: NewProcess) -> None:
    """The account says at once what this batch has settled, and the call is from before this process came."""
    first = process()
    call_id = put(first, "order-1").id
    first.die()
    second = process()
    second.take(10)
    second.writer.runs = False  # it collects
    receipt = put(second, "order-1")
    second.settle(Settlement([call_id], (), DELIVERED, 2, None))
    second.writer.runs = True
    second.writer.wake()

    assert Outcome("merged", None, DELIVERED) == at_once(receipt.outcome())


def test_two_calls_of_one_batch_with_the_same_key_are_one(process: NewProcess) -> None:
    outbox = process()
    outbox.writer.runs = False
    receipts = [put(outbox, name) for name in ("order-1", None, "order-1", "order-2", "order-1")]
    outbox.writer.runs = True
    outbox.writer.wake()

    assert [0, 1, 0, 2, 0] == [one.id for one in receipts]
    assert [0, 1, 2] == [ticket[0] for ticket in outbox.take(10)]
    assert (3, 2) == (outbox.ledger.accepted, outbox.ledger.duplicates)


def test_a_call_that_is_withdrawn_before_it_is_written_gives_its_key_back(process: NewProcess) -> None:
    outbox = process()
    outbox.writer.runs = False
    outbox._session.incoming._withdraw(
        *outbox._session.incoming.put("track", "u1", b"{}", 2, 0.0, True, fact("order-1"))
    )
    outbox.writer.runs = True
    outbox.writer.wake()

    assert not put(outbox, "order-1").is_duplicate
    assert (1, 0) == (outbox.ledger.accepted, outbox.ledger.duplicates)


def test_a_call_that_fails_has_not_taken_the_key(tmp_path: Path) -> None:
    outbox = InlineOutbox(tmp_path / "events.db", durability="process")
    client = Client()
    open_now(outbox, client.opening())
    store = outbox.store
    why, store._why_no_calls = store._why_no_calls, lambda: OutboxError("the disk is full")
    failed = put(outbox, "order-1")
    store._why_no_calls = why
    again = [put(outbox, "order-1") for _ in range(2)]
    at_once(outbox.aclose())

    assert ("dropped", "outbox", 1) == (failed.status, failed.reason, len(client.not_held))
    assert [False, True] == [one.is_duplicate for one in again]


def test_a_dead_letter_that_is_put_back_is_a_call_of_its_own(process: NewProcess) -> None:
    outbox = process()
    end(outbox, put(outbox, "order-1").id, EXPIRED)
    outbox.admin().retry()
    outbox.poll()
    receipt = put(outbox, "order-1")

    assert (2, 1) == (outbox.ledger.accepted, outbox.ledger.pending)
    assert Outcome("merged", "expired", EXPIRED) == at_once(receipt.outcome())


def test_a_purge_of_a_person_says_so_to_those_who_tell_the_fact_again(process: NewProcess) -> None:
    outbox = process()
    put(outbox, "order-1")
    outbox.admin().purge(Subject("user", "u1"))
    receipt = put(outbox, "order-1")

    assert Outcome("merged", "purged", Outcome("dropped", "purged")) == at_once(receipt.outcome())


def test_nothing_that_a_caller_has_given_as_a_key_is_kept(process: NewProcess, tmp_path: Path) -> None:
    outbox = process()
    put(outbox, "ann@example.com")
    if isinstance(outbox, RedisOutbox):
        kept = repr([(name, outbox.redis.dump(name)) for name in outbox.redis.keys(f"{{{outbox.name}}}*")])
    elif isinstance(outbox, InlinePostgresOutbox):
        kept = repr([outbox.run(f"SELECT * FROM {{}}_{table}") for table in TABLES])
    else:
        kept = repr([one.read_bytes() for one in (tmp_path / "host").iterdir()])

    assert "ann@example" not in kept


def test_a_call_that_is_gone_without_a_word_is_not_waited_for(process: NewProcess) -> None:
    first = process()
    put(first, "order-1")
    if isinstance(first, InlineRedisOutbox):
        first.redis.delete(f"{{{first.name}}}:log")
    elif isinstance(first, InlinePostgresOutbox):
        first.run("DELETE FROM {}_calls")
    else:
        with closing(sqlite3.connect(first.path)) as db, db:
            db.execute("DELETE FROM calls")
    receipt = put(process(sender=False), "order-1")

    assert Outcome("merged", "unknown", Outcome("dropped", "unknown")) == at_once(receipt.outcome())


@pytest.mark.parametrize("junk", ["junk", "", "x7", "-1", "99 7"])
def test_what_another_program_has_written_in_the_place_of_a_key_is_none(process: NewProcess, junk: str) -> None:
    outbox = process()
    put(outbox, "order-1")
    spoil(outbox, junk)
    receipt = put(outbox, "order-2")
    again = put(outbox, "order-1")

    assert not receipt.is_duplicate
    assert again.id in (0, 99, receipt.id + 1)


def spoil(outbox: Process, junk: str) -> None:
    if isinstance(outbox, InlineRedisOutbox):
        (name,) = outbox.redis.keys(f"{{{outbox.name}}}:dedupe:*")
        outbox.redis.set(name, junk, keepttl=True)
    elif isinstance(outbox, InlinePostgresOutbox):
        outbox.run("UPDATE {}_keys SET outcome = %s, id = 99", junk)
    else:
        with closing(sqlite3.connect(outbox.path)) as db, db:
            db.execute("UPDATE accepted_keys SET at = ?, outcome = ?", (junk, junk))


@those(server="redis")
def test_a_list_in_the_place_of_a_key_is_replaced(outbox: Outbox) -> None:
    assert isinstance(outbox, InlineRedisOutbox)
    put(outbox, "order-1")
    (name,) = outbox.redis.keys(f"{{{outbox.name}}}:dedupe:*")
    outbox.redis.delete(name)
    outbox.redis.rpush(name, "junk")

    assert [1, 1] == [put(outbox, "order-1").id for _ in range(2)]


# ── the bounds of a file, and its damage ──


def keys_in(outbox: InlineOutbox) -> int:
    count: int = outbox.store.file.db.execute("SELECT count(*) FROM accepted_keys").fetchone()[0]
    assert count == outbox.store.file.tables.account().keys
    return count


def test_of_more_keys_than_a_file_keeps_the_oldest_are_forgotten_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_keys, "MOST_KEYS", 3)
    outbox = InlineOutbox(tmp_path / "events.db", durability="process")
    open_now(outbox, Client().opening())
    for number in range(6):
        put(outbox, f"order-{number}")
    kept = keys_in(outbox)
    known = [put(outbox, f"order-{number}").is_duplicate for number in (5, 0)]
    at_once(outbox.aclose())

    assert (3, [True, False]) == (kept, known)
    assert any("keeps no more keys of dedupe= than" in one.getMessage() for one in caplog.records)


def test_keys_that_are_over_leave_the_file_with_those_that_come(timed: tuple[Outbox, Time]) -> None:
    outbox, time = timed
    for number in range(20):
        put(outbox, f"order-{number}", seconds=60)
    time.go_on(61)
    for number in range(20, 30):
        put(outbox, f"order-{number}", seconds=60)

    assert 10 == (keys_in(outbox) if isinstance(outbox, InlineOutbox) else len(outbox._keys))  # type: ignore[attr-defined]


def test_keys_that_are_over_leave_the_file_when_a_process_begins_to_send(
    new_outbox_at: Callable[[str, Time], Outbox],
) -> None:
    time = Time(Client())
    first, second = (new_outbox_at("sqlite", time) for _ in range(2))
    open_now(first, time.client.opening())
    put(first, "order-1", seconds=60)
    at_once(first.aclose())
    time.go_on(61)
    open_now(second, time.client.opening())
    assert isinstance(second, InlineOutbox)

    assert 0 == keys_in(second)


def test_a_calendar_that_is_set_makes_no_key_older(new_outbox_at: Callable[[str, Time], Outbox]) -> None:
    time = Time(Client())
    outbox = new_outbox_at("sqlite", time)
    assert isinstance(outbox, InlineOutbox)
    open_now(outbox, time.client.opening())
    put(outbox, "order-1", seconds=60)
    outbox.store.file.wall = lambda: 1_900_000_000.0 + time.passed
    outbox.poll()
    set_on = put(outbox, "order-1").is_duplicate
    time.go_on(61)

    assert (True, False) == (set_on, put(outbox, "order-1").is_duplicate)


def test_keys_are_among_what_is_saved_of_a_damaged_file(tmp_path: Path) -> None:
    outbox = InlineOutbox(tmp_path / "events.db", durability="process")
    open_now(outbox, Client().opening())
    put(outbox, "order-1")
    end(outbox, put(outbox, "order-2").id, EXPIRED)
    at_once(outbox.aclose())
    with closing(sqlite3.connect(outbox.path)) as db, db:
        db.execute("INSERT INTO accepted_keys VALUES (90, 'no digest', 0.0, 60.0, NULL)")
    _salvage.replace(outbox.path, _salvage.GivenIds(0, 0), _tables.DAMAGED)
    again = InlineOutbox(outbox.path, durability="process")
    open_now(again, Client().opening())
    kept = keys_in(again)
    receipts = [put(again, f"order-{number}") for number in (1, 2, 3)]
    at_once(again.aclose())

    assert 2 == kept
    assert [(True, 0), (True, 1)] == [(one.is_duplicate, one.id) for one in receipts[:2]]
    assert ("expired", False) == (receipts[1].reason, receipts[2].is_duplicate)

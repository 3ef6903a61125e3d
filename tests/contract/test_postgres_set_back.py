"""PostgreSQL comes back with older data: a replica that lagged, last night's dump, tables that were made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, processes
from tests.harness.postgres_server import PostgresServer
from userpilot_async._calls.outcome import DELIVERED
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.postgres._access import REMEMBERED
from userpilot_async.postgres._schema import TABLES


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


def put(outbox: InlinePostgresOutbox, *bodies: bytes) -> list[Receipt]:
    return [outbox.put("track", "u1", body, len(body), 0.0) for body in bodies]


def tickets(outbox: InlinePostgresOutbox) -> list[Any]:
    found: list[Any] = []
    while some := outbox.take(100):
        found += some
    return found


def save(outbox: InlinePostgresOutbox) -> None:
    """What a backup, or a replica that lags, has from now on."""
    for table in TABLES:
        outbox.run(f"CREATE TABLE {{0}}_saved_{table} AS SELECT * FROM {{0}}_{table}")


def set_back(outbox: InlinePostgresOutbox) -> None:
    """As a restored dump, or a failover to that replica, leaves it."""
    for table in TABLES:
        outbox.run(f"TRUNCATE {{0}}_{table}")
        outbox.run(f"INSERT INTO {{0}}_{table} OVERRIDING SYSTEM VALUE TABLE {{0}}_saved_{table}")


def poll(*outboxes: InlinePostgresOutbox) -> None:
    for _ in range(3):
        for outbox in outboxes:
            outbox.store.reach.retry_at = 0.0
            outbox.store._still = 0
            outbox.poll()


def statuses(receipts: list[Receipt]) -> list[tuple[str, str | None]]:
    return [(receipt.status, receipt.reason) for receipt in receipts]


def test_calls_that_are_gone_are_said_to_be_and_those_that_are_there_are_sent(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, other = process(), process(sender=False)
    kept = put(outbox, b"1", b"2")
    save(outbox)
    gone = [*put(outbox, b"3"), *put(other, b"4")]
    set_back(outbox)
    poll(outbox, other)
    new = put(outbox, b"5")

    assert [("pending", None)] * 2 + [("dropped", "unknown")] * 2 == statuses([*kept, *gone])
    assert (1, 1) == (outbox.ledger.resets, other.ledger.resets)
    assert 1 == process(sender=False).ledger.resets  # it is in the account, too
    assert [b"1", b"2", b"5"] == [one[4] for one in tickets(outbox)]
    assert new[0].id not in [receipt.id for receipt in gone]
    assert "has lost calls: " in caplog.text
    left = outbox.send_log.inherited()
    assert left is not None
    assert 80.0 < left.unknown <= 90.0


def test_what_was_in_the_inbox_then_is_accepted_again(process: NewProcess) -> None:
    """Its rows come back with the numbers of transactions that every look has seen since."""
    sender = process()
    put(sender, b"before")
    sender.run("INSERT INTO {}_inbox (kind, key, body, size) VALUES ('track', '\"u1\"', '{{}}', 2)")
    save(sender)
    poll(sender)
    put(sender, b"since")
    set_back(sender)
    poll(sender)

    assert 2 == sender.run("SELECT count(*) FROM {}_calls")[0][0]
    assert [(0,)] == sender.run("SELECT count(*) FROM {}_inbox")


def test_what_may_have_been_sent_before_counts_as_sent(process: NewProcess) -> None:
    """Requests that were noted in what is gone are not known any more: each call that waits may have been in one."""
    outbox = process()
    ids = [receipt.id for receipt in put(outbox, b"1", b"2")]
    save(outbox)
    outbox.take(2)
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 1, None))
    set_back(outbox)
    poll(outbox)
    again = [one[0] for one in tickets(outbox)]
    (new,) = put(outbox, b"3")
    tickets(outbox)

    assert ids == again
    assert [True, True, False] == [outbox.send_log.was_sent(one) for one in [*ids, new.id]]


def test_one_that_was_away_hears_of_it_later_and_it_is_counted_once(process: NewProcess) -> None:
    outbox, away = process(), process(sender=False)
    put(outbox, b"1")
    save(outbox)
    gone = put(away, b"2")
    outbox.store._still = 0
    outbox.poll()
    set_back(outbox)
    poll(outbox)
    put(outbox, *(b"%d" % n for n in range(9)))  # the revision is beyond what the other one has seen
    poll(away, outbox)

    assert [("dropped", "unknown")] == statuses(gone)
    assert (1, 1) == (outbox.ledger.resets, away.ledger.resets)
    assert (outbox.ledger.accepted, outbox.ledger.pending) == (away.ledger.accepted, away.ledger.pending)


def test_one_that_has_seen_nothing_of_what_is_gone_loses_nothing(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox, other = process(), process(sender=False)
    kept = put(other, b"1")
    outbox.store._still = 0
    outbox.poll()
    save(outbox)
    put(outbox, b"2")
    set_back(outbox)
    poll(outbox)
    caplog.clear()
    poll(other)

    assert [("pending", None)] == statuses(kept)
    assert ("", False) == (caplog.text, other.away)


def test_ids_that_are_left_out_are_no_calls_that_wait(process: NewProcess) -> None:
    """For one that has lost nothing, either: it waits for what was accepted before, and no longer."""
    outbox, other = process(), process(sender=False)
    put(other, b"1")
    poll(outbox, other)
    save(outbox)
    reached = other.ledger.next_id
    put(outbox, b"2")
    set_back(outbox)
    poll(outbox, other)

    assert (1, 1) == (other.ledger.pending_before(reached), other.ledger.pending)
    set_back(outbox)
    poll(outbox, other)
    assert (1, 1) == (outbox.ledger.pending, other.ledger.pending)
    assert 1 == other.ledger.pending_before(other.ledger.next_id)


def test_tables_that_were_made_anew_are_another_outbox_and_what_was_in_them_is_gone(
    process: NewProcess, postgres_server: PostgresServer
) -> None:
    outbox, other = process(), process(sender=False)
    gone = [*put(outbox, b"1"), *put(other, b"2")]
    for table in TABLES:
        outbox.run(f"DROP TABLE {{0}}_{table}")
    poll(outbox)
    waited = put(outbox, b"3")
    away = outbox.away
    postgres_server.migrate(outbox.name)
    poll(outbox, other)

    assert away
    assert [("dropped", "unknown")] * 2 == statuses(gone)
    assert [b"3"] == [one[4] for one in tickets(outbox)]
    assert ("pending", None) == statuses(waited)[0]
    assert (1, 1) == (outbox.ledger.resets, other.ledger.resets)
    assert waited[0].id not in [receipt.id for receipt in gone]


def test_what_was_in_doubt_when_it_was_set_back_is_put_again(process: NewProcess) -> None:
    outbox = process()
    put(outbox, b"1")
    save(outbox)
    outbox.writer.runs = False
    (receipt,) = put(outbox, b"2")
    set_back(outbox)
    outbox.writer.runs = True
    poll(outbox)

    assert ("pending", None) == statuses([receipt])[0]
    assert [b"1", b"2"] == [one[4] for one in tickets(outbox)]


# ── others have written past what this process knew, before it looked ──


def written_past(outbox: InlinePostgresOutbox, process: NewProcess, calls: int = 20) -> InlinePostgresOutbox:
    """A process that has come after the set-back, of which it cannot know, and goes on putting."""
    set_back(outbox)
    outbox.end_lease()
    newcomer = process(sender=False)
    for n in range(calls):
        put(newcomer, b"new %d" % n)
    ((revision,),) = outbox.run("SELECT revision FROM {}_state")
    assert revision > outbox.store.access.revision, "its revisions do not reach what the other one has seen"
    return newcomer


def test_calls_that_are_gone_are_said_to_be_although_others_have_written_past_them(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process()
    kept = put(outbox, b"1", b"2")
    save(outbox)
    gone = put(outbox, b"3", b"4", b"5")
    newcomer = written_past(outbox, process)
    poll(outbox, newcomer)
    new = put(outbox, b"6")
    marks = [one[4] for one in tickets(outbox)]
    poll(newcomer)

    assert [("pending", None)] * 2 + [("dropped", "unknown")] * 3 == statuses([*kept, *gone])
    assert [b"1", b"2", *(b"new %d" % n for n in range(20)), b"6"] == marks
    assert (1, 1) == (outbox.ledger.resets, newcomer.ledger.resets)
    assert "has lost calls: " in caplog.text
    assert new[0].id not in [receipt.id for receipt in gone]
    assert 23 == outbox.ledger.accepted == outbox.ledger.pending == newcomer.ledger.accepted


def test_what_others_have_put_since_is_not_said_to_be_lost(process: NewProcess) -> None:
    """They learn of it when somebody else has begun another generation: what they know of is all there."""
    outbox = process()
    save(outbox)
    put(outbox, b"1")
    newcomer = written_past(outbox, process, 5)
    theirs = put(newcomer, b"2")
    poll(outbox, newcomer)

    assert [("pending", None)] == statuses(theirs)
    assert not newcomer.store._resets


def test_what_a_sender_had_sent_counts_as_sent_although_others_have_written_past_it(process: NewProcess) -> None:
    outbox = process()
    ids = [receipt.id for receipt in put(outbox, b"1", b"2")]
    save(outbox)
    outbox.take(2)
    outbox.settle(Settlement(ids, (), DELIVERED, 2, None))
    newcomer = written_past(outbox, process)
    poll(outbox, newcomer)
    again = [one[0] for one in tickets(outbox)]

    assert ids == again[:2]
    assert [True, True] == [outbox.send_log.was_sent(one) for one in ids]
    assert 0 == outbox.ledger.resets, "no call that waited is lost"


def test_a_note_that_was_forgotten_in_time_is_no_older_data(process: NewProcess) -> None:
    outbox = process()
    put(outbox, b"1")
    access = outbox.store.access
    access._stepped_at -= REMEMBERED
    outbox.run("DELETE FROM {}_clients")
    poll(outbox)
    put(outbox, b"2")

    assert (2, 0, False) == (outbox.ledger.pending, outbox.ledger.resets, outbox.away)

"""What is the matter of an outbox in PostgreSQL alone: its inbox, leases in a row, rights, and lost answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from traceback import walk_tb
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.contract.inline import Client, at_once, open_now
from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, processes
from tests.contract.inline_remote import balance, ids_of, put, taken
from tests.harness import length
from tests.harness.postgres_server import PostgresServer
from userpilot_async import OutboxError
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import DELIVERED, Outcome, Words
from userpilot_async._outbox.away import Away
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._runtime.clocks import steady
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.postgres import _connection, _inbox, _tables
from userpilot_async.postgres._address import address_of

NO_ROOM = Outcome("dropped", "queue_full")
EXPIRED = Outcome("dead", "expired")
ANN = ("e:ann", "a:1")
ORDER = DedupeKey.of("order-1", 3_600.0)


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


def tickets(outbox: InlinePostgresOutbox) -> list[Any]:
    found: list[Any] = []
    while some := outbox.take(100):
        found += some
    return found


def put_in_inbox(outbox: InlinePostgresOutbox, *bodies: str, key: str = '"u1"', kind: str = "track") -> None:
    """What a transaction of the application's does."""
    for mark in bodies:
        body = mark if mark.startswith("{") else f'{{"mark":"{mark}"}}'
        outbox.run("INSERT INTO {}_inbox (kind, key, body, size) VALUES (%s, %s, %s, %s)", kind, key, body, len(body))


def insert_slowly(theirs: Any, outbox: InlinePostgresOutbox, mark: str) -> None:
    """Put a call in a transaction that is not committed yet."""
    insert = f"INSERT INTO {outbox.name}_inbox (kind, key, body, size) VALUES ('track', %s, %s, 1)"
    theirs.execute(insert, ('"u1"', f'{{"mark":"{mark}"}}'))


def mark_of(ticket: Any) -> bytes:
    """What a call says; of one that `put_in_inbox` has wrapped, its mark."""
    said: bytes = ticket[4]
    return said[9:-2] if said.startswith(b'{"mark":') else said


def recover(outbox: InlinePostgresOutbox) -> None:
    """Let it find the server again, and write what waits."""
    for _ in range(3):
        outbox.store.reach.retry_at = 0.0
        outbox.store._still = 0
        outbox.poll()


# ── the inbox ──


def test_the_sender_accepts_what_transactions_have_put_and_nobody_else_counts_it(process: NewProcess) -> None:
    sender, other = process(), process(sender=False)
    put_in_inbox(other, '{"a":1}', '{"b":2}')
    other.poll()
    before = (other.ledger.accepted, sender.ledger.accepted)
    sender.poll()
    found = tickets(sender)
    other.poll()

    assert (0, 0) == before
    assert [b'{"a":1}', b'{"b":2}'] == [one[4] for one in found]
    assert [0, 1] == [one[0] for one in found]
    assert (2, 14) == (other.ledger.accepted, other.waiting_bytes)
    assert [(0,)] == sender.run("SELECT count(*) FROM {}_inbox")


def test_calls_of_a_transaction_that_is_not_committed_are_not_seen_and_later_ones_do_not_wait(
    process: NewProcess,
) -> None:
    sender = process()
    with psycopg.connect(**sender._address.parameters(5.0)) as slow:  # type: ignore[arg-type]
        insert_slowly(slow, sender, "1")
        put_in_inbox(sender, "2")
        sender.poll()
        first = [mark_of(one) for one in tickets(sender)]
        slow.commit()
    sender.poll()

    assert [b"2"] == first
    assert [b"1"] == [mark_of(one) for one in tickets(sender)]


def test_what_was_committed_before_a_put_is_accepted_before_it(process: NewProcess) -> None:
    """Or a user's calls would arrive in another order than that in which their caller has made them."""
    sender, other = process(), process(sender=False)
    put_in_inbox(other, "1")
    second = other.put("track", "u1", b"2", 1, 0.0)
    sender.poll()

    assert 1 == second.id
    assert [b"1", b"2"] == [mark_of(one) for one in tickets(sender)]


def test_more_than_is_accepted_at_once_is_accepted_in_order(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tables, "AT_ONCE", 3)
    monkeypatch.setattr(_inbox, "AT_ONCE", 3)
    sender = process()
    put_in_inbox(sender, *map(str, range(8)))
    sender.poll()

    assert [b"%d" % n for n in range(8)] == [mark_of(one) for one in tickets(sender)]


def test_who_takes_the_lease_takes_the_inbox_too(process: NewProcess) -> None:
    """One that sends what there is, and ends when nothing is left, must not end in front of a full inbox."""
    process(sender=False)
    put_in_inbox(process(sender=False), "1")

    assert 1 == process().ledger.pending


def test_pairs_that_transactions_have_named_are_heard_by_all(process: NewProcess) -> None:
    client = Client()
    sender, other = process(), process(client, sender=False)
    put_in_inbox(other, "{}", key='["e:ann","a:1"]')
    sender.poll()
    other.poll()

    assert [("a:1", "e:ann")] == client.pairs


@pytest.mark.parametrize(
    ("key", "body", "size", "kind"),
    [
        ("nonsense", "{}", 2, "track"), ('["u1"', "{}", 2, "track"), ("[1]", "{}", 2, "track"),
        ('"u1"', "[1]", 2, "track"), ("[]", "{}", -5, "track"), ("7", "", 2, "track"), ('"u1"', "no JSON", 2, "track"),
        ('"u1"', "7", 2, "track"), ('"u1"', "{}", 2, "Track"), ('"u1"', "{}", 2, "user"),
        ('"u1"', "[{},null]", 2, "user"),
        ('"u1"', "[{},null,2,null]", 2, "alias"), ('"u1"', "[" * 100_000, 2, "track"),
    ],
)  # fmt: skip
def test_what_another_program_has_put_and_nobody_can_read_is_set_aside_and_stops_nothing(
    process: NewProcess, key: str, body: str, size: int, kind: str
) -> None:
    sender = process()
    sender.run("INSERT INTO {}_inbox (kind, key, body, size) VALUES (%s, %s, %s, %s)", kind, key, body, size)
    put_in_inbox(sender, "{}")
    sender.poll()
    found = taken(sender)
    sender.poll()

    assert [1] == found
    assert ({"damaged": 1}, 2, 2) == (dict(sender.ledger.dead), sender.ledger.accepted, balance(sender))
    assert ["damaged"] == [one.reason for one in sender.admin().dead_letters().kept]


def test_calls_are_accepted_in_the_order_of_their_commits_where_the_server_notes_those(own_postgres: Any) -> None:
    server = own_postgres(config={"track_commit_timestamp": "on"})
    with processes(server.new_outbox()) as process:
        sender = process()
        with psycopg.connect(server.url) as slow:
            insert_slowly(slow, sender, "2")
            put_in_inbox(sender, "1")
            slow.commit()
        sender.poll()

        assert [b"1", b"2"] == [mark_of(one) for one in tickets(sender)]


def test_a_fact_that_transactions_have_told_with_a_key_is_accepted_once(process: NewProcess) -> None:
    sender = process()
    known = DedupeKey.of("order-0", 3_600.0)
    sender.put("track", "u1", b"{}", 2, 0.0, known)
    for mark, key in (("1", ORDER), ("2", ORDER), ("3", known), ("4", None)):
        sender.run(
            "INSERT INTO {}_inbox (kind, key, body, size, dedupe) VALUES ('track', %s, %s, 1, %s)",
            '"u1"', f'{{"mark":"{mark}"}}', key and key.digest,
        )  # fmt: skip
    sender.poll()
    again = sender.put("track", "u1", b"5", 1, 0.0, ORDER)

    assert [b"{}", b"1", b"4"] == [mark_of(one) for one in tickets(sender)]
    assert (3, 3, 1) == (sender.ledger.accepted, sender.ledger.duplicates, again.id)
    assert again.is_duplicate
    assert [(0,)] == sender.run("SELECT count(*) FROM {}_inbox")


def test_keys_are_forgotten_when_their_time_is_over(process: NewProcess) -> None:
    outbox = process()
    outbox.put("track", "u1", b"{}", 2, 0.0, ORDER)
    outbox.run("UPDATE {}_keys SET until = clock_timestamp()")
    outbox.store._forget_at = 0.0
    outbox.poll()

    assert [(0,)] == outbox.run("SELECT count(*) FROM {}_keys")
    assert not outbox.put("track", "u1", b"{}", 2, 0.0, ORDER).is_duplicate


# ── the lease ──


def test_a_sender_that_writes_renews_its_lease_by_that(process: NewProcess) -> None:
    outbox = process()
    outbox.store.lease.valid_until = steady() + 1.0
    ((before,),) = outbox.run("SELECT extract(epoch FROM lease_until) FROM {}_state")
    put(outbox)
    ((after,),) = outbox.run("SELECT extract(epoch FROM lease_until) FROM {}_state")

    assert after > before
    assert steady() + 5.0 < outbox.store.lease.valid_until


def counted(outbox: InlinePostgresOutbox, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The short transactions that it makes from now on."""
    asked: list[object] = []
    connection = outbox.store.access.connection
    run_alone = connection.run_alone
    monkeypatch.setattr(connection, "run_alone", lambda *some: asked.append(some) or run_alone(*some))
    return asked


def test_a_standby_does_not_ask_for_a_lease_that_somebody_has(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, standby = process(), process()
    asked = counted(standby, monkeypatch)
    for _ in range(5):
        standby.poll()
    before = len(asked)
    at_once(sender.aclose())
    standby.poll()

    assert (5, 7, True) == (before, len(asked), standby.sends)


def test_one_that_is_idle_asks_the_server_less_often(process: NewProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = process(sender=False)
    asked = counted(outbox, monkeypatch)
    for _ in range(40):
        outbox.poll()
    busy = len(asked)
    for _ in range(40):
        outbox.poll()

    assert (40, 50) == (busy, len(asked))


# ── rights ──


def test_a_role_that_may_only_read_and_write_the_tables_is_enough(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_outbox(user="writer", password="pw")
    name = url.partition("name=")[2]
    with suppress(psycopg.errors.DuplicateObject):
        postgres_server.run("CREATE ROLE writer LOGIN")
    tables = ", ".join(f"{name}_{one}" for one in _all_tables())
    postgres_server.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO writer")
    with processes(url) as process:
        outbox = process()
        ids = ids_of(put(outbox, 3))
        outbox.take(3)
        put_in_inbox(outbox, "{}")
        outbox.poll()
        outbox.settle(Settlement(ids[:2], (), DELIVERED, 4, None))
        outbox.settle(Settlement(ids[2:], (), EXPIRED, 2, b"xx"))

        assert (4, 2, 1, 1) == (
            outbox.ledger.accepted, outbox.ledger.delivered, outbox.ledger.pending, outbox.ledger.dead["expired"]
        )  # fmt: skip
        assert 1 == outbox.admin().retry().calls


def _all_tables() -> list[str]:
    from userpilot_async.postgres._schema import TABLES

    return list(TABLES)


def test_a_role_that_may_only_put_into_the_inbox_needs_no_other_right(postgres_server: PostgresServer) -> None:
    with processes(postgres_server.new_outbox()) as process:
        sender = process()
        with suppress(psycopg.errors.DuplicateObject):
            postgres_server.run("CREATE ROLE application LOGIN")
        postgres_server.run(f"GRANT INSERT ON {sender.name}_inbox TO application")
        with psycopg.connect(postgres_server.url_of(user="application")) as theirs:
            theirs.execute(
                f"INSERT INTO {sender.name}_inbox (kind, key, body, size) VALUES ('track', '\"u1\"', '{{}}', 2)"
            )  # type: ignore[call-overload]
        sender.poll()

        assert 1 == sender.ledger.pending


def test_a_role_without_rights_is_refused_in_words(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_outbox(user="stranger")
    with suppress(psycopg.errors.DuplicateObject):
        postgres_server.run("CREATE ROLE stranger LOGIN")
    with (
        processes(url) as process,
        pytest.raises(OutboxError, match=r"does not let us do that: permission denied for table .*; see its grants"),
    ):
        process()


def test_rights_that_are_taken_away_meanwhile_stop_callers_in_words_and_lose_nothing(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_server.new_outbox(user="writer")
    name = url.partition("name=")[2]
    with suppress(psycopg.errors.DuplicateObject):
        postgres_server.run("CREATE ROLE writer LOGIN")
    tables = ", ".join(f"{name}_{one}" for one in _all_tables())
    postgres_server.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO writer")
    with processes(url) as process:
        outbox = process()
        postgres_server.run(f"REVOKE INSERT ON {name}_calls FROM writer")
        (receipt,) = put(outbox)
        away = outbox.away
        postgres_server.run(f"GRANT INSERT ON {name}_calls TO writer")
        recover(outbox)

        assert away
        assert "calls wait, and cannot be put: " in caplog.text
        assert (0, 1) == (receipt.id, outbox.ledger.pending)


def test_a_server_that_may_lose_what_it_has_said_is_committed_is_warned_of(
    postgres_server: PostgresServer, process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process(sender=False)
    before = caplog.text
    postgres_server.run("ALTER ROLE postgres SET synchronous_commit = off")
    try:
        process(sender=False)
    finally:
        postgres_server.run("ALTER ROLE postgres RESET synchronous_commit")

    assert "synchronous_commit" not in before
    assert "may lose the last calls when it crashes: set synchronous_commit on for this role" in caplog.text


def test_the_lowest_id_that_is_held_is_noted_exactly(process: NewProcess) -> None:
    """Calls are read from there on, and polling for the oldest walks over nothing that was deleted before it."""
    outbox = process()
    noted: list[tuple[int, int]] = []

    def look() -> None:
        noted.extend(outbox.run("SELECT oldest, coalesce((SELECT min(id) FROM {0}_calls), -1) FROM {0}_state"))

    ids = ids_of(put(outbox, 5))
    outbox.take(5)
    look()
    outbox.settle(Settlement(ids[1:2], (), DELIVERED, 2, None))
    look()
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
    look()
    outbox.settle(Settlement(ids[2:], (), DELIVERED, 6, None))
    look()
    outbox.refuse(NO_ROOM)
    look()
    put(outbox)
    look()

    assert [(0, 0), (0, 0), (2, 2), (5, -1), (6, -1), (6, 6)] == noted


# ── what another has changed there ──


def test_calls_that_somebody_has_deleted_are_counted_and_nobody_waits_for_them(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process()
    receipts = put(outbox, 3)
    taken(outbox)
    outbox.run("DELETE FROM {}_calls")
    outbox.settle(Settlement(ids_of(receipts), (), DELIVERED, 6, None))
    for _ in range(3):
        outbox.poll()

    assert ({"damaged": 3}, 0) == (dict(outbox.ledger.dead), outbox.ledger.pending)
    assert "does not have them any more, they were deleted there" in caplog.text


def test_words_that_the_server_does_not_take_are_noted(process: NewProcess) -> None:
    outbox = process()
    ids = ids_of(put(outbox, 1))
    outbox.take(1)
    outbox.settle(Settlement(ids, (), EXPIRED, 2, b"xx", Words("a lone \ud800 surrogate, and a \0")))

    assert {"expired": 1} == dict(outbox.ledger.dead)
    assert ["a lone ? surrogate, and a ?"] == [one.detail for one in outbox.admin().dead_letters().kept]


def test_lost_calls_are_forgotten_in_time_although_nothing_is_lost_any_more(process: NewProcess) -> None:
    outbox = process()
    ids = ids_of(put(outbox))
    outbox.take(1)
    outbox.settle(Settlement(ids, (), EXPIRED, 2, b"xx"))
    kept = outbox.run("SELECT count(*) FROM {}_lost")
    outbox.store._keep_lost = -1.0
    outbox.store._forget_at = 0.0
    outbox.poll()

    assert ([(1,)], [(0,)]) == (kept, outbox.run("SELECT count(*) FROM {}_lost"))


@pytest.mark.parametrize("column", ["account", "version", "all"])
def test_a_row_of_state_that_is_damaged_is_said_to_be(process: NewProcess, column: str) -> None:
    outbox = process(sender=False)
    statement = {
        "account": "UPDATE {}_state SET account = 'nonsense'", "version": "UPDATE {}_state SET version = version + 1",
        "all": "DELETE FROM {}_state",
    }[column]  # fmt: skip
    outbox.run(statement)
    with pytest.raises(OutboxError, match=r"restore it|of a newer userpilot_async|has no tables"):
        process()


# ── answers that are lost ──


class Faulty:
    """Ends the connection at the n-th statement from now on: before it is made, or when its answer is to come.

    Or the server does so (``terminated``), or undoes the transaction for another's sake (``undone``).
    """

    def __init__(self, connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.how = "before"
        for name in ("run", "run_all"):
            monkeypatch.setattr(connection, name, self._failing(connection, getattr(connection, name)))

    def _failing(self, connection: Any, run: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*arguments: Any) -> Any:
            self.left -= 1
            if self.left != 0:
                return run(*arguments)
            if self.how == "terminated":
                self._terminate(connection)
                return run(*arguments)
            if self.how == "undone":
                return run(b"DO $$ BEGIN RAISE 'a conflict' USING ERRCODE = '40001'; END $$")
            try:
                if self.how == "after":
                    run(*arguments)
            finally:
                connection.close()
            raise Away("the connection was lost")

        return failing

    @staticmethod
    def _terminate(connection: Any) -> None:
        """As an administrator does, in the middle of a transaction."""
        there = connection._connection
        with closing(psycopg.connect(there.info.dsn, autocommit=True)) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (there.info.backend_pid,))


def work(outbox: InlinePostgresOutbox) -> tuple[list[Receipt], list[Any]]:
    """Do a bit of everything: receipts of what was put, and the calls that are taken; the first one is settled."""
    put = [outbox.put("track", ANN, body, 1, 0.0) for body in (b"1", b"2", b"3")]
    put.append(outbox.put("track", ANN, b"5", 1, 0.0, ORDER))
    outbox.put("track", ANN, b"6", 1, 0.0, ORDER)  # the same fact
    put_in_inbox(outbox, "4")
    outbox.poll()
    outbox.refuse(NO_ROOM)
    found = tickets(outbox)
    for one in found[:1]:
        request = RequestNote("track", [one[0]])
        with suppress(AssertionError, RuntimeError):  # the server is away, and it waits
            at_once(outbox.send_log.sending(request))
        outbox.settle(Settlement([one[0]], (), DELIVERED, 1, None))
        outbox.send_log.landed(request, answered=True, lost=False)
    return put, found


@pytest.mark.parametrize("how", ["before", "after", "terminated", "undone"])
def test_whatever_statement_is_broken_off_each_call_is_there_once(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The connection ends in front of each statement, or behind it: nothing is lost, and nothing is there twice."""
    reached, number, stride = True, 1, max(1, 4 // length.of(4))
    while reached:
        with processes(postgres_server.new_outbox()) as process:
            other, outbox = process(sender=False), process()
            faults = Faulty(outbox.store.access.connection, monkeypatch)
            faults.left, faults.how = number, how
            receipts, found = work(outbox)
            settled, hand = found[:1], found[1:]
            reached = faults.left <= 0
            recover(outbox)
            if not outbox.sends:  # the answer of the lease was lost: it ends in ten seconds
                outbox.end_lease()
                recover(outbox)
            arrived = Counter({mark_of(one): outbox.ledger.delivered for one in settled})
            while found := tickets(outbox) + (hand if not outbox.send_log.term else []):
                hand = []
                arrived.update(mark_of(one) for one in found)
                outbox.settle(Settlement([one[0] for one in found], (), DELIVERED, len(found), None))
            other.store._still = 0
            other.poll()

            assert {b"1": 1, b"2": 1, b"3": 1, b"4": 1, b"5": 1} == arrived, f"{how} statement {number}"
            assert (6, 5, 0, 1, {"queue_full": 1}) == (
                outbox.ledger.accepted, outbox.ledger.delivered, outbox.ledger.pending, outbox.ledger.duplicates,
                outbox.ledger.losses(),
            ), f"{how} statement {number}"  # fmt: skip
            assert outbox.ledger.accepted == other.ledger.accepted
            assert {"delivered"} == {receipt.status for receipt in receipts}
            assert [(0, 0)] == outbox.run("SELECT (SELECT count(*) FROM {0}_calls), (SELECT count(*) FROM {0}_inbox)")
            number += stride
    assert 20 < number
    if how == "undone":
        assert "does not answer" not in caplog.text, "one that is made again is no outage"


def test_calls_that_were_taken_back_while_it_was_in_doubt_whether_they_are_there_are_not(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process()
    faults = Faulty(outbox.store.access.connection, monkeypatch)
    outbox.writer.runs = False
    receipts = [outbox.put("track", "u1", b"%d" % n, 1, 0.0) for n in range(4)]
    faults.left, faults.how = 2, "after"  # the lock, the calls and the state with the end of it
    outbox.writer.runs = True
    outbox.writer.wake()
    (batch,) = [one for one in outbox._session.queue.batches() if one.puts]
    there = outbox.run("SELECT count(*) FROM {}_calls")
    withdrawn = [outbox._session.incoming._withdraw(batch.puts[n], batch) for n in (0, 2)]
    recover(outbox)

    assert [(4,)] == there  # the doubt was real
    assert [True, True] == withdrawn
    assert [b"1", b"3"] == [mark_of(one) for one in tickets(outbox)]
    assert [1, 3] == [receipts[n].id for n in (1, 3)]
    assert (2, 2, 2) == (outbox.ledger.accepted, outbox.ledger.pending, outbox.waiting_bytes)


def test_a_call_that_was_delivered_while_it_was_in_doubt_keeps_its_key(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller has left without an answer, and tells the fact again: it was accepted, and has arrived."""
    sender, other = process(), process(sender=False)
    faults = Faulty(other.store.access.connection, monkeypatch)
    other.writer.runs = False
    other.put("track", "u1", b"1", 1, 0.0, ORDER)
    faults.left, faults.how = 5, "after"  # the lock, known keys, an old key, the new one, the calls with the end of it
    other.writer.runs = True
    other.writer.wake()
    (batch,) = [one for one in other._session.queue.batches() if one.puts]
    sender.poll()
    (ticket,) = tickets(sender)
    sender.settle(Settlement([ticket[0]], (), DELIVERED, 1, None))
    withdrawn = other._session.incoming._withdraw(batch.puts[0], batch)
    recover(other)
    again = other.put("track", "u1", b"1", 1, 0.0, ORDER)

    assert withdrawn
    assert (0, True) == (again.id, again.is_duplicate)
    assert (1, 1) == (other.ledger.accepted, other.ledger.delivered)


def test_old_keys_are_found_without_looking_at_all(process: NewProcess) -> None:
    """Ten million are looked through once a minute, while nobody else may write."""
    outbox = process()
    outbox.run(
        "INSERT INTO {}_keys (id, digest, until) SELECT n, decode(md5(n::text), 'hex'), "
        "clock_timestamp() + interval '1 day' FROM generate_series(1, 20000) AS n"
    )
    outbox.run("ANALYZE {}_keys")
    access = outbox.store.access
    plan: list[str] = []
    with access.row.locked() as state:
        run = access.connection.run
        access.tables.keys._connection = Explaining(run, plan)
        access.tables.keys.forget(state, 5_000)

    assert [one for one in plan if "_keys_until" in one]
    assert not [one for one in plan if "Seq Scan" in one]


class Explaining:
    """Has the plans of statements told, beside their rows."""

    def __init__(self, run: Callable[..., Any], plan: list[str]) -> None:
        self._run = run
        self._plan = plan

    def run(self, statement: Any, values: Any) -> Any:
        self._plan += [row[0] for row in self._run(sql.SQL("EXPLAIN ") + statement, values)]
        return self._run(statement, values)


def test_no_statement_is_compiled(process: NewProcess) -> None:
    """PostgreSQL expects far too many rows of a join with stretches of ids: compiling it takes a hundred times as long
    as running it."""
    connection = process().store.access.connection
    with connection.transaction():
        assert [("off",)] == connection.run(b"SHOW jit")


def test_a_transaction_that_is_undone_for_anothers_sake_is_made_again(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process()
    tables, tries = outbox.store.access.tables, list[int]()
    whole = tables.put

    def undone_twice(*arguments: Any) -> Any:
        tries.append(len(tries))
        if len(tries) < 3:
            outbox.store.access.connection.run(b"DO $$ BEGIN RAISE 'a deadlock' USING ERRCODE = '40P01'; END $$")
        return whole(*arguments)

    monkeypatch.setattr(tables, "put", undone_twice)
    (receipt,) = put(outbox)

    assert (3, 0, False) == (len(tries), receipt.id, outbox.away)


def test_a_poll_that_is_undone_for_anothers_sake_is_made_again(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process()
    connection = outbox.store.access.connection
    deadlock = sql.SQL("DO $$ BEGIN RAISE 'a deadlock' USING ERRCODE = '40P01'; END $$").format()
    run_alone = connection.run_alone
    with monkeypatch.context() as patched:
        patched.setattr(connection, "run_alone", lambda *some: run_alone(deadlock))
        outbox.poll()
    was_away = outbox.away
    recover(outbox)

    assert (False, False, True) == (was_away, outbox.away, outbox.sends)


def test_a_full_disk_stops_calls_and_not_what_becomes_of_others(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    outbox = process(client)
    ids = ids_of(put(outbox, 3))
    outbox.take(3)
    outbox.run(
        "CREATE FUNCTION {0}_full() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
    )
    outbox.run("CREATE TRIGGER disk_full BEFORE INSERT ON {0}_calls EXECUTE FUNCTION {0}_full()")
    refused = outbox.put("track", "u1", b"x", 1, 0.0)
    outbox.settle(Settlement(ids[:2], (), DELIVERED, 4, None))

    assert ("dropped", "outbox") == (refused.status, refused.reason)
    assert ["track"] == [call[0] for call in client.not_held]
    assert " takes no calls: " in caplog.text
    assert (2, 1, 0) == (outbox.ledger.delivered, outbox.ledger.pending, outbox.unheld)
    outbox.run("DROP TRIGGER disk_full ON {}_calls")
    assert "pending" == put(outbox)[0].status
    assert (2, 2) == (outbox.ledger.delivered, outbox.ledger.pending)


def test_a_server_that_takes_no_writes_is_away_until_it_does(
    postgres_server: PostgresServer, process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """So does a primary that a failover has made a replica."""
    process(sender=False)
    postgres_server.run("ALTER ROLE postgres SET default_transaction_read_only = on")
    try:
        outbox = process()
        (receipt,) = put(outbox)
        waited = (receipt.id, outbox.away)
    finally:
        postgres_server.run("BEGIN READ WRITE; ALTER ROLE postgres RESET default_transaction_read_only; COMMIT")
    recover(outbox)

    assert (-1, True) == waited
    assert "cannot serve us at present (it takes no writes: a replica, or a failover is going on)" in caplog.text
    assert 0 == receipt.id


def test_a_row_that_somebody_has_locked_for_long_is_waited_for_and_then_it_is_away(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process(timeout=0.2)
    with psycopg.connect(**outbox._address.parameters(5.0)) as theirs:  # type: ignore[arg-type]
        theirs.execute(f"SELECT * FROM {outbox.name}_state FOR UPDATE")  # type: ignore[call-overload]
        (receipt,) = put(outbox)
        waited = (receipt.id, outbox.away)
    recover(outbox)

    assert (-1, True) == waited
    assert 0 == receipt.id


# ── secrets ──


def is_psycopgs(frame: Any) -> bool:
    return "psycopg" in frame.f_code.co_filename.split("/")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url.replace("/postgres?", "/nothing?"),
        lambda url: url.replace("writer:", "nobody:"),
        lambda url: url.replace("127.0.0.1", "no-such-host.invalid"),
        lambda url: url + "&options=-c%20hunter2%3D1",
        lambda url: url + "&sslmode=require",
        lambda url: url + "&sslrootcert=/hunter2&sslmode=verify-full",
        lambda url: url.replace("name=", "name=x"),
        lambda url: url + "&sslmode=hunter2",
        lambda url: url.replace("127.0.0.1", "no..host"),
    ],
)
def test_no_password_is_in_any_message(
    postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture, spoil: Callable[[str], str]
) -> None:
    caplog.set_level(logging.DEBUG)
    url = postgres_server.new_outbox(user="writer", password="hunter2")
    said = repr(outbox := InlinePostgresOutbox(spoil(url), timeout=1.0))
    try:
        open_now(outbox)
        said += str(outbox.admin().inspect())
    except OutboxError as error:
        said += f"{error!r} {error.__cause__!r} {error.__context__!r}"
        said += "".join(repr(frame.f_locals) for frame, _ in walk_tb(error.__traceback__) if is_psycopgs(frame))
    with suppress(OutboxError):
        outbox.admin().inspect()
    at_once(outbox.aclose())

    assert "hunter2" not in (said + caplog.text).replace("/hunter2", "")


@pytest.mark.parametrize("option", ["sslmode=maybe", "connect_timeout=soon", "port=70000", "port=1,2"])
def test_an_option_that_libpq_does_not_take_is_said_and_not_waited_for(option: str) -> None:
    with pytest.raises(OutboxError, match="an option of libpq's has a value"):
        open_now(InlinePostgresOutbox(f"postgresql://127.0.0.1/app?{option}", timeout=1.0))


def test_a_host_that_cannot_be_one_is_said_and_not_waited_for() -> None:
    with pytest.raises(OutboxError, match=r"no\.\.host/app: its host has a name that no host can have"):
        open_now(InlinePostgresOutbox("postgresql://no..host/app", timeout=1.0))


def test_what_the_server_says_is_quoted_without_a_secret_or_a_url(postgres_server: PostgresServer) -> None:
    address, _ = address_of(postgres_server.url_of(password="hunter2"), {})
    with closing(_connection.Connection(address, "shop", deadline=5.0)) as connection:
        connection.connect()
        with pytest.raises(OutboxError) as said:
            connection.run(b"DO $$ BEGIN RAISE 'not hunter2, postgresql://u:other@h or password=third'; END $$")

    assert str(said.value).endswith(": not (secret), (…) or (…)")


def test_a_password_that_may_be_overheard_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        InlinePostgresOutbox("postgresql://u:hunter2@db.example.org/app")
    _connection._overheard.clear()

    assert 1 == caplog.text.count("may go over the network in the clear; insist on TLS: sslmode=verify-full")
    assert "hunter2" not in caplog.text

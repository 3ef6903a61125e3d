"""An outbox in PostgreSQL in which much waits: nobody waits for who looks at all of it, and no statement is long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from tests.contract.inline import Client
from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, keys_of, processes, put, put_in_inbox
from tests.harness.postgres_server import PostgresServer
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._errors.tree import OutboxError
from userpilot_async._outbox.admin import EVERY_ONE, PurgeReport, Selection, Subject
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.postgres import _pages, _purge, _reconcile
from userpilot_async.postgres._schema import Names

EXPIRED, INVALID = Outcome("dead", "expired"), Outcome("dead", "invalid")
ANN = Subject("user", "ann")


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


@pytest.fixture
def by_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement looks at two rows, and a transaction changes one."""
    monkeypatch.setattr(_purge, "SPAN", 2)
    monkeypatch.setattr(_purge, "ERASED", 1)
    monkeypatch.setattr(_reconcile, "SPAN", 2)
    monkeypatch.setattr(_pages, "AT_ONCE", 1)


def lose(outbox: InlinePostgresOutbox, ids: list[int], outcome: Outcome = EXPIRED) -> None:
    """Take all that waits, and give these up."""
    while outbox.take(100):
        pass
    outbox.settle(Settlement(ids, (), outcome, 2 * len(ids), b"{}"))


def sees_a_lock_waited_for(outbox: InlinePostgresOutbox) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%{}%%'"
    return bool(outbox.run(query)[0][0])


def held(outbox: InlinePostgresOutbox) -> tuple[int, int]:
    """Bytes of what waits, in the account and in the table."""
    table = outbox.run("SELECT coalesce(sum(size), 0)::bigint FROM {}_calls")[0][0]
    return outbox.admin().inspect().account.bytes, table


class Purging:
    """A purge of Ann, which has come to a row of hers that somebody has locked."""

    def __init__(self, outbox: InlinePostgresOutbox, table: str) -> None:
        self._outbox = outbox
        self._theirs = psycopg.connect(**outbox._address.parameters(5.0))  # type: ignore[arg-type]
        column = "seq" if table == "inbox" else "id"
        self._theirs.execute(
            f"SELECT * FROM {outbox.name}_{table} WHERE key = '\"ann\"' ORDER BY {column} LIMIT 1 FOR UPDATE".encode()
        )
        self._threads = ThreadPoolExecutor(1)
        self._purge = self._threads.submit(outbox.admin().purge, ANN)
        while not sees_a_lock_waited_for(outbox):
            assert not self._purge.done(), "the purge did not wait"

    def ended(self) -> PurgeReport:
        """Let the row go; what the purge has done."""
        with self._threads, closing(self._theirs):
            self._theirs.rollback()
            return self._purge.result()


# ── a person is erased ──


@pytest.mark.parametrize("table", ["inbox", "lost"])
def test_others_write_while_a_person_is_looked_for(process: NewProcess, table: str) -> None:
    """A search of a million calls takes more than a second, and others look away after three."""
    sender, other = process(), process(sender=False, timeout=0.5)
    lose(sender, put(sender, "ann", "ben")[:1])
    put_in_inbox(sender, "ann", "ben")
    purging = Purging(sender, table)
    written = put(other, "cid"), other.away
    report = purging.ended()

    assert not written[1]
    assert min(written[0]) >= 2
    assert (1, 1) == (report.waiting, report.lost)
    assert '"ann"' not in (*keys_of(sender, "calls"), *keys_of(sender, "inbox"), *keys_of(sender, "lost"))


@pytest.mark.usefixtures("by_ones")
def test_what_moves_on_while_a_person_is_looked_for_is_erased_too(process: NewProcess) -> None:
    """Dead letters are put back into the line, and what is in the inbox is accepted."""
    sender = process()
    lose(sender, put(sender, "ann", "ann", "ben", "ann"))
    purging = Purging(sender, "lost")
    sender.admin().retry(Selection(ids=[1]))
    sender.admin().retry(Selection(ids=[3]))
    sender.poll()
    lose(sender, [5])
    report = purging.ended()
    sender.poll()

    assert (1, 2) == (report.waiting, report.lost)
    assert (['"ben"'], []) == (keys_of(sender, "lost"), keys_of(sender, "calls"))
    assert {"purged": 1} == dict(sender.ledger.dropped)
    assert 0 == sender.ledger.pending


@pytest.mark.usefixtures("by_ones")
def test_a_purge_in_many_transactions_erases_what_a_search_has_counted_and_nothing_else(process: NewProcess) -> None:
    sender, other = process(), process(sender=False)
    lose(sender, put(sender, "ann", "ben", "ann")[1:])
    put(sender, *["ben", "ann", "ann"] * 3)
    sender.poll()
    put_in_inbox(other, "ben", "ann", "ann")
    counted = sender.admin().purge(ANN, really=False)
    done = sender.admin().purge(ANN)
    other.poll()

    assert (9, 1, False) == (counted.waiting, counted.lost, counted.done)
    assert (9, 1, True) == (done.waiting, done.lost, done.done)
    assert ['"ben"'] * 3 == keys_of(sender, "calls")
    assert [['"ben"']] * 2 == [keys_of(sender, "inbox"), keys_of(sender, "lost")]
    assert (6, 6) == held(sender)
    assert {"purged": 7} == dict(other.ledger.dropped)


@pytest.mark.usefixtures("by_ones")
def test_two_purges_at_once_erase_and_count_each_call_once(process: NewProcess) -> None:
    sender = process()
    lose(sender, put(sender, "ann", "ann"))
    put(sender, *["ann", "ben"] * 3)
    put_in_inbox(sender, "ann", "ben", "ann")
    purging = Purging(sender, "inbox")
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(sender.admin().purge, ANN)
        reports = [purging.ended(), second.result()]
    sender.poll()

    assert (5, 2) == (sum(one.waiting for one in reports), sum(one.lost for one in reports))
    assert ({"purged": 3}, 4) == (dict(sender.ledger.dropped), sender.ledger.pending)
    assert (8, 8) == held(sender)


def test_a_purge_that_is_broken_off_has_done_a_part_and_the_next_one_does_the_rest(process: NewProcess) -> None:
    sender = process()
    lose(sender, put(sender, "ann"))
    put(sender, "ann", "ben")
    purging = Purging(sender, "lost")
    sender.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with pytest.raises(OutboxError, match="does not answer"):
        purging.ended()
    after_the_first = keys_of(sender, "calls"), keys_of(sender, "lost"), held(sender)
    rest = sender.admin().purge(ANN)

    assert (['"ben"'], ['"ann"'], (2, 2)) == after_the_first
    assert (0, 1) == (rest.waiting, rest.lost)
    assert [] == keys_of(sender, "lost")


# ── calls and account are compared ──


def test_a_sender_that_misses_calls_keeps_nobody_waiting_for_its_look(process: NewProcess) -> None:
    sender = process(timeout=0.5)
    put(sender, "ann")
    with closing(psycopg.connect(**sender._address.parameters(5.0))) as theirs:  # type: ignore[arg-type]
        theirs.execute(f"SELECT * FROM {sender.name}_state FOR UPDATE".encode())
        found = sender.store.reconcile(5), sender.away

    assert (0, False) == found


@pytest.mark.usefixtures("by_ones")
def test_what_is_missing_is_counted_although_others_go_on(process: NewProcess) -> None:
    sender, other = process(), process(sender=False)
    put(sender, *["ann"] * 7)
    access = sender.store.access
    sender.run("DELETE FROM {}_calls WHERE id IN (0, 4, 5)")
    before, found = _reconcile.look(access)
    put(other, "ben")
    with access.row.locked() as state:
        missing = _reconcile.correct(access, state, before, found)
        access.row.write(state)

    assert (1, 4, 8) == (found.first, found.calls, found.bytes)
    assert (3, 1, {"damaged": 3}, 5) == (missing, state.oldest, state.account.dead, state.account.waiting)
    assert (10, 10) == held(sender)


# ── lost calls ──


@pytest.mark.usefixtures("by_ones")
def test_lost_calls_are_put_back_in_pages_and_none_of_them_twice(process: NewProcess) -> None:
    """Such as are lost again meanwhile have new ids, behind all that were meant."""
    sender = process()
    ids = put(sender, *["ann"] * 6)
    lose(sender, ids[:3])
    lose(sender, ids[3:5], INVALID)
    sender.run("UPDATE {}_lost SET body = 'damaged', kind = 'user' WHERE id = 1")
    expired = sender.admin().dead_letters(Selection(reasons=["expired"])).kept
    some = sender.admin().retry(Selection(reasons=["expired"], ids=[0, 1, 77, 2**70]))
    rest = sender.admin().retry()

    assert ids[:3] == [one.id for one in expired]
    assert (1, 1, [77, 2**70]) == (some.calls, some.damaged, some.missing)
    assert (3, 1, []) == (rest.calls, rest.damaged, rest.missing)
    assert [(5,), (6,), (7,), (8,), (9,)] == sender.run("SELECT id FROM {}_calls ORDER BY id")
    assert [1] == [one.id for one in sender.admin().dead_letters().kept]


@pytest.mark.usefixtures("by_ones")
def test_what_is_lost_while_others_are_put_back_is_not_among_them(process: NewProcess) -> None:
    """Or a call that dies again at once would be put back for ever."""
    sender = process()
    lose(sender, put(sender, *["ann"] * 3))
    with closing(sender._connection(5.0)) as connection:
        connection.connect()
        pages = _pages.Pages(connection, Names(sender.name)).each_chosen("id", EVERY_ONE, 3)
        first = list(next(pages))
        lose(sender, put(sender, "ann"))
        rest = [row for rows in pages for row in rows]

    assert [(0,), (1,), (2,)] == [*first, *rest]


# ── the server's own settings ──

SETTINGS = {
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "jit": ("off",),
    "work_mem": ("'64kB'",),
    "bytea_output": ("escape",),
    "enable_indexscan": ("off",),
    "standard_conforming_strings": ("off",),
    "array_nulls": ("off",),
    "client_encoding": ("LATIN1",),
    "extra_float_digits": ("-15",),
    "DateStyle": ("'SQL, DMY'",),
}
HOSTILE = ("", "NULL", "a\\b", '"', "{x,y}", "\0", "ü€😀", "'; --", "%s {0}", "\n\t", "E'\\\\")


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, some in SETTINGS.items() for one in some])
def test_whatever_a_role_has_set_all_of_it_works(postgres_server: PostgresServer, name: str, value: str) -> None:
    """Most of these come from the needs of the application, whose role this may be."""
    role = f"role_{postgres_server.new_name()}"
    postgres_server.run(f"CREATE ROLE {role} LOGIN SUPERUSER")
    postgres_server.run(f"ALTER ROLE {role} SET {name} = {value if value.startswith(chr(39)) else repr(value)}")
    with processes(postgres_server.new_outbox(user=role)) as process:
        sender, other = process(Client()), process(sender=False)
        for _ in range(3):  # by turns: each sees what the other has changed since
            put(sender, "ann", "ben")
            put_in_inbox(other, "ann", "ben")
            put(other, "ben")
            sender.poll()
        taken: list[Any] = []
        while some := sender.take(100):
            taken += some
        ids = [one[0] for one in taken]
        sender.settle(Settlement(ids[:5], (), DELIVERED, 10, None))
        sender.settle(Settlement(ids[5:9], (), EXPIRED, 8, b"{}"))
        retried = other.admin().retry().calls
        purged = other.admin().purge(ANN)
        other.poll()

        assert list(range(15)) == ids
        assert 4 == retried
        assert purged.done
        assert (5, 15 + 4) == (other.ledger.delivered, other.ledger.accepted)
        assert '"ann"' not in keys_of(sender, "calls")


@pytest.mark.parametrize("name", ["standard_conforming_strings", "array_nulls", "client_encoding"])
def test_whatever_a_role_has_set_any_text_is_read_as_it_was_put(postgres_server: PostgresServer, name: str) -> None:
    role = f"role_{postgres_server.new_name()}"
    postgres_server.run(f"CREATE ROLE {role} LOGIN SUPERUSER")
    postgres_server.run(f"ALTER ROLE {role} SET {name} = '{SETTINGS[name][0]}'")
    with processes(postgres_server.new_outbox(user=role)) as process:
        sender, other = process(), process(sender=False)
        put(other, *HOSTILE)
        sender.poll()
        users = [key for _, _, _, key, _ in sender.take(100)]
        moments = sender.run("SELECT DISTINCT moment FROM {}_calls")
        purged = [other.admin().purge(Subject("user", one)).waiting for one in HOSTILE if one]

    assert list(HOSTILE) == users
    assert [(None,)] == moments
    assert [1] * (len(HOSTILE) - 1) == purged

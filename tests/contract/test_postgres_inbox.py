"""The inbox in PostgreSQL, where any program may write anything: nothing there stops the calls of others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("psycopg", exc_type=ImportError)

import psycopg

from tests.contract.inline_postgres import InlinePostgresOutbox, NewProcess, processes
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async.postgres import _inbox, _tables

FACT = DedupeKey.of("order-1", 3_600.0)


@pytest.fixture
def process(postgres_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(postgres_url) as process:
        yield process


def insert(outbox: InlinePostgresOutbox, **columns: Any) -> None:
    """Put a row, as anybody's SQL does."""
    row = {"kind": "track", "key": '"u1"', "body": "{}", "size": 2, **columns}
    places = ", ".join(["%s"] * len(row))
    outbox.run(f"INSERT INTO {{}}_inbox ({', '.join(row)}) VALUES ({places})", *row.values())


def bodies(outbox: InlinePostgresOutbox) -> list[Any]:
    found: list[Any] = []
    while some := outbox.take(100):
        found += some
    return [one[4] for one in found]


@pytest.mark.parametrize(
    "columns",
    [
        {"dedupe": b"".join(n.to_bytes(2, "big") for n in range(3_000))},  # longer than an index takes
        {"dedupe": FACT.digest, "dedupe_for": float("nan")},
        {"dedupe": FACT.digest, "dedupe_for": -1e300},
        {"dedupe": FACT.digest, "dedupe_for": float("inf")},
        {"at": "infinity", "ticket": -(2**63)},
    ],
    ids=lambda columns: "-".join(columns),
)
def test_a_row_with_odd_values_is_accepted_and_stops_nothing(process: NewProcess, columns: dict[str, Any]) -> None:
    sender = process()
    insert(sender, body='{"n":1}', **columns)
    insert(sender, body='{"n":2}')
    sender.poll()

    assert not sender.away
    assert [b'{"n":1}', b'{"n":2}'] == bodies(sender)


@pytest.mark.parametrize(
    "columns",
    [
        {"key": r'"\ud800"'}, {"key": r'["e:ann","\ud800"]'}, {"body": r'{"event_name":"\ud800"}'},
        {"kind": "user", "body": r'[{"name":"\ud800"},null,2,null]'},
    ],
)  # fmt: skip
def test_half_a_character_is_set_aside_and_stops_nothing(process: NewProcess, columns: dict[str, Any]) -> None:
    """JSON can say it, and no UTF-8 can: it would end the sending as a bug does."""
    sender = process()
    insert(sender, **columns)
    insert(sender, body='{"n":2}')
    sender.poll()

    assert [b'{"n":2}'] == bodies(sender)
    sender.poll()
    assert {"damaged": 1} == dict(sender.ledger.dead)


def test_a_row_that_another_program_has_locked_is_left_for_later(process: NewProcess) -> None:
    sender = process(timeout=0.2)
    insert(sender, body='{"n":1}')
    insert(sender, body='{"n":2}')
    with psycopg.connect(**sender._address.parameters(5.0)) as theirs:  # type: ignore[arg-type]
        theirs.execute(f"SELECT 1 FROM {sender.name}_inbox ORDER BY seq LIMIT 1 FOR UPDATE")  # type: ignore[call-overload]
        sender.poll()
        first = (sender.away, bodies(sender))
    sender.poll()

    assert (False, [b'{"n":2}']) == first
    assert [b'{"n":1}'] == bodies(sender)


def test_of_large_calls_fewer_are_accepted_at_once(process: NewProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that copies gigabytes would never end in its time, and be tried again for ever."""
    monkeypatch.setattr(_inbox, "MOST_BYTES", 40)
    sender = process()
    texts = ['{"n":1}', '{"n":2}', '{"n":3}', '{"long":"%s"}' % ("x" * 100), '{"n":5}']
    for text in texts:
        insert(sender, body=text)
    first = sender.store.access.inbox.admit_for(sender.store.lease.token, sender.store.access.check)
    left = sender.run("SELECT count(*) FROM {}_inbox")
    sender.poll()

    assert ((True, True), [(2,)]) == (first, left)
    assert [text.encode() for text in texts] == bodies(sender)


def test_a_put_is_accepted_behind_all_that_was_committed_before_it(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that is more than is accepted at once."""
    monkeypatch.setattr(_tables, "AT_ONCE", 3)
    monkeypatch.setattr(_inbox, "AT_ONCE", 3)
    process()
    other = process(sender=False)
    for n in range(8):
        insert(other, body=f'{{"n":{n}}}')

    assert 8 == other.put("track", "u1", b"{}", 2, 0.0).id


def test_a_server_that_notes_no_commits_any_more_is_asked_for_none(own_postgres: Any) -> None:
    server = own_postgres(config={"track_commit_timestamp": "on"})
    with processes(server.new_outbox()) as process:
        sender = process()
        insert(sender, body='{"n":1}')
        sender.poll()
        server.run("ALTER SYSTEM SET track_commit_timestamp = off")
        server.restart()
        insert(sender, body='{"n":2}')
        for _ in range(3):
            sender.store.reach.retry_at = 0.0
            sender.poll()

        assert not sender.away
        assert [b'{"n":1}', b'{"n":2}'] == bodies(sender)

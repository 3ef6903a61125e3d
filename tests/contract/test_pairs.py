"""Pairs of keys that calls have named together are kept beside the calls, and outlive them and their processes.

Each outbox here stands for a process, as in the other contract tests of durable outboxes; what it hears is in its
client's ``pairs``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import NewProcess, Process
from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from userpilot_async._calls.outcome import DELIVERED
from userpilot_async._calls.pairs import MOST_PAIRS
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.owner import Claim
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.postgres import _tables as postgres_tables
from userpilot_async.redis import _access
from userpilot_async.sqlite import _pairs, _salvage
from userpilot_async.sqlite._tables import DAMAGED

ANN, BOB, ANN_AGAIN = ("e:ann", "a:1"), ("e:bob", "a:1"), ("e:ann", "a:2")
DESTINATION = "parcelvoy at https://one.example"


@pytest.fixture(name="new_client")
def clients_of_parcelvoy() -> Callable[..., Client]:
    """Makes the client of each process."""
    return new_client


def new_client(destination: str = DESTINATION) -> Client:
    return Client(destination=destination)


def put(outbox: Process, *keys: tuple[str, ...] | str) -> list[int]:
    """A call by each of these keys; their ids."""
    return [outbox.put("track", key, b"{}", 2, 0.0).id for key in keys]


def heard_by(process: NewProcess, **options: Any) -> list[tuple[str, str]]:
    """All that a process hears that opens the outbox now."""
    client = new_client()
    process(client, **options)
    return client.pairs


def test_a_process_that_opens_the_outbox_hears_the_pairs_of_all_before_it(process: NewProcess) -> None:
    first = process()
    ids = put(first, ANN, "e:cid", ANN_AGAIN)
    first.take(10)
    first.settle(Settlement(ids, (), DELIVERED, 6, None))
    first.die()

    assert [("a:1", "e:ann"), ("a:2", "e:ann")] == heard_by(process)


def test_a_process_that_only_puts_hears_of_others_by_its_next_poll(process: NewProcess) -> None:
    client = new_client()
    second = process(client, sender=False)
    put(process(), ANN)
    before = list(client.pairs)
    second.poll()

    assert ([], [("a:1", "e:ann")]) == (before, client.pairs)


def test_a_poll_after_calls_of_its_own_hears_of_others_all_the_same(process: NewProcess) -> None:
    client = new_client()
    second = process(client, sender=False)
    put(process(), ANN)
    put(second, "e:cid")
    second.poll()

    assert [("a:1", "e:ann")] == client.pairs


def test_pairs_are_heard_in_the_order_of_acceptance_also_by_those_who_put_them(process: NewProcess) -> None:
    first, second = new_client(), new_client()
    processes = process(first), process(second)
    put(processes[0], ANN)
    put(processes[1], BOB)
    for one in processes:
        one.poll()

    assert [("a:1", "e:ann"), ("a:1", "e:bob")] == first.pairs == second.pairs


def test_what_becomes_the_sender_has_heard_all_that_was_put_before(process: NewProcess) -> None:
    client = new_client()
    first, second = process(), process(client)
    put(first, ANN)
    first.die()
    heard: list[list[tuple[str, str]]] = []
    second._session.leads = lambda lead: heard.append(list(client.pairs))  # type: ignore[method-assign]
    if isinstance(second, InlinePostgresOutbox):
        second.store.access.lease_free_at = 0.0  # as a poll would say, which would hear of pairs, too
    second.writer.worker._lead()

    assert [[("a:1", "e:ann")]] == heard


def test_a_pair_that_is_named_often_is_kept_once_and_where_it_was_named_first(process: NewProcess) -> None:
    outbox = process()
    put(outbox, ANN, BOB, ANN, ANN)

    assert [("a:1", "e:ann"), ("a:1", "e:bob")] == heard_by(process)


def test_of_too_many_pairs_the_oldest_are_forgotten(process: NewProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_tables, "MOST_PAIRS", 10)
    monkeypatch.setattr(_pairs, "MOST_PAIRS", 10)  # the script has a number of its own, and is shown that many
    monkeypatch.setattr(_access, "PAIRS_AT_ONCE", 3)
    outbox = process()
    put(outbox, *((f"e:{n}", f"a:{n}") for n in range(4)))
    if isinstance(outbox, InlineRedisOutbox):
        outbox.redis.hset(f"{{{outbox.name}}}:account", "pairs", MOST_PAIRS - 6)
    put(outbox, *((f"e:{n}", f"a:{n}") for n in range(4, 12)))

    assert [(f"a:{n}", f"e:{n}") for n in range(2, 12)] == heard_by(process)


@pytest.mark.parametrize("id", ["1", "ann"])
def test_a_purge_erases_the_pairs_of_a_person_and_says_what_else_the_person_is_known_as(
    process: NewProcess, id: str
) -> None:
    first = process()
    ids = put(first, ANN, ("e:bob", "a:3"))
    first.take(10)
    first.settle(Settlement(ids, (), DELIVERED, 4, None))
    counted = first.admin().purge(Subject("user", id), really=False)
    kept = heard_by(process, sender=False)
    erased = first.admin().purge(Subject("user", id))

    assert {"a:1", "e:ann"} - {f"a:{id}", f"e:{id}"} == counted.known_as == erased.known_as
    assert [("a:1", "e:ann"), ("a:3", "e:bob")] == kept
    assert [("a:3", "e:bob")] == heard_by(process, sender=False)


def test_pairs_that_are_named_after_a_purge_are_heard(process: NewProcess) -> None:
    client = new_client()
    first, second = process(), process(client, sender=False)
    put(first, ANN)
    second.poll()
    first.admin().purge(Subject("user", "ann"))
    second.poll()
    put(first, ("e:bob", "a:3"))
    second.poll()

    assert [("a:1", "e:ann"), ("a:3", "e:bob")] == client.pairs


@pytest.mark.parametrize(("destination", "kept"), [(DESTINATION, 1), ("parcelvoy at https://other.example", 0)])
@pytest.mark.parametrize("how", ["by people", "by a client"])
def test_a_rebinding_to_another_server_forgets_the_pairs_of_its_people(
    process: NewProcess, destination: str, kept: int, how: str
) -> None:
    first = process()
    put(first, ANN)
    at_once(first.aclose())
    client = new_client(destination)
    if how == "by people":
        opening = client.opening()
        first.admin().rebind(Claim(opening.destination, opening.fingerprint))
        process(client)
    else:
        process(client, rebind=True)

    assert kept == len(client.pairs)


def test_what_another_program_has_put_among_pairs_is_passed_over(process: NewProcess) -> None:
    outbox = process()
    put(outbox, ANN)
    junk = ["junk", '["a:1","e:mallory"]#00000000', '["a"]', "7", "\0"]
    if isinstance(outbox, InlineRedisOutbox):
        outbox.redis.zadd(f"{{{outbox.name}}}:pairs", dict.fromkeys(junk, 0.5))
    elif isinstance(outbox, InlinePostgresOutbox):
        for n, one in enumerate(junk[:-1], 2):  # none of its texts has a zero in it
            outbox.run("INSERT INTO {}_pairs (id, body) VALUES (%s, %s)", n, one)
        outbox.run("UPDATE {}_state SET pairs = 6")
    else:
        with closing(sqlite3.connect(outbox.path)) as db, db:
            db.executemany("INSERT INTO pairs (said) VALUES (?)", [(one,) for one in junk])
    put(outbox, ("e:bob", "a:3"))

    assert [("a:1", "e:ann"), ("a:3", "e:bob")] == heard_by(process)


def test_pairs_are_among_what_is_saved_of_a_damaged_file(tmp_path: Path) -> None:
    outbox = InlineOutbox(tmp_path / "events.db", durability="process")
    open_now(outbox, new_client().opening())
    put(outbox, ANN, ANN_AGAIN)
    at_once(outbox.aclose())
    with closing(sqlite3.connect(outbox.path)) as db, db:
        db.execute("INSERT INTO pairs (said) VALUES ('damaged')")
    _salvage.replace(outbox.path, _salvage.GivenIds(0, 0), DAMAGED)
    client = new_client()
    again = InlineOutbox(outbox.path, durability="process")
    open_now(again, client.opening())
    kept = again.store.file.db.execute("SELECT count(*) FROM pairs").fetchone()[0]
    put(again, BOB)
    at_once(again.aclose())

    assert [("a:1", "e:ann"), ("a:2", "e:ann"), ("a:1", "e:bob")] == client.pairs
    assert 2 == kept

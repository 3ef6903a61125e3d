"""What a deletion drops is nowhere in a durable outbox any more, whoever put it, and whichever sender is killed."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from tests.contract.conftest import NewProcess, Process
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from tests.rules.schedule.simulation import Simulation
from userpilot_async import DeleteUser, Identify, Receipt, Track
from userpilot_async._outbox.admin import Subject
from userpilot_async._userpilot.calls import deletion_body, track_body

EMAIL = "ann@example.com"


class Sender(Simulation):
    """Userpilot's server, and a sender that takes from this outbox."""

    def __init__(self, outbox: Any, server: Sender | None = None) -> None:
        super().__init__(1)
        self.outbox = outbox
        if server is not None:
            self.server = self._server = server.server
            self.now = server.now
        self.server.chance.choice = lambda ends: ends[-1]  # type: ignore[method-assign]  # a deletion takes 40 s

    def take_in(self) -> None:
        """Take in what was left, and what came."""
        left = self.outbox.send_log.inherited()
        if left is not None:
            self.schedule.inherit(left, self.now)
        super().take_in()


def held_by(outbox: Process) -> dict[str, list[Any]]:
    """All that the outbox holds of calls, by the name of the table or stream."""
    if isinstance(outbox, InlineRedisOutbox):
        names = ("log", "lost", "parts", "sent", "again", "files")
        redis, found = outbox.redis, {}
        for name in names:
            key = f"{{{outbox.name}}}:{name}"
            kind = redis.type(key)
            found[name] = {
                b"stream": redis.xrange, b"zset": lambda key: redis.zrange(key, 0, -1),
                b"hash": lambda key: [*redis.hgetall(key).items()], b"none": lambda key: [],
            }[kind](key)  # fmt: skip
        return found
    if isinstance(outbox, InlinePostgresOutbox):
        tables = ("calls", "lost", "parts", "files")
        return {table: outbox.run(f"SELECT * FROM {{}}_{table}") for table in tables}
    db = sqlite3.connect(outbox.path)
    try:
        tables = ("calls", "lost", "parts", "damaged", "files")
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    finally:
        db.close()


def put(outbox: Process, call: Track | DeleteUser) -> Receipt:
    """Put a call without a model of it."""
    if isinstance(call, Track):
        body = track_body(call.user_id, call.event_name, call.metadata)
        return outbox.put("track", call.user_id, body, len(body), 0.0)
    body = deletion_body(call)
    return outbox.put("delete_user", call.user_id, body, len(body), 0.0)


@pytest.mark.parametrize("reads", [False, True], ids=["passed on", "read"])
def test_what_a_deletion_drops_is_in_no_table_and_no_stream(process: NewProcess, reads: bool) -> None:
    outbox = process(reads=reads)
    run = Sender(outbox)
    run.put(Identify("u1", {"email": EMAIL}, {"id": "acme", "name": "Acme"}))
    for number in range(50):
        run.put(Track("u1", "clicked", {"n": number, "email": EMAIL}))
    run.put(Track("u2", "clicked", {"n": 100}))
    assert EMAIL in str(held_by(outbox))
    run.put(DeleteUser("u1"))

    run.drain()

    assert {"deleted": 51} == outbox.ledger.dropped
    assert (2, 0, 0) == (outbox.ledger.delivered, outbox.ledger.pending, outbox.waiting_bytes)
    assert {} == {name: rows for name, rows in held_by(outbox).items() if rows}
    assert [("u2", 100)] == run.server.tracked


def test_a_part_of_a_dropped_identify_that_was_on_its_way_leaves_no_note(process: NewProcess) -> None:
    """The company of an identify was being sent when its user's deletion came."""
    outbox = process()
    run = Sender(outbox)
    run.put(Identify("u1", {"email": EMAIL}, {"id": "acme", "name": "Acme"}))
    run.put(Track("u1", "clicked", {"n": 1}))
    while not run._arriving:
        run.step(run.now + 5.0)
    run.put(DeleteUser("u1"))

    run.drain()

    ledger = outbox.ledger
    assert (3, 0) == (ledger.accepted, ledger.pending)
    assert 3 == ledger.delivered + ledger.merged + ledger.dropped["deleted"]
    assert {} == {name: rows for name, rows in held_by(outbox).items() if rows}
    assert {} == run.server.users


def test_a_process_that_only_puts_hears_what_became_of_its_calls(process: NewProcess) -> None:
    sends, puts = process(), process(sender=False)
    run = Sender(sends)
    events = [put(puts, Track("u1", "clicked", {"n": number})) for number in range(3)]
    deletion = put(puts, DeleteUser("u1"))
    later = put(puts, Track("u1", "clicked", {"n": 9}))

    sends.poll()
    run.run(20.0)
    puts.poll()
    meanwhile = [deletion.status, later.status]
    run.drain()
    puts.poll()

    assert [("dropped", "deleted")] * 3 == [(receipt.status, receipt.reason) for receipt in events]
    assert ["pending", "pending"] == meanwhile
    assert ["delivered", "delivered"] == [deletion.status, later.status]
    assert [("u1", 9)] == run.server.tracked
    assert (5, 2, 3, 0) == tuple(
        getattr(puts.ledger, name) if name != "dropped" else puts.ledger.dropped["deleted"]
        for name in ("accepted", "delivered", "dropped", "pending")
    )


def test_the_next_sender_goes_on_with_a_deletion_whose_job_had_not_ended(process: NewProcess) -> None:
    """Killed between the request and the end of its job: what waits behind the deletion goes after a job's end."""
    first = process()
    run = Sender(first)
    run.put(Track("u1", "clicked", {"n": 1}))
    run.put(DeleteUser("u1"))
    run.run(10.0)
    run.put(Identify("u1", {"plan": "pro"}))
    assert [False] == [job.over for job in run.server.jobs]
    first.die()

    second = process()
    assert 2 == second.ledger.pending
    run = Sender(second, run)
    run.run(25.0)
    assert {} == run.server.users
    run.drain()

    assert {"u1": {"plan": "pro"}} == run.server.users
    assert [True, True] == [job.over for job in run.server.jobs]
    assert [] == run.server.events
    assert (0, {"deleted": 1}) == (second.ledger.pending, second.ledger.dropped)
    assert {} == {name: rows for name, rows in held_by(second).items() if rows}


def test_a_purge_leaves_a_deletion_that_waits(process: NewProcess) -> None:
    """It asks the server for the same; what waits before it is erased."""
    outbox = process()
    put(outbox, Track("u1", "clicked", {"n": 1}))
    put(outbox, DeleteUser("u1"))

    erased = outbox.admin().purge(Subject("user", "u1"))

    assert (1, 1) == (erased.waiting, outbox.admin().inspect().account.waiting)

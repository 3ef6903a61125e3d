"""What is the matter of an outbox in Redis alone: leases that end, servers that forget, memory that is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis import Redis

from tests.contract.inline import Client, at_once, open_now
from tests.contract.inline_redis import InlineRedisOutbox, NewProcess, processes
from tests.contract.inline_remote import balance, ids_of, put, taken
from userpilot_async._calls.outcome import DELIVERED, Outcome, Words
from userpilot_async._outbox.store import Lead
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.redis import _lease
from userpilot_async.redis._link import Away

NO_ROOM = Outcome("dropped", "queue_full")
EXPIRED = Outcome("dead", "expired")
LEASE, LOG = "{userpilot_async}:lease", "{userpilot_async}:log"


@pytest.fixture
def process(redis_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(redis_url) as process:
        yield process


def redis_of(outbox: InlineRedisOutbox) -> Any:
    """Of redis-py: anybody's hand in the database."""
    return outbox.redis


# ── the lease ──


def test_the_servers_clock_ends_a_lease_that_nobody_renews(process: NewProcess) -> None:
    outbox = process(lease_ttl=5.0)

    assert 0 < redis_of(outbox).pttl(LEASE) <= 5_000


# ── room ──


def test_making_room_for_one_call_takes_one_call(process: NewProcess) -> None:
    outbox = process(max_calls=5)
    ids = ids_of(put(outbox, 5))
    outbox.take(5)
    outbox.writer.runs = False  # what is settled is not written yet
    before = outbox.has_room(1)
    outbox.settle(Settlement(ids[:1], (), NO_ROOM, 2, b"xx"))

    assert (False, True) == (before, outbox.has_room(1))
    outbox.writer.runs = True
    outbox.writer.wake()
    assert (4, True) == (outbox.ledger.pending, outbox.has_room(1))


def test_calls_are_refused_when_redis_is_out_of_memory_and_deliveries_are_noted_all_the_same(own_redis: Any) -> None:
    server = own_redis(config={"maxmemory-policy": "noeviction"})
    client = Client()
    outbox = InlineRedisOutbox(server.url)
    open_now(outbox, client.opening())
    ids = ids_of(put(outbox, 3))
    outbox.take(3)
    redis_of(outbox).config_set("maxmemory", "1")

    refused = outbox.put("track", "u1", b"x", 1, 0.0)
    outbox.settle(Settlement(ids[:2], (), DELIVERED, 4, None))

    assert ("dropped", "outbox") == (refused.status, refused.reason)
    assert ["track"] == [call[0] for call in client.not_held]
    if outbox.store.access.link.unbound:  # from Redis 7 on; before, it is noted when there is room again
        assert (2, 1, 0) == (outbox.ledger.delivered, outbox.ledger.pending, outbox.unheld)
    redis_of(outbox).config_set("maxmemory", "0")
    outbox.store.reach.retry_at = 0.0
    outbox.poll()
    outbox.writer.wake()
    assert (2, 1, 0) == (outbox.ledger.delivered, outbox.ledger.pending, outbox.unheld)
    assert "pending" == put(outbox)[0].status
    at_once(outbox.aclose())


def test_refusals_have_numbers_of_their_own_also_beside_a_thousand_other_notes(process: NewProcess) -> None:
    outbox = process()
    ids = ids_of(put(outbox, 5_000))
    taken(outbox)
    outbox.writer.runs = False
    refused = [outbox.refuse(NO_ROOM), outbox.refuse(EXPIRED), outbox.refuse(EXPIRED)]
    outbox.settle(Settlement(ids, (), DELIVERED, 10_000, None))
    at_first = (outbox.ledger.accepted, balance(outbox))
    outbox.writer.runs = True
    outbox.writer.wake()

    assert (5_003, 5_003) == at_first
    assert [5_000, 5_001, 5_002] == [receipt.id for receipt in refused]
    assert (5_003, 5_000, {"queue_full": 1, "expired": 2}) == (
        outbox.ledger.accepted, outbox.ledger.delivered, dict(outbox.ledger.losses()),
    )  # fmt: skip


# ── what happens in Redis itself ──


def test_calls_that_are_not_there_any_more_are_said_to_be_lost_how_many_is_not(process: NewProcess) -> None:
    outbox = process()
    receipts = put(outbox, 3)
    redis_of(outbox).flushall()
    outbox.poll()

    assert [("dropped", "unknown")] * 3 == [(receipt.status, receipt.reason) for receipt in receipts]
    assert (0, 0, 1) == (outbox.ledger.accepted, outbox.ledger.pending, outbox.ledger.resets)
    left = outbox.send_log.inherited()
    assert left is not None
    assert 80.0 < left.unknown <= 90.0
    assert 1 == process(sender=False).ledger.resets  # it is in the account, too


def test_older_data_in_a_server_that_was_not_restarted_is_noticed(process: NewProcess) -> None:
    outbox = process()
    kept = put(outbox, 2)
    redis = redis_of(outbox)
    keys = {key: redis.dump(key) for key in redis.keys("*") if key != LEASE.encode()}
    gone = put(outbox, 3)
    for key, value in keys.items():
        redis.restore(key, 0, value, replace=True)
    for _ in range(3):
        outbox.store.reach.retry_at = 0.0
        outbox.poll()

    assert ["pending"] * 2 + ["dropped"] * 3 == [receipt.status for receipt in [*kept, *gone]]
    assert (1, True) == (outbox.ledger.resets, outbox.sends)
    new = put(outbox)
    assert [*ids_of(kept), *ids_of(new)] == taken(outbox)
    assert new[0].id not in ids_of(gone)


def test_an_outbox_that_is_emptied_while_it_is_opened_is_looked_for_again(
    redis_url: str, process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = _lease.RedisLease.keep
    emptied: list[bool] = []

    def empty_first(lease: _lease.RedisLease) -> Lead | None:
        if not emptied:
            with closing(Redis.from_url(redis_url)) as client:
                emptied.append(client.flushall())
        return keep(lease)

    monkeypatch.setattr(_lease.RedisLease, "keep", empty_first)
    outbox = process()
    outbox.poll()

    assert [0] == ids_of(put(outbox))
    assert outbox.sends


@pytest.mark.parametrize(
    "fields", [{"foo": "bar"}, {"c": "garbage", "s": "2", "t": "1.0"}, {"c": "a\nb\nc\nd\n{}", "s": "x", "t": "y"}]
)
def test_an_entry_that_nobody_can_read_is_set_aside_and_stops_nothing(
    process: NewProcess, fields: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process(sender=False)
    before = ids_of(put(outbox, 2))
    redis_of(outbox).xadd(LOG, fields, id="7-1")
    after = ids_of(put(outbox, 2))
    sender = process()

    assert [*before, *after] == taken(sender)
    assert min(after) > 7  # the log takes no lower one
    sender.poll()
    assert ({"damaged": 1}, 5, 5) == (dict(sender.ledger.dead), sender.ledger.accepted, balance(sender))
    assert "of them cannot be read, and was set aside" in caplog.text


def test_an_entry_far_from_ours_is_said_to_be_somebody_elses_and_not_counted_up_to(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process()
    redis_of(outbox).xadd(LOG, {"foo": "bar"})  # under the time of day, in milliseconds
    receipt = put(outbox)[0]

    assert ("pending", -1) == (receipt.status, receipt.id)
    assert "entries of another program" in caplog.text


def test_calls_that_somebody_has_deleted_are_counted_and_nobody_waits_for_them(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process()
    receipts = put(outbox, 3)
    taken(outbox)
    ids = ids_of(receipts)
    redis_of(outbox).xdel(LOG, *(f"{one}-1" for one in ids))
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
    outbox.settle(Settlement(ids[1:], (), DELIVERED, 4, None))
    for _ in range(3):
        outbox.poll()

    assert ({"damaged": 3}, 0) == (dict(outbox.ledger.dead), outbox.ledger.pending)
    assert "does not have them any more, they were deleted there" in caplog.text
    assert "pending" not in {receipt.status for receipt in receipts}


def test_lost_calls_are_forgotten_in_time_although_nothing_is_lost_any_more(process: NewProcess) -> None:
    outbox = process()
    (call_id,) = ids_of(put(outbox))
    outbox.take(1)
    outbox.settle(Settlement([call_id], (), EXPIRED, 2, b"xx"))
    kept = redis_of(outbox).xlen("{userpilot_async}:lost")
    outbox.store._keep_lost = -1.0
    outbox.store._forget_at = 0.0
    outbox.poll()

    assert (1, 0) == (kept, redis_of(outbox).xlen("{userpilot_async}:lost"))


def test_a_file_whose_rows_are_all_settled_is_not_looked_up_by_each_new_sender(process: NewProcess) -> None:
    first = process()
    (call_id,) = ids_of(put(first))
    first.take(1)
    assert at_once(
        first.send_log.sending(RequestNote("identify", [], filename="file-1", kind="user", last_calls=[call_id]))
    )
    first.settle(Settlement([call_id], (), DELIVERED, 2, None))
    first.die()
    second = process()

    left = second.send_log.inherited()
    assert left is not None
    assert [] == list(left.files)
    assert 0 == redis_of(second).hlen("{userpilot_async}:files")


def test_the_last_sender_need_not_wait_for_tokens_after_a_restart_in_which_nothing_was_lost(own_redis: Any) -> None:
    server = own_redis(durable=True)
    outbox = InlineRedisOutbox(server.url)
    open_now(outbox, Client().opening())
    receipt = put(outbox)[0]
    outbox.send_log.inherited()
    server.restart(keep=True)
    outbox.end_lease_of(server)
    for _ in range(3):
        outbox.store.reach.retry_at = 0.0
        outbox.store.lease.valid_until = 0.0
        outbox.poll()

    left = outbox.send_log.inherited()
    assert left is not None
    assert (0.0, 0, "pending") == (left.unknown, outbox.ledger.resets, receipt.status)
    at_once(outbox.aclose())


def test_scripts_that_were_flushed_are_loaded_again(process: NewProcess) -> None:
    outbox = process()
    redis_of(outbox).script_flush()

    assert [0, 1] == ids_of(put(outbox, 2))


def test_a_newcomer_need_not_hear_what_became_of_calls_before_it(process: NewProcess) -> None:
    first = process()
    for _ in range(300):
        (call_id,) = ids_of(put(first))
        first.take(1)
        first.settle(Settlement([call_id], (), DELIVERED, 2, None))
    second = process()
    (receipt,) = put(second)
    taken(first)
    first.poll()
    first.take(1)
    first.settle(Settlement([receipt.id], (), DELIVERED, 2, None))
    second.poll()

    assert "delivered" == receipt.status


def test_one_that_is_far_behind_catches_up_although_nobody_writes_any_more(process: NewProcess) -> None:
    first, second = process(), process()
    receipts = put(second, 700)
    first.poll()
    while tickets := first.take(1):
        first.settle(Settlement([tickets[0][0]], (), DELIVERED, 2, None))
    for _ in range(6):
        second.poll()

    assert {"delivered"} == {receipt.status for receipt in receipts}


def test_what_was_refused_with_words_that_lua_cannot_read_is_noted(process: NewProcess) -> None:
    outbox = process()
    (call_id,) = ids_of(put(outbox))
    outbox.take(1)
    outbox.settle(Settlement([call_id], (), EXPIRED, 2, b"xx", Words("a lone \ud800 surrogate")))

    assert {"expired": 1} == dict(outbox.ledger.dead)


def test_calls_of_many_bytes_go_in_several_steps_and_are_read_in_several(process: NewProcess) -> None:
    outbox = process(sender=False)
    outbox.writer.runs = False
    receipts = put(outbox, 10, size=400_000)
    batches = len(outbox._session.queue._waiting)
    outbox.writer.runs = True
    outbox.writer.wake()
    sender = process()

    assert 5 == batches
    assert ids_of(receipts) == taken(sender)


def test_a_call_costs_one_command_in_a_process_that_stands_by(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, standby = process(), process()
    commands: list[str] = []
    run = standby.store.access.run

    def noted(name: str, *arguments: Any, **options: Any) -> Any:
        commands.append(name)
        return run(name, *arguments, **options)

    monkeypatch.setattr(standby.store.access, "run", noted)
    put(standby)

    assert leader.sends and not standby.sends
    assert ["write"] == commands


@pytest.mark.parametrize("options", [{}, {"tls": True}])
def test_a_connection_that_was_closed_while_idle_is_replaced_and_nobody_notices(
    own_redis: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """By the server's `timeout`, or by a proxy: it counted as an outage, and each call waited for the next poll."""
    server = own_redis(**options)
    asked = f"?ssl_ca_certs={server.ca_file}" if server.tls else ""
    client = Client()
    outbox = InlineRedisOutbox(server.url + asked)
    open_now(outbox, client.opening())
    receipts = []
    with server.client() as other:
        for _ in range(3):
            other.client_kill_filter(_type="normal", skipme=True)
            receipts += put(outbox)

    assert [0, 1, 2] == ids_of(receipts)
    assert not outbox.away
    assert [] == caplog.messages
    at_once(outbox.aclose())


def test_a_connection_to_a_server_that_was_restarted_meanwhile_is_no_mere_replacement(own_redis: Any) -> None:
    server = own_redis()
    outbox = InlineRedisOutbox(server.url)
    open_now(outbox, Client().opening())
    gone = put(outbox)
    server.restart(keep=False)
    outbox.poll()

    assert ["dropped"] == [receipt.status for receipt in gone]
    assert 1 == outbox.ledger.resets
    at_once(outbox.aclose())


def test_one_connection_is_enough(redis_url: str) -> None:
    outbox = InlineRedisOutbox(f"{redis_url}?max_connections=1")
    open_now(outbox, Client().opening())
    redis_of(outbox).script_flush()

    assert [0, 1] == ids_of(put(outbox, 2))
    at_once(outbox.aclose())


# ── a step whose answer gets lost ──


@pytest.mark.parametrize("reached", [False, True], ids=["not made", "made"])
def test_a_step_whose_answer_got_lost_is_made_once(process: NewProcess, reached: bool) -> None:
    outbox = process()
    ids = ids_of(put(outbox, 2))
    outbox.take(2)
    errands = outbox.store
    run = errands.access.link.run

    def lose(step: Any, **how: Any) -> Any:
        if step.name in ("write", "note"):
            errands.access.link.run = run
            if reached:
                run(step, **how)
            raise Away("its answer got lost")
        return run(step, **how)

    outbox.writer.runs = False
    receipt = put(outbox)[0]
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
    refused = outbox.refuse(NO_ROOM)
    outbox.writer.runs = True
    errands.access.link.run = lose
    outbox.writer.wake()
    in_doubt = (receipt.id, outbox.unheld)
    errands.reach.retry_at = 0.0
    outbox.poll()

    assert (-1, 1) == in_doubt
    assert (2, 3, 0) == (receipt.id, refused.id, outbox.unheld)
    assert (4, 1, 2, {"queue_full": 1}) == (
        outbox.ledger.accepted, outbox.ledger.delivered, outbox.ledger.pending, dict(outbox.ledger.losses()),
    )  # fmt: skip
    assert [2] == taken(outbox)


# ── what the log says ──


def lines_of(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """The words of these that were logged, in order."""
    return [one for record in caplog.records for one in words if one in record.getMessage()]


def again(outbox: InlineRedisOutbox) -> None:
    """The next try, without the pause before it."""
    outbox.store.reach.retry_at = 0.0
    outbox.poll()


def test_redis_answers_again_when_what_failed_works_and_not_when_there_is_a_connection(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """A replica that is gone, a full disk: scripts are answered, and each call fails as before."""
    outbox = process()
    link = outbox.store.access.link
    run = link.run

    def refuse(step: Any, *, wait: bool = False) -> Any:
        if wait:
            raise Away("0 of 1 replicas have it")
        return run(step)

    link.run = refuse
    receipt = put(outbox)[0]
    for _ in range(5):
        again(outbox)
    while_it_fails = lines_of(caplog, "does not answer", "answers again")
    link.run = run
    again(outbox)

    assert ["does not answer"] == while_it_fails
    assert ["does not answer", "answers again"] == lines_of(caplog, "does not answer", "answers again")
    assert 0 == receipt.id


def test_redis_that_was_away_when_the_outbox_was_opened_is_said_to_answer_when_it_does(
    redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            "userpilot_async.redis._link.Connection.connect", lambda link: (_ for _ in ()).throw(Away("refused"))
        )
        outbox = InlineRedisOutbox(redis_url)
        open_now(outbox, Client().opening())
    again(outbox)

    assert ["does not answer", "answers again"] == lines_of(caplog, "does not answer", "answers again")
    at_once(outbox.aclose())

"""What an outbox promises that outlives its clients: calls, order and the account survive, and one process sends.

Each outbox here stands for a process; `InlineOutbox.die` is what becomes of one that is killed.
"""

from __future__ import annotations

import copy
import sqlite3
from array import array
from pathlib import Path
from typing import Any, cast

import pytest

from tests.contract.conftest import NewProcess, Process
from tests.contract.inline import Client, at_once
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from tests.contract.puts import PUTS
from userpilot_async import OutboxError
from userpilot_async._calls.outcome import BY_IMPORT, DELIVERED, Outcome
from userpilot_async._calls.rows import Row
from userpilot_async._calls.stored import runs
from userpilot_async._outbox.batch import Batch, Settled
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.posts import Post
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote, UnfinishedFile
from userpilot_async.redis._notes import SenderNotes

EXPIRED = Outcome("dead", "expired")
NO_ROOM = Outcome("dropped", "queue_full")
DESCRIBES = "userpilot identify that describes a company"


def put(outbox: Process, count: int = 1, user: str = "u1", size: int = 2) -> list[Receipt]:
    """Put so many tracks; their receipts."""
    return [outbox.put("track", user, b"x" * size, size, 0.0) for _ in range(count)]


def put_all(outbox: Process) -> list[int]:
    """Put a call of each kind; their ids."""
    return [outbox.put(*copy.deepcopy(one), 0.0).id for one in PUTS.values()]


def ids_of(receipts: list[Receipt]) -> list[int]:
    return [receipt.id for receipt in receipts]


def taken(outbox: Process) -> list[int]:
    """Ids of all that is there to be taken."""
    found: list[int] = []
    while tickets := outbox.take(100):
        found += [ticket[0] for ticket in tickets]
    return found


def note(outbox: Process, ids: list[int], **rest: Any) -> RequestNote:
    """Note a request with these calls."""
    request = RequestNote("track", ids, **rest)
    assert at_once(outbox.send_log.sending(request))
    return request


def account(outbox: Process) -> dict[str, object]:
    """All numbers that an account counts."""
    names = ("accepted", "pending", "delivered", "merged", "merged_lost", "dead", "dropped")
    return {name: getattr(outbox.ledger, name) for name in names}


# ── calls survive ──


def test_calls_of_all_kinds_are_taken_by_the_next_sender_as_they_were_put(process: NewProcess) -> None:
    first = process()
    ids = put_all(first)
    first.die()
    tickets = process().take(100)

    assert ids == [ticket[0] for ticket in tickets]
    assert [one[:3] for one in PUTS.values()] == [ticket[2:] for ticket in tickets]
    assert [type(one[1]) for one in PUTS.values()] == [type(ticket[3]) for ticket in tickets]


def test_what_was_taken_and_not_settled_is_taken_again_by_the_next_sender(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 10))
    first.take(7)
    first.die()

    assert ids == taken(process())


def test_what_was_settled_is_taken_by_nobody_again(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 6))
    first.take(6)
    first.settle(Settlement(ids[:2], (), DELIVERED, 4, None))
    first.settle(Settlement(ids[2:3], (), EXPIRED, 2, b"xx"))
    first.settle(Settlement(ids[3:4], (), NO_ROOM, 2, b"xx"))
    first.die()

    assert ids[4:] == taken(process())


def test_the_ways_by_which_calls_went_are_known_to_all_processes_and_to_those_to_come(process: NewProcess) -> None:
    first, other = process(), process()
    receipts = put(first, 3)
    ids = ids_of(receipts)
    first.take(3)
    first.settle(Settlement(ids[:2], (), BY_IMPORT, 4, None))
    first.settle(Settlement(ids[2:], (), DELIVERED, 2, None))
    other.put("track", "u1", b"x", 1, 0.0)  # and by this, the other one hears of it
    first.die()

    assert {"import": 2, "realtime": 1} == other.ledger.routes() == process().ledger.routes()
    assert ["import", "import", "realtime"] == [receipt.route for receipt in receipts]


def test_a_call_that_was_merged_is_as_it_was_for_the_next_sender_until_its_row_is_settled(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 4))
    first.take(4)
    first.merged(array("Q", ids[:1]), 2)
    first.merged(array("Q", ids[2:3]), 2)
    first.settle(Settlement(ids[1:2], ids[:1], DELIVERED, 4, None))
    first.die()
    second = process()

    assert ids[2:] == taken(second)
    assert (1, 1, 2) == (second.ledger.merged, second.ledger.delivered, second.ledger.pending)


def test_the_account_goes_on_where_it_stopped(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 7))
    first.take(7)
    first.merged(ids[:2], 4)
    first.refuse(NO_ROOM)
    first.settle(Settlement(ids[2:3], ids[:2], EXPIRED, 4, b"xx"))
    first.settle(Settlement(ids[3:5], (), DELIVERED, 4, None))
    before = account(first)
    first.die()
    second = process()

    assert before == account(second)
    assert {"accepted": 8, "pending": 2, "delivered": 2, "merged": 2, "merged_lost": 2} == {
        name: number for name, number in before.items() if isinstance(number, int)
    }
    assert ids[5:] == taken(second)


def test_ids_go_on_and_are_never_given_twice(process: NewProcess) -> None:
    first = process()
    before = [*ids_of(put(first, 3)), first.refuse(NO_ROOM).id]
    first.take(3)
    first.settle(Settlement(before[:3], (), DELIVERED, 6, None))
    first.die()
    second = process()

    assert [4, 5] == ids_of(put(second, 2))
    assert [0, 1, 2, 3] == before


def test_a_closed_outbox_leaves_what_it_has_to_the_next(process: NewProcess) -> None:
    first = process()
    ids = put_all(first)
    at_once(first.aclose())

    assert ids == taken(process())


def test_the_loop_of_a_process_that_only_puts_is_left_alone_while_nothing_happens(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = process(sender=False)
    put(outbox)
    outbox.writer.worker.poll()
    woken: list[object] = []
    for teller in (outbox.writer.worker, outbox.store):
        if hasattr(teller, "_notify"):
            monkeypatch.setattr(teller, "_notify", lambda *told: woken.append(told))
    outbox.writer.worker.poll()

    assert [] == woken


def test_a_thousand_calls_of_one_user_and_some_of_others_are_all_taken_in_each_users_order(process: NewProcess) -> None:
    """More than is read in one go, and more of one user than is held at once."""
    first = process(sender=False)
    for n in range(1_500):
        first.put("track", "hot", b"x", 1, 0.0)
        if not n % 10:
            first.put("track", f"u{n % 30}", b"x", 1, 0.0)
    second = process()
    order: dict[object, list[int]] = {}
    for _ in range(10_000):
        tickets = second.take(100)
        if not tickets:
            break
        for call_id, _, _, key, _ in tickets:
            order.setdefault(key, []).append(call_id)
        second.settle(Settlement([ticket[0] for ticket in tickets], (), DELIVERED, len(tickets), None))

    assert 1_650 == second.ledger.delivered
    assert all(sorted(ids) == ids for ids in order.values())


# ── one sender ──


def test_one_sends_and_the_others_put(process: NewProcess) -> None:
    first, second = process(), process()
    ids = [*ids_of(put(first)), *ids_of(put(second)), *ids_of(put(first))]
    first.poll()

    assert (True, False) == (first.sends, second.sends)
    assert [] == taken(second)
    assert ids == sorted(ids) == taken(first)


@pytest.mark.parametrize("end", ["die", "close"])
def test_when_the_sender_ends_another_one_goes_on(process: NewProcess, end: str) -> None:
    first, second = process(), process()
    ids = ids_of(put(first, 3))
    first.take(1)
    second.poll()
    before = second.sends
    if end == "die":
        first.die()
    else:
        at_once(first.aclose())
    second.poll()

    assert (False, True) == (before, second.sends)
    assert ids == taken(second)


def test_one_that_is_told_not_to_send_never_does(process: NewProcess) -> None:
    outbox = process(sender=False)
    put(outbox)
    outbox.poll()

    assert (False, []) == (outbox.sends, taken(outbox))


def test_a_receipt_hears_what_another_process_has_made_of_its_call(process: NewProcess) -> None:
    sender, other = process(), process()
    receipts = put(other, 4)
    ids = ids_of(receipts)
    sender.poll()
    sender.take(4)
    sender.merged(ids[:1], 2)
    other.poll()
    before = [receipt.status for receipt in receipts]
    sender.settle(Settlement(ids[1:2], ids[:1], DELIVERED, 4, None))
    sender.settle(Settlement(ids[2:3], (), EXPIRED, 2, b"xx"))
    other.poll()

    assert ["pending"] * 4 == before  # that it was merged is the sender's own matter until the row is settled
    assert ["merged", "delivered", "dead", "pending"] == [receipt.status for receipt in receipts]
    assert account(sender) == account(other)


def test_all_processes_share_the_room(process: NewProcess) -> None:
    first, second = process(max_bytes=100), process(max_bytes=100)
    put(first, size=60)
    second.poll()

    assert (True, False) == (second.has_room(40), second.has_room(41))


def test_room_made_by_one_is_room_for_all_and_they_are_told(process: NewProcess) -> None:
    sender, other = process(max_bytes=100), process(max_bytes=100)
    ids = ids_of(put(sender, size=100))
    other.poll()
    told: list[bool] = []
    before = other.has_room(1)
    other.when_room = lambda: told.append(other.has_room(100))
    sender.take(1)
    sender.settle(Settlement(ids, (), DELIVERED, 100, None))
    other.poll()

    assert (False, True) == (before, told[-1])


# ── requests under way when a sender ended ──


def test_calls_of_a_request_that_was_under_way_count_as_sent(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 4))
    first.take(4)
    note(first, ids[1:3])
    first.die()
    second = process()
    taken(second)

    assert [False, True, True, False] == [second.send_log.was_sent(one) for one in ids]


def test_calls_of_a_request_that_has_landed_do_not_count_as_sent(process: NewProcess) -> None:
    """Refused with a 429, say: they wait, and nobody has them."""
    first = process()
    ids = ids_of(put(first, 2))
    first.take(2)
    first.send_log.landed(note(first, ids), answered=True, lost=False)
    first.die()
    second = process()
    taken(second)

    assert [False, False] == [second.send_log.was_sent(one) for one in ids]


def test_calls_of_a_request_whose_answer_was_lost_count_as_sent(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first, 2))
    first.take(2)
    first.send_log.landed(note(first, ids[:1]), answered=True, lost=True)
    first.die()
    second = process()
    taken(second)

    assert [True, False] == [second.send_log.was_sent(one) for one in ids]


def test_a_call_counts_as_sent_for_whoever_comes_after_the_next(process: NewProcess) -> None:
    first = process()
    ids = ids_of(put(first))
    first.take(1)
    note(first, ids)
    first.die()
    process().die()
    third = process()
    taken(third)

    assert third.send_log.was_sent(ids[0])


def test_a_token_that_was_spent_comes_back_within_a_minute_of_its_answer(process: NewProcess) -> None:
    first = process()
    first.send_log.landed(note(first, []), answered=True, lost=False)
    first.send_log.landed(note(first, []), answered=None, lost=False)
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    assert ["track"] == list(left.spent)
    (seconds,) = left.spent["track"]
    assert 0.0 < seconds <= 60.0


def test_a_token_of_a_request_that_was_under_way_comes_back_later(process: NewProcess) -> None:
    """The answer might still be on its way: as for an answer that was lost."""
    first = process()
    note(first, [])
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    (seconds,) = left.spent["track"]
    assert 60.0 < seconds <= 90.0


def test_what_is_inherited_is_inherited_once_and_survives_one_that_only_looked(process: NewProcess) -> None:
    first = process()
    note(first, [])
    first.die()
    process().die()
    third = process()
    left = third.send_log.inherited()

    assert left is not None
    assert 1 == len(left.spent["track"])
    assert third.send_log.inherited() is None


# ── files of rows ──


def filed(outbox: Process) -> tuple[list[int], RequestNote]:
    """Three calls of two users, and a file with a row of each under way."""
    users = ["u1", "u2", "u1", "u3"]
    ids = [outbox.put("user", user, ({"n": n}, None, 9, None), 9, 0.0).id for n, user in enumerate(users)]
    outbox.take(4)
    outbox.merged(ids[:1], 9)
    request = note(outbox, [], filename="file-1", kind="user", last_calls=[ids[1], ids[2]])
    return ids, request


def test_a_file_that_was_under_way_is_known_by_its_name_and_its_rows_last_calls(process: NewProcess) -> None:
    first = process()
    ids, _ = filed(first)
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    assert [UnfinishedFile("file-1", "user", {"u2": ids[1], "u1": ids[2]})] == list(left.files)


def test_a_file_whose_job_runs_is_known_though_its_submission_has_landed(process: NewProcess) -> None:
    first = process()
    _, request = filed(first)
    first.send_log.landed(request, answered=True, lost=False)
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    assert ["file-1"] == [file.filename for file in left.files]


def test_a_file_that_is_done_is_not_looked_for(process: NewProcess) -> None:
    first = process()
    _, request = filed(first)
    first.send_log.landed(request, answered=True, lost=False)
    first.send_log.forget(request.filename)
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    assert [] == list(left.files)


def test_a_file_whose_rows_were_all_settled_is_not_looked_for(process: NewProcess) -> None:
    first = process()
    ids, _ = filed(first)
    first.settle(Settlement(ids[1:3], ids[:1], DELIVERED, 27, None))
    first.die()
    left = process().send_log.inherited()

    assert left is not None
    assert [] == [file for file in left.files if file.last_calls]


# ── what a call says of another ──


def company_row(company: str) -> Row:
    return Row("company", company, {"name": "Acme", "size": 7}, None, array("Q"), 0.0, 20)


@pytest.mark.parametrize("company", ["acme", "a\0b", 'ü"\\'])
def test_what_was_delivered_of_a_company_is_not_said_again(process: NewProcess, company: str) -> None:
    """Or an older value could overwrite a newer one, which somebody else has sent meanwhile. An id may be any text."""
    first = process()
    kind, key, facts, size = copy.deepcopy(PUTS[DESCRIBES])
    metadata, fields, size, (_, _, *says) = cast("Any", facts)
    companion = ("company", company, *says)
    call_id = first.put(kind, key, (metadata, fields, size, companion), size, 0.0).id
    first.take(1)
    first.settle(Settlement((), (), DELIVERED, 20, company_row(company), riders=[call_id]))
    first.die()
    ((taken_id, _, kind, key, said),) = process().take(10)

    assert (call_id, "user", "u1") == (taken_id, kind, key)
    assert (metadata, fields, size - companion[3], None) == said


def test_what_was_not_delivered_of_a_company_is_said_again(process: NewProcess) -> None:
    first = process()
    first.put(*copy.deepcopy(PUTS[DESCRIBES]), 0.0)
    first.take(1)
    first.die()
    ((_, _, _, _, said),) = process().take(10)

    assert PUTS[DESCRIBES][2] == said


# ── who may open it ──


@pytest.mark.parametrize(
    ("client", "says"),
    [(Client(key="another"), "another API key"), (Client(destination="elsewhere"), "not for elsewhere")],
    ids=["account", "server"],
)
def test_a_file_of_another_account_is_refused_and_stays_as_it_is(
    process: NewProcess, client: Client, says: str
) -> None:
    first = process()
    ids = put_all(first)
    first.die()
    with pytest.raises(OutboxError, match=says):
        process(client)

    assert ids == taken(process())


def test_a_file_may_be_given_to_another_account(process: NewProcess) -> None:
    first = process()
    ids = put_all(first)
    first.die()

    assert ids == taken(process(Client(key="another"), rebind=True))


# ── when others have a hand in it ──


def test_a_call_that_somebody_purged_is_settled_once(process: NewProcess) -> None:
    sender = process()
    ids = ids_of(put(sender, 2))
    sender.take(2)
    other = process(sender=False)
    _purge(other, ids[:1])
    sender.settle(Settlement(ids, (), DELIVERED, 4, None))

    assert (2, 1, {"purged": 1}) == (sender.ledger.accepted, sender.ledger.delivered, sender.ledger.dropped)
    assert (0, 0) == (sender.ledger.pending, sender.waiting_bytes)


def test_a_call_that_somebody_purged_after_it_was_merged_is_settled_once(process: NewProcess) -> None:
    sender = process()
    ids = ids_of(put(sender, 2))
    sender.take(2)
    sender.merged(ids[:1], 2)
    other = process(sender=False)
    _purge(other, ids[:1])
    sender.settle(Settlement(ids[1:], ids[:1], DELIVERED, 4, None))

    assert (2, 1, {"purged": 1}) == (sender.ledger.accepted, sender.ledger.delivered, sender.ledger.dropped)
    assert (0, 0, 0) == (sender.ledger.pending, sender.ledger.merged, sender.waiting_bytes)


def _purge(outbox: Process, ids: list[int]) -> None:
    """What erases a person: calls meet their fate in a transaction of somebody who does not send."""
    if isinstance(outbox, InlineRedisOutbox):
        errands = outbox.store
        token = b" ".join(outbox.redis.get("{userpilot_async}:lease").split(b" ")[:2])
        notes = SenderNotes(settled=[("dropped", "purged", runs(ids), [], "")]).as_json()
        errands.access.run("note", errands.access.next_step(), "", token, 0, notes, "")
        return
    if isinstance(outbox, InlinePostgresOutbox):
        access = outbox.store.access
        with access.row.locked() as state:
            news = access.tables.settle(state, Settled(Outcome("dropped", "purged"), ids, []))
            access.tables.write_news(state, news)
            access.row.write(state)
        return
    batch = Batch()
    batch.lost.append(Settled(Outcome("dropped", "purged"), ids, []))
    outbox.store.commit(lambda: batch)


@pytest.mark.parametrize("process", ["sqlite"], indirect=True)
def test_damaged_rows_are_set_aside_and_no_other_call_is_passed_over(process: NewProcess, tmp_path: Path) -> None:
    first = process(sender=False)
    ids = ids_of(put(first, 2_500))
    db = sqlite3.connect(tmp_path / "host" / "events.db")
    db.execute("UPDATE calls SET said = x'00' WHERE id IN (3, 999, 1500)")
    db.commit()
    db.close()
    second = process()
    found: list[int] = []
    while tickets := second.take(100):
        found += [ticket[0] for ticket in tickets]
        second.settle(Settlement([ticket[0] for ticket in tickets], (), DELIVERED, 0, None))

    assert [one for one in ids if one not in (3, 999, 1500)] == found
    assert ({"damaged": 3}, 0) == (second.ledger.dead, second.ledger.pending)


def test_a_post_that_was_under_way_is_marked_too(process: NewProcess) -> None:
    first = process()
    receipt = first.put(*PUTS["parcelvoy alias"], 0.0)
    first.take(1)
    head = Post("alias", [receipt.id], 0.0, b"{}")
    note(first, list(head.ids))
    first.die()
    second = process()
    taken(second)

    assert second.send_log.was_sent(receipt.id)

"""The central claims again, on real loops, with the thread that a SQLite outbox has."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.contract.inline import Client
from tests.contract.puts import PUTS
from userpilot_async import MemoryOutbox, OutboxError
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._calls.payload import Ticket
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.sqlite import SQLiteOutbox
from userpilot_async.sqlite._locks import Lock

pytestmark = pytest.mark.anyio

EXPIRED = Outcome("dead", "expired")
NO_ROOM = Outcome("dropped", "queue_full")
LONGEST = 30.0  # seconds for anything to happen; it takes milliseconds, unless others use the machine

OUTBOXES: dict[str, Callable[[Path], Outbox]] = {
    "memory": lambda path: MemoryOutbox(),
    "process": lambda path: SQLiteOutbox(path, durability="process"),
    "power": lambda path: SQLiteOutbox(path, durability="power"),
}


@asynccontextmanager
async def opened(outbox: Outbox, client: Client | None = None) -> AsyncIterator[Outbox]:
    """Open it, and close it in the end."""
    async with anyio.create_task_group() as tasks:
        await outbox.open((client or Client()).opening(tasks=tasks))
        try:
            yield outbox
        finally:
            with anyio.CancelScope(shield=True):
                await outbox.aclose()
            tasks.cancel_scope.cancel()


@pytest.fixture(params=OUTBOXES)
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    """An open outbox of each implementation."""
    async with opened(OUTBOXES[request.param](tmp_path / "host" / "events.db")) as outbox:
        yield outbox


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host" / "events.db"


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    with anyio.fail_after(LONGEST):
        while not holds():
            await anyio.sleep(0.001)


async def taken(outbox: Outbox, count: int) -> list[Ticket]:
    """So many calls, as soon as they are there."""
    tickets: list[Ticket] = []

    def enough() -> bool:
        tickets.extend(outbox.take(100))
        return len(tickets) >= count

    await until(enough)
    return tickets


async def hold(outbox: Outbox, user: str = "u1", number: int = 0) -> Receipt:
    receipt = await outbox.hold("track", user, b"%d" % number, 2, anyio.current_time(), None)
    assert receipt is not None
    return receipt


async def test_calls_of_all_kinds_are_taken_in_order_and_as_they_were_put(outbox: Outbox) -> None:
    receipts = [outbox.put(*copy.deepcopy(one), anyio.current_time()) for one in PUTS.values()]
    tickets = await taken(outbox, len(PUTS))

    assert [receipt.id for receipt in receipts] == [ticket[0] for ticket in tickets]
    assert [one[:3] for one in PUTS.values()] == [ticket[2:] for ticket in tickets]
    assert [] == list(outbox.take(100))


async def test_calls_of_many_tasks_are_each_held_once_and_in_the_order_of_each_task(outbox: Outbox) -> None:
    ids: list[int] = []

    async def track(user: str) -> None:
        ids.extend([(await hold(outbox, user, number)).id for number in range(10)])

    async with anyio.create_task_group() as tasks:
        for n in range(50):
            tasks.start_soon(track, f"u{n}")
    tickets = await taken(outbox, 500)
    numbers: dict[object, list[int]] = {}
    for _, _, _, key, said in tickets:
        numbers.setdefault(key, []).append(int(said))  # type: ignore[arg-type]  # bytes

    assert list(range(500)) == sorted(ids) == [ticket[0] for ticket in tickets]
    assert {f"u{n}": list(range(10)) for n in range(50)} == numbers


async def test_whoever_waits_for_an_outcome_is_told(outbox: Outbox) -> None:
    receipts = [await hold(outbox) for _ in range(4)]
    ids = [receipt.id for receipt in receipts]
    await taken(outbox, 4)
    outcomes: dict[int, Outcome] = {}

    async def wait(receipt: Receipt) -> None:
        outcomes[receipt.id] = await receipt.outcome(LONGEST)

    async with anyio.create_task_group() as tasks:
        for receipt in receipts:
            tasks.start_soon(wait, receipt)
        await anyio.lowlevel.checkpoint()
        outbox.merged(ids[:1], 2)
        outbox.settle(Settlement(ids[1:2], ids[:1], DELIVERED, 4, None))
        outbox.settle(Settlement(ids[2:3], (), EXPIRED, 2, b"xx"))
        outbox.settle(Settlement(ids[3:], (), NO_ROOM, 2, b"xx"))

    assert [Outcome("merged", None, DELIVERED), DELIVERED, EXPIRED, NO_ROOM] == [outcomes[one] for one in ids]


async def test_all_that_was_done_is_in_the_account_once_it_is_recorded(outbox: Outbox) -> None:
    ids = [(await hold(outbox)).id for _ in range(3)]
    await taken(outbox, 3)
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
    refused = outbox.refuse(NO_ROOM)
    outbox.put("track", "u1", b"{}", 2, 0.0)
    await outbox.recorded()
    ledger = outbox.ledger

    assert (5, 1, 3) == (ledger.accepted, ledger.delivered, ledger.pending)
    assert ("dropped", "queue_full") == (refused.status, refused.reason)


async def test_whoever_waits_for_room_is_told(outbox: Outbox) -> None:
    told = anyio.Event()
    receipt = await hold(outbox)
    await taken(outbox, 1)
    outbox.when_room = lambda: told.set() if not outbox.waiting_bytes else None
    outbox.settle(Settlement([receipt.id], (), DELIVERED, 2, None))
    with anyio.fail_after(LONGEST):
        await told.wait()

    assert 0 == outbox.waiting_bytes


async def test_a_call_cancelled_while_it_waits_is_not_accepted_or_accepted_and_said_so(outbox: Outbox) -> None:
    """No third case: what the ledger counts is what callers got receipts for."""
    chance, receipts, cancelled = Random(1), list[Receipt](), list[int]()

    async def track(number: int) -> None:
        with anyio.CancelScope() as scope:
            receipt = None

            async def cancel() -> None:
                for _ in range(chance.randrange(6)):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel)
                receipt = await hold(outbox, f"u{number}", number)
                receipts.append(receipt)
        if receipt is None:
            cancelled.append(number)

    for start in range(0, 200, 20):
        async with anyio.create_task_group() as tasks:
            for number in range(start, start + 20):
                tasks.start_soon(track, number)
    await outbox.recorded()
    tickets = await taken(outbox, len(receipts)) if receipts else []

    assert len(receipts) == outbox.ledger.accepted
    assert sorted(receipt.id for receipt in receipts) == [ticket[0] for ticket in tickets]
    assert not {f"u{number}" for number in cancelled} & {ticket[3] for ticket in tickets}


async def test_a_call_cancelled_before_anybody_could_write_it_is_not_accepted(path: Path) -> None:
    """Another process has the file."""
    async with opened(SQLiteOutbox(path)) as outbox:
        other = Lock(path.with_name(path.name + ".lock"))
        await until(other.try_take)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold, outbox, "cancelled")
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        other.close()
        receipt = await hold(outbox, "held")

        assert scope.cancelled_caught
        assert (0, 1) == (receipt.id, outbox.ledger.accepted)
        assert ["held"] == [ticket[3] for ticket in await taken(outbox, 1)]


async def test_what_was_put_before_the_end_is_there_afterwards(path: Path) -> None:
    async with opened(SQLiteOutbox(path)) as first:
        receipts = [first.put("track", "u1", b"%d" % n, 2, 0.0) for n in range(2_500)]
    async with opened(SQLiteOutbox(path)) as second:
        tickets: list[Ticket] = []
        while len(tickets) < 2_500:
            more = await taken(second, 1)
            tickets += more
            second.settle(Settlement([ticket[0] for ticket in more], (), DELIVERED, 2 * len(more), None))
        await second.recorded()

        assert list(range(2_500)) == [receipt.id for receipt in receipts] == [ticket[0] for ticket in tickets]
        assert [b"%d" % n for n in range(2_500)] == [ticket[4] for ticket in tickets]
        assert (2_500, 0) == (second.ledger.delivered, second.ledger.pending)


async def test_of_several_one_sends_what_all_put_and_when_it_closes_another_one_does(path: Path) -> None:
    async with AsyncExitStack() as stack:
        outboxes = [await stack.enter_async_context(opened(SQLiteOutbox(path))) for _ in range(3)]
        ids = [(await hold(outbox)).id for outbox in outboxes * 3]
        assert [True, False, False] == [outbox.sends for outbox in outboxes]
        first = await taken(outboxes[0], 9)
        outboxes[0].settle(Settlement(ids[:1], (), DELIVERED, 2, None))
        await outboxes[0].aclose()
        await until(lambda: outboxes[1].sends or outboxes[2].sends)
        heir = next(outbox for outbox in outboxes if outbox.sends)
        second = await taken(heir, 8)

        assert list(range(9)) == ids == [ticket[0] for ticket in first]
        assert ids[1:] == [ticket[0] for ticket in second]


async def test_a_receipt_hears_of_what_another_sender_did(path: Path) -> None:
    async with opened(SQLiteOutbox(path)) as sender, opened(SQLiteOutbox(path, sender=False)) as other:
        receipt = await hold(other)
        (ticket,) = await taken(sender, 1)
        sender.settle(Settlement([ticket[0]], (), DELIVERED, 2, None))

        assert DELIVERED == await receipt.outcome(LONGEST)
        assert (1, 0) == (other.ledger.delivered, other.ledger.pending)


async def test_one_that_cannot_be_opened_says_why_and_leaves_the_file_to_others(path: Path) -> None:
    async with opened(SQLiteOutbox(path)) as first:
        await hold(first)
    stranger = SQLiteOutbox(path)
    with pytest.raises(OutboxError, match="another API key"):
        await stranger.open(Client(key="another").opening())
    async with opened(SQLiteOutbox(path)) as second:
        assert 1 == len(await taken(second, 1))
    async with opened(stranger):  # with the right key it is as good as new
        assert 1 == len(await taken(stranger, 1))


async def test_an_outbox_goes_through_several_openings(path: Path) -> None:
    outbox: Any = SQLiteOutbox(path)
    for n in range(3):
        async with opened(outbox):
            assert n == (await hold(outbox)).id
            assert n + 1 == outbox.ledger.pending == len(await taken(outbox, n + 1))

"""The inbox between threads and the client's loop, with a loop that does what a test says."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from userpilot_async._account.memory_ledger import MemoryLedger
from userpilot_async._calls.outcome import Outcome
from userpilot_async._delivery.inbox import MOST_REFUSED, SLICE, Inbox, Shut
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._runtime.event_loop import HomeLoop
from userpilot_async._schedule.destination import LostCall
from userpilot_async.sqlite import SQLiteOutbox

FULL = Outcome("dropped", "queue_full")
INVALID = Outcome("dead", "invalid")


@attrs.define
class Loop:
    """A loop that calls nothing by itself."""

    waiting: list[Callable[[], object]] = attrs.field(factory=list)
    ended: bool = False

    def soon(self, function: Callable[..., object], *arguments: object) -> None:
        if self.ended:
            raise RuntimeError("it is closed")
        self.waiting.append(partial(function, *arguments))

    def is_closed(self) -> bool:
        return self.ended

    def turn(self) -> None:
        waiting, self.waiting = self.waiting, []
        for function in waiting:
            function()


@attrs.define
class Owner:
    """The client: it takes a slice whenever it is asked to."""

    loop: Loop = attrs.field(factory=Loop)
    inbox: Inbox = attrs.field(init=False)
    room: int = 1_000_000
    taken: list[Any] = attrs.field(factory=list)
    refused: list[Any] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.inbox = Inbox("Client", max_calls=self.room, max_bytes=1_000_000)
        self.inbox.open(
            HomeLoop(self.loop, threading.get_ident(), os.getpid(), self.loop.soon),
            MemoryLedger(),
            has_room=lambda size, calls, waiting: calls < self.room,
            take=self.take,
            dead_letter=lambda kind, key, said, outcome: partial(LostCall, status="dropped", reason=str(said)),
        )

    def put(self, said: str, size: int = 10, **options: Any) -> Receipt | None:
        return self.inbox.put("track", "u", said.encode(), size, 0.0, **options)

    def take(self) -> None:
        self.refused += self.inbox.next_refused(SLICE)
        self.taken += [call[2].decode() for call in self.inbox.next_calls(SLICE)]


def letter() -> LostCall:
    return LostCall(status="dead", reason="invalid")


def test_one_wake_up_serves_all_calls_that_come_before_the_loop_looks():
    owner = Owner()
    for n in range(100):
        owner.put(str(n))
    wake_ups = len(owner.loop.waiting)
    owner.loop.turn()

    assert (1, list(map(str, range(100)))) == (wake_ups, owner.taken)
    assert [] == owner.loop.waiting


def test_a_call_that_comes_after_the_look_wakes_the_loop_again():
    owner = Owner()
    owner.put("0")
    owner.loop.turn()
    owner.put("1")
    owner.loop.turn()

    assert ["0", "1"] == owner.taken


def test_what_is_more_than_a_slice_is_taken_in_the_next_turns():
    owner = Owner()
    for n in range(2 * SLICE + 1):
        owner.put(str(n))
    seen = []
    while owner.loop.waiting:
        owner.loop.turn()
        seen.append(len(owner.taken))

    assert [SLICE, 2 * SLICE, 2 * SLICE + 1] == seen
    assert list(map(str, range(2 * SLICE + 1))) == owner.taken


def test_what_is_on_its_way_is_counted_until_it_is_taken():
    owner = Owner()
    owner.put("0")
    owner.inbox.refuse(INVALID, letter)
    before = owner.inbox.on_its_way
    during = [owner.inbox.on_its_way for _ in owner.inbox.next_calls(1)]
    owner.loop.turn()

    assert (2, [2], 0) == (before, during, owner.inbox.on_its_way)


def test_a_call_that_finds_no_room_is_given_back():
    owner = Owner(room=2)

    assert [False, False, True] == [owner.put("x") is None for _ in range(3)]
    assert 2 == owner.inbox.on_its_way
    owner.loop.turn()


def test_bytes_are_limited_too_but_for_a_large_call_into_an_empty_inbox():
    owner = Owner()
    sizes = [2_000_000, 1]
    first = [owner.put("x", size) is None for size in sizes]
    owner.loop.turn()
    second = [owner.put("x", size) is None for size in (999_999, 1, 1)]
    owner.loop.turn()

    assert ([False, True], [False, False, True]) == (first, second)


def test_the_oldest_make_room_if_they_are_to():
    owner = Owner(room=3)
    receipts = [owner.put(str(n), displaces=True) for n in range(5)]
    owner.loop.turn()

    assert ["2", "3", "4"] == owner.taken
    assert [FULL, FULL] == [outcome for outcome, _, _ in owner.refused]
    assert receipts[:2] == [receipt for _, _, receipt in owner.refused]
    assert ["b'0'", "b'1'"] == [made().reason for _, made, _ in owner.refused]
    assert 0 == owner.inbox.on_its_way


def test_a_large_call_displaces_all_and_goes_in_alone():
    owner = Owner()
    for n in range(3):
        owner.put(str(n), displaces=True)
    owner.put("large", 2_000_000, displaces=True)
    owner.loop.turn()

    assert (["large"], 3) == (owner.taken, len(owner.refused))


def test_a_refused_call_says_so_at_once():
    receipt = Owner().inbox.refuse(INVALID, letter)

    assert ("dead", "invalid", -1) == (receipt.status, receipt.reason, receipt.id)


def test_of_very_many_refused_calls_only_the_number_is_kept():
    owner = Owner()
    for n in range(MOST_REFUSED + 700):
        owner.inbox.refuse(INVALID if n % 2 else FULL, letter)
    kept = len(owner.inbox.refused)
    while owner.loop.waiting:
        owner.loop.turn()

    assert (MOST_REFUSED, MOST_REFUSED + 700) == (kept, len(owner.refused))
    assert 700 == sum(receipt is None for _, _, receipt in owner.refused)
    assert {INVALID: (MOST_REFUSED + 700) // 2, FULL: (MOST_REFUSED + 700) // 2} == {
        fate: sum(outcome == fate for outcome, _, _ in owner.refused) for fate in (INVALID, FULL)
    }
    assert 0 == owner.inbox.on_its_way


def test_of_very_many_displaced_calls_each_receipt_says_what_became_of_it():
    owner = Owner(room=1)
    receipts = [owner.put(str(n), displaces=True) for n in range(MOST_REFUSED + 3)]
    forgotten = [receipt and receipt.reason for receipt in receipts[MOST_REFUSED:-1]]
    while owner.loop.waiting:
        owner.loop.turn()

    assert ["queue_full", "queue_full"] == forgotten


def test_an_inbox_that_is_not_open_takes_nothing():
    inbox = Inbox("Client", 10, 10)

    with pytest.raises(Shut):
        inbox.put("track", "u", b"", 0, 0.0)
    with pytest.raises(Shut):
        inbox.refuse(INVALID, letter)


def test_an_inbox_that_was_shut_takes_nothing_and_gives_what_it_has():
    owner = Owner()
    owner.put("0")
    owner.inbox.shut()
    with pytest.raises(Shut):
        owner.put("1")
    owner.loop.turn()

    assert ["0"] == owner.taken


def test_a_call_for_a_loop_that_has_ended_is_not_accepted():
    owner = Owner()
    owner.loop.ended = True
    with pytest.raises(Shut):
        owner.put("0")

    assert 0 == owner.inbox.on_its_way


def test_calls_that_a_loop_left_behind_are_still_there_when_the_next_one_is_refused():
    owner = Owner()
    owner.put("0")
    owner.loop.ended = True  # before it looked
    with pytest.raises(Shut):
        owner.put("1")
    owner.take()

    assert ["0"] == owner.taken


def test_calls_that_nobody_took_are_said_when_the_client_is_forgotten(caplog: pytest.LogCaptureFixture):
    owner = Owner()
    owner.put("0")
    with pytest.warns(ResourceWarning, match="a Client was not closed: 1 calls of other threads"):
        owner.inbox.__del__()
    owner.inbox.shut()

    assert "1 calls of other threads" in caplog.text


@pytest.mark.parametrize("run", [asyncio.run, lambda coroutine: trio.run(lambda: coroutine)], ids=["asyncio", "trio"])
def test_a_loop_knows_in_any_thread_whether_it_runs_here_and_whether_it_has_ended(run: Callable[..., Any]):
    async def scene() -> tuple[HomeLoop, list[bool]]:
        home = HomeLoop.here()
        return home, [home.runs_here(), home.has_ended()]

    home, within = run(scene())

    assert ([True, False], [False, True]) == (within, [home.runs_here(), home.has_ended()])


def in_a_thread_that_may_hang(work: Callable[[], object]) -> bool:
    """Whether it came to its end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    return not thread.is_alive()


def test_a_call_that_interrupts_one_of_its_own_thread_is_taken():
    """As a signal handler's does, that counts why the application ends, or a finaliser's."""
    owner, interruptions = Owner(), ["of a signal handler"]

    def has_room(size: int, calls: int, waiting: int) -> bool:
        if interruptions:
            owner.put(interruptions.pop())
        return True

    owner.inbox._has_room = has_room

    assert in_a_thread_that_may_hang(lambda: owner.put("interrupted"))
    owner.loop.turn()
    assert ["of a signal handler", "interrupted"] == owner.taken


def test_a_call_that_interrupts_the_collecting_of_a_durable_outbox_is_collected(tmp_path: Path):
    outbox = SQLiteOutbox(tmp_path / "outbox.db")

    def interrupted() -> None:
        with outbox._session.queue.lock:
            outbox.put("track", "u", b"{}", 2, 0.0)

    assert in_a_thread_that_may_hang(interrupted)
    assert 1 == outbox.unheld

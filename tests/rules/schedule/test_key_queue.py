"""A machine that does to two people's queues whatever may happen to them: calls of one key stay in order."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from functools import partial

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from userpilot_async._calls.payload import event_id
from userpilot_async._calls.rows import Row, RowState
from userpilot_async._schedule.key_queue import KeyQueue, Post, QueuedCall
from userpilot_async._schedule.queue_state import UNDER_WAY, QueueState
from userpilot_async._schedule.queues import Queues

KEYS = ("u0", "u1")
MAY_GO = (QueueState.EVENTS, QueueState.URGENT, QueueState.MERGING)
MAY_BE_FILED = (QueueState.EVENTS, QueueState.URGENT, QueueState.LATE, QueueState.BACKING_OFF)


@attrs.define(eq=False)
class File:
    """A file on its way, with the row that it carries, or that stands for its events."""

    row: Row
    takes_events: bool
    submitted: bool = False


@attrs.define
class Accepted:
    """A call that the server has not applied yet."""

    what: str
    persons: frozenset[str]
    """Keys of which it is known, as it is accepted, that they are this person's."""


def ids_of(call: QueuedCall) -> list[int]:
    """The calls in what stands in a queue."""
    return [event_id(call)] if isinstance(call, tuple) else list(call.ids)


def what_of(call: QueuedCall) -> str:
    """The kind of call that it is."""
    return "event" if isinstance(call, tuple) else "row" if isinstance(call, Row) else "post"


class KeyQueues(RuleBasedStateMachine):
    """Does what the schedule may do to key queues, and watches what the server sees of it."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = Queues(["user"])
        self.waiting: dict[int, Accepted] = {}
        self.files: dict[KeyQueue, File] = {}
        self.carried: dict[KeyQueue, QueuedCall] = {}
        self.joined = False
        self.next_id = 0

    @rule(choices=st.lists(st.integers(0, 9_999), min_size=10, max_size=30))
    def go_on(self, choices: list[int]) -> None:
        """Do some of the things that may happen, one after the other."""
        for choice in choices:
            turn, number = choice % 3, choice // 3
            possible = list(self.possible_calls() if turn == 0 else self.possible()) or [partial(self.track, "u0")]
            possible[number % len(possible)]()
            self.check()

    def possible_calls(self) -> Iterator[Callable[[], None]]:
        """All calls that may come in now: one person's first of all, since little happens between two."""
        yield from (partial(self.track, "u0"), partial(self.identify, "u0"), partial(self.track, "u0"))
        yield from (partial(self.track, "u1"), partial(self.identify, "u1"), partial(self.post, "u0"))
        if not self.joined:
            yield self.join

    def possible(self) -> Iterator[Callable[[], None]]:
        """All else that may happen now."""
        for queue in list(self.queues):
            yield from (partial(action, queue) for action in self.possible_for(queue))
        for queue, file in self.files.items():
            yield partial(self.complete if file.submitted else self.submit, queue, file)
            yield partial(self.fail, queue, file, alone=False)
            yield partial(self.fail, queue, file, alone=True)

    def possible_for(self, queue: KeyQueue) -> Iterator[Callable[[KeyQueue], None]]:
        """All that may happen to a queue in its state."""
        state = queue.state
        if state in MAY_GO:
            yield self.send
        if state is QueueState.SENDING:
            yield from (self.taken, self.refused)
            if queue not in self.files:
                yield self.reserve
        elif queue.is_blocked and queue not in self.files:
            yield self.stop_waiting_for_requests
        if state is QueueState.BACKING_OFF:
            yield self.wake
        if state is QueueState.MERGING and queue not in self.files:
            yield self.file_row
        may_be_filed = state in MAY_BE_FILED and queue.first_event is not None and not queue.goes_in_realtime
        if may_be_filed and queue.claimed_row is None:
            yield from (partial(self.file_events, most=1), partial(self.file_events, most=100))
        if state is QueueState.EVENTS and not queue.goes_in_realtime:
            yield self.set_aside
        if state is QueueState.LATE:
            yield self.let_through

    # ── what the server sees ──

    def applied(self, call: QueuedCall, *, from_file: bool = False) -> None:
        """The server applies a call: everything that it may not overtake has been applied."""
        ids, what = ids_of(call), what_of(call)
        if not ids:
            return
        persons = frozenset[str]().union(*(self.waiting[one].persons for one in ids if one in self.waiting))
        for before, other in self.waiting.items():
            if before in ids or before > max(ids) or not persons & other.persons:
                continue
            # An identify that moves nobody to another company may go ahead of events; it merged into a row before them.
            merged_ahead = (what, other.what) == ("row", "event") and before > ids[0]
            assert merged_ahead, f"{what} {ids} overtakes {other.what} {before}"
        if what == "row" and not from_file:
            in_files = [file.row for queue, file in self.files.items() if file.submitted and queue.key in persons]
            assert all(row is call or row.is_blank for row in in_files), "a file will overwrite this row"
        for one in ids:
            self.waiting.pop(one, None)

    # ── calls come in ──

    def accept(self, key: str, what: str) -> tuple[KeyQueue, int]:
        """The queue of a new call, and its id."""
        queue, call_id = self.queues.queue("user", key), self.next_id
        self.next_id += 1
        self.waiting[call_id] = Accepted(what, frozenset(KEYS if self.joined else [key]))
        return queue, call_id

    def track(self, key: str) -> None:
        queue, call_id = self.accept(key, "event")
        queue.add((call_id, float(call_id), b"{}"))
        self.queues.came_in(queue)

    def identify(self, key: str) -> None:
        queue, call_id = self.accept(key, "row")
        row = queue.waiting_row
        if row is not None:
            row.take_in(call_id, {}, None, 2, float(call_id))
        else:
            queue.add(Row("user", queue.key, {}, None, array("Q", [call_id]), float(call_id), 2))
            self.queues.came_in(queue)

    def post(self, key: str) -> None:
        queue, call_id = self.accept(key, "post")
        queue.add(Post("alias", [call_id], float(call_id), b"{}"))
        self.queues.came_in(queue)

    def join(self) -> None:
        """An alias says that both keys are one person's."""
        self.joined = True
        self.queues.queue("user", ("u1", "u0"))
        self.post("u1")

    # ── requests ──

    def send(self, queue: KeyQueue) -> None:
        head = self.carried[queue] = queue.calls[0]
        self.queues.send(queue)
        if isinstance(head, Row) and head.state is RowState.WAITING:
            head.state = RowState.SENDING

    def taken(self, queue: KeyQueue) -> None:
        head = self.carried.pop(queue)
        self.applied(head)
        if queue.calls and queue.calls[0] is head:  # else a job's end has settled the row meanwhile
            queue.pop()
            if isinstance(head, Row):
                head.state = RowState.ANSWERED
        self.queues.come_back(queue)

    def refused(self, queue: KeyQueue) -> None:
        """The server refuses a request, which goes again."""
        head = self.carried.pop(queue)
        if not queue.calls or queue.calls[0] is not head:
            self.queues.come_back(queue)
            return
        if isinstance(head, Row) and head.state is RowState.SENDING:
            head.state = RowState.WAITING
        queue.failed(queue.failures + 1)
        self.queues.back_off(queue, 1.0)

    def wake(self, queue: KeyQueue) -> None:
        assert math.inf == self.queues.wake(1.0)
        assert queue.place is not QueueState.BACKING_OFF

    # ── files ──

    def file_row(self, queue: KeyQueue) -> None:
        row = queue.calls[0]
        assert isinstance(row, Row)
        queue.claim_row(row)
        self.queues.place(queue)
        self.files[queue] = File(row, takes_events=False)

    def file_events(self, queue: KeyQueue, most: int) -> None:
        row = queue.claim_events()
        self.queues.place(queue)
        events = []
        for call in queue.events_to_claim(most):
            if not isinstance(call, tuple):
                break
            events.append(call)
        queue.move_to_file(events)
        self.files[queue] = File(row, takes_events=True)

    def reserve(self, queue: KeyQueue) -> None:
        queue.reserve()

    def stop_waiting_for_requests(self, queue: KeyQueue) -> None:
        self.queues.unblock(queue)

    def submit(self, queue: KeyQueue, file: File) -> None:
        """The server has a file. One of events dates them, so whatever comes after it comes later."""
        file.submitted = True
        if file.takes_events:
            if file.row.state is RowState.BATCHED:
                self.applied(file.row, from_file=True)
            for event in file.row.events or ():
                self.applied(event)
        self.queues.unblock(queue)

    def complete(self, queue: KeyQueue, file: File) -> None:
        if file.takes_events:
            file.row.events = []
        if file.row.state is RowState.BATCHED:
            self.applied(file.row, from_file=True)
        self.release(queue, file, delivered=True)

    def fail(self, queue: KeyQueue, file: File, *, alone: bool) -> None:
        """A file comes to nothing: all of it goes another way. What went when the server had it is ahead of that."""
        file.row.alone = alone
        for event in (file.row.events or ()) if file.submitted else ():
            self.waiting[event_id(event)] = Accepted("event", frozenset())
        self.release(queue, file, delivered=False)

    def release(self, queue: KeyQueue, file: File, *, delivered: bool) -> None:
        """End a file, with its row delivered or not."""
        del self.files[queue]
        queue.release(file.row)
        if file.row.state is RowState.BATCHED and delivered:
            queue.pop()
            file.row.state = RowState.ANSWERED
        elif file.row.state is RowState.BATCHED:
            queue.reopen(file.row)
        if queue.place not in UNDER_WAY:
            self.queues.head_left(queue)
        elif queue.calls:
            self.queues.expiry.watch(queue)

    # ── late events ──

    def set_aside(self, queue: KeyQueue) -> None:
        queue.set_aside()
        self.queues.place(queue)

    def let_through(self, queue: KeyQueue) -> None:
        queue.let_through()
        self.queues.place(queue)

    # ── always ──

    def check(self) -> None:
        """Each stands where its state says, and no call is lost."""
        states = {queue.state for queue in self.queues}
        for queue in self.queues:
            assert queue.place is queue.state
            assert (queue.state is QueueState.MERGING) == (queue.key in self.queues.merging["user"])
            assert (queue.state is QueueState.LATE) == (queue.key in self.queues.late)
            assert queue.watched or not queue.calls
        assert (QueueState.EVENTS in states) == (self.queues.first_event() is not None)
        assert (QueueState.URGENT in states) == (self.queues.first_urgent() is not None)
        held = [one for queue in self.queues for call in (*queue.calls, *queue.given_back) for one in ids_of(call)]
        in_files = [event_id(event) for file in self.files.values() for event in file.row.events or ()]

        assert len(held) == len(set(held))
        assert self.waiting.keys() <= {*held, *in_files}
        oldest = self.queues.expiry.oldest()
        if oldest is not None:
            assert oldest.head_time == min(queue.head_time for queue in self.queues if queue.calls)

    def teardown(self) -> None:
        """All goes well from now on, and all goes."""
        good = {self.send, self.taken, self.wake, self.let_through, self.stop_waiting_for_requests}
        for _ in range(20 * (1 + self.next_id)):
            for queue in list(self.queues):
                for action in [one for one in self.possible_for(queue) if one in good][:1]:
                    action(queue)
            for queue, file in list(self.files.items()):
                (self.complete if file.submitted else self.submit)(queue, file)
            if not self.waiting and not self.files and not len(self.queues):
                break

        assert {} == self.waiting
        assert 0 == len(self.queues)


TestKeyQueues = KeyQueues.TestCase
TestKeyQueues.settings = settings(max_examples=200, stateful_step_count=3, deadline=None)

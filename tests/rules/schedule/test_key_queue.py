"""Three people's queues, to which whatever may happen happens: calls of one person stay in order, and none waits alone.

`World` notes in the plainest form what the queues have to know: who is in a request, in a pause, in a file, behind
somebody, or late. From that follows the state that a queue must be in. What the server sees must be in order.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from userpilot_async._calls.payload import WaitingEvent, event_id
from userpilot_async._calls.rows import Row, RowState
from userpilot_async._schedule.key_queue import KeyQueue
from userpilot_async._schedule.posts import Post
from userpilot_async._schedule.queue_state import UNDER_WAY, QueueState
from userpilot_async._schedule.queue_view import QueuedCall
from userpilot_async._schedule.queues import Queues

KEYS = ("u0", "u1", "u2")
MOST = 4  # events of one array
MAY_GO = (QueueState.EVENTS, QueueState.URGENT, QueueState.MERGING)
MAY_BE_FILED = (QueueState.EVENTS, QueueState.URGENT, QueueState.LATE, QueueState.BACKING_OFF)


@attrs.frozen
class Accepted:
    """A call that the server has not applied yet, or that has to go again."""

    what: str
    """An event, a row that says something of a person, one that moves the person to another company, or a post."""
    persons: frozenset[str]
    """Keys of which it is known, as it is accepted, that they are this person's."""
    since: int
    """When it came in, or came back: what was under way by then may arrive before it."""


@attrs.define(eq=False)
class Sent:
    """The calls that a request carries: for a row, those that were in it when its body was written."""

    calls: list[QueuedCall]
    ids: list[list[int]]
    since: int


@attrs.define(eq=False)
class File:
    """One on its way, with the row that it carries, or that stands for its events."""

    row: Row
    takes_events: bool
    since: int
    submitted: bool = False
    row_ids: list[int] = attrs.field(factory=list)

    @property
    def events(self) -> list[WaitingEvent]:
        """Those that it has."""
        return self.row.events or []


def ids_of(call: QueuedCall) -> list[int]:
    """The calls in what stands in a queue."""
    return [event_id(call)] if isinstance(call, tuple) else list(call.ids)


class World:
    """Does what the schedule may do to key queues, knows what has to come of it, and watches what the server sees.

    ``has_files``: the destination takes files, as Userpilot does; or else aliases, as Parcelvoy does. None has both.
    """

    def __init__(self, *, has_files: bool) -> None:
        self.has_files = has_files
        self.queues = Queues(["user"])
        self.time = 0
        self.next_id = 0
        self.accepted: dict[int, Accepted] = {}
        self.waiting: dict[int, Accepted] = {}
        """Those of the accepted ones that the server has not applied."""
        self.persons = {key: frozenset([key]) for key in KEYS}
        self.stands_for = {key: key for key in KEYS}
        """Of each key the one that its person's new calls wait under."""
        self.sent: dict[KeyQueue, Sent] = {}
        self.files: dict[KeyQueue, File] = {}
        self.paused: set[KeyQueue] = set()
        self.reserved: set[KeyQueue] = set()
        self.late: set[KeyQueue] = set()
        self.realtime_until: dict[KeyQueue, int] = {}
        self.follows: dict[KeyQueue, list[KeyQueue]] = {}
        self.failures: dict[KeyQueue, int] = {}
        self.largest_array: dict[KeyQueue, int] = {}

    def go_on(self, choices: bytes) -> None:
        """One after the other of the things that may happen. Zeros are nothing, so that what is found can be read."""
        for choice in filter(None, choices):
            self.time += 1
            turn, number = choice % 3, choice // 3
            possible = list(self.possible_calls() if turn == 0 else self.possible()) or [partial(self.track, "u0")]
            possible[number % len(possible)]()
            self.check()

    # ── what may happen ──

    def possible_calls(self) -> Iterator[Callable[[], None]]:
        """All calls that may come in now: one person's first of all, since little happens between two."""
        yield from (partial(self.track, "u0"), partial(self.identify, "u0"), partial(self.track, "u0"))
        yield from (partial(self.track, "u0"), partial(self.identify, "u0"), partial(self.move, "u0"))
        yield from (partial(self.post, "u0"), partial(self.track, "u1"), partial(self.identify, "u1"))
        yield partial(self.track, "u2")
        if self.has_files:
            return
        if self.persons["u0"] == {"u0"}:
            yield partial(self.join, "u0", "u1")
        elif self.persons["u2"] == {"u2"}:
            yield from (partial(self.join, "u0", "u2"), partial(self.join, "u2", "u0"))

    def possible(self) -> Iterator[Callable[[], None]]:
        """All else that may happen now."""
        for queue in list(self.queues):
            yield from (partial(action, queue) for action in self.possible_for(queue))
        for queue, file in self.files.items():
            yield partial(self.complete if file.submitted else self.submit, queue, file)
            yield partial(self.fail, queue, file, alone=False)
            yield partial(self.fail, queue, file, alone=True)
            if file.takes_events and not file.submitted:
                yield partial(self.gather, queue, file, 1)
        unused = [key for key in KEYS if key not in self.queues.by_key["user"]]
        for key in unused[:1] if self.has_files else ():
            yield from (partial(self.take_over, key, rows=rows, events=events) for rows, events in ((1, 0), (1, 2)))
            yield partial(self.take_over, key, rows=0, events=2)

    def possible_for(self, queue: KeyQueue) -> Iterator[Callable[[KeyQueue], None]]:
        """All that may happen to a queue in its state."""
        state = queue.place
        if state in MAY_GO:
            yield from (partial(self.send, at_most=1), partial(self.send, at_most=MOST))
        if state is QueueState.SENDING:
            yield from (self.taken, self.failed, self.refused)
        if state is QueueState.BACKING_OFF:
            yield self.wake
        if state is not QueueState.SENDING and self.may_expire(queue):
            yield self.expire
        if self.has_files:
            yield from self.possible_with_files(queue, state)

    def possible_with_files(self, queue: KeyQueue, state: QueueState) -> Iterator[Callable[[KeyQueue], None]]:
        """The same of what files do to it."""
        if state is QueueState.SENDING:
            yield self.reserve
        if queue in self.reserved:
            yield self.stop_waiting_for_requests
        if state is QueueState.MERGING:
            yield self.file_row
        if self.first_event(queue) is not None and not self.goes_in_realtime(queue):
            if state in MAY_BE_FILED and queue not in self.files and queue not in self.reserved:
                yield from (partial(self.file_events, most=1), partial(self.file_events, most=100))
            if state in (QueueState.EVENTS, QueueState.URGENT):
                yield self.set_aside
        if state is QueueState.LATE:
            yield self.let_through

    # ── what is true ──

    def is_in_file(self, queue: KeyQueue, call: QueuedCall) -> bool:
        """A file has this row."""
        return queue in self.files and self.files[queue].row is call

    def may_expire(self, queue: KeyQueue) -> bool:
        """It has a head that no file has."""
        return bool(queue.calls) and not self.is_in_file(queue, queue.calls[0])

    def may_merge(self, queue: KeyQueue, call: QueuedCall) -> bool:
        """Neither a request nor a file has this row."""
        is_sent = queue in self.sent and self.sent[queue].calls[0] is call
        return isinstance(call, Row) and not is_sent and not self.is_in_file(queue, call)

    def first_event(self, queue: KeyQueue) -> QueuedCall | None:
        """The one at the head, or behind a row at the head that waits."""
        if queue.calls and isinstance(queue.calls[0], tuple):
            return queue.calls[0]
        second = queue.calls[1] if len(queue.calls) > 1 and self.may_merge(queue, queue.calls[0]) else None
        return second if isinstance(second, tuple) else None

    def open_row(self, queue: KeyQueue) -> QueuedCall | None:
        """The row that an identify merges into: the last one, unless a post is behind it."""
        last = next((call for call in reversed(queue.calls) if not isinstance(call, tuple)), None)
        return last if last is not None and self.may_merge(queue, last) else None

    def goes_in_realtime(self, queue: KeyQueue) -> bool:
        """No file was worked off with its first event."""
        first = self.first_event(queue)
        return first is not None and ids_of(first)[0] <= self.realtime_until.get(queue, -1)

    def is_behind(self, queue: KeyQueue) -> bool:
        """A queue of another key of the same person has to empty first."""
        return any(
            before.calls or before in self.sent or before in self.files or self.is_behind(before)
            for before in self.follows.get(queue, ())
        )

    def state(self, queue: KeyQueue) -> QueueState:
        """The one that it has to be in: what may go without overtaking anything, goes."""
        file = self.files.get(queue)
        if queue in self.sent or queue in self.paused:
            return QueueState.SENDING if queue in self.sent else QueueState.BACKING_OFF
        if not queue.calls:
            return QueueState.IDLE if file is None and not self.is_behind(queue) else QueueState.PARKED
        is_blocked = queue in self.reserved or (file is not None and file.takes_events and not file.submitted)
        if is_blocked or self.is_behind(queue):
            return QueueState.PARKED
        if queue in self.late and self.first_event(queue) is not None:
            return QueueState.LATE
        head, others = queue.calls[0], queue.calls[1:]
        if isinstance(head, tuple):
            return QueueState.EVENTS
        if isinstance(head, Post):
            return QueueState.URGENT
        if file is None:
            return QueueState.URGENT if others or head.alone else QueueState.MERGING
        if head is file.row:
            return QueueState.URGENT if others and not isinstance(others[0], Row) else QueueState.PARKED
        may_go = not file.row.ids and not any(self.accepted[one].what == "move" for one in head.ids)
        return QueueState.URGENT if may_go else QueueState.PARKED

    def check(self) -> None:
        """Each queue stands where it has to, knows of its calls what it has to, and no call is lost."""
        states = {queue.place for queue in self.queues}
        for queue in self.queues:
            assert queue.state is self.state(queue)
            assert not queue.only_events or all(isinstance(call, tuple) for call in queue.calls)
            # A row that goes at once is not placed anew for an event that comes in behind it.
            assert queue.place is queue.state or (queue.place, queue.state) == (QueueState.URGENT, QueueState.LATE)
            assert (queue.place is QueueState.MERGING) == (queue.key in self.queues.merging.queues["user"])
            assert (queue.place is QueueState.LATE) == (queue.key in self.queues.late)
            assert queue.first_event is self.first_event(queue)
            assert queue.waiting_row is self.open_row(queue)
            assert queue.goes_in_realtime == self.goes_in_realtime(queue)
            assert queue.failures == self.failures.get(queue, 0)
            assert queue.largest_array == self.largest_array.get(queue, 0)
            assert queue.watched or not self.may_expire(queue)
            assert not queue.given_back or queue in self.sent, "what was given back goes in front when nothing is sent"
            firsts = [ids_of(call)[0] for call in (*queue.given_back, *queue.calls)]
            assert sorted(firsts) == firsts
            if queue.calls:
                ids = ids_of(queue.calls[0])
                assert (float(ids[0]), float(ids[-1])) == (queue.accepted_at, queue.head_time)
        assert (QueueState.EVENTS in states) == (self.queues.events.first() is not None)
        assert (QueueState.URGENT in states) == (self.queues.first_urgent() is not None)
        self.check_calls()
        oldest = self.queues.expiry.oldest()
        if oldest is not None:
            first = min(queue.head_time for queue in self.queues if queue.calls and queue.watched)
            assert oldest.head_time == first

    def check_calls(self) -> None:
        """Each that waits is there once; and nothing else, but for what a file has that the server knows."""
        held = [one for queue in self.queues for call in (*queue.given_back, *queue.calls) for one in ids_of(call)]
        in_files = [event_id(event) for file in self.files.values() for event in file.events]
        known = {one for file in self.files.values() if file.submitted for one in file.row_ids}

        assert len(held) + len(in_files) == len({*held, *in_files})
        assert self.waiting.keys() <= {*held, *in_files}
        assert {*held} <= {*self.waiting, *known}
        for queue, sent in self.sent.items():
            if not isinstance(sent.calls[0], Row):
                assert sent.calls == queue.calls[: len(sent.calls)]

    # ── what the server sees ──

    def applied(self, ids: list[int], since: int, of: KeyQueue, row: Row | None = None) -> None:
        """The server applies a call or a row, sent at ``since``: all that it may not overtake has been applied."""
        persons = frozenset[str]().union(*(self.accepted[one].persons for one in ids))
        for before, other in self.waiting.items():
            overtaking = [one for one in ids if one > before]
            if before in ids or not overtaking or not persons & other.persons or other.since > since:
                continue
            # An identify that moves nobody to another company may go ahead of events: it merged into a row before them.
            merged_ahead = other.what == "event" and before > ids[0]
            only_says = all(self.accepted[one].what == "row" for one in overtaking)
            assert merged_ahead and only_says, f"{overtaking} of {ids} overtake {other.what} {before}"
        for queue, file in self.files.items():
            if row is None or row is file.row or queue.key not in {*persons, of.key}:
                continue
            assert not file.row.ids, "the row in the file will overwrite this one"
            moves = any(self.accepted[one].what == "move" for one in ids)
            assert not (moves and file.events), "the events in the file will be booked on another company"
        for one in ids:
            self.waiting.pop(one, None)

    # ── calls come in ──

    def accept(self, key: str, what: str) -> tuple[KeyQueue, int]:
        """The queue of a new call, and its id."""
        queue, call_id = self.queues.queue("user", key), self.next_id
        self.next_id += 1
        self.accepted[call_id] = self.waiting[call_id] = Accepted(what, self.persons[key], self.time)
        return queue, call_id

    def event(self, key: str) -> tuple[KeyQueue, WaitingEvent]:
        """A new one."""
        queue, call_id = self.accept(key, "event")
        return queue, (call_id, float(call_id), b"{}")

    def row(self, key: str, what: str) -> tuple[KeyQueue, Row]:
        """A new one."""
        queue, call_id = self.accept(key, what)
        fields = {"company_id": call_id} if what == "move" else None
        return queue, Row("user", queue.key, {}, fields, array("Q", [call_id]), float(call_id), 2)

    def track(self, key: str) -> None:
        queue, event = self.event(key)
        queue.add(event)
        self.queues.came_in(queue)

    def identify(self, key: str, what: str = "row") -> None:
        queue, said = self.row(key, what)
        row = queue.waiting_row
        if row is None or (said.fields is not None and queue.calls[-1] is not row):
            queue.add(said)
            self.queues.came_in(queue)
            return
        row.absorb(said)
        if queue.claimed_row is not None and said.fields is not None and queue.place is QueueState.URGENT:
            self.queues.head_left(queue)

    def move(self, key: str) -> None:
        self.identify(key, "move")

    def post(self, key: str) -> None:
        queue, call_id = self.accept(key, "post")
        queue.add(Post("alias", [call_id], float(call_id), b"{}"))
        self.queues.came_in(queue)

    def join(self, key: str, other: str) -> None:
        """An alias says that both keys are one person's."""
        before = self.queues.by_key["user"].get(self.stands_for[other])
        queue = self.queues.queue("user", (key, other))
        if before is not None:
            self.follows.setdefault(queue, []).append(before)
        together = self.persons[key] | self.persons[other]
        self.persons.update(dict.fromkeys(together, together))
        self.stands_for.update(dict.fromkeys(together, queue.key))
        self.post(key)

    def take_over(self, key: str, rows: int, events: int) -> None:
        """A sender before has left a file with the first calls of somebody."""
        queue, row = self.row(key, "row") if rows else (self.queues.queue("user", key), None)
        if row is not None and not events:
            queue.rejoin_row(row)
            self.queues.came_in(queue)
            self.files[queue] = File(row, False, self.time)
            return
        in_file = queue.rejoin_events(row)
        self.queues.place(queue)
        self.files[queue] = File(in_file, True, self.time)
        for _ in range(events):
            assert in_file.events is not None
            in_file.events.append(self.event(key)[1])

    # ── requests ──

    def send(self, queue: KeyQueue, at_most: int) -> None:
        """A request carries the head: a row or a post, or as many events as go in one array."""
        head, most = queue.calls[0], min(at_most, queue.largest_array or MOST)
        carried: list[QueuedCall] = [*self.events_among(queue.calls[:most])] or [head]
        self.queues.send(queue)
        if isinstance(head, Row) and head.state is RowState.WAITING:
            head.state = RowState.SENDING
        self.sent[queue] = Sent(carried, [ids_of(call) for call in carried], self.time)

    def events_among(self, calls: Iterable[QueuedCall]) -> Iterator[WaitingEvent]:
        """The first ones of these calls, up to the next row or post."""
        for call in calls:
            if not isinstance(call, tuple):
                break
            yield call

    def is_settled(self, queue: KeyQueue, head: QueuedCall) -> bool:
        """A job's end has settled the row while it was repeated."""
        return not isinstance(head, tuple) and (not queue.calls or queue.calls[0] is not head)

    def taken(self, queue: KeyQueue) -> None:
        sent = self.sent.pop(queue)
        head = sent.calls[0]
        if isinstance(head, tuple):
            queue.taken(MOST)
            twice = 2 * self.largest_array.get(queue, 0)
            self.largest_array[queue] = twice if twice < MOST else 0
        for ids in sent.ids:
            self.applied(ids, sent.since, queue, head if isinstance(head, Row) else None)
        if not self.is_settled(queue, head):
            self.pop(queue, len(sent.calls))
        self.queues.come_back(queue)

    def pop(self, queue: KeyQueue, number: int = 1) -> None:
        """The head, or so many events, have their outcome."""
        head = queue.calls[0]
        queue.pop(number)
        self.failures.pop(queue, None)
        if isinstance(head, Row):
            head.state = RowState.ANSWERED

    def failed(self, queue: KeyQueue) -> None:
        """It goes again after a pause."""
        sent = self.sent.pop(queue)
        head = sent.calls[0]
        if self.is_settled(queue, head):
            self.queues.come_back(queue)
            return
        if isinstance(head, Row) and head.state is RowState.SENDING:
            head.state = RowState.WAITING
        self.failures[queue] = queue.failures + 1
        queue.failed(queue.failures + 1)
        self.queues.back_off(queue, 1.0)
        self.paused.add(queue)

    def refused(self, queue: KeyQueue) -> None:
        """An array goes again in halves; what went alone is lost."""
        sent = self.sent.pop(queue)
        if len(sent.calls) > 1:
            self.largest_array[queue] = len(sent.calls) // 2
            queue.refused(len(sent.calls) // 2)
        elif not self.is_settled(queue, sent.calls[0]):
            for one in ids_of(sent.calls[0]):
                self.waiting.pop(one, None)
            self.pop(queue)
        self.queues.come_back(queue, first=True)

    def wake(self, queue: KeyQueue) -> None:
        self.paused.clear()
        assert math.inf == self.queues.wake(1.0)

    def expire(self, queue: KeyQueue) -> None:
        """The head dies of its age."""
        for one in ids_of(queue.calls[0]):
            self.waiting.pop(one, None)
        self.pop(queue)
        if not queue.calls:
            self.paused.discard(queue)
        self.queues.head_left(queue)

    # ── files ──

    def file_row(self, queue: KeyQueue) -> None:
        row = queue.calls[0]
        assert isinstance(row, Row)
        queue.claim_row(row)
        self.queues.place(queue)
        self.files[queue] = File(row, False, self.time)

    def file_events(self, queue: KeyQueue, most: int) -> None:
        file = self.files[queue] = File(queue.claim_events(), True, self.time)
        self.paused.discard(queue)
        self.late.discard(queue)
        self.queues.place(queue)
        self.gather(queue, file, most)

    def gather(self, queue: KeyQueue, file: File, most: int) -> None:
        """The file takes so many events, a few at once, up to the next row or post."""
        while most > 0:
            behind = 1 if queue.calls[:1] == [file.row] else 0
            offered = queue.events_to_claim(min(most, 2))
            assert queue.calls[behind : behind + min(most, 2)] == list(offered)
            chunk = list(self.events_among(offered))
            if not chunk:
                break
            queue.move_to_file(chunk)
            most -= len(chunk)

    def reserve(self, queue: KeyQueue) -> None:
        self.reserved.add(queue)
        queue.reserve()

    def stop_waiting_for_requests(self, queue: KeyQueue) -> None:
        self.reserved.discard(queue)
        self.queues.unblock(queue)

    def submit(self, queue: KeyQueue, file: File) -> None:
        """The server has a file. One of events dates them, so whatever comes after it comes later."""
        file.submitted = True
        file.row_ids = list(file.row.ids) if file.row.state is RowState.BATCHED else []
        if file.takes_events:
            self.applied(file.row_ids, file.since, queue, file.row)
            for event in file.events:
                self.applied(ids_of(event), file.since, queue)
        if queue.is_blocked:
            self.stop_waiting_for_requests(queue)

    def complete(self, queue: KeyQueue, file: File) -> None:
        assert file.takes_events or not file.events
        if file.row.state is RowState.BATCHED:
            self.applied(file.row_ids, file.since, queue, file.row)
        if file.takes_events:
            file.row.events = []
        self.release(queue, file, delivered=True)

    def fail(self, queue: KeyQueue, file: File, *, alone: bool) -> None:
        """A file comes to nothing: all of it goes another way. What went when the server had it is ahead of that."""
        file.row.alone = alone
        again = [event_id(event) for event in file.events]
        if file.submitted:
            again += file.row_ids if file.row.state is RowState.BATCHED else []
            self.waiting |= {one: attrs.evolve(self.accepted[one], since=self.time) for one in again}
        if file.events:
            self.late.discard(queue)
            if alone:
                self.realtime_until[queue] = event_id(file.events[-1])
        self.release(queue, file, delivered=False)

    def release(self, queue: KeyQueue, file: File, *, delivered: bool) -> None:
        """A file is over."""
        del self.files[queue]
        self.reserved.discard(queue)
        queue.release(file.row)
        if file.row.state is RowState.BATCHED and delivered:
            self.pop(queue)
        elif file.row.state is RowState.BATCHED:
            queue.reopen(file.row)
        if queue.place not in UNDER_WAY:
            self.queues.head_left(queue)
        elif queue.calls:
            self.queues.expiry.watch(queue)

    # ── late events ──

    def set_aside(self, queue: KeyQueue) -> None:
        self.late.add(queue)
        self.realtime_until.pop(queue, None)
        queue.set_aside()
        self.queues.place(queue)

    def let_through(self, queue: KeyQueue) -> None:
        self.late.discard(queue)
        queue.let_through()
        self.queues.place(queue)

    # ── the end ──

    def all_goes(self) -> None:
        """All goes well from now on."""
        for _ in range(20 * (1 + self.next_id)):
            self.time += 1
            for queue in list(self.queues):
                if queue.place in MAY_GO:
                    self.send(queue, MOST)
                elif queue.place is QueueState.SENDING:
                    self.taken(queue)
                elif queue.place is QueueState.BACKING_OFF:
                    self.wake(queue)
                elif queue.place is QueueState.LATE:
                    self.let_through(queue)
                elif queue in self.reserved:
                    self.stop_waiting_for_requests(queue)
            for queue, file in list(self.files.items()):
                (self.complete if file.submitted else self.submit)(queue, file)
            self.check()
            if not self.waiting and not self.files and not len(self.queues):
                break

        assert {} == self.waiting
        assert 0 == len(self.queues)

    def all_ends(self) -> None:
        """There is no more time: everything is given up that the server has not taken in a file."""
        for queue in list(self.queues):
            file = self.files.get(queue)
            is_staying = file is not None and file.submitted and queue.calls[:1] == [file.row]
            queue.restore()
            staying = queue.take_head() if is_staying else None
            while queue.calls:
                self.pop(queue)
            if staying is not None:
                queue.put_head(staying)
            self.queues.come_back(queue)

        for queue in self.queues:
            assert not queue.given_back
            assert queue in self.files or self.is_behind(queue)
            assert all(call is self.files[queue].row for call in queue.calls)
        for queue, file in self.files.items():
            assert queue.calls == ([file.row] if file.submitted and file.row.state is RowState.BATCHED else [])


@settings(max_examples=length.of(1_000))
@given(choices=st.binary(min_size=80, max_size=200), has_files=st.booleans(), ends_well=st.booleans())
def test_calls_of_one_person_stay_in_order_and_none_waits_alone(
    choices: bytes, has_files: bool, ends_well: bool
) -> None:
    world = World(has_files=has_files)
    world.go_on(choices)
    if ends_well:
        world.all_goes()
    else:
        world.all_ends()


def test_events_that_a_file_gives_back_are_ahead_of_a_later_one_that_has_failed_meanwhile() -> None:
    """Another file took that one during its pause, and the earlier ones waited for the end of that file's job."""
    world = World(has_files=True)
    world.track("u0")
    queue = world.queues.queue("user", "u0")
    world.file_events(queue, most=1)
    world.submit(queue, world.files[queue])
    world.track("u0")
    world.send(queue, at_most=1)
    world.fail(queue, world.files[queue], alone=False)
    world.failed(queue)

    assert ([0, 1], []) == ([one for call in queue.calls for one in ids_of(call)], list(queue.given_back))

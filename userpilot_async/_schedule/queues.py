"""Where lanes queue: for a track, for a realtime identify, for a file, or until a pause is over."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Literal

from .._calls.payload import Key
from .expiry import ExpiryHeap
from .identities import Identities
from .key_queue import KeyQueue, QueueState


class Queues:
    """Every lane that has calls, in exactly one line (or busy, or parked); ``kinds`` are what lanes may be of."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.lanes: dict[str, dict[str, KeyQueue]] = {kind: {} for kind in kinds}
        """By what they are of, and by its key."""
        self.patient: dict[str, dict[str, KeyQueue]] = {kind: {} for kind in self.lanes}
        """Lanes whose head may go on merging, in the order in which they came."""
        self.late: dict[Key, KeyQueue] = {}
        """Lanes whose first track is late."""
        self.same = {kind: Identities() for kind in self.lanes}
        self.ages = ExpiryHeap(self)
        self._tracks: deque[KeyQueue] = deque()
        self._urgent: deque[KeyQueue] = deque()
        self._asleep: list[tuple[float, int, KeyQueue]] = []
        self._tie = count()

    def __len__(self) -> int:
        return sum(map(len, self.lanes.values()))

    def __iter__(self) -> Iterator[KeyQueue]:
        return chain.from_iterable(lanes.values() for lanes in self.lanes.values())

    def lane(self, kind: str, key: Key) -> KeyQueue:
        """The lane of a person or company, new if there is none."""
        if isinstance(key, tuple):
            return self._joined(kind, key)
        same = self.same[kind]
        if same:
            key = same.find(key)
        lanes = self.lanes[kind]
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = KeyQueue(kind, key)
        return lane

    def _joined(self, kind: str, keys: tuple[str, ...]) -> KeyQueue:
        """The lane of somebody with several keys: from now on one, behind what waits under the other keys."""
        lane, lanes, same = self.lane(kind, keys[0]), self.lanes[kind], self.same[kind]
        for key in map(same.find, keys[1:]):
            if key == lane.key:
                continue
            same.join(key, lane.key, lanes.__contains__)
            before = lanes.get(key)
            if before is not None:
                before.follower = lane
                lane.behind += 1
                if lane.place not in (QueueState.BUSY, QueueState.ASLEEP):
                    self.file(lane)
        return lane

    def came_in(self, lane: KeyQueue) -> None:
        """A call was added to this lane."""
        if lane.place in (QueueState.NOWHERE, QueueState.PATIENT, QueueState.PARKED):
            self.file(lane)
        self.ages.enter(lane)

    def came_back(self, lane: KeyQueue, *, first: bool = False) -> None:
        """A lane that was busy or asleep is free again; ``first`` puts it at the head of its line."""
        self._leave(lane)
        if lane.returned:
            lane.calls[:0], lane.returned = lane.returned, ()
            lane.in_ages = False  # it is known there as younger than it is now
        lane.place = QueueState.NOWHERE
        self.file(lane, first=first)
        if lane.calls:
            self.ages.enter(lane)

    def head_left(self, lane: KeyQueue) -> None:
        """The head of a lane that is not busy has left it: it may belong elsewhere now."""
        if not lane.calls or (lane.place is not QueueState.ASLEEP and lane.proper_place() is not lane.place):
            self.take(lane, QueueState.PARKED)
            self.came_back(lane)

    def file(self, lane: KeyQueue, *, first: bool = False) -> None:
        """Put a lane that is neither busy nor asleep where it belongs; forget it if it is empty."""
        place = lane.proper_place()
        if place is lane.place and place is not QueueState.NOWHERE:
            return
        self._leave(lane)
        lane.place = place
        if place is QueueState.TRACKS:
            (self._tracks.appendleft if first else self._tracks.append)(lane)
        elif place is QueueState.URGENT:
            (self._urgent.appendleft if first else self._urgent.append)(lane)
        elif place is QueueState.PATIENT:
            self.patient[lane.kind][lane.key] = lane
        elif place is QueueState.LATE:
            self.late[lane.key] = lane
        elif place is QueueState.NOWHERE:
            self.lanes[lane.kind].pop(lane.key, None)
            if lane.follower is not None:
                lane.follower.behind -= 1
                if lane.follower.place is QueueState.PARKED:
                    self.file(lane.follower)

    def _leave(self, lane: KeyQueue) -> None:
        if lane.place is QueueState.PATIENT:
            del self.patient[lane.kind][lane.key]
        elif lane.place is QueueState.LATE:
            del self.late[lane.key]

    def let_go(self, lane: KeyQueue) -> None:
        """Nothing of a lane that was held need wait any longer."""
        lane.held = False
        if lane.place is QueueState.PARKED:
            self.file(lane)

    def first_track(self) -> KeyQueue | None:
        """The lane whose track is next. Lanes take turns, so one user's 100,000 events starve nobody."""
        return _first(self._tracks, QueueState.TRACKS)

    def hold_tracks(self, number: int) -> bool:
        """So many tracks, about, could go now."""
        for lane in self._tracks:
            if lane.place is QueueState.TRACKS:
                number -= len(lane.calls)
                if number <= 0:
                    return True
        return False

    def first_urgent(self) -> KeyQueue | None:
        """The lane whose row goes through the realtime endpoint next, because something waits behind it."""
        return _first(self._urgent, QueueState.URGENT)

    def tidy(self, at_most: int) -> bool:
        """Forget lanes that have left a line without saying so, so many at once; true if there may be more."""
        lines = ((self._tracks, QueueState.TRACKS), (self._urgent, QueueState.URGENT))
        return self.ages.tidy(at_most) or any(_tidy(line, place, at_most) for line, place in lines)

    def take(self, lane: KeyQueue, place: Literal[QueueState.BUSY, QueueState.PARKED]) -> None:
        """Take a lane out of its line."""
        self._leave(lane)
        for line in (self._tracks, self._urgent):
            if line and line[0] is lane:  # left there, it would be first again when it comes back
                line.popleft()
        lane.place = place

    def sleep(self, lane: KeyQueue, until: float) -> None:
        """Its head failed: the whole lane waits, or a later call would overtake it."""
        lane.place = QueueState.ASLEEP
        heapq.heappush(self._asleep, (until, next(self._tie), lane))
        self.ages.enter(lane)

    def wake(self, now: float) -> float:
        """Bring back lanes whose pause is over; the time at which the next one's is."""
        while self._asleep and self._asleep[0][0] <= now:
            lane = heapq.heappop(self._asleep)[2]
            if lane.place is QueueState.ASLEEP:
                self.came_back(lane)  # not first: what fails for ever would knock each time that one may
        return self._asleep[0][0] if self._asleep else math.inf


def _tidy(line: deque[KeyQueue], place: QueueState, at_most: int) -> bool:
    for _ in range(at_most):
        if not line or line[0].place is place:
            return False
        line.popleft()
    return True


def _first(line: deque[KeyQueue], place: QueueState) -> KeyQueue | None:
    """The first lane that still belongs into this line; others have left it without saying so."""
    while line and line[0].place is not place:
        line.popleft()
    return line[0] if line else None

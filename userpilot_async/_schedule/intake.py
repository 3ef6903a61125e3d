"""From a ticket to a call that waits: an event in its key's queue, a row or part of one, a post, or nothing new."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from .._calls.outcome import DELIVERED, Outcome, Words
from .._calls.payload import (
    Companion,
    Event,
    IdentifyPayload,
    Key,
    Kind,
    Ticket,
    body_of,
    companion_size,
    has_nothing_left,
    identify_in,
    packed,
)
from .._calls.rows import Row, RowState
from .dedup import Dedup
from .destination import Deletions
from .key_queue import KeyQueue
from .posts import Deletion, Post
from .queue_state import QueueState
from .routes.context import RouteContext
from .routes.file_route import FileRoute
from .settlement import Settlement, Settlements

_WAITING = RowState.WAITING  # found once: CPython 3.11 takes 80 ns to find a member of an Enum


class Intake:
    """Puts calls into the queues of their keys, in the order of their acceptance; ``files`` are the routes of files."""

    def __init__(self, context: RouteContext, dedup: Dedup, settled: Settlements, files: Sequence[FileRoute]) -> None:
        self._to = context.destination
        self._queues = context.queues
        self._completion = context.completion
        self._met = context.completion.met
        self._urgency = context.urgency
        self._drops_ambiguous = context.settings.on_ambiguous == "drop"
        self._dedup = dedup
        self._settled = settled
        self._files = files
        self._merging = {kind: context.queues.merging.queues[kind] for kind in context.destination.packs}
        """Queues with nothing but a row, of the kinds that nothing has to go before."""
        self._rejoining: Sequence[FileRoute] = ()
        """Those whose file was taken over, while its calls come in."""

    def expect_files(self) -> None:
        """Files were taken over: their calls come in among others, until each is whole."""
        self._rejoining = [route for route in self._files if route.resuming is not None]

    def add_all(self, tickets: Iterable[Ticket], was_sent: Callable[[int], bool]) -> None:
        """Take calls in, each by the short way if it has one: there, nothing depends on whether it ``was_sent``."""
        merging, merges = self._merging, self._merges
        for ticket in tickets:
            call_id, accepted_at, kind, key, payload = ticket
            if kind in merging:
                queue = merging[kind].get(key)  # type: ignore[arg-type]  # of several keys there is none
                if queue is not None and merges(queue, call_id, accepted_at, payload):  # type: ignore[arg-type]
                    continue
            self.add(ticket, was_sent(call_id))

    def add(self, ticket: Ticket, was_sent: bool) -> None:
        """Take a call in by the long way. ``was_sent``: another sender ended before the answer to it came."""
        call_id, accepted_at, kind, key, payload = ticket
        if isinstance(key, tuple) and self._to.pairs is not None and not self._to.pairs.settle(key):
            self._refuse(ticket)
            return
        if self._to.prefaces is not None:
            self._meet(call_id, kind, key)
            self._add_prefaces(kind, key, accepted_at)
        if kind == "track":
            self._add_event(call_id, accepted_at, key, cast("Event", payload), was_sent)
        elif self._to.deletions is not None and kind in self._to.deletions.of:
            self._add_deletion(Deletion(kind, [call_id], accepted_at, cast("bytes", payload)), key, self._to.deletions)
        elif kind in self._to.posts:
            self._add_post(Post(kind, [call_id], accepted_at, cast("bytes", payload), was_sent), key)
        else:
            self._add_identify(call_id, accepted_at, kind, key, cast("IdentifyPayload", payload))
        if self._rejoining:
            for route in self._rejoining:
                route.came_in(call_id, accepted_at)
            self.expect_files()

    def _refuse(self, ticket: Ticket) -> None:
        """The call gives a key to a second person. Its process could not know: another one took the first call."""
        call_id, accepted_at, kind, key, payload = ticket
        identify = identify_in(payload)
        if identify is not None:
            properties, fields, size, _ = identify
            call: Event | Row | Post = Row(kind, key[0], properties, fields, array("Q", (call_id,)), accepted_at, size)
        else:
            event = cast("Event", payload)
            call, size = event, len(body_of(event))
            if kind in self._to.posts:
                call = Post(kind, [call_id], accepted_at, cast("bytes", payload))
        self._settled.refused(call_id, call, size, Outcome("dead", "invalid"), Words(self._to.not_a_pair))

    def _add_event(self, call_id: int, accepted_at: float, key: Key, event: Event, was_sent: bool) -> None:
        if not was_sent and not self._rejoining and self._queues.packs_event(key, accepted_at):
            self._urgency.newest["track"] = accepted_at
            self._queues.add_packed((str(key), call_id, accepted_at, event))
            return
        queue = self._queues.queue("user", key)
        if was_sent and self._drops_ambiguous:
            self._settled.unheld(call_id, event, Outcome("dropped", "ambiguous"))
            self._met.ended((call_id,), delivered=False)
            self._queues.place(queue)  # which forgets one that was new
            return
        self._completion.possible_duplicates += was_sent
        self._urgency.newest["track"] = accepted_at
        waiting = (call_id, accepted_at, event)
        if self._rejoining and any(route.rejoin_event(queue, waiting) for route in self._rejoining):
            return
        queue.add(waiting)
        self._queues.waiting_events += 1
        self._queues.came_in(queue)

    def _add_post(self, post: Post, key: Key) -> None:
        if post.kind in self._to.once:
            if self._is_known(post):
                return
            unnamed = self._to.unnamed(key) if post.kind in self._to.idle_unmet else None
            self._dedup.came_in(post, unnamed if unnamed is not None and unnamed not in self._met else None)
        queue = self._queues.queue("user", key)
        queue.add(post)
        self._queues.came_in(queue)

    def _add_deletion(self, deletion: Deletion, key: Key, to: Deletions) -> None:
        """Have calls that wait of the person or company dropped; those that come later wait behind the deletion."""
        queue = self._queues.queue(to.of[deletion.kind], key)
        self._queues.deletion_came_in(queue, deletion)
        self._completion.erase(queue, deletion)

    def _meet(self, call_id: int, kind: Kind, key: Key) -> None:
        """A call by a key that the server may not have met: once it is delivered, it has.

        By that key alone, it may find that a post before it did nothing, and must be said again before the next call
        that needs it.
        """
        unnamed = self._to.unnamed(key) if kind not in self._to.idle_unmet else None
        if unnamed is None or unnamed in self._met:
            return
        self._met.watch(call_id, unnamed)
        if not isinstance(key, tuple):
            self._dedup.came_too_early(unnamed)

    def _add_prefaces(self, kind: Kind, key: Key, accepted_at: float) -> None:
        """Put what the server has to have before this call, in front of it: posts that no call stands for."""
        for preface, body in self._to.prefaces(kind, key) if self._to.prefaces is not None else ():
            before = self._dedup.waiting(body)
            if before is not None:
                before.needed = True
            elif not self._dedup.was_delivered(body):
                self._add_post(Post(preface, [], accepted_at, body, needed=True), key)

    def _is_known(self, post: Post) -> bool:
        """The same has been said before: the call has the outcome of the one that said it."""
        before = self._dedup.waiting(post.body)
        if before is not None:
            before.lost = before.lost or post.lost
        if before is not None and before.is_preface:  # which now stands for a call
            before.ids, before.accepted_at = post.ids, post.accepted_at
            return True
        if before is not None:
            before.ids += post.ids
            before.accepted_at = post.accepted_at  # it dies of the age of who said it last
        elif not self._dedup.was_delivered(post.body):
            return False
        for call_id in post.ids:
            self._settled.again(call_id, len(post.body), None if before is not None else DELIVERED)
        return True

    def _add_identify(self, call_id: int, accepted_at: float, kind: Kind, key: Key, identify: IdentifyPayload) -> None:
        _, _, size, companion = identify
        if has_nothing_left(identify):  # or it would make a person anew who was deleted since
            self._settled.done.append(Settlement((call_id,), (), DELIVERED, size, None))
            return
        if companion is None and not self._rejoining and self._queues.packs(kind, key, accepted_at):
            self._urgency.newest[kind] = accepted_at
            self._queues.packed.add(kind, packed(str(key), call_id, accepted_at, size, identify))
            return
        if companion is not None:
            size -= companion_size(companion)
        row = self._add_row(self._queues.queue(kind, key), call_id, identify, size, accepted_at, call_id)
        if companion is not None:
            self._add_companion(row, companion, accepted_at, call_id)

    def _merges(self, queue: KeyQueue, call_id: int, accepted_at: float, identify: IdentifyPayload) -> bool:
        """Merge an identify into the row that is all that waits in its queue, if it may: the short way for most."""
        row, (properties, fields, size, companion) = queue.open_row, identify
        # Who has nothing left to say has no properties, either; and a queue without an alias is its key's own.
        if row is None or companion is not None or not properties or queue.alias is not None or self._rejoining:
            return False
        if row.state is not _WAITING or not self._to.merges(row, identify, True):
            return False
        self._urgency.newest[queue.kind] = accepted_at
        if row.ids:
            self._settled.merged.append(row.ids[-1])
        self._settled.freed += row.take_in(call_id, properties, fields, size, accepted_at, call_id)
        return True

    def _add_row(
        self, queue: KeyQueue, call_id: int | None, identify: IdentifyPayload, size: int, accepted_at: float,
        said_by: int,
    ) -> Row:  # fmt: skip
        """The row that says this now. ``call_id`` is the call that it carries, ``said_by`` the one that says so."""
        properties, fields, _, _ = identify
        for route in self._rejoining:
            addition = _new_row(queue, call_id, identify, size, accepted_at, said_by)
            in_file = route.rejoin_row(queue, addition)
            if in_file is not None:
                self._settled.merged += in_file.ids[-2:-1] if addition.ids else ()
                return in_file
        self._urgency.newest[queue.kind] = accepted_at
        row = queue.waiting_row
        if row is not None and self._to.merges(row, identify, queue.calls[-1] is row):
            if call_id is not None and row.ids:
                self._settled.merged.append(row.ids[-1])
            self._settled.freed += row.take_in(call_id, properties, fields, size, accepted_at, said_by)
            if queue.claimed_row is not None and fields is not None and queue.place is QueueState.URGENT:
                self._queues.head_left(queue)  # it names a company now: events in a file must not be booked on that
            return row
        row = _new_row(queue, call_id, identify, size, accepted_at, said_by)
        queue.add(row)
        self._queues.came_in(queue)
        return row

    def _add_companion(self, row: Row, companion: Companion, accepted_at: float, said_by: int) -> None:
        """The part of a call that is about another, a company, travels in a row of its own; both share one outcome."""
        kind, key, properties, size = companion
        identify: IdentifyPayload = (properties, None, size, None)
        other = self._add_row(self._queues.queue(kind, key), None, identify, size, accepted_at, said_by)
        if not any(other is needed for needed in row.needs):
            row.needs = (*row.needs, other)
            row.open_parts += 1
            if other.riders is None:
                other.riders = []
            other.riders.append(row)


def _new_row(
    queue: KeyQueue, call_id: int | None, identify: IdentifyPayload, size: int, accepted_at: float, said_by: int
) -> Row:
    properties, fields, _, _ = identify
    ids = array("Q") if call_id is None else array("Q", (call_id,))
    return Row(queue.kind, queue.key, properties, fields, ids, accepted_at, size, said_by=said_by)

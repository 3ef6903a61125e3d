"""The rows of each kind that may go on merging: heads of key queues, and packed ones."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

from .._calls.payload import PackedRow, packed_at
from .._calls.rows import FiledRow, Row
from .key_queue import KeyQueue
from .packed_rows import PackedRows


class MergingRows:
    """By kind, in the order in which they came. ``packs`` are the kinds of which rows may wait packed."""

    def __init__(self, kinds: Iterable[str], packs: Iterable[str]) -> None:
        self.queues: dict[str, dict[str, KeyQueue]] = {kind: {} for kind in kinds}
        """Queues whose head is such a row, by kind and key."""
        self.packed = PackedRows(packs)

    def __iter__(self) -> Iterator[str]:
        return (kind for kind in self.queues if self.number(kind))

    def number(self, kind: str) -> int:
        """So many rows of this kind are here."""
        return len(self.queues[kind]) + self.packed.waiting(kind)

    def since(self, kind: str) -> float:
        """When the first of a kind was accepted; ``inf`` if there is none."""
        packed, queue = self.packed.first(kind), next(iter(self.queues[kind].values()), None)
        since = packed_at(packed) if packed is not None else math.inf
        return min(since, queue.accepted_at) if queue is not None else since

    def first(self, kind: str) -> KeyQueue | PackedRow:
        """The first of a kind: its queue, unless it is packed. There must be one."""
        packed, queue = self.packed.first(kind), next(iter(self.queues[kind].values()), None)
        if packed is not None and (queue is None or packed_at(packed) < queue.accepted_at):
            return packed
        if queue is None:
            raise LookupError(f"no row of a {kind} waits for others")
        return queue

    def in_order(self, kind: str) -> Iterator[FiledRow]:
        """The rows of a kind, the oldest first."""
        if not self.queues[kind]:
            return self.packed.in_order(kind)
        heads = (head for queue in self.queues[kind].values() if isinstance(head := queue.calls[0], Row))
        return heapq.merge(self.packed.in_order(kind), heads, key=_accepted_at)


def _accepted_at(row: FiledRow) -> float:
    return row.accepted_at if isinstance(row, Row) else packed_at(row)

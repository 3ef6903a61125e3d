"""Rows of one identify whose key has no other call: they wait, and go in files, without a key queue.

      add ──▶ waiting ──file──▶ filed ──end──▶ gone
                 ▲                │
                 └────put_back────┘

Most rows of a backlog live so: 100,000 key queues with their rows are half a million objects, through which the garbage
collector goes while the event loop stands still for 0.1 s. A packed row is a tuple that it need not walk. `Queues`
takes one out, and makes a queue of it, as soon as its key gets another call or it goes any other way than in a file.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from .._calls.payload import PackedRow, packed_at, packed_key
from .._calls.rows import FiledRow, Row
from .packed_calls import PackedCalls

AT_ONCE = 100  # rows of a file that are settled together


class PackedRows:
    """All packed rows, by kind and key. ``kinds`` are those that go in files."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self._waiting = {kind: PackedCalls[PackedRow]() for kind in kinds}
        self._filed: dict[str, dict[str, PackedRow]] = {kind: {} for kind in self._waiting}
        self._unpacked: dict[str, dict[str, Row]] = {kind: {} for kind in self._waiting}
        # Rows that were packed when their file began, and have a queue by now.

    def __len__(self) -> int:
        return self.filed() + sum(waiting.number for waiting in self._waiting.values())

    def takes(self, kind: str, key: str, accepted_at: float) -> bool:
        """A row of this key may wait packed: there is none yet, and it is none older than the last one.

        So the first one that waits is the oldest.
        """
        waiting = self._waiting.get(kind)
        if waiting is None or (waiting.number and accepted_at < waiting.newest):
            return False
        return key not in waiting and key not in self._filed[kind]

    def add(self, kind: str, row: PackedRow) -> None:
        """Have a row wait that `takes` allows."""
        self._waiting[kind].add(row)

    def has(self, kind: str, key: str) -> bool:
        """The key has a packed row that waits, or goes in a file."""
        waiting = self._waiting.get(kind)
        return waiting is not None and (key in waiting or key in self._filed[kind])

    # ── those that wait ──

    def waiting(self, kind: str) -> int:
        """The number of rows of a kind that wait."""
        waiting = self._waiting.get(kind)
        return waiting.number if waiting is not None else 0

    def in_order(self, kind: str) -> Iterator[PackedRow]:
        """The rows of a kind that wait, the oldest first."""
        return iter(self._waiting.get(kind, ()))

    def first(self, kind: str) -> PackedRow | None:
        """The oldest row of a kind that waits."""
        waiting = self._waiting.get(kind)
        return waiting.first if waiting is not None else None

    def oldest(self) -> tuple[str, PackedRow] | None:
        """The oldest row that waits, with its kind."""
        found: tuple[str, PackedRow] | None = None
        for kind, waiting in self._waiting.items():
            first = waiting.first
            if first is not None and (found is None or packed_at(first) < packed_at(found[1])):
                found = kind, first
        return found

    def all_of(self, kind: str) -> Sequence[PackedRow]:
        """The rows of a kind that wait, and some that have waited: `waits` knows."""
        waiting = self._waiting.get(kind)
        return list(waiting.order()) if waiting is not None else ()

    def waits(self, kind: str, row: PackedRow) -> bool:
        """The row waits, and is packed."""
        return self._waiting[kind].has(row)

    def take(self, kind: str, key: str) -> PackedRow | None:
        """Take out the row of a key that waits, if there is one."""
        waiting = self._waiting.get(kind)
        return waiting.take(key) if waiting is not None else None

    # ── those in files ──

    def file(self, kind: str, row: PackedRow) -> None:
        """A file carries a row that has waited."""
        key = packed_key(row)
        self._waiting[kind].take(key)
        self._filed[kind][key] = row

    def filed(self) -> int:
        """The number of rows that files carry."""
        return sum(map(len, self._filed.values()))

    def is_filed(self, kind: str, row: PackedRow) -> bool:
        """A file carries this row, and it is packed."""
        return self._filed[kind].get(packed_key(row)) is row

    def take_filed(self, kind: str, key: str) -> PackedRow | None:
        """Take out the row of a key that a file carries, if there is one; `unpacked` says what has become of it."""
        return self._filed.get(kind, {}).pop(key, None)

    def unpacked(self, row: Row) -> None:
        """Remember which row a packed one has become that a file carries; `ended` forgets it."""
        self._unpacked[row.kind][row.key] = row

    def as_now(self, kind: str, rows: list[FiledRow]) -> list[FiledRow]:
        """The rows of a file as they are now: see `current`."""
        become = self._unpacked.get(kind)
        if not become:
            return rows
        return [row if isinstance(row, Row) else become.get(packed_key(row), row) for row in rows]

    def current(self, kind: str, row: FiledRow) -> FiledRow:
        """The row of a file as it is now: packed, or what has become of it."""
        return row if isinstance(row, Row) else self._unpacked[kind].get(packed_key(row), row)

    def groups(self, kind: str, rows: Iterable[FiledRow]) -> Iterator[Row | list[PackedRow]]:
        """The rows of a file as they are when it is their turn: one by one, or a hundred packed ones together."""
        together: list[PackedRow] = []
        for row in rows:
            now = self.current(kind, row)
            if not isinstance(now, Row):
                together.append(now)
            if together and (isinstance(now, Row) or len(together) == AT_ONCE):
                yield together
                together = []
            if isinstance(now, Row):
                yield now
        if together:
            yield together

    def end(self, kind: str, rows: Iterable[PackedRow]) -> None:
        """No file carries these rows any more, which are packed."""
        filed = self._filed[kind]
        for row in rows:
            del filed[packed_key(row)]

    def ended(self, row: Row) -> None:
        """No file carries this row any more, which may have been packed."""
        unpacked = self._unpacked.get(row.kind)
        if unpacked and unpacked.get(row.key) is row:
            del unpacked[row.key]

    def put_back(self, kind: str, row: PackedRow) -> None:
        """Have a row of a file wait again, before all others: unless one that is older waits, it cannot."""
        waiting = self._waiting[kind]
        if waiting.first is None or packed_at(waiting.first) >= packed_at(row):
            del self._filed[kind][packed_key(row)]
            waiting.put_back(row)

    # ── the end ──

    def take_all(self, staying: Container[int]) -> Iterator[tuple[str, PackedRow]]:
        """Take out every row, waiting or in a file, with its kind; not those that are ``staying``, by `id`."""
        for kind, waiting in self._waiting.items():
            for row in list(waiting):
                waiting.take(packed_key(row))
                yield kind, row
        for kind, filed in self._filed.items():
            for key, row in list(filed.items()):
                if id(row) not in staying:
                    del filed[key]
                    yield kind, row

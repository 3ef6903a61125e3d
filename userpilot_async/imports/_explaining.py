"""The lines of a file beside the rows that they become, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from ._anonymous import Learning
from ._carrying import MOST_KINDS, OTHERS, Taken, sort
from ._conversion import Conversion
from ._files import File
from ._identity_store import IdentityStore
from ._physical_lines import EmptyFile, UnreadableFile
from ._reading import Line, Lines, lines

MOST_EXAMPLES = 10
MOST_LINES = 100_000  # that are read: a file begins as it goes on, and people wait
_AT_ONCE = 1_000  # lines
_NAMES = ("event_type", "event", "type")  # where a line says what it is about


@attrs.frozen
class Example:
    """Sample of a kind of lines, with the rows that it becomes."""

    line: int
    """The number of the line, from 1."""
    raw: str
    rows: Sequence[dict[str, Any]]
    """Rows as they are converted; an upload has with them what earlier rows said of their user or company."""
    outcome: str
    """The types of the rows, or why there is none, in a few words."""
    notes: Sequence[str]
    """Parts of the line that went nowhere, or were guessed."""


@attrs.frozen
class Explanation:
    """The kinds of lines in a file, each with its outcome."""

    read: int
    """Lines that were read, which are not all of a large file."""
    complete: bool
    """All lines of the file were read."""
    examples: Sequence[Example]
    """A line of each kind, up to ten."""
    table: Sequence[tuple[int, str, str]]
    """(lines, what they are about, outcome), the most frequent first; at most 100 kinds, and the others in one."""


def explanations_of(origins: Sequence[File | Lines], conversion: Conversion) -> Iterator[Explanation]:
    """The explanation of each file; where people are joined, all files say who they became, as in their import.

    Raises `UnreadableFile`, of several with the file's name, and `OSError`.
    """
    if conversion.tool is None or conversion.anonymous != "join":
        yield from _each(origins, conversion)
        return
    store = IdentityStore()
    try:
        learning = Learning([one for one in origins if not isinstance(one, Lines)], conversion.tool, store)
        while not learning.step():
            pass
        yield from _each(origins, conversion.joined(store))
    finally:
        store.close()


def _each(origins: Sequence[File | Lines], conversion: Conversion) -> Iterator[Explanation]:
    for origin in origins:
        try:
            yield explanation_of(origin, conversion)
        except EmptyFile:
            if len(origins) == 1:
                raise
            yield Explanation(0, True, (), ())
        except UnreadableFile as exc:
            raise (UnreadableFile(f"{origin}: {exc}") if len(origins) > 1 else exc) from exc


def explanation_of(origin: File | Lines, conversion: Conversion) -> Explanation:
    """The first lines of a file with their rows; raises `UnreadableFile` and `OSError`."""
    counts: dict[tuple[str, str], int] = {}
    examples: list[Example] = []
    read = 0
    reading = origin if isinstance(origin, Lines) else lines(origin)
    try:
        while batch := _batch(reading, min(_AT_ONCE, MOST_LINES + 1 - read)):
            for taken in sort(batch, conversion, strict=False):
                read += 1
                if read > MOST_LINES:
                    return Explanation(MOST_LINES, False, examples, _table(counts))
                kind = (_about(taken.line), _outcome(taken))
                if kind not in counts and len(examples) < MOST_EXAMPLES:
                    rows = [row for row, *_ in taken.rows]
                    examples.append(Example(taken.line.number, taken.line.raw, rows, kind[1], taken.notes))
                if kind not in counts and len(counts) >= MOST_KINDS:
                    kind = (OTHERS, "")
                counts[kind] = counts.get(kind, 0) + 1
    finally:
        reading.close()
    return Explanation(read, True, examples, _table(counts))


def _batch(reading: Any, most: int) -> list[Line]:
    batch: list[Line] = []
    for line in reading:
        batch.append(line)
        if len(batch) >= most:
            break
    return batch


def _about(line: Line) -> str:
    """The name of the event that a line is about, or the type of its call."""
    fields = line.fields or {}
    found = [value for name in _NAMES if isinstance(value := fields.get(name), str) and value]
    return found[0][:64] if found else "a line"


def _outcome(taken: Taken) -> str:
    parts = [row["event_type"] for row, *_ in taken.rows]
    parts += [f"refused: {one.field} {one.reason}" for one in taken.refusals]
    if taken.skipped:
        parts.append(f"skipped: {taken.skipped}")
    return " + ".join(parts)


def _table(counts: dict[tuple[str, str], int]) -> list[tuple[int, str, str]]:
    rows = [(count, *kind) for kind, count in counts.items()]
    return sorted(rows, key=lambda row: -row[0])

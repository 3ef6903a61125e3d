"""Lines as rows for upload: checked, converted, carried forward, and each line counted as what became of it.

A line gives rows, or is skipped because what it is about has none, or is refused: `Progress` has the three counts, and
they are all lines there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from .._calls.values import MAX_EVENT_METADATA, encode_json
from .._errors.tree import InvalidCall
from ._conversion import Conversion
from ._profiles import Profiles
from ._reading import Line
from ._report import InvalidRow
from ._rows import checked
from ._schema import Progress, Refusal
from .converters._rows import Converted, Rows

MOST_KINDS = 100  # that are counted apart: names of events are as many as people write
OTHERS = "others"
NOTHING_NEW = "what is known of a user already, and nothing else"
SHORTENED = "properties left out of events, because all together were over 10 KB"

_NO_NAMES: frozenset[str] = frozenset()
_EVENTS = ("track", "page_view")


@attrs.frozen
class Taken:
    """A line, and what it is good for."""

    line: Line
    rows: list[tuple[dict[str, Any], frozenset[str], bool]]
    """Checked rows, each with the names of its properties that give way to known ones, and whether it is implied."""
    refusals: list[Refusal]
    skipped: str = ""
    notes: Sequence[str] = ()


def sort(lines: Iterable[Line], conversion: Conversion, *, strict: bool) -> Iterator[Taken]:
    """Check each line when it is asked for. Of one that makes several rows, each stands for itself.

    Raises `InvalidRow` for the first bad one, if it is to be ``strict``. Rows of thousands of lines at once would be
    walked through by Python's garbage collector again and again, which took a quarter of the time.
    """
    for line in lines:
        yield _taken(line, conversion, strict)


def carry(
    now: Progress, these: Iterable[Taken], profiles: Profiles, refusals: list[Refusal], *, strict: bool
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Rows as they are uploaded, with the line that each is of; at the end all lines are counted in ``now``.

    What is wrong with others is added to ``refusals``.
    """
    for taken in these:
        good, bad = 0, list(taken.refusals)
        for row, once, implied in taken.rows:
            try:
                carried = profiles.carried(row, once, implied=implied)
            except InvalidCall as error:
                bad.append(refusal_of(taken.line, error, strict))
                continue
            good += len(carried)
            for one in carried:
                yield taken.line, one
        refusals += bad
        _count(now, taken, good=good, bad=len(bad))
        now.read += 1
    now.out_of_order += profiles.late
    now.out_of_order_by = max(now.out_of_order_by, profiles.late_by)


def refusal_of(line: Line, error: InvalidCall, strict: bool) -> Refusal:
    """A bad row of a line; raises it as `InvalidRow`, if it is to be ``strict``."""
    if strict:
        raise InvalidRow(line.number, error.field, error.reason) from None
    return Refusal(line.number, error.field, error.reason, line.raw)


def _taken(line: Line, conversion: Conversion, strict: bool) -> Taken:
    try:
        if line.error is not None:
            raise line.error
        fields = line.fields if line.fields is not None else {}
        found: Sequence[dict[str, Any]] = [fields] if conversion.convert is None else conversion.convert(fields)
    except InvalidCall as error:
        return Taken(line, [], [refusal_of(line, error, strict)])
    rows: list[tuple[dict[str, Any], frozenset[str], bool]] = []
    refusals: list[Refusal] = []
    notes: list[str] = []
    for unchecked in found:
        try:
            row = _checked(unchecked, conversion, notes)
        except InvalidCall as error:
            refusal = refusal_of(line, error, strict)
            if refusal not in refusals:  # a fault of all rows of the line is one fault
                refusals.append(refusal)
            continue
        rows.append(
            (row, unchecked.once, unchecked.implied) if type(unchecked) is Converted else (row, _NO_NAMES, False)
        )
    if isinstance(found, Rows):
        return Taken(line, rows, refusals, found.skipped, [*found.notes, *notes])
    return Taken(line, rows, refusals, notes=notes)


def _checked(unchecked: dict[str, Any], conversion: Conversion, notes: list[str]) -> dict[str, Any]:
    try:
        return checked(unchecked)
    except InvalidCall as error:
        shorter = _shorter(unchecked) if conversion.shorten and error.field.startswith("metadata") else None
        if shorter is None:
            raise
    row = checked(shorter)
    notes.append(SHORTENED)
    return row


def _shorter(unchecked: dict[str, Any]) -> dict[str, Any] | None:
    """The event without its largest properties; ``None`` if that is not what is wrong with it."""
    properties = unchecked.get("metadata")
    if unchecked.get("event_type") not in _EVENTS or not isinstance(properties, dict):
        return None
    try:
        sizes = {name: len(encode_json({name: value}).encode()) for name, value in properties.items()}
    except (InvalidCall, TypeError, ValueError, RecursionError):
        return None
    rest = sum(sizes.values())  # with its braces and comma, each counts a byte more than it takes
    if rest <= MAX_EVENT_METADATA:
        return None
    kept = dict(properties)
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if rest <= MAX_EVENT_METADATA:
            break
        rest -= sizes[name]
        del kept[name]
    return {**unchecked, "metadata": kept}


def _count(now: Progress, taken: Taken, *, good: int, bad: int) -> None:
    if good:
        now.with_rows += 1
        for words in (*taken.notes, *([taken.skipped] if taken.skipped else [])):
            _add(now.notes, words)
    elif bad:
        now.lines_refused += 1
    else:
        now.skipped += 1
        _add(now.skipped_by_kind, taken.skipped or NOTHING_NEW)


def _add(counts: dict[str, int], kind: str) -> None:
    if kind not in counts and len(counts) >= MOST_KINDS:
        kind = OTHERS
    counts[kind] = counts.get(kind, 0) + 1

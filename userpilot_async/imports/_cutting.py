"""From lines to the parts of the journal: checked, converted, carried forward, encoded and cut. Runs in a thread."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .._calls.values import encode_json
from .._errors.tree import InvalidCall
from ._journal import Journal
from ._profiles import Profiles
from ._reading import Line
from ._rejected import RejectedFile
from ._report import InvalidRow
from ._rows import checked
from ._schema import Progress, Refusal

Convert = Callable[[dict[str, Any]], list[dict[str, Any]]]

PIECE_BYTES = 8 * 1024 * 1024  # held in memory before it is written, besides what is being read


@attrs.frozen
class Sorted:
    """Lines, by what they are good for."""

    rows: list[tuple[Line, dict[str, Any]]]
    """Rows fit for upload, with the line that each is of."""
    refusals: list[Refusal]


def sort(lines: Sequence[Line], convert: Convert | None, *, strict: bool) -> Sorted:
    """Check each line. One that makes several rows is taken whole or refused whole.

    Raises `InvalidRow` for the first bad one, if it is to be ``strict``.
    """
    rows: list[tuple[Line, dict[str, Any]]] = []
    refusals: list[Refusal] = []
    for line in lines:
        try:
            if line.error is not None:
                raise line.error
            fields = line.fields if line.fields is not None else {}
            if convert is None:
                rows.append((line, checked(fields)))
            else:
                rows += [(line, row) for row in [checked(unchecked) for unchecked in convert(fields)]]
        except InvalidCall as error:
            refusals.append(refusal_of(line, error, strict))
    return Sorted(rows, refusals)


def refusal_of(line: Line, error: InvalidCall, strict: bool) -> Refusal:
    """A bad line; raises it as `InvalidRow`, if it is to be ``strict``."""
    if strict:
        raise InvalidRow(line.number, error.field, error.reason) from None
    return Refusal(line.number, error.field, error.reason, line.raw)


class Cutter:
    """Takes lines, in order; each `take` is one transaction of the journal."""

    def __init__(
        self,
        journal: Journal,
        rejected: RejectedFile,
        convert: Convert | None,
        *,
        strict: bool,
        max_rows: int,
        before: Sequence[Journal] = (),
    ) -> None:
        """``before``: the journals that know the profiles to begin with."""
        self._journal = journal
        self._rejected = rejected
        self._convert = convert
        self._strict = strict
        self._max_rows = max_rows
        self._profiles = Profiles(journal.connection, *(one.connection for one in before))

    def take(self, lines: Sequence[Line], *, all_read: bool, digest: str = "") -> None:
        """Put their rows into the part being filled, and what is wrong with others into the rejected file.

        With ``all_read`` they are the last ones. Raises `InvalidRow`, if it is strict; then none of them was taken.
        """
        these = sort(lines, self._convert, strict=self._strict)
        try:
            with self._journal.change() as now:
                now.read += len(lines)
                if lines:
                    now.line = lines[-1].number
                if digest:
                    now.digest = digest
                refusals = these.refusals + self._fill(now, these.rows)
                if refusals:
                    refusals.sort(key=lambda refusal: refusal.line)
                    now.refused += len(refusals)
                    self._journal.note_errors(refusals)
                    self._rejected.write(now, refusals)
                if all_read:
                    self._journal.seal(now)
                    now.all_read = True
        finally:
            self._profiles.forget()

    def digest_of(self, before: str, lines: Sequence[Line]) -> str:
        """The digest that tells these rows, and all ``before`` them, from others, however the lines are cut."""
        digest = before
        for line in lines:
            these = sort([line], self._convert, strict=False)
            rows = [encode_json(row) for _, row in these.rows] + [f"{one.field} {one.reason}" for one in these.refusals]
            digest = hashlib.sha256("\n".join([digest, *rows]).encode("utf-8", "backslashreplace")).hexdigest()
        return digest

    def _fill(self, now: Progress, rows: Sequence[tuple[Line, dict[str, Any]]]) -> list[Refusal]:
        piece: list[bytes] = []
        numbers, size = array("Q"), 0
        refusals: list[Refusal] = []
        for line, row in rows:
            try:
                texts = [encode_json(carried).encode() + b"\n" for carried in self._profiles.carried(row)]
            except InvalidCall as error:
                refusals.append(refusal_of(line, error, self._strict))
                continue
            for text in texts:
                full = now.rows + len(piece) >= self._max_rows or now.size + size + len(text) > now.max_bytes
                if full or size > PIECE_BYTES:
                    self._journal.write_piece(now, piece, numbers)
                    piece, numbers, size = [], array("Q"), 0
                    if full:
                        self._journal.seal(now)
                piece.append(text)
                numbers.append(line.number)
                size += len(text)
                now.valid += 1
        self._journal.write_piece(now, piece, numbers)
        if now.rows >= self._max_rows:
            self._journal.seal(now)
        self._profiles.write()
        return refusals

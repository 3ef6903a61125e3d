"""From lines to the parts of the journal: checked, converted, carried forward, encoded and cut. Runs in a thread."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

from .._calls.values import encode_json
from ._carrying import carry, sort
from ._conversion import Conversion
from ._file_list import note_starts
from ._files import Start
from ._journal import Journal
from ._profiles import Profiles
from ._reading import Line
from ._rejected import RejectedFile, in_file, in_files
from ._report import InvalidRow
from ._schema import Progress, Refusal

PIECE_BYTES = 8 * 1024 * 1024  # held in memory before it is written, besides what is being read


class Cutter:
    """Takes lines, in order; each `take` is one transaction of the journal."""

    def __init__(
        self,
        journal: Journal,
        rejected: RejectedFile,
        conversion: Conversion,
        *,
        strict: bool,
        max_rows: int,
        before: Sequence[Journal] = (),
    ) -> None:
        """``before``: the journals that know the profiles to begin with."""
        self._journal = journal
        self._rejected = rejected
        self._conversion = conversion
        self._strict = strict
        self._max_rows = max_rows
        self._profiles = Profiles(journal.connection, *(one.connection for one in before))

    def take(self, lines: Sequence[Line], *, all_read: bool, digest: str = "", starts: Sequence[Start] = ()) -> None:
        """Put their rows into the part being filled, and what is wrong with others into the rejected file.

        With ``all_read`` they are the last ones. ``starts``: where files have begun so far, if several are read as one.
        Raises `InvalidRow`, if it is strict; then none of them was taken.
        """
        try:
            these = sort(lines, self._conversion, strict=self._strict)
            with self._journal.change() as now:
                note_starts(self._journal.connection, starts)
                if lines:
                    now.line = lines[-1].number
                if digest:
                    now.digest = digest
                refusals: list[Refusal] = []
                self._fill(now, carry(now, these, self._profiles, refusals, strict=self._strict))
                if refusals:
                    refusals = in_files(refusals, starts)
                    now.refused += len(refusals)
                    self._journal.note_errors(refusals)
                    self._rejected.write(now, refusals)
                if all_read:
                    self._journal.seal(now)
                    now.all_read = True
        except BaseException as error:
            self._profiles.forget()
            if isinstance(error, InvalidRow):
                raise in_file(error, starts) from None
            raise

    def digest_of(self, before: str, lines: Sequence[Line]) -> str:
        """The digest that tells these rows, and all ``before`` them, from others, however the lines are cut."""
        digest = before
        for line in lines:
            (taken,) = sort([line], self._conversion, strict=False)
            rows = [encode_json(row) for row, *_ in taken.rows]
            rows += [f"{one.field} {one.reason}" for one in taken.refusals]
            digest = hashlib.sha256("\n".join([digest, *rows]).encode("utf-8", "backslashreplace")).hexdigest()
        return digest

    def _fill(self, now: Progress, rows: Iterable[tuple[Line, dict[str, Any]]]) -> None:
        piece: list[bytes] = []
        numbers, size = array("Q"), 0
        for line, row in rows:
            text = encode_json(row).encode() + b"\n"
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

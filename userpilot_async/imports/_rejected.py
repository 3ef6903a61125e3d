"""The file of refused rows: each in it once, also after a crash."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import attrs

from .._calls.values import encode_json
from .._runtime.private_files import make_private, open_or_create, open_own
from ._files import Start, located
from ._report import InvalidRow, JournalError
from ._schema import Progress, Refusal

_OURS = re.compile(rb'\{"line": ?\d+, ?"field": ?"')  # how each line begins that is written here


class RejectedFile:
    """NDJSON: ``{"line", "field", "reason", "row"}``, the row as it was. Made with the first one, for its owner only.

    An identify row that the server refused has a ``sent``, too: with what earlier rows had said, which may
    be why. A line of one file of several, or of an archive or a folder, has a ``file``.

    Each `write` is part of a transaction of the journal, which remembers how long the file is then. Whatever is behind
    that when the import goes on was written for nothing, and is cut off. Raises `JournalError`.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, now: Progress, refusals: Sequence[Refusal]) -> None:
        """Append them, and wait for the disk; to be called inside of `Journal.change`."""
        if self._path is None or not refusals:
            return
        lines = b"".join(_line(refusal) for refusal in refusals)
        with self._as_journal_error(self._path):
            descriptor = open_or_create(self._path)
            with open(descriptor, "r+b") as file:
                self._check(file)  # again, each time: what lies there may have been exchanged
                known = now.rejected_bytes if now.rejected == str(self._path) else 0
                end = min(known, os.fstat(descriptor).st_size)
                file.truncate(end)
                file.seek(end)
                file.write(lines)
                file.flush()
                os.fsync(descriptor)
        now.rejected, now.rejected_bytes = str(self._path), end + len(lines)

    def clear(self, now: Progress) -> None:
        """Cut off what no transaction knows of; take away what an earlier import has left, if there is nothing yet."""
        if self._path is None:
            return
        with self._as_journal_error(self._path), suppress(FileNotFoundError):
            descriptor = open_own(self._path, os.O_RDWR)
            with open(descriptor, "r+b") as file:
                self._check(file)
                if now.rejected == str(self._path):
                    make_private(self._path, descriptor)
                    if os.fstat(descriptor).st_size > now.rejected_bytes:
                        file.truncate(now.rejected_bytes)
                    return
            self._path.unlink()

    def check(self) -> None:
        """Raise `JournalError` if what is there is no file of refused rows: it would be written over."""
        if self._path is None:
            return
        with self._as_journal_error(self._path), suppress(FileNotFoundError), open(open_own(self._path), "rb") as file:
            self._check(file)

    def _check(self, file: BinaryIO) -> None:
        begins = file.read(64)  # the two names, and a line number
        if begins and not _OURS.match(begins):
            raise JournalError(f"{self._path} is no file of refused rows: move it away, or name another place for them")

    @contextmanager
    def _as_journal_error(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror or error}") from error


def in_files(refusals: Sequence[Refusal], starts: Sequence[Start]) -> list[Refusal]:
    """Refusals by the files that their lines are in, where several are read as one."""
    if not starts:
        return list(refusals)
    found: list[Refusal] = []
    for refusal in refusals:
        name, line = located(starts, refusal.line)
        found.append(attrs.evolve(refusal, line=line, file=name))
    return found


def in_file(error: InvalidRow, starts: Sequence[Start]) -> InvalidRow:
    """The error by the file that its line is in, where several are read as one."""
    name, line = located(starts, error.line)
    return InvalidRow(line, error.field, error.reason, name)


def _line(refusal: Refusal) -> bytes:
    reason = f"{refusal.reason}: {refusal.words}" if refusal.words else refusal.reason
    fields = {"line": refusal.line, "field": refusal.field, "reason": reason, "row": refusal.raw}
    if refusal.sent:
        fields["sent"] = refusal.sent
    if refusal.file:
        fields["file"] = refusal.file
    return encode_json(fields).encode("utf-8", "backslashreplace") + b"\n"

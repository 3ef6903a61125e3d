"""Rows into import files: NDJSON and CSV, as `lines` reads them; packed if the name ends in ``.gz``."""

from __future__ import annotations

import csv
import gzip
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from .._calls.values import encode_json
from .._runtime.private_files import check_links, rewrite
from ._reading import File
from ._rows import FIELDS, Row

Rows = Iterable[Row | Mapping[str, Any]]
"""`Row` s, or rows that `checked` has given back."""


def write_ndjson(path: File, rows: Rows) -> int:
    """Write rows one JSON object a line; returns how many. The file is opened as by `write_csv`."""
    count = 0
    with _new(path) as file:
        for row in rows:
            file.write(encode_json(_as_dict(row)) + "\n")
            count += 1
    return count


def write_csv(path: File, rows: Rows) -> int:
    """Write rows as CSV with a column for each field there is, metadata as JSON in one; returns how many.

    From then on a file is for its owner only (0600); ``/dev/stdout`` and pipes are written to as they are. Raises
    `OSError`, also where there is another user's file, or a link that others may have put there.
    """
    count = 0
    with _new(path) as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in rows:
            fields = _as_dict(row)
            writer.writerow({**fields, "metadata": encode_json(fields.get("metadata") or {})})
            count += 1
    return count


def _as_dict(row: Row | Mapping[str, Any]) -> dict[str, Any]:
    return dict(row) if isinstance(row, Mapping) else row.as_dict()


def _descriptor(path: Path) -> int:
    """Of what the caller has named: a link of its own is followed, and what is no file is written to as it is."""
    check_links(path)
    with suppress(FileNotFoundError):
        kind = os.stat(path).st_mode
        if stat.S_ISCHR(kind) or stat.S_ISFIFO(kind):  # a terminal, a pipe, /dev/null
            return os.open(path, os.O_WRONLY)
    return rewrite(Path(os.path.realpath(path)))


@contextmanager
def _new(path: File) -> Iterator[TextIO]:
    """A text file whose line ends are those that are written, only its owner's from now on, as rows are of people.

    Raises `UnsafeFile`, or another `OSError`.
    """
    path = Path(path)
    with ExitStack() as stack:
        file: BinaryIO = stack.enter_context(open(_descriptor(path), "wb"))
        if path.suffix == ".gz":
            file = cast("BinaryIO", stack.enter_context(gzip.open(file, "wb")))
        yield stack.enter_context(TextIOWrapper(file, encoding="utf-8", newline=""))

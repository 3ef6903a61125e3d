"""Rows into import files: NDJSON and CSV, as `lines` reads them; packed if the name ends in ``.gz``."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

from .._values import encode_json
from ._reading import File
from ._rows import FIELDS, Row

Rows = Iterable[Row | Mapping[str, Any]]
"""`Row` s, or rows that `checked` has given back."""


def write_ndjson(path: File, rows: Rows) -> int:
    """Write rows one JSON object a line; returns how many."""
    count = 0
    with _new(path) as file:
        for row in rows:
            file.write(encode_json(_as_dict(row)) + "\n")
            count += 1
    return count


def write_csv(path: File, rows: Rows) -> int:
    """Write rows as CSV with a column for each field there is, metadata as JSON in one; returns how many."""
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


def _new(path: File) -> TextIO:
    """A text file whose line ends are those that are written; a new one is only its owner's, as rows are of people."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    if Path(path).suffix == ".gz":
        return cast("TextIO", gzip.open(path, "wt", encoding="utf-8", newline=""))
    return Path(path).open("w", encoding="utf-8", newline="")

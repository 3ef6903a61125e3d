"""``python -m benchmarks.scale``: the table of costs by size, and ``--plots DIR`` for pictures of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import attrs

from benchmarks import disk
from benchmarks.__main__ import machine
from benchmarks.scale import memory, outage, plots, postgres, sqlite
from benchmarks.scale.series import Series, shown, shown_size

PARTS: dict[str, ModuleType] = {"memory": memory, "outage": outage, "sqlite": sqlite, "postgres": postgres}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one round: a few minutes")
    parser.add_argument("--only", action="append", choices=list(PARTS), metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--directory", type=Path, metavar="PATH", help="for the files")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write pictures there; needs matplotlib")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, too")
    return parser.parse_args(argv)


def rows_of(series: Series) -> tuple[list[str], list[list[str]]]:
    """The headings of a table, and its rows."""
    headings = [f"{series.name}: {series.of}", *map(shown_size, series.figures), "growth"]
    rows = []
    for one in series.measured:
        points = dict(series.points(one))
        cells = [shown(points[size]) if size in points else "–" for size in series.figures]
        rows.append([f"{one.what} [{one.unit}]", *cells, series.verdict(one)])
    return headings, rows


def show(series: Series) -> None:
    headings, rows = rows_of(series)
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for row in (headings, *rows):
            print(" | ".join(row))
    else:
        table = Table(headings[0], *(heading for heading in headings[1:]))
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        Console(width=None if sys.stdout.isatty() else 130).print(table)
    for note in series.notes:
        print(f"  {note}")
    sys.stdout.flush()  # the next one takes minutes


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.directory is not None:
        disk.use(options.directory)
    header = machine()
    for name, text in header.items():
        print(f"{name}: {text}")
    found: list[Series] = []
    for name, part in PARTS.items():
        if options.only is None or name in options.only:
            print(f"{name} …", file=sys.stderr, flush=True)
            for series in part.run(options.quick):
                show(series)
                found.append(series)
    if options.json is not None:
        content = {"header": header, "series": [attrs.asdict(series) for series in found]}
        options.json.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.plots is not None:
        for path in plots.write(options.plots, found):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

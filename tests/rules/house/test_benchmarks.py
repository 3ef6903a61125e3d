"""The benchmarks run seldom, and break when what they stand on moves: all of them can be loaded, and have names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "benchmarks").rglob("*.py")
)


@pytest.mark.parametrize("module", MODULES)
def test_a_benchmark_can_be_loaded_without_the_clients_it_is_compared_with(module):
    assert import_module(module).__doc__


def test_every_row_has_a_name_of_its_own():
    rows = import_module("benchmarks.__main__").ROWS
    names = [row.NAME for row in rows]

    assert len(names) == len(set(names))
    assert all(callable(row.run) for row in rows)

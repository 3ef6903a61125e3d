"""The faults that show what the tests find can be planted: a rebuilt line takes its fault along."""

from __future__ import annotations

import pytest

from tests.harness.mutants import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_its_text_stands_in_the_package_once(mutant: Mutant) -> None:
    assert mutant.old in mutant.place(ROOT).read_text(encoding="utf-8")
    assert not mutant.by or (ROOT / mutant.by.partition("::")[0]).is_file()

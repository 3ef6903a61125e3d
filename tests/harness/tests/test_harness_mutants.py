from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.mutants import PACKAGE, TIERS, Mutant, first_failure, mutants, planted

FAULT = Mutant(name="fault", file="_a.py", old="right = True", new="right = False", rule="It is right.")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / PACKAGE / "below").mkdir(parents=True)
    return tmp_path


def test_a_fault_is_there_as_long_as_it_is_planted(root: Path) -> None:
    place = root / PACKAGE / "_a.py"
    place.write_text("right = True\n")

    with planted(FAULT, root):
        during = place.read_text()

    assert ("right = False\n", "right = True\n") == (during, place.read_text())


def test_its_text_is_found_where_it_was_moved_to(root: Path) -> None:
    moved = root / PACKAGE / "below" / "moved.lua"
    moved.write_text("-- right = True\n")

    assert moved == FAULT.place(root)


@pytest.mark.parametrize(
    ("text", "said"), [("", "stands nowhere"), ("right = True\n" * 2, f"stands 2 times in {PACKAGE}/below/b.py")]
)
def test_a_text_that_is_not_there_once_is_said_with_its_places(root: Path, text: str, said: str) -> None:
    (root / PACKAGE / "below" / "b.py").write_text(text)

    with pytest.raises(LookupError, match=said):
        FAULT.place(root)


def test_what_pytest_says_fails_is_the_killer(root: Path) -> None:
    tests = root / "test_it.py"
    tests.write_text("def test_it(): pass\ndef test_that(): assert 0\n")
    options = ("-c", "/dev/null", "--rootdir=.", str(tests))

    assert "test_it.py::test_that" == first_failure(root, *options)
    assert first_failure(root, *options, "-k", "test_it and not that") is None


def test_there_are_sixty_and_thirty_are_from_our_own_history() -> None:
    known = mutants()

    assert len(known) >= 60
    assert sum(bool(one.was) for one in known) >= 30
    assert [] == [one.name for one in known if one.old == one.new or one.by.split("/")[1] not in TIERS]

"""Shows that the tests find faults: `python -m tests.harness.mutants [NAME …]`, or `nox -s mutants -- NAME …`.

Puts each fault of `tests/mutants.toml` into a copy of the repository and runs the tests of a push there, the cheapest
first, until one fails. Ends with 1 if a fault was not found, or its text is not in the package exactly once any more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ROOT / "tests" / "mutants.toml"
PACKAGE = "userpilot_async"
TIERS = ("rules", "contract", "scenes", "wire", "processes")  # the cheapest first
LONGEST = 1_800.0  # seconds for a tier; a fault for which tests never end is found, too
COPIED = (
    PACKAGE, "tests", "benchmarks", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md",
    "noxfile.py",
)  # fmt: skip
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?|\S+)(?: - .*)?$", re.MULTILINE)


@attrs.frozen
class Mutant:
    """A fault of one line, as `tests/mutants.toml` has it."""

    name: str
    file: str
    old: str
    new: str
    rule: str
    by: str = ""
    was: str = ""

    def place(self, root: Path) -> Path:
        """The file that has the text; `LookupError` says why there is no such file."""
        named = root / PACKAGE / self.file
        if named.is_file() and named.read_text(encoding="utf-8").count(self.old) == 1:
            return named
        counts = {path: path.read_text(encoding="utf-8").count(self.old) for path in sources(root)}
        found = {path: count for path, count in counts.items() if count}
        if list(found.values()) == [1]:
            return next(iter(found))
        where = ", ".join(f"{count} times in {path.relative_to(root)}" for path, count in found.items()) or "nowhere"
        raise LookupError(f"its text must stand in the package once, and stands {where}")


def sources(root: Path) -> Iterator[Path]:
    """What the package is made of."""
    for pattern in ("*.py", "*.lua"):
        yield from sorted((root / PACKAGE).rglob(pattern))


def mutants(path: Path = FAULTS) -> list[Mutant]:
    """All that the file has."""
    found = [Mutant(**fields) for fields in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]
    assert len({one.name for one in found}) == len(found), "two mutants have one name"
    return found


@contextmanager
def a_copy() -> Iterator[Path]:
    """A copy of the repository, without git."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = Path(folder)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, root / name)
        yield root


@contextmanager
def planted(mutant: Mutant, root: Path) -> Iterator[None]:
    """Have the fault in the copy."""
    place = mutant.place(root)
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        yield
    finally:
        place.write_text(text, encoding="utf-8")


def killer(mutant: Mutant, root: Path) -> str | None:
    """The test that fails of it first, with its fault planted; `None` if none does."""
    steps = [[mutant.by]] if mutant.by else []
    steps += [["-n", "2", "--dist", "worksteal", f"tests/{tier}"] for tier in TIERS]
    for step in steps:
        with planted(mutant, root):
            found = first_failure(root, *step)
        if found is not None:
            return found if first_failure(root, found) is None else f"{found}, which fails without it, too"
    return None


def first_failure(root: Path, *chosen: str) -> str | None:
    """What fails first in a run of pytest on these tests of a copy."""
    ours = {"PYTHONPATH": str(root), "CI": "true", "LENGTH": "push", "MUTANT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *chosen],
        cwd=root,
        env={**os.environ, **ours},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"no end within {LONGEST:.0f} s"
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    if running.returncode in (0, 5):  # 5: no test was chosen
        return None
    failed = FAILED.search(output)
    return failed[1] if failed is not None else f"pytest ended with {running.returncode}: {output[-500:]}"


def main(names: Sequence[str]) -> int:
    """Try those that are named, or all; how many were not found, or do not apply."""
    known = mutants()
    unknown = set(names) - {one.name for one in known}
    assert not unknown, f"no mutant is called {', '.join(sorted(unknown))}"
    bad = 0
    with a_copy() as root:
        for mutant in [one for one in known if not names or one.name in names]:
            began = time.monotonic()
            try:
                found = killer(mutant, root)
            except LookupError as error:
                said = f"DOES NOT APPLY: {error.args[0]}"
                bad += 1
            else:
                said = f"killed by {found}" if found is not None else f"SURVIVED: {mutant.rule}"
                bad += found is None
            print(f"{mutant.name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)

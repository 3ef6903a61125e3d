"""The measures of the house: modules and functions that fit on a few screens, docstrings that say something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import userpilot_async

ROOT = Path(userpilot_async.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8"), file) for file in FILES}

BRAIN = [file for file in FILES if file.startswith(("_calls/", "_protocol/", "_account/", "_schedule/"))]

LONGEST_MODULE, LONG_MODULE, LONG_MODULES = 400, 300, 8  # lines; lines; how many may be longer than that
LONGEST_FUNCTION, LONGEST_SCHEDULE = 60, 300  # lines
FEWEST_WORDS = 5  # of a docstring
PRONOUNS = {
    "he", "her", "his", "it", "its", "my", "none", "nobody", "one", "our", "same", "she", "such", "that", "their",
    "them", "these", "they", "this", "those", "us", "we", "what", "which", "who", "whoever", "whom", "whose", "you",
    "your",
}  # fmt: skip

Documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lines_of(file: str) -> int:
    return len((ROOT / file).read_text(encoding="utf-8").splitlines())


def length(node: ast.stmt) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def docstrings(file: str) -> Iterator[tuple[int, str]]:
    """The line and text of each, with those below the fields of a class and the constants of a module."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, Documented) and (text := ast.get_docstring(node)) is not None:
            yield getattr(node, "lineno", 1), text
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield after.lineno, value.value


def test_no_module_is_long_and_few_are_longish():
    lengths = {file: lines_of(file) for file in FILES}

    assert {} == {file: lines for file, lines in lengths.items() if lines > LONGEST_MODULE}
    assert LONG_MODULES >= sum(lines > LONG_MODULE for lines in lengths.values()), lengths


@pytest.mark.parametrize("file", FILES)
def test_no_function_is_long(file):
    functions = [node for node in ast.walk(TREES[file]) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]

    assert {} == {node.name: length(node) for node in functions if length(node) > LONGEST_FUNCTION}


def test_the_schedule_fits_in_a_head():
    (schedule,) = (
        node
        for node in TREES["_schedule/schedule.py"].body
        if isinstance(node, ast.ClassDef) and node.name == "Schedule"
    )

    assert LONGEST_SCHEDULE > length(schedule)


@pytest.mark.parametrize("file", FILES)
def test_docstrings_are_sentences_about_something(file):
    riddles = [
        (line, text.splitlines()[0])
        for line, text in docstrings(file)
        if len(text.split()) < FEWEST_WORDS or text.split()[0].strip("`'.,:;").lower() in PRONOUNS
    ]

    assert [] == riddles


@pytest.mark.parametrize("file", [file for file in FILES if file.endswith("__init__.py")])
def test_a_folder_says_on_its_first_page_what_it_is_for(file):
    assert ast.get_docstring(TREES[file])


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.partition("/")[0] in ("_calls", "_protocol", "_account", "_schedule")]
)
def test_the_brain_asserts_nothing_for_a_type_checker(file):
    asserts = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Assert)]

    assert [] == [ast.unparse(node) for node in asserts if ast.unparse(node.test).endswith(" is not None")]

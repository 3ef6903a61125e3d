"""The modules that know how payloads are made, and that may change a key queue: held by reading the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import userpilot_async

ROOT = Path(userpilot_async.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8"), file) for file in FILES}

PAYLOADS = {"Ticket", "Payload", "Event", "WaitingEvent", "IdentifyPayload", "Companion"}
NAMES = {"ticket", "payload", "event", "call", "identify", "facts", "companion"}
"""What variables of those types are called, where no annotation says so."""
LISTS = {"events", "calls"}


def name_of(node: ast.AST) -> str:
    """The last name of a variable or an attribute; nothing for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_constant(index: ast.expr) -> bool:
    """An index that says which part of a tuple is meant: a number, or a stretch between two."""
    parts = [index.lower, index.upper] if isinstance(index, ast.Slice) else [index]
    return all(part is None or (isinstance(part, ast.Constant) and type(part.value) is int) for part in parts)


def annotated(tree: ast.AST) -> set[str]:
    """Names of variables, attributes and parameters that are annotated as a payload tuple, or as one or none."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None:
            name, annotation = node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign):
            name, annotation = name_of(node.target), node.annotation
        else:
            continue
        if PAYLOADS & set(ast.unparse(annotation).split(" | ")):
            found.add(name)
    return found


def indices_on_payloads(tree: ast.AST) -> list[int]:
    """Lines with a constant index on what is called, or annotated as, a payload tuple; also on one out of a list."""
    names = NAMES | annotated(tree)
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and is_constant(node.slice):
            base = node.value
            from_list = isinstance(base, ast.Subscript) and name_of(base.value) in LISTS
            if from_list or name_of(base) in names:
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("code", [
    "ticket[0]", "one.ticket[1]", "facts[:2]", "row.events[-1][0]", "queue.calls[0][2]",
    "def f(said: Event): return said[1]", "head: WaitingEvent | None = None; head[0]",
])  # fmt: skip
def test_an_index_on_a_payload_is_seen(code):
    assert [1] == indices_on_payloads(ast.parse(code))


@pytest.mark.parametrize("file", [file for file in FILES if file != "_calls/payload.py"])
def test_one_file_knows_the_shape_of_payloads(file):
    """Others ask its accessors, or unpack a whole tuple into names."""
    assert [] == indices_on_payloads(TREES[file])


OWNED = {"calls", "place", "open_row", "claim", "lateness", "retry", "alias", "watched", "given_back"}
CHANGES = {"append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"}


def changes_to_key_queues(tree: ast.AST) -> list[int]:
    """Lines that write to an attribute of a `KeyQueue`, not of ``self``, or change the list of its calls."""
    lines = []
    for node in ast.walk(tree):
        written: ast.AST | None = None
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
            written = node.value if isinstance(node, ast.Subscript) else node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            written = node.func.value
        if isinstance(written, ast.Attribute) and written.attr in OWNED and name_of(written.value) != "self":
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("code", [
    "queue.place = IDLE", "queue.calls[0:0] = events", "del queue.calls[:3]", "batch.parts[0].queue.calls.append(row)",
    "queue.retry, other = None, 1", "queue.calls += events",
])  # fmt: skip
def test_a_change_to_a_key_queue_is_seen(code):
    assert [1] == changes_to_key_queues(ast.parse(code))


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("_schedule/")])
def test_a_key_queue_is_changed_by_its_own_methods_only(file):
    assert file.endswith("/key_queue.py") or [] == changes_to_key_queues(TREES[file])

"""The house stands: imports point down only, what decides neither waits nor looks at a clock, rooms stay apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import userpilot_async

ROOT = Path(userpilot_async.__file__).parent
NAME = ROOT.name

# From the ground up; each may import those before it. A new module has to be given its floor here.
DECIDES = [
    "_version", "_printable", "_calendar", "_errors", "_foreign", "_secret", "_times", "_values", "_nested", "_ndjson",
    "_settings", "_ledger", "_jobs", "_listing", "_bucket", "_gate", "_hold", "_verdict", "_losses", "_trouble",
    "_event_names", "_event", "_coalesce", "_steps", "_bulk", "_lanes", "_stored", "_inheritance", "_shared_ledger",
    "_seen", "_once", "_same", "_ages", "_lines", "_destination", "_settlements", "_window", "_work", "_arrays",
    "_filing", "_trust", "_known", "_gathering", "_backlog", "_endings", "_outlook", "_schedule", "_statistics",
    "_calls", "_userpilot",
]  # fmt: skip
ACTS = [
    "_private_files", "_database_files", "_clocks", "_environment", "_switch", "_endpoint", "_notices", "_loops",
    "_lifetime", "_reentry", "_receipt", "_batch", "_outbox", "_writer", "_durable", "_places", "_room", "_letters",
    "_inbox", "_http", "_api", "_reporting", "_sender", "_door", "_blocking", "_client",
]  # fmt: skip
FLOORS = DECIDES + ACTS
# What is Userpilot's alone. Nobody else, so what both destinations share knows neither.
USERPILOT = ["_calls", "_userpilot", "_api", "_client"]
# Nobody inside imports them,
ROOMS = ["emulator", "cli", "testing", "sqlite", "redis", "imports", "parcelvoy"]
# but for the types that a method takes and gives; at run time the room is asked for by name, when it is wanted.
TYPES = {"_client": {"imports"}}

WAITS_OR_ASKS = {
    "anyio", "asyncio", "trio", "sniffio", "httpx", "httpcore", "tenacity", "time", "random", "secrets", "os", "io",
    "sys", "socket", "ssl", "select", "threading", "concurrent", "subprocess", "logging", "warnings", "tempfile",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom", "getrandbits"}

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
INSIDE = [f"{module}.py" for module in FLOORS]


def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), file)


def imports(file: str) -> Iterator[str]:
    """The full name of each thing that is imported, also within functions and under TYPE_CHECKING."""
    package = [NAME, *Path(file).parent.parts]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def ours(file: str) -> set[str]:
    """The modules of the package that a file imports: `_api`, `emulator`, or "" for the root itself."""
    names: set[str] = set()
    for name in imports(file):
        first, *rest = name.split(".")
        if first == NAME:
            known = rest and ((ROOT / rest[0]).is_dir() or (ROOT / f"{rest[0]}.py").is_file())
            names.add(rest[0] if known else "")
    return names


def others(file: str) -> set[str]:
    """The foreign packages that a file imports."""
    return {name.partition(".")[0] for name in imports(file)} - {NAME}


def owners(package: str, files: list[str] = FILES) -> list[str]:
    """The files that import this foreign package."""
    return [file for file in files if package in others(file)]


def test_every_module_has_its_floor_or_is_a_room():
    top = {file.partition("/")[0].removesuffix(".py") for file in FILES}

    assert set() == top - {*FLOORS, *ROOMS, "__init__", "__main__"}
    assert set() == set(FLOORS) - top


@pytest.mark.parametrize("file", FILES)
def test_nobody_inside_imports_the_package_root(file):
    assert "" not in ours(file)


@pytest.mark.parametrize("module", FLOORS)
def test_imports_point_down(module):
    below = set(FLOORS[: FLOORS.index(module)])

    assert set() == ours(f"{module}.py") - below - TYPES.get(module, set())


@pytest.mark.parametrize("module", TYPES)
def test_types_of_a_room_are_imported_for_type_checkers_only(module):
    tree = tree_of(f"{module}.py")
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(node) for block in checked for node in ast.walk(block)}
    others = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in for_types]

    assert set() == {node.module for node in others} & TYPES[module]


@pytest.mark.parametrize("module", DECIDES)
def test_what_decides_imports_no_clock_no_chance_and_no_network(module):
    assert set() == others(f"{module}.py") & WAITS_OR_ASKS


@pytest.mark.parametrize("module", DECIDES)
def test_what_decides_never_waits(module):
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert [] == [node.lineno for node in ast.walk(tree_of(f"{module}.py")) if isinstance(node, waits)]


@pytest.mark.parametrize("module", DECIDES)
def test_what_decides_asks_for_no_time_no_id_and_no_file(module):
    """A `now` that is handed in is what these modules are made for; one that is imported, or asked, is not."""
    nodes = list(ast.walk(tree_of(f"{module}.py")))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    imported = {name.rpartition(".")[2] for name in imports(f"{module}.py")}

    assert set() == (attributes | imported) & CLOCKS
    assert set() == called & {"open", "print", "input"}


def test_httpx_is_one_files_matter():
    assert ["_http.py"] == owners("httpx", INSIDE)


def test_tenacity_is_one_files_matter():
    assert ["_api.py"] == owners("tenacity")


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart", "click", "rich", "trio"])
def test_what_is_not_installed_with_the_library_is_not_imported_by_it(package):
    assert [] == owners(package, INSIDE)


def test_the_emulator_knows_nobody_and_nobody_inside_knows_it():
    emulator = [file for file in FILES if file.startswith("emulator/")]

    assert {"emulator"} == set().union(*map(ours, emulator))
    assert [] == [file for file in INSIDE if "emulator" in ours(file)]


@pytest.mark.parametrize("module", sorted(set(FLOORS) - set(USERPILOT)))
def test_what_destinations_share_knows_none_of_them(module):
    assert set() == ours(f"{module}.py") & {*USERPILOT, "parcelvoy"}


def test_one_destination_imports_nothing_of_the_other():
    assert set() == ours("parcelvoy.py") & set(USERPILOT)


def test_importing_the_library_imports_little_besides_httpx():
    """Each of these costs 5 to 100 ms of a cold start, and most of them need not be installed."""
    program = (
        "import sys, httpx; before = set(sys.modules); import userpilot_async;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT.parent, capture_output=True, text=True, check=True, timeout=60
    )
    late = {"tenacity", "starlette", "uvicorn", "python_multipart", "click", "rich", "trio", "sqlite3", "redis"}

    assert "userpilot_async" in run.stdout.split()
    assert set() == late & set(run.stdout.split())

"""The house stands: imports point down by folder, no two modules need each other, what decides does not act."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import userpilot_async

ROOT = Path(userpilot_async.__file__).parent
NAME = ROOT.name

# From the ground up; each folder may import those before it.
DECIDES = ["_errors", "_settings", "_calls", "_protocol", "_account", "_schedule"]
ACTS = ["_runtime", "_outbox", "_delivery", "_userpilot", "_client"]
# Nobody inside imports them, but for a method's types; each knows those inside, and of the other rooms these.
ROOMS: dict[str, set[str]] = {
    "parcelvoy": set(), "sqlite": set(), "redis": set(), "postgres": set(), "imports": set(), "emulator": {"emulator"},
    "guides": set(), "testing": {"emulator"},
    "cli": {"parcelvoy", "sqlite", "redis", "postgres", "imports", "emulator", "guides"},
}  # fmt: skip
FOLDERS = [*DECIDES, *ACTS]
# Userpilot's alone: nobody else, so what both destinations share knows neither.
USERPILOT = {"_userpilot", "_client"}

WAITS_OR_ASKS = {
    "anyio", "asyncio", "trio", "sniffio", "httpx", "httpcore", "tenacity", "time", "random", "secrets", "os", "io",
    "sys", "socket", "ssl", "select", "threading", "concurrent", "subprocess", "logging", "warnings", "tempfile",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom", "getrandbits"}

FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8"), file) for file in FILES}
INSIDE = [file for file in FILES if file.partition("/")[0].removesuffix(".py") in FOLDERS]
# These act in company only: they decide as purely as the brain does.
PURE = [
    "_runtime/outage.py", "_delivery/health.py", "_outbox/window.py", "_outbox/admin.py", "_userpilot/calls.py",
    "_userpilot/destination.py",
    "_userpilot/event_names.py", "_userpilot/reserved.py", "parcelvoy/_data.py",
]  # fmt: skip
BRAIN = PURE + [file for file in FILES if file.partition("/")[0].removesuffix(".py") in DECIDES]


def imports(file: str) -> Iterator[str]:
    """The full name of each thing that is imported, also within functions and under TYPE_CHECKING."""
    package = [NAME, *Path(file).parent.parts]
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str:
    """The file that an imported name of ours comes from."""
    parts = name.split(".")[1:]
    while parts:
        for file in (f"{'/'.join(parts)}.py", "/".join([*parts, "__init__.py"])):
            if file in TREES:
                return file
        parts.pop()
    return "__init__.py"


OURS = {file: {module_of(name) for name in imports(file) if name.split(".")[0] == NAME} - {file} for file in FILES}


def folders(file: str) -> set[str]:
    """The folders of the package that a file imports from, but its own."""
    return {other.partition("/")[0].removesuffix(".py") for other in OURS[file]} - {folder_of(file)}


def folder_of(file: str) -> str:
    """The folder, or the module, on the top floor that a file belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def others(file: str) -> set[str]:
    """The foreign packages that a file imports."""
    return {name.partition(".")[0] for name in imports(file)} - {NAME}


def owners(package: str, files: list[str] = FILES) -> list[str]:
    """The files that import this foreign package."""
    return [file for file in files if package in others(file)]


def test_the_top_floor_is_the_plan():
    top = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.name != "__pycache__"}

    by_python = {"__init__", "__main__", "py.typed"}  # where Python and its tools look for them

    assert {*FOLDERS, *ROOMS} == top - by_python
    assert 20 >= len(top - by_python)


@pytest.mark.parametrize("file", [file for file in FILES if "/" in file or not file.startswith("__")])
def test_imports_point_down(file):
    folder = folder_of(file)
    below = set(FOLDERS[: FOLDERS.index(folder)]) if folder in FOLDERS else {*FOLDERS} | ROOMS[folder]
    if folder == "_client":
        below |= {"imports"}

    assert set() == folders(file) - below


def test_no_modules_need_each_other():
    assert len(FILES) == len(list(TopologicalSorter(OURS).static_order()))


def test_types_of_a_room_are_imported_for_type_checkers_only():
    tree = TREES["_client.py"]
    checked = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(node) for block in checked for node in ast.walk(block)}
    others = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and id(node) not in for_types]

    assert "imports" not in {node.module for node in others}


@pytest.mark.parametrize("file", BRAIN)
def test_what_decides_imports_no_clock_no_chance_and_no_network(file):
    assert set() == others(file) & WAITS_OR_ASKS


@pytest.mark.parametrize("file", BRAIN)
def test_what_decides_never_waits(file):
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert [] == [node.lineno for node in ast.walk(TREES[file]) if isinstance(node, waits)]


@pytest.mark.parametrize("file", BRAIN)
def test_what_decides_asks_for_no_time_no_id_and_no_file(file):
    """A `now` that is handed in is what these modules are made for; one that is imported, or asked, is not."""
    nodes = list(ast.walk(TREES[file]))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    imported = {name.rpartition(".")[2] for name in imports(file)}

    assert set() == (attributes | imported) & CLOCKS
    assert set() == called & {"open", "print", "input"}


@pytest.mark.parametrize("package", ["httpx", "httpcore", "httpx2", "httpcore2"])
def test_the_http_library_is_one_files_matter(package):
    """Which of the two it is, everybody else learns from there."""
    assert ["_runtime/http.py"] == owners(package)


def test_tenacity_is_one_files_matter():
    assert ["_userpilot/api.py"] == owners("tenacity")


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart", "click", "rich", "trio"])
def test_what_is_not_installed_with_the_library_is_not_imported_by_it(package):
    assert [] == owners(package, INSIDE)


@pytest.mark.parametrize("package", ["asyncpg", "sqlalchemy", "django", "psycopg2"])
def test_an_applications_database_library_is_imported_nowhere(package):
    """Its connections are known by the modules that the application has loaded."""
    assert [] == owners(package)


def test_the_emulator_knows_nobody():
    assert set() == set().union(*(folders(file) for file in FILES if folder_of(file) == "emulator"))


@pytest.mark.parametrize("folder", sorted({*FOLDERS, "parcelvoy"} - USERPILOT))
def test_what_destinations_share_knows_none_of_them(folder):
    assert set() == set().union(*(folders(file) for file in FILES if folder_of(file) == folder)) & USERPILOT

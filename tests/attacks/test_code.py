"""What the package's own code never does, so that nothing that comes in can make it do so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import userpilot_async

ROOT = Path(userpilot_async.__file__).parent
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}

# Each of these makes code, or objects of any class, of data.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "jsonpickle", "code",
           "codeop", "runpy", "pty", "telnetlib", "xmlrpc", "xml"}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"}
ATTRIBUTES = {
    "os.system", "os.popen", "os.execv", "os.execvp", "os.execl", "os.spawnl", "os.spawnv", "tempfile.mktemp",
    "shutil.unpack_archive", "ssl._create_unverified_context",
}  # fmt: skip
METHODS = {"enable_load_extension", "load_extension", "extractall", "loads_unsafe"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield file, node


def test_no_data_becomes_code() -> None:
    found = []
    for file, node in calls():
        name = ast.unparse(node.func)
        if name in CALLS | ATTRIBUTES or (isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            found.append(f"{file}:{node.lineno} {name}")

    assert not found


def test_no_module_is_imported_that_makes_objects_of_any_class() -> None:
    found = []
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f"{file}: {name}" for name in names if name.partition(".")[0] in MODULES]

    assert not found


def test_no_process_is_started_by_a_shell_and_only_by_the_command_line() -> None:
    starts = ("subprocess.", "asyncio.create_subprocess")
    started = [(file, node) for file, node in calls() if ast.unparse(node.func).startswith(starts)]

    assert {file.partition("/")[0] for file, _ in started} <= {"cli"}
    for file, node in started:
        assert "shell" not in {keyword.arg for keyword in node.keywords}, file


def test_no_connection_is_made_without_looking_at_the_certificate() -> None:
    found = []
    for file, node in calls():
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in ("verify", "check_hostname", "ssl_check_hostname") and off:
                found.append(f"{file}:{node.lineno}")
    unverified = [file for file, tree in TREES.items() if "CERT_NONE" in ast.dump(tree)]

    assert ([], []) == (found, unverified)


@pytest.mark.parametrize("script", sorted((ROOT / "redis" / "scripts").glob("*.lua")), ids=lambda path: path.stem)
def test_no_script_in_redis_runs_text(script: Path) -> None:
    """What is in Redis is data: no script loads any of it, or makes the name of a command of it."""
    text = re.sub(r"--[^\n]*", "", script.read_text())

    assert not re.search(r"\b(loadstring|load|dofile|setfenv|getfenv|cmsgpack|rawset|debug)\s*[.(]", text)
    commands = re.findall(r"redis\.p?call\(\s*([^,)\s]+)", text)
    assert all(re.fullmatch(r"'[A-Za-z]+'|\"[A-Za-z]+\"", command) for command in commands), commands

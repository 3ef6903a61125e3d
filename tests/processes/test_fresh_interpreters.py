"""What an interpreter that has just begun imports, or cannot: a look at this one would not tell."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.processes import REPOSITORY


def test_importing_the_library_imports_little_besides_httpx():
    """Each of these costs 5 to 100 ms of a cold start, and most of them need not be installed."""
    program = (
        "import sys, httpx; before = set(sys.modules); import userpilot_async;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    late = {"tenacity", "starlette", "uvicorn", "python_multipart", "click", "rich", "trio", "sqlite3", "redis"}

    assert "userpilot_async" in run.stdout.split()
    assert set() == late & set(run.stdout.split())


def test_the_hints_of_the_client_load_neither_httpx_nor_the_room_of_imports():
    program = (
        "import sys, typing, userpilot_async as u;"
        "methods = [getattr(u.UserpilotClient, name) for name in dir(u.UserpilotClient)];"
        "[typing.get_type_hints(one) for one in methods if callable(one) and hasattr(one, '__globals__')];"
        "typing.get_type_hints(u.UserpilotAPI.__init__);"
        "print({'httpx', 'sqlite3', 'userpilot_async.imports'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)

    assert ("set()\n", "") == (run.stdout, run.stderr)


def test_windows_which_has_none_of_those_clocks_can_import_and_read_them() -> None:
    """There nothing could be imported, although only a file and Redis need more than Python has everywhere."""
    script = """
import time
for name in [name for name in vars(time) if name.startswith(("CLOCK_", "clock_"))]:
    delattr(time, name)
import userpilot_async
from userpilot_async._runtime import clocks
seen = clocks.read()
assert abs(seen.steady - seen.running) < 1.0, seen
assert clocks.boot_here() is None
"""
    subprocess.run([sys.executable, "-c", script], check=True)

"""A child sees, and shows in /proc, what it needs: no key, no password and no proxy of the shell that began it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import userpilot_async
from tests.harness import judge
from userpilot_async.cli._children import environment_of_a_child, start

SECRET = "canary-of-the-shell-77aa"
SECRETS = (
    "USERPILOT_API_KEY", "PARCELVOY_API_KEY", "USERPILOT_OUTBOX", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL",
    "HTTPS_PROXY", "PYTHON_INDEX_TOKEN", "SENTRY_DSN", "REDISCLI_AUTH",
)  # fmt: skip
SHOWS_ITSELF = "import sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())"

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc")


@needs_proc
@pytest.mark.anyio
async def test_no_secret_of_the_parent_is_in_the_environment_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, SECRET)
    said = b""
    async with await start([sys.executable, "-c", SHOWS_ITSELF], listened_to=True) as child:
        assert child.stdout is not None
        async for piece in child.stdout:
            said += piece

    assert 0 == child.returncode
    assert b"PATH=" in said
    judge.no_canary({"environ": said}, [SECRET, *SECRETS])


def test_a_child_gets_what_python_needs() -> None:
    ours = {"PATH": "/bin", "PYTHONPATH": "/src", "LANG": "C.UTF-8", "TMPDIR": "/var/tmp", "SYSTEMROOT": "C:", "X": "1"}

    assert {name: ours[name] for name in ours if name != "X"} == environment_of_a_child(ours)


def test_nothing_else_starts_processes() -> None:
    root = Path(userpilot_async.__file__).parent
    starting = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("open_process", "run_process", "Popen", "fork", "spawnv"))
        or (isinstance(node, ast.Import) and any(name.name in ("subprocess", "multiprocessing") for name in node.names))
    }

    assert {"cli/_children.py"} == starting

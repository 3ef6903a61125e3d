"""The public API as a type checker sees it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import userpilot_async

HERE = Path(__file__).parent
EXAMPLES = HERE / "typing_examples.py"


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_users_code_type_checks_strictly_and_mistakes_in_it_do_not(tmp_path):
    """Without the project's own settings: a user's mypy knows nothing of them."""
    root = Path(userpilot_async.__file__).parent.parent
    command = [
        sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--config-file=", "--no-error-summary",
        f"--cache-dir={tmp_path}", str(EXAMPLES),
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env={"MYPYPATH": str(root), "PATH": ""}, capture_output=True, text=True, timeout=300
    )

    assert "" == run.stdout + run.stderr
    assert 0 == run.returncode

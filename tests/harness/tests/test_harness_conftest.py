from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import python

HEAD = """
import asyncio, gc, anyio, pytest
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
pytestmark = pytest.mark.anyio
"""


def outcome(tmp_path: Path, body: str) -> str:
    """What pytest says of a module with this body, with our conftest and warnings as errors."""
    module = tmp_path / "test_inside.py"
    module.write_text(HEAD + body)
    # Not `-p tests.conftest`: a plugin's fixtures do not override those of anyio's plugin.
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-c", "/dev/null"]
    with python("-m", "pytest", *options, f"--rootdir={tmp_path}", str(module)) as program:
        program.wait(60)
        return program.output


def test_a_test_that_leaves_nothing_passes_on_both_backends(tmp_path: Path) -> None:
    said = outcome(tmp_path, "async def test_it(): await anyio.sleep(0)")

    assert "2 passed" in said


def test_a_task_whose_exception_nobody_fetched_fails_its_test(tmp_path: Path) -> None:
    said = outcome(
        tmp_path,
        """
async def fail():
    raise LookupError("lost")

@asyncio_only
async def test_it():
    await asyncio.wait({asyncio.ensure_future(fail())})
""",
    )

    assert "the event loop reported: Task exception was never retrieved: LookupError('lost')" in said
    assert "1 error" in said


def test_a_failed_task_in_a_reference_cycle_is_found_too(tmp_path: Path) -> None:
    said = outcome(
        tmp_path,
        """
async def fail(box):
    raise LookupError("lost")

@asyncio_only
async def test_it():
    box = []
    box.append(asyncio.ensure_future(fail(box)))
    await asyncio.wait(box)
""",
    )

    assert "Task exception was never retrieved" in said
    assert "1 error" in said


def test_a_coroutine_never_awaited_fails_its_test(tmp_path: Path) -> None:
    said = outcome(tmp_path, "async def test_it(): anyio.sleep(1)")

    assert "was never awaited" in said
    assert "2 failed" in said


def test_a_plain_test_marked_virtual_is_refused(tmp_path: Path) -> None:
    said = outcome(tmp_path, "@pytest.mark.virtual\ndef test_it(): pass")

    assert "marked virtual but is not async: use run_virtual inside it" in said
    assert "1 failed" in said


@pytest.mark.parametrize("body", ["await anyio.Event().wait()", "raise LookupError"])
def test_a_failure_on_virtual_time_leaves_the_next_test_alone(tmp_path: Path, body: str) -> None:
    said = outcome(
        tmp_path,
        f"""

@pytest.mark.virtual(deadlock_after=0.1)
async def test_it(): {body}

@pytest.mark.virtual
async def test_next():
    await anyio.sleep(3600)
    assert anyio.current_time() == 3600
""",
    )

    assert "2 failed, 2 passed" in said

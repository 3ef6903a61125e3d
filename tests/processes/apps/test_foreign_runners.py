"""Row 86: a client that is opened in one task and left in another, as other test runners and frameworks do it.

Here run the suites that need no plugin; `nox -s foreign` runs them all, against the wheel.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import python
from tests.processes.apps.foreign.run import COMMANDS

HERE = Path(__file__).parent / "foreign"


@pytest.mark.night
def test_row_86_the_suites_of_unittest_aiohttp_notebooks_and_hooks_pass_as_their_users_run_them() -> None:
    with python(str(HERE / "run.py"), "unittest") as program:
        status = program.wait(120)

    assert 0 == status, program.output


def test_every_suite_is_run_by_somebody() -> None:
    named = {Path(word).stem for command in COMMANDS.values() for word in command if word.startswith("suite_")}

    assert {path.stem for path in HERE.glob("suite_*.py")} == named

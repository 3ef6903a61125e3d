"""Run these suites as their users would: `python tests/processes/apps/foreign/run.py [unittest] [auto] …`.

It needs the standard library; the suites need `userpilot_async[pytest]` and what pyproject.toml calls `foreign`
(`unittest` needs aiohttp and FastAPI only). Exits with 1 if a suite fails, or leaves behind what its runner overlooks.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PYTEST = ("-m", "pytest", "-q", "-c", "pytest.ini")

COMMANDS = {
    "unittest": (
        *("-W", "error", "-m", "unittest"),
        *("suite_isolated", "suite_aiohttp_case", "suite_notebook", "suite_hooks"),
    ),
    "frameworks": (*PYTEST, "suite_frameworks.py"),
    "pytest-asyncio": (*PYTEST, "suite_pytest_asyncio.py", "suite_guide.py"),
    "auto": (
        *(*PYTEST, "-o", "asyncio_mode=auto"),
        *("suite_pytest_asyncio_auto.py", "suite_pytest_aiohttp.py", "suite_quart.py", "suite_kit_auto.py"),
    ),
    # Of `userpilot_async.testing`, whose plugin the wheel brings.
    "kit": (*PYTEST, "-n", "2", "suite_kit_pytest_asyncio.py", "suite_sample.py"),
    "kit-wider": (*PYTEST, "suite_kit_wider.py"),
    "kit-anyio": (
        *(
            "-m",
            "pytest",
            "-q",
            "-c",
            "pytest.ini",
            "-o",
            "addopts=-p no:cacheprovider -p no:asyncio -p no:aiohttp -ra",
        ),
        *("-W", "ignore::pytest.PytestConfigWarning", "suite_kit_anyio.py"),
    ),
}
# What asyncio, anyio and the interpreter write about what nobody has finished; no runner fails for it.
LEFT_BEHIND = ("Exception ignored", "was never awaited", "was destroyed but it is pending", "never retrieved")


def trouble_with(name: str) -> str | None:
    """Run the suites of this name; their output if something is wrong, else None."""
    ran = subprocess.run(
        [sys.executable, *COMMANDS[name]], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    counted = re.search(r"^Ran (\d+) tests|(\d+) passed", ran.stdout, re.MULTILINE)
    clean = not any(words in ran.stdout for words in LEFT_BEHIND)
    if ran.returncode == 0 and counted and clean:
        print(f"{name}: {counted[0]}")
        return None
    return f"{name}: exit status {ran.returncode}\n{ran.stdout}"


if __name__ == "__main__":
    troubles = [trouble for name in sys.argv[1:] or COMMANDS if (trouble := trouble_with(name))]
    print(*troubles, sep="\n")
    sys.exit(bool(troubles))

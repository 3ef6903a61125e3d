"""A measurement in an interpreter of its own, so that no subject inherits another's heap, threads or imports."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.cores import for_the_measured, for_the_rest

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300  # seconds; the longest measurement takes about 30


def measure(function: Callable[..., Any], *, beside: bool = False, **arguments: Any) -> Any:
    """The result of ``function(**arguments)``, sync or async, in a fresh interpreter. Both must fit into JSON.

    An async one runs on its module's ``LOOP``, if it has one. ``beside``: on the core of those who are not measured.
    """
    command = [sys.executable, "-m", "benchmarks.fresh", function.__module__, function.__name__, json.dumps(arguments)]
    command += ["beside"] if beside else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, check=False)
    if done.returncode != 0 or not done.stdout:
        raise RuntimeError(f"{function.__module__}.{function.__name__}({arguments}) failed:\n{done.stderr[-4_000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def leave_with(result: Any) -> NoReturn:
    """Print the result and end at once: most subjects would drain their queues for minutes on a polite way out."""
    print("\n" + json.dumps(result), flush=True)
    os._exit(0)


def main() -> None:
    module, name, arguments, *beside = sys.argv[1:]
    (for_the_rest if beside else for_the_measured)()
    room = importlib.import_module(module)
    function = getattr(room, name)
    if not inspect.iscoroutinefunction(function):
        leave_with(function(**json.loads(arguments)))

    async def run() -> None:
        leave_with(await function(**json.loads(arguments)))

    with asyncio.Runner(loop_factory=getattr(room, "LOOP", None)) as runner:
        runner.run(run())


if __name__ == "__main__":
    main()

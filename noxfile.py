"""What is checked: `nox` runs lint, types and the tests on every interpreter found.

Slow tiers have sessions of their own: `nox -s everything`, `nox -s foreign`, `nox -s loops`, `nox -s fuzz`,
`nox -s kill_cycles`, `nox -s redis_swarm`, `nox -s redis_topologies`, `nox -s lowest`, `nox -s attacks`,
`nox -s benchmarks`.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.error_on_missing_interpreters = False

PROJECT = nox.project.load_toml("pyproject.toml")
SUPPORTED = ("3.11", "3.12", "3.13", "3.14", "3.15")


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def lower_bounds() -> list[str]:
    """The package's own requirements and those of its extras, each at exactly its lower bound."""
    project = PROJECT["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    requirements = [requirement for text in texts if (requirement := Requirement(text)).name != project["name"]]
    return [
        f"{requirement.name}=={specifier.version}"
        for requirement in requirements
        for specifier in requirement.specifier
        if specifier.operator == ">="
    ]


def switch_on_pyenv_versions() -> None:
    """pyenv's shims only run versions that are switched on: without this nox would find them and fail."""
    if "PYENV_VERSION" in os.environ or shutil.which("pyenv") is None:
        return
    installed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False)
    usable = [version for version in installed.stdout.split() if version.startswith(SUPPORTED)]
    if usable:
        current = ".".join(str(part) for part in sys.version_info[:3])
        os.environ["PYENV_VERSION"] = ":".join(sorted(usable, key=lambda version: version != current))


switch_on_pyenv_versions()


def works(version: str) -> bool:
    """This interpreter is there and starts."""
    name = shutil.which(f"python{version}")
    return name is not None and subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode == 0


CURRENT = f"{sys.version_info[0]}.{sys.version_info[1]}"
FOUND = [version for version in SUPPORTED if works(version)]
LOOP_TESTS = (
    "tests/harness/tests/test_harness_loops.py", "tests/processes/apps/test_ends_of_loops.py",
    "tests/contract/test_outbox*.py", "tests/scenes/loop", "tests/wire/threads", "tests/processes/loop",
)  # fmt: skip
EDGES = [version for version in FOUND if version in (FOUND[0], CURRENT, FOUND[-1])]


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict and pyright on the package."""
    session.install("-e", ".[demo]", *group("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pytest", "tests/rules/house/test_typing.py")


@nox.session(python=EDGES or None)
def tests(session: nox.Session) -> None:
    """The tests: all of them on the Python that runs nox, the quick ones on the oldest and the newest."""
    session.install("-e", ".[demo]", *group("test"))
    slow_too = session.python in (None, CURRENT) or CURRENT not in FOUND
    session.run("pytest", "-n", "2", *([] if slow_too else ["-m", "not slow"]), *session.posargs)


@nox.session(python=FOUND or None)
def everything(session: nox.Session) -> None:
    """Every test but attacks and topologies on every interpreter found."""
    session.install("-e", ".[demo]", *group("test"))
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session(python=FOUND[:1] or None)
def lowest(session: nox.Session) -> None:
    """The quick tests with exactly the lower bounds of pyproject.toml, on the oldest Python."""
    # pytest 9.2 warns of what the plugin of such an old anyio imports, and a warning is an error here.
    session.install("-e", ".[demo]", *group("test"), *lower_bounds(), "pytest<9.2")
    session.run("pytest", "-n", "2", "-m", "not slow", *session.posargs, env={"LOWEST": "1"})


@nox.session
def attacks(session: nox.Session) -> None:
    """What an attacker would try: hostile servers, files, stores, clients and surroundings."""
    session.install("-e", ".[demo]", *group("test"))
    session.run("pytest", "tests/attacks", "-m", "attacks", *session.posargs)


@nox.session
def foreign(session: nox.Session) -> None:
    """What users of other test runners and frameworks write, run by those, against the wheel as they install it."""
    folder = session.create_tmp()
    session.install(*group("foreign"))
    session.run("hatchling", "build", "--clean", "--target", "wheel", "--directory", folder)
    (wheel,) = Path(folder).resolve().glob("*.whl")
    session.install("--force-reinstall", f"userpilot-async[emulator] @ {wheel.as_uri()}")
    # Nothing but what is installed is to be found.
    session.run("python", "tests/processes/apps/foreign/run.py", *session.posargs, env={"PYTHONPATH": None})


@nox.session(python=EDGES or None)
@nox.parametrize("loop", ["uvloop", "eager"])
def loops(session: nox.Session, loop: str) -> None:
    """What depends on the loop, on uvloop and with the eager tasks of Python 3.12."""
    if loop == "eager" and (session.python or CURRENT) == "3.11":
        session.skip("Python 3.11 has no eager tasks")
    session.install("-e", ".[demo]", *group("loops"))
    chosen = session.posargs or [name for pattern in LOOP_TESTS for name in sorted(glob.glob(pattern))]
    session.run("pytest", "-n", "2", *chosen, env={"LOOP": loop})


@nox.session
def fuzz(session: nox.Session) -> None:
    """The tests of faults that draw their own examples, with ten thousand of them."""
    session.install("-e", ".[demo]", *group("test"))
    chosen = session.posargs or ["-k", "fuzz"]
    session.run("pytest", "-s", "-o", "faulthandler_timeout=3600", "tests", *chosen, env={"FUZZ": "10000"})


@nox.session
def kill_cycles(session: nox.Session) -> None:
    """The faults of a file at full length: 200 kills under load, a flipped byte at 400 offsets, a million calls."""
    session.install("-e", ".[demo]", *group("test"))
    chosen = session.posargs or ["-k", "row_38 or flipped or row_60 or import_survives"]
    at_length = {"KILL_CYCLES": "200", "FLIPS": "400", "BACKLOG": "1000000"}
    session.run("pytest", "-s", "-o", "faulthandler_timeout=1200", "tests", *chosen, env=at_length)


@nox.session
def redis_swarm(session: nox.Session) -> None:
    """Twenty producers and three senders on one redis-server, killed and stopped at random for a minute."""
    session.install("-e", ".[demo]", *group("test"))
    chosen = session.posargs or ["-k", "row_65"]
    at_length = {"REDIS_SWARM": "1"}
    session.run("pytest", "-s", "-o", "faulthandler_timeout=1200", "tests", *chosen, env=at_length)


@nox.session
def redis_topologies(session: nox.Session) -> None:
    """A cluster with replicas, Sentinels, and TLS: masters die, are replaced and moved under processes at work."""
    session.install("-e", ".[demo]", *group("test"))
    chosen = session.posargs or ["tests/soak"]
    session.run("pytest", "-s", "-o", "faulthandler_timeout=1200", "-m", "topology", *chosen)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The table of the README, beside other clients in the same run."""
    session.install("-e", ".[demo]", *group("benchmark"))
    session.run("python", "-m", "benchmarks", *session.posargs)

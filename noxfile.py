"""What is checked: `nox` runs lint, types and the tests, in about eight minutes on two idle cores.

`nox -s nightly` runs all there is at full length, on every Python found: the tests, and the sessions `attacks`, `docs`,
`foreign`, `httpx2`, `loops`, `fuzz`, `kill_cycles`, `redis_swarm`, `redis_topologies`, `lowest`, `mutants`,
`benchmarks` and `scale`.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "edge"]
nox.options.error_on_missing_interpreters = False

# Tests start hundreds of programs: each compiles everything it imports, if none may keep what it has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(".nox", "pycache").absolute())

PROJECT = nox.project.load_toml("pyproject.toml")
KNOWN_TYPES = 0.99  # of the public API, and of what it refers to
SUPPORTED = ("3.11", "3.12", "3.13", "3.14", "3.15")


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def browser() -> list[str]:
    """Requirements of the tests in a browser, if there is one: without it they would be skipped anyway."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return group("browser") if any(map(shutil.which, names)) else []


def extras_of(requirement: Requirement) -> str:
    """Its own extras, as they are written: psycopg brings no libpq without."""
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def lower_bounds() -> list[str]:
    """The package's own requirements and those of its extras, each at exactly its lower bound, and httpx as of old."""
    project = PROJECT["project"]
    extras = (extra for name, extra in project["optional-dependencies"].items() if name != "httpx2")
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    requirements = [requirement for text in texts if (requirement := Requirement(text)).name != project["name"]]
    return [
        f"{requirement.name}{extras_of(requirement)}=={specifier.version}"
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
REQUESTS = (
    "tests/wire/network", "tests/wire/threads", "tests/scenes/account", "tests/scenes/cli", "tests/scenes/client",
    "tests/scenes/network", "tests/scenes/testing",
)  # fmt: skip
LOOPS = ("uvloop", "eager")
ON_A_PUSH = ("processes", "wire", "scenes", "contract", "rules")  # `harness` is about no line of the package
AT_NIGHT = (
    "attacks", "docs", "foreign", "httpx2", "fuzz", "kill_cycles", "redis_swarm", "redis_topologies", "mutants",
    "benchmarks", "scale",
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
    """mypy --strict and pyright on the package, and mypy on the benchmarks, which nothing else runs on a push."""
    session.install("-e", ".[demo]", *group("types"))
    session.run("mypy")
    session.run("pyright")
    session.run("pytest", "tests/processes/test_typing.py")


def in_turn() -> str:
    """The oldest or the newest Python found, by turns: with each commit, or each day where there is no git."""
    edges = [version for version in EDGES if version != CURRENT] or [CURRENT]
    counted = subprocess.run(["git", "rev-list", "--count", "HEAD"], capture_output=True, text=True, check=False).stdout
    return edges[int(counted.strip() or time.time() // 86_400) % len(edges)]


def run_tests(session: nox.Session, length: str, *chosen: str, **env: str) -> None:
    """Run these tests at this length. Four workers keep two cores busy: many tests wait for other programs."""
    session.run("pytest", "-n", "4", "--dist", "worksteal", *chosen, *session.posargs, env={"LENGTH": length, **env})


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on the Python that runs nox, at a fifth of their length; those of the harness wait for the night."""
    session.log(f"rules, contract, scenes, wire, processes at a fifth of their length, Python {CURRENT}: six minutes")
    session.install("-e", ".[demo]", *group("test"), *browser())
    run_tests(session, "push", *([] if session.posargs else [f"tests/{tier}" for tier in ON_A_PUSH]))


@nox.session(python=in_turn() if FOUND else None)
def edge(session: nox.Session) -> None:
    """What decides, the contracts and the scenes of the loop, a tenth as long, on the oldest or the newest Python."""
    if session.python == CURRENT:
        session.skip("there is no other Python here")
    session.log(f"rules, contract and scenes/loop at a tenth of their length on Python {session.python}: a minute")
    session.install("-e", ".[demo]", *group("test"))
    run_tests(session, "edge", "tests/rules", "tests/contract", "tests/scenes/loop", "--ignore=tests/rules/house")


@nox.session(python=FOUND or None)
def nightly(session: nox.Session) -> None:
    """Every test at full length on every Python found, and every other session once."""
    session.log("all tiers but soak and attacks at full length: fifteen minutes on each Python; then all sessions")
    loops_on_edges = [f"loops-{version}(loop='{loop}')" for version in EDGES for loop in LOOPS]
    for name in (*AT_NIGHT, *(f"lowest-{version}" for version in FOUND[:1]), *loops_on_edges):
        session.notify(name)
    session.install("-e", ".[demo]", *group("test"), *(browser() if session.python == CURRENT else []))
    run_tests(session, "full")


@nox.session(python=FOUND[:1] or None)
def lowest(session: nox.Session) -> None:
    """What needs no other program, with exactly the lower bounds of pyproject.toml, on the oldest Python."""
    # pytest 9.2 warns of what the plugin of such an old anyio imports, and a warning is an error here.
    session.install("-e", ".[demo]", *group("test"), *lower_bounds(), "pytest<9.2")
    run_tests(session, "push", "tests/rules", "tests/contract", "tests/scenes", LOWEST="1")


@nox.session
def httpx2(session: nox.Session) -> None:
    """What makes requests or stands in for a server, with httpx2 in place of httpx, at a fifth of its length."""
    session.install("-e", ".[demo,httpx2]", *group("test"))
    run_tests(session, "push", *REQUESTS)


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
    session.install("--force-reinstall", f"userpilot-async[pytest] @ {wheel.as_uri()}")
    # Nothing but what is installed is to be found.
    session.run("python", "tests/processes/apps/foreign/run.py", *session.posargs, env={"PYTHONPATH": None})


@nox.session(python=EDGES or None)
@nox.parametrize("loop", LOOPS)
def loops(session: nox.Session, loop: str) -> None:
    """What depends on the loop, on uvloop and with the eager tasks of Python 3.12."""
    if loop == "eager" and (session.python or CURRENT) == "3.11":
        session.skip("Python 3.11 has no eager tasks")
    session.install("-e", ".[demo]", *group("loops"))
    chosen = session.posargs or [name for pattern in LOOP_TESTS for name in sorted(glob.glob(pattern))]
    session.run("pytest", "-n", "2", *chosen, env={"LOOP": loop, "LENGTH": "full"})


def run_at_length(session: nox.Session, *chosen: str) -> None:
    """Run a few tests far beyond their full length, and show what they print."""
    session.install("-e", ".[demo]", *group("test"))
    options = ("-s", "-m", "not attacks", "-o", "faulthandler_timeout=3600")
    session.run("pytest", *options, *(session.posargs or chosen), env={"LENGTH": "soak"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """The tests that draw their own faults, with ten thousand of them."""
    run_at_length(session, "tests/scenes/network", "tests/processes/redis", "-k", "fuzz")


@nox.session
def kill_cycles(session: nox.Session) -> None:
    """The faults of a file at full length: 200 kills under load, a flipped byte at 400 offsets, a million calls."""
    run_at_length(session, "tests/processes", "tests/wire", "-k", "row_38 or flipped or row_60 or import_survives")


@nox.session
def redis_swarm(session: nox.Session) -> None:
    """Twenty producers and three senders on one redis-server, killed and stopped at random for a minute."""
    run_at_length(session, "tests/processes/redis", "-k", "row_65 or row_63_when_everything")


@nox.session
def redis_topologies(session: nox.Session) -> None:
    """A cluster with replicas, Sentinels, and TLS: masters die, are replaced and moved under processes at work."""
    run_at_length(session, "tests/soak")


@nox.session
def docs(session: nox.Session) -> None:
    """The guides and the reference of the API as a site, whose links are checked; and how many types are known."""
    session.install("-e", ".[demo]", *group("docs"), *group("types"))
    session.run("python", "-m", "tests.harness.site", str(Path(".nox", "docs", "site")))
    verify = ("pyright", "--verifytypes", "userpilot_async", "--ignoreexternal", "--outputjson")
    found = session.run(*verify, silent=True, success_codes=[0, 1])
    known = json.loads(found)["typeCompleteness"]["completenessScore"] if isinstance(found, str) else 0.0
    session.log(f"types that a checker knows without guessing: {known:.1%}")
    if known < KNOWN_TYPES:
        session.error(f"fewer than {KNOWN_TYPES:.0%}: `{' '.join(verify[:-1])}` names those that are missing")


@nox.session
def mutants(session: nox.Session) -> None:
    """Faults of one line, one after the other in a copy: the push tier finds each. `nox -s mutants -- NAME …`."""
    session.install("-e", ".[demo]", *group("test"))
    session.run("python", "-m", "tests.harness.mutants", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """The table of the guide `benchmarks`, beside other clients in the same run."""
    session.install("-e", ".[demo]", *group("benchmark"))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def scale(session: nox.Session) -> None:
    """Costs by how much waits: `nox -s scale -- --quick --plots DIR`."""
    session.install("-e", ".[demo,postgres]", *group("benchmark"))
    session.run("python", "-m", "benchmarks.scale", *session.posargs)

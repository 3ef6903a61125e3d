"""Backends, clocks and the checks that every test passes through.

Async tests are collected by anyio's plugin (`pytestmark = pytest.mark.anyio`) and run on real asyncio and
real trio. `@pytest.mark.virtual` puts a test on a clock that jumps; its arguments are those of
`virtual_backend`. A test for one backend only says so with
`@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)`.
"""

from __future__ import annotations

import gc
import inspect
import os
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import pytest

from tests.contract.inline import bury_the_dead
from tests.harness import clock, length, loops
from tests.harness import postgres_server as postgres
from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import emptied
from tests.harness.redis_server import RedisServer, missing, temporary

# No test asserts a time, and others use the machine. What judges a change judges it by the same examples each time.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    max_examples=length.of(100),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
    # Who only wants to know whether a test fails does not wait for the smallest example.
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.shrink or "MUTANT" not in os.environ],
)
hypothesis.settings.load_profile("untimed")

HERE = Path(__file__).parent
# By mechanism; a test's marker is the name of its folder, so that none can be in the wrong tier. The longest come
# first: workers that are done take tests from the end of what others have.
TIERS = ("processes", "wire", "soak", "attacks", "scenes", "contract", "harness", "rules")
# Where it matters which loop runs, a push tries both; elsewhere it takes either, by the test's name.
ABOUT_LOOPS = ("scenes/loop/", "wire/threads/", "processes/loop/", "harness/", "contract/test_outbox_threads")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test with its tier, before `-m` chooses by it."""
    if item.path.is_relative_to(HERE):
        tier = item.path.relative_to(HERE).parts[0]
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.path} is in none of the folders {', '.join(TIERS)}")
        item.add_marker(tier)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    left_out = set() if length.CHOSEN in ("full", "soak") else _for_the_night(ours)
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
        ours = [item for item in ours if item not in left_out]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and len(ours) == len(items) > 1_000:
        items.sort(key=lambda item: TIERS.index(item.path.relative_to(HERE).parts[0]))
        items[:] = [item for first in range(workers) for item in items[first::workers]]  # each begins with the longest


def _for_the_night(items: list[pytest.Item]) -> set[pytest.Item]:
    """What a push leaves out, unless there would be nothing left: then somebody has asked for it by its name."""
    left_out = {item for item in items if item.get_closest_marker("night")}
    if not loops.CHOSEN:
        left_out |= _of_the_other_loop(items)
    left_out |= _beyond_the_share([item for item in items if item not in left_out])
    return left_out if len(left_out) < len(items) else set()


def _of_the_other_loop(items: list[pytest.Item]) -> set[pytest.Item]:
    """Of each test that runs on asyncio and on trio by no wish of its own: the one that a push leaves out."""
    runs: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        place = item.path.relative_to(HERE).as_posix()
        wished = any("anyio_backend" in marker.args[0] for marker in item.iter_markers("parametrize"))
        if "anyio_backend" in params and not wished and not place.startswith(ABOUT_LOOPS):
            backend = params["anyio_backend"]
            case = re.sub(rf"(?<=[\[-]){backend}(?=[\]-])", "*", item.name, count=1)
            runs[f"{place}::{case}"][backend] = item
    return {each[("asyncio", "trio")[crc32(case.encode()) % 2]] for case, each in runs.items() if len(each) == 2}


# Where each case of a table costs a process or a deadline, a push takes a fifth of them, and of scenes two. Another
# Python is asked a tenth of everything: a case that it reads differently is seldom alone in its table.
SHARES = dict.fromkeys(TIERS, 1) if length.CHOSEN == "edge" else {"processes": 1, "wire": 1, "scenes": 2}


def _beyond_the_share(items: list[pytest.Item]) -> set[pytest.Item]:
    """The cases of tables that a run of this length does not get to: a table is a length, too."""
    tables: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        tables[item.nodeid.partition("[")[0]].append(item)
    left_out: set[pytest.Item] = set()
    for cases in tables.values():
        share = SHARES.get(cases[0].path.relative_to(HERE).parts[0])
        if share is not None:
            cases.sort(key=lambda item: crc32(item.nodeid.encode()))
            left_out.update(cases[length.of(share * len(cases)) :])
    return left_out


def pytest_collection_finish() -> None:
    """Take what was collected out of the sight of the garbage collector, and with it all modules.

    With 12,000 tests in a worker a full collection takes 0.6 s, and those about what a client leaves behind make
    several.
    """
    gc.collect()
    gc.freeze()


def pytest_report_collectionfinish(items: list[pytest.Item]) -> str:
    """Show which tests are going to run."""
    counts = Counter(item.path.relative_to(HERE).parts[0] for item in items if item.path.is_relative_to(HERE))
    return f"length: {length.CHOSEN}; tests: {', '.join(f'{tier} {counts[tier]}' for tier in TIERS if counts[tier])}"


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background by a shell without job control: every program of ours would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup, likewise
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    loops.install()
    config.addinivalue_line(
        "markers", "virtual(jump_after=0.0, deadlock_after=10.0): run this async test on a clock that jumps."
    )


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The backend of this test, with a new clock if the test is marked `virtual`.

    Function scoped, unlike anyio's own, because a clock must not be shared. An async fixture of a wider
    scope therefore cannot be used; start such things in a thread or a process.
    """
    marker = request.node.get_closest_marker("virtual")
    if marker is not None:
        return clock.virtual_backend(request.param, **marker.kwargs)
    return request.param, {"loop_factory": clock.watched_loop} if request.param == "asyncio" else {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    marker = pyfuncitem.get_closest_marker("virtual")
    if marker is not None:
        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            pytest.fail(f"{pyfuncitem.name} is marked virtual but is not async: use run_virtual inside it")
        pyfuncitem.obj = clock.ending_deadlocks(
            pyfuncitem.obj, marker.kwargs.get("deadlock_after", clock.DEADLOCK_AFTER)
        )
    return (yield)


@pytest.fixture(autouse=True)
def nothing_unhandled() -> Iterator[None]:
    """Fails a test whose asyncio loop reported an unhandled exception or a lost task.

    Coroutines never awaited, and anything raised in a thread or a finaliser, fail through pytest's own
    warnings under `filterwarnings = error`.
    """
    clock.unhandled.clear()
    yield
    bury_the_dead()
    # The young generations only: what this test made is there, and a full collection costs 20 ms a test.
    gc.collect(1)
    reports, clock.unhandled[:] = clock.unhandled[:], []
    assert reports == [], "the event loop reported: " + "; ".join(reports)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file elsewhere, that nothing of ours may change."""
    victim = tmp_path / "elsewhere" / "victim"
    victim.parent.mkdir()
    victim.write_text("precious")
    victim.chmod(0o644)
    return victim


@pytest.fixture
def swept() -> Iterator[None]:
    """Collects what this test left behind before the next one begins, so that its warnings are not the next one's."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def worker_emulator() -> Iterator[str]:
    """The base URL of an emulator in a thread, one for all tests of this worker: see `emulator_url`."""
    with emulator_thread("--speed", "20") as url:
        yield url


@pytest.fixture
def emulator_url(worker_emulator: str) -> str:
    """The base URL of the worker's emulator, empty again. Who kills one, or starts it with options, starts its own."""
    return emptied(worker_emulator)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server for all tests of this worker, that none may kill, stop or configure: see `own_redis`."""
    if reason := missing():
        pytest.skip(reason)
    with temporary() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of the worker's server, empty of data. Scripts that it knows, it may know from another test."""
    redis_server.flushall()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[Callable[..., Any]]:
    """Starts servers for this test alone: `own_redis(durable=True)`, `own_redis(Replica, master=server)`.

    Typed as Any, for a server of the class asked for, or a plain one.
    """
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda *kind, **options: stack.enter_context(temporary(*kind, **options))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    """A server for all tests of this worker, that none may kill, stop or configure: see `own_postgres`."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.temporary() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.PostgresServer) -> str:
    """The URL of an outbox of a new name, whose tables are made, on the worker's server."""
    return postgres_server.new_outbox()


@pytest.fixture
def own_postgres() -> Iterator[Callable[..., Any]]:
    """Starts servers for this test alone: `own_postgres(durable=True)`, `own_postgres(Replica, primary=server)`.

    Typed as Any, for a server of the class asked for, or a plain one.
    """
    if reason := postgres.missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda *kind, **options: stack.enter_context(postgres.temporary(*kind, **options))

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
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.contract.inline import bury_the_dead
from tests.harness import clock, loops
from tests.harness.processes import emulator_process
from tests.harness.redis_server import RedisServer, missing, temporary

# No test asserts a time, and others use the machine. What judges a change judges it by the same examples each time.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("untimed")

HERE = Path(__file__).parent
# By mechanism; a test's marker is the name of its folder, so that none can be in the wrong tier.
TIERS = ("rules", "contract", "scenes", "wire", "processes", "soak", "harness", "attacks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        tier = item.path.relative_to(HERE).parts[0]
        if tier not in TIERS:
            raise pytest.UsageError(f"{item.path} is in none of the folders {', '.join(TIERS)}")
        item.add_marker(tier)
        if tier in ("scenes", "wire", "processes", "harness"):
            # Real time on a machine that others use, or the client's own jitter. A rerun is counted in the summary.
            item.add_marker(pytest.mark.flaky(reruns=1))


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


@pytest.fixture
def emulator_url() -> Iterator[str]:
    """The base URL of an emulator in a process of its own, new for this test."""
    with emulator_process() as url:
        yield url


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for all tests of this worker, that none may kill, stop or configure: see `own_redis`."""
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

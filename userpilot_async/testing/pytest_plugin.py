"""The fixtures `userpilot` and `userpilot_session`; and no client reaches a real server from a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .._runtime import stand_in
from ._capture import Capture, capture
from ._text import losses

OPTION = "--userpilot-allow-network"
REMEDY = (
    "take the fixture `userpilot` (of a wider scope: `userpilot_session`), or open the client within"
    " `userpilot_async.testing.capture()`, so that an emulator answers; or give it a base_url on this machine, or a"
    f" transport; or run pytest with {OPTION}"
)
_before = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which tests may reach real servers."""
    group = parser.getgroup("userpilot", "userpilot_async")
    group.addoption(OPTION, action="store_true", help="let userpilot_async's clients reach real servers from tests")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Guard the clients from here on: a conftest may import the application, and that make a client."""
    _guard(early_config, early_config.known_args_namespace.userpilot_allow_network)


def pytest_configure(config: pytest.Config) -> None:
    """Guard the clients at the latest now, where a conftest names this plugin."""
    _guard(config, bool(config.getoption(OPTION)))


def _guard(config: pytest.Config, allows: bool) -> None:
    """Forbid the network to clients, unless it is allowed; and leave all as it was: pytest may run within pytest."""
    if _before not in config.stash:
        before = config.stash[_before] = stand_in.forbidden()
        config.add_cleanup(lambda: stand_in.forbid_network(before))
    stand_in.forbid_network("" if allows else REMEDY)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the fixtures of this plugin up before others of their scope, in whatever order a test names them.

    A client that is opened by the fixture before `userpilot` would not be seen.
    """
    for item in items:
        names: list[str] = getattr(item, "fixturenames", [])
        for name in ("userpilot", "userpilot_session"):
            if name in names and _scope_of(item, name, ours=True) is not None:
                names.remove(name)
                names.insert(_place(item, name, names), name)


def _place(item: pytest.Item, name: str, names: list[str]) -> int:
    """Give the place of the first fixture that is of no wider scope than this one."""
    wider = [] if name == "userpilot_session" else ["session", "package", "module", "class"]
    return next((place for place, other in enumerate(names) if _scope_of(item, other) not in wider), len(names))


def _scope_of(item: pytest.Item, name: str, *, ours: bool = False) -> str | None:
    """Give the scope of a fixture; ``None`` for what is none, as a parameter, or not ``ours`` where that is asked."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.get(name) if info is not None else None
    if not definitions or (ours and definitions[-1].func.__module__ != __name__):
        return None
    scope: str = definitions[-1].scope
    return scope


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Leave an invalid call whose error a test has raised to the report of the test: the fixture repeats none."""
    yield  # other plugins put the errors of their tests into the call: unittest's
    capture_now = stand_in.current()
    if call.excinfo is not None and isinstance(capture_now, Capture):
        capture_now._shown(call.excinfo.value)


@pytest.fixture(scope="session")
def userpilot_session() -> Iterator[Capture]:
    """A `Capture` for the whole session, for clients that are opened by fixtures of a wider scope than a test's."""
    with capture() as made:
        yield made


@pytest.fixture
def userpilot() -> Iterator[Capture]:
    """A `Capture`: every client that opens talks to an emulator, and a lost call fails the test.

    Where `userpilot_session` is in use it is that one, empty again, with its clients.
    """
    __tracebackhide__ = True
    around = stand_in.current()
    if not isinstance(around, Capture):
        with capture() as made:
            yield made
        return
    before = around.lost()  # by tests that did not ask for this
    around.begin_anew()
    assert not before, f"before this test {losses(before)}"
    yield around
    around._flush_what_can_be()
    try:
        around.check()
    finally:
        around.begin_anew()

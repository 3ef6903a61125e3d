"""Every implementation of the outbox, and one call of every kind that either destination puts there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, bury_the_dead, open_now
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from userpilot_async import MemoryOutbox
from userpilot_async._outbox.protocol import Outbox


def _in_file(path: Path, max_bytes: int) -> InlineOutbox:
    return InlineOutbox(path, durability="process", max_bytes=max_bytes)


def _from_file(path: Path, max_bytes: int) -> InlineOutbox:
    outbox = _in_file(path, max_bytes)
    outbox.passes_on = False
    return outbox


def _in_redis(url: object, max_bytes: int) -> InlineRedisOutbox:
    return InlineRedisOutbox(str(url), max_bytes=max_bytes)


def _from_redis(url: object, max_bytes: int) -> InlineRedisOutbox:
    outbox = _in_redis(url, max_bytes)
    outbox.passes_on = False
    return outbox


def _in_postgres(url: object, max_bytes: int) -> InlinePostgresOutbox:
    return InlinePostgresOutbox(str(url), max_bytes=max_bytes)


def _from_postgres(url: object, max_bytes: int) -> InlinePostgresOutbox:
    outbox = _in_postgres(url, max_bytes)
    outbox.passes_on = False
    return outbox


@attrs.frozen
class Implementation:
    """How to make one, and where it differs from the others on purpose."""

    made: Callable[[Any, int], Outbox]
    """Of a path where nothing is, and a limit of bytes; not open yet."""
    server: str = attrs.field(default="", kw_only=True)
    """Not of a path, but of the URL of a server of this kind, with a name where nothing is."""
    counts_calls: bool
    """The place has a limit of calls, too. A file has none: its calls cost no memory."""
    merging_frees: bool
    """A merged call makes room as soon as it is merged. In a file it stays until the row that took it in is settled:
    a crash would leave nothing else of it.
    """
    keeps_time: bool
    """A call is taken with exactly the time at which it was put; from a file it is the calendar's, turned back."""


IMPLEMENTATIONS = {
    "memory": Implementation(
        lambda path, max_bytes: MemoryOutbox(), counts_calls=True, merging_frees=True, keeps_time=True
    ),
    "sqlite": Implementation(_in_file, counts_calls=False, merging_frees=False, keeps_time=True),
    "sqlite, read back": Implementation(_from_file, counts_calls=False, merging_frees=False, keeps_time=False),
    "redis": Implementation(_in_redis, counts_calls=False, merging_frees=False, keeps_time=True, server="redis"),
    "redis, read back": Implementation(
        _from_redis, counts_calls=False, merging_frees=False, keeps_time=False, server="redis"
    ),
    "postgres": Implementation(
        _in_postgres, counts_calls=False, merging_frees=False, keeps_time=True, server="postgres"
    ),
    "postgres, read back": Implementation(
        _from_postgres, counts_calls=False, merging_frees=False, keeps_time=False, server="postgres"
    ),
}


def those(**what: bool | str) -> pytest.MarkDecorator:
    """A claim for those implementations only of which this is so."""
    names = [
        name for name, one in IMPLEMENTATIONS.items() if all(getattr(one, each) == so for each, so in what.items())
    ]
    return pytest.mark.parametrize("new_outbox", names, indirect=True)


class NewOutbox:
    """Makes new, empty outboxes of one implementation, open or not, and closes them in the end."""

    def __init__(self, implementation: Implementation, folder: Path, new_url: Callable[[str], str] | None) -> None:
        self.is_like = implementation
        self._folder = folder
        self._new_url = new_url
        self._numbers = count()
        self._made: list[Outbox] = []

    def unopened(self, max_bytes: int = 10**12) -> Outbox:
        """A new outbox, not open yet."""
        name = f"outbox-{next(self._numbers)}"
        place = self._folder / name / "events.db" if self._new_url is None else self._new_url(name)
        outbox = self.is_like.made(place, max_bytes)
        self._made.append(outbox)
        return outbox

    def __call__(self, max_calls: int = 10**9, max_bytes: int = 10**12) -> Outbox:
        """A new one, with room for so much."""
        outbox = self.unopened(max_bytes)
        open_now(outbox, Client().opening(max_calls, max_bytes))
        return outbox

    def clean_up(self) -> None:
        """Each has megabytes of ballast beside it, and a test may make hundreds."""
        for outbox in self._made:
            at_once(outbox.aclose())
        self._made.clear()
        for folder in self._folder.glob("outbox-*"):
            shutil.rmtree(folder)


@pytest.fixture(params=IMPLEMENTATIONS)
def new_outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewOutbox]:
    """Make outboxes of one implementation: a test runs once for each."""
    implementation = IMPLEMENTATIONS[request.param]
    new_url: Callable[[str], str] | None = None
    if implementation.server == "redis":
        url = request.getfixturevalue("redis_url")
        new_url = lambda name: f"{url}?name={name}"  # noqa: E731
    elif implementation.server == "postgres":
        server = request.getfixturevalue("postgres_server")
        new_url = lambda name: server.new_outbox()  # noqa: E731
    made = NewOutbox(implementation, tmp_path, new_url)
    yield made
    made.clean_up()


@pytest.fixture
def outbox(new_outbox: NewOutbox) -> Outbox:
    """Open, with room for all that a test may put."""
    return new_outbox()


# ── the same outbox, for one process after the other ──

Process = InlineOutbox | InlineRedisOutbox | InlinePostgresOutbox
NewProcess = Callable[..., Process]


@pytest.fixture
def new_client() -> Callable[[], Client]:
    """Makes the client of each process, where a test names none: a module may have one of its own."""
    return Client


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def process(request: pytest.FixtureRequest, tmp_path: Path, new_client: Callable[[], Client]) -> Iterator[NewProcess]:
    """Opens the same file, or the same outbox on a server, with each call, as another process would.

    With ``reads``, all that is taken was read from there; otherwise calls may be passed on.
    """
    made: list[Process] = []
    url = request.getfixturevalue(f"{request.param}_url") if request.param != "sqlite" else ""

    def process(client: Client | None = None, *, reads: bool | None = None, **options: Any) -> Process:
        if request.param == "postgres":
            outbox: Process = InlinePostgresOutbox(url, **options)
        elif request.param == "redis":
            outbox = InlineRedisOutbox(url, **options)
        else:
            outbox = InlineOutbox(tmp_path / "host" / "events.db", durability="process", **options)
        if reads is not None:
            outbox.passes_on = not reads
        made.append(outbox)
        open_now(outbox, (client or new_client()).opening())
        return outbox

    yield process
    for outbox in made:
        at_once(outbox.aclose())
    bury_the_dead()

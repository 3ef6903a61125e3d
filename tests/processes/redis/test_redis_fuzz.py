"""Row 81: Redis answers what no Redis answers, redis-py raises what it never raises, at random instants.

``FUZZ`` is the number of instants, for each of the two. They are new in each run; a failure says which ``FUZZ_SEED``
brings them back.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from tests.harness import judge, length
from tests.harness.redis_garbler import RedisGarbler
from tests.harness.redis_server import RedisServer
from tests.harness.stage.loops import KEY, InProcess, wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at
from tests.harness.stage.redis_scenes import Books, Log, with_redis
from userpilot_async import OutboxError, Settings, UserpilotClient
from userpilot_async.emulator import Emulator

redis = pytest.importorskip("redis")

from userpilot_async.redis import RedisOutbox  # noqa: E402  # only where redis-py is

pytestmark = pytest.mark.anyio

INSTANTS = length.of(24, least=16, soak=10_000)
AT_ONCE = 8  # instants in the life of one client
BACKENDS = [("asyncio", "trio")[life % 2] for life in range(INSTANTS // AT_ONCE)]
# Real seconds: short, for most instants end with one of these.
QUICK: dict[str, Any] = {"timeout": 0.2, "lease_ttl": 1.0, "max_wait": None}
WITHIN = 30.0


def for_some_lives(test: Any) -> Any:
    """Each on one of the backends, by turns."""
    each = [pytest.param(backend, life, id=f"{backend}-{life}") for life, backend in enumerate(BACKENDS)]
    return pytest.mark.parametrize(("anyio_backend", "life"), each, indirect=["anyio_backend"])(test)


@pytest.fixture
def chance() -> random.Random:
    """Chance with a seed, which is printed where a test fails."""
    seed = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FUZZ_SEED={seed}")
    return random.Random(seed)


@attrs.define
class App:
    """An application that tracks events, and must not notice anything but `OutboxError`."""

    userpilot: UserpilotClient
    held: set[str] = attrs.field(factory=set)
    """Marks of calls that were said to be held."""
    failed: set[str] = attrs.field(factory=set)
    count: int = 0

    async def track(self, user: int) -> None:
        mark = f"u{user}.{self.count}"
        self.count += 1
        try:
            await self.userpilot.track(f"u{user}", "clicked", {"mark": mark})
        except OutboxError:
            self.failed.add(mark)
        else:
            self.held.add(mark)

    async def make_calls(self, users: int) -> None:
        async with anyio.create_task_group() as tasks:
            for user in range(users):
                tasks.start_soon(self.track, user)


def judged(app: App, emulator: Emulator, server: RedisServer) -> None:
    """I1, I2: nothing that was held is lost, nothing comes from nowhere, and the account is balanced."""
    account = Books(server).balanced()
    marks = marks_at(emulator)
    judge.nothing_lost(app.held, marks)
    assert set(marks) <= app.held | app.failed
    judge.duplicates(marks, account["ambiguous"])


async def lived_through(
    disturbances: Iterator[Callable[[], object]], app: App, emulator: Emulator, chance: random.Random
) -> None:
    """Each disturbance in its turn, while calls are made; when it is over, a fresh call is delivered."""
    for disturb in disturbances:
        over = disturb()
        await app.make_calls(chance.randrange(1, 5))
        await wait_until(over, WITHIN)  # type: ignore[arg-type]  # what it gives is asked for
        await app.make_calls(1)
        report = await app.userpilot.flush(WITHIN)
        assert report.complete, report
        judge.conservation(report.statistics)


@asynccontextmanager
async def own_task_unharmed() -> AsyncIterator[None]:
    """The task that has the client open is never cancelled: all that is raised in it fails the test."""
    with anyio.CancelScope() as scope:
        yield
    assert not scope.cancelled_caught


@for_some_lives
async def test_row_81_whatever_redis_answers_is_that_steps_failure(
    redis_server: RedisServer, chance: random.Random, life: int
) -> None:
    redis_server.flushall()
    emulator = an_emulator()
    with RedisGarbler(redis_server.port, chance) as garbler, Log() as log:

        def disturbances() -> Iterator[Callable[[], Callable[[], bool]]]:
            for _ in range(AT_ONCE):
                answers, likely = chance.randrange(1, 5), chance.choice([1.0, 0.5, 0.2])

                def disturb(answers: int = answers, likely: float = likely) -> Callable[[], bool]:
                    garbler.garble(answers, likely)
                    return lambda: garbler.is_done

                yield disturb

        async with own_task_unharmed(), with_redis(garbler.url, emulator, **QUICK) as userpilot:
            app = App(userpilot)
            await lived_through(disturbances(), app, emulator, chance)

    assert garbler.said, "nothing was garbled"
    assert [] == log.said("Traceback"), garbler.said
    judged(app, emulator, redis_server)


@for_some_lives
async def test_row_81_whatever_redis_answers_at_the_opening_it_opens_or_is_refused(
    redis_server: RedisServer, chance: random.Random, life: int
) -> None:
    redis_server.flushall()
    emulator = an_emulator()
    held: set[str] = set()
    with RedisGarbler(redis_server.port, chance) as garbler, Log() as log:
        for n in range(AT_ONCE // 2):
            garbler.garble(chance.randrange(1, 12), chance.choice([1.0, 0.5]))
            try:
                async with own_task_unharmed(), with_redis(garbler.url, emulator, **QUICK) as userpilot:
                    app = App(userpilot, count=n * 1_000)
                    await app.make_calls(2)
                    held |= app.held
            except OutboxError as error:
                assert "secret" not in str(error)
        garbler.garble(0)
        async with with_redis(redis_server.url, emulator, **QUICK) as userpilot:
            await App(userpilot, count=999_999).make_calls(1)
            assert (await userpilot.flush(WITHIN)).complete

    assert [] == log.said("Traceback"), garbler.said
    Books(redis_server).balanced()
    judge.nothing_lost(held, marks_at(emulator))


# ── redis-py raises ──


def _raised(chance: random.Random) -> Exception:
    errors = redis.exceptions
    return chance.choice(
        [
            ValueError("could not convert"), IndexError("list index out of range"), TypeError("not subscriptable"),
            AttributeError("no attribute"), KeyError("redis_version"), RuntimeError("dictionary changed"),
            RecursionError("maximum recursion depth exceeded"), MemoryError(), AssertionError(), StopIteration(),
            ZeroDivisionError(), NotImplementedError(), LookupError(), EOFError(), struct.error("unpack"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), OSError(5, "Input/output error"),
            OSError(), ExceptionGroup("several", [ValueError()]), Exception(), errors.InvalidResponse("Protocol Error"),
            errors.ConnectionError("gone"), errors.TimeoutError("slow"), errors.BusyLoadingError("loading"),
            errors.ResponseError("ERR odd"), errors.ResponseError(""), errors.DataError("odd"), errors.RedisError(),
            errors.ReadOnlyError("read only"), errors.NoScriptError("no script"), errors.WatchError("watched"),
            errors.AuthenticationError("no"), errors.OutOfMemoryError("OOM"), errors.RedisClusterException("odd"),
        ]
    )  # fmt: skip


class Moody:
    """Anything of redis-py's, whose methods raise at random: before they have done it, or afterwards."""

    def __init__(self, real: Any, mood: Mood) -> None:
        self._real = real
        self._mood = mood

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        return self._mood.wrapped(found) if callable(found) else found


@attrs.define
class Mood:
    """How many calls of methods are to raise, and how likely each is to."""

    chance: random.Random
    left: int = 0
    likely: float = 1.0
    raised: list[str] = attrs.field(factory=list)

    def wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            bad = self.left > 0 and self.chance.random() < self.likely
            early = self.chance.random() < 0.5
            if bad:
                self.left -= 1
                error = _raised(self.chance)
                self.raised.append(f"{method.__name__}: {error!r}")
            if bad and early:
                raise error
            done = method(*arguments, **more)
            if bad:
                raise error
            return done

        return call


@attrs.frozen
class MoodyAddress:
    """An address whose connections are moody."""

    real: Any
    mood: Mood

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def connection(self, *arguments: Any, **more: Any) -> Any:
        return self.mood.wrapped(lambda: Moody(self.real.connection(*arguments, **more), self.mood))()


@for_some_lives
async def test_row_81_whatever_redis_py_raises_is_that_steps_failure(
    redis_url: str, redis_server: RedisServer, chance: random.Random, life: int
) -> None:
    emulator = an_emulator()
    mood = Mood(chance)
    outbox = RedisOutbox(redis_url, timeout=QUICK["timeout"], lease_ttl=QUICK["lease_ttl"])
    outbox._address = MoodyAddress(outbox._address, mood)  # type: ignore[assignment]  # it looks like one
    settings = Settings(track_per_minute=600_000, burst=1_000, flush_interval=0.01, max_wait=None)

    def disturbances() -> Iterator[Callable[[], Callable[[], bool]]]:
        for _ in range(AT_ONCE):
            mood.likely = chance.choice([1.0, 0.5, 0.2])
            count = chance.randrange(1, 8)

            def disturb(count: int = count) -> Callable[[], bool]:
                mood.left = count
                return lambda: not mood.left

            yield disturb

    with Log() as log:
        client = UserpilotClient(KEY, transport=InProcess(emulator), outbox=outbox, settings=settings)
        async with own_task_unharmed(), client as userpilot:
            app = App(userpilot)
            await lived_through(disturbances(), app, emulator, chance)

    assert mood.raised, "nothing was raised"
    assert [] == log.said("Traceback"), mood.raised
    judged(app, emulator, redis_server)

"""Clients with an outbox in Redis in the test's own process, and looks into that Redis."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import attrs
import pytest

from tests.harness import judge
from tests.harness.redis_server import RedisServer
from tests.harness.stage import calls as _calls
from tests.harness.stage.loops import KEY, InProcess
from tests.harness.stage.outbox_files import LIMIT, an_emulator
from userpilot_async import Settings, UserpilotClient
from userpilot_async.emulator import Emulator
from userpilot_async.redis import RedisOutbox

ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
ON_TRIO = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)

OF_THE_OUTBOX = (
    "name", "sender", "max_calls", "max_bytes", "lease_ttl", "timeout", "replicas", "fallback", "keep_lost", "rebind",
)  # fmt: skip
NAME = "userpilot_async"  # of an outbox that is given none
LOST = ("dead:", "dropped:")


class Log(_calls.Log):
    """The same, of threads, too, where no loop has a clock."""

    def __init__(self) -> None:
        super().__init__()
        self._now = time.monotonic


@asynccontextmanager
async def with_redis(
    url: str, emulator: Emulator | None = None, *, key: str = KEY, on_dead: Any = None, **more: Any
) -> AsyncIterator[UserpilotClient]:
    """A client, open. Without an emulator it only puts. ``more`` are settings, or options of the outbox."""
    options = {name: more.pop(name) for name in OF_THE_OUTBOX if name in more}
    settings = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "burst": 1_000, "flush_interval": 0.01, **more}
    client = UserpilotClient(
        key,
        transport=InProcess(emulator or an_emulator()),
        outbox=RedisOutbox(url, **{"sender": emulator is not None, **options}),
        on_dead=on_dead,
        settings=Settings(**settings),
    )
    async with client:
        yield client


@attrs.frozen
class Books:
    """What a Redis has of an outbox, asked by a program that changes nothing."""

    server: RedisServer
    name: str = NAME

    def key(self, of: str) -> str:
        return f"{{{self.name}}}:{of}"

    def account(self) -> Counter[str]:
        """The account, field by field."""
        with self.server.client(decode_responses=True) as redis:
            return Counter({name: int(count) for name, count in redis.hgetall(self.key("account")).items()})

    def balanced(self) -> Counter[str]:
        """I1: every call that was accepted is in the log, or has an outcome. The account."""
        with self.server.client(decode_responses=True) as redis:
            waiting = redis.xlen(self.key("log"))
        account = self.account()
        ended = {name: n for name, n in account.items() if name in ("delivered", "merged") or name.startswith(LOST)}
        assert account["accepted"] == sum(ended.values()) + waiting, (dict(account), waiting)
        assert min(account.values(), default=0) >= 0, dict(account)
        if not waiting:
            assert 0 == account["bytes"], dict(account)
        return account

    def held(self) -> list[Any]:
        """The marks of the tracks that wait, in order."""
        with self.server.client() as redis:
            entries = redis.xrange(self.key("log"))
        calls = [fields[b"c"].split(b"\n", 4) for _, fields in entries]
        return [json.loads(said)["metadata"]["mark"] for kind, _, _, _, said in calls if kind == b"track"]

    def lease(self) -> str:
        """The sender's lease; nothing if no process sends."""
        with self.server.client(decode_responses=True) as redis:
            return redis.get(self.key("lease")) or ""

    def holder(self) -> int | None:
        """The process that has it."""
        lease = self.lease()
        return int(json.loads(lease.split(" ", 2)[2])["pid"]) if lease else None

    def fence(self) -> int:
        """How many leases there were."""
        with self.server.client(decode_responses=True) as redis:
            return int(redis.hget(self.key("about"), "fence") or 0)

    def everything(self) -> dict[str, str]:
        """Each key, and all that is in it, as text."""
        found = {}
        with self.server.client() as redis:
            for key in redis.scan_iter(count=1_000):
                kind = redis.type(key)
                read = {
                    b"string": redis.get,
                    b"hash": redis.hgetall,
                    b"stream": redis.xrange,
                    b"set": redis.smembers,
                    b"zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
                    b"list": lambda key: redis.lrange(key, 0, -1),
                }[kind]
                found[f"Redis' {key.decode()}"] = repr(key) + repr(read(key))
        return found


@contextmanager
def again_and_again(do: Callable[[], object], every: float = 0.01) -> Iterator[None]:
    """Do this in a thread while the block runs."""
    over = threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not over.wait(every):
                do()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop, name="again and again", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
    assert not errors, errors


async def took(asking: Awaitable[Any], *, at_most: float = 30.0) -> float:
    """How long that took; it is broken off after ``at_most`` seconds."""
    begun = time.monotonic()
    with anyio.move_on_after(at_most):
        await asking
    return time.monotonic() - begun


def twice(marks: list[Any]) -> int:
    """How many of these are there once too often."""
    return len(marks) - len(set(marks))


def marks_judged(emulator: Emulator, accepted: set[Any], ambiguous: int) -> int:
    """I1, I2, by mark: the server has each of these, no other, and few twice. How many are there twice."""
    marks = [event.metadata["mark"] for event in emulator.store.events]
    judge.nothing_lost(accepted, marks)
    assert set(marks) <= accepted, f"nobody was told that these are held: {sorted(set(marks) - accepted, key=str)[:5]}"
    return judge.duplicates(marks, ambiguous)


def in_order(emulator: Emulator) -> int:
    """I4, where each mark ends with a number that counts up for its user."""
    events = emulator.store.events
    return judge.per_user_order((one.user_id, int(str(one.metadata["mark"]).rpartition(".")[2])) for one in events)

"""A Redis into which somebody else writes: foreign types and values under our names, and names that are commands."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.attacks._ground import MEGABYTE, little_memory
from tests.harness.stage.outbox_files import an_emulator, put
from tests.harness.stage.redis_scenes import NAME, with_redis
from tests.harness.stage.scenes import asyncio_only
from userpilot_async import ConfigurationError, OutboxError

pytest.importorskip("redis")
pytestmark = [pytest.mark.anyio, asyncio_only]

VALUES: dict[str, tuple[Any, ...]] = {
    "a text": ("SET", "evil"),
    "a hash": ("HSET", "evil", "1"),
    "a list": ("RPUSH", "evil"),
    "a set": ("SADD", "evil"),
    "a sorted set": ("ZADD", "1", "evil"),
    "a stream": ("XADD", "18446744073709551615-18446744073709551614", "evil", "1"),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_foreign_value_under_each_of_our_names_is_an_error_and_no_bug(
    value: tuple[Any, ...], redis_server: Any, redis_url: str
) -> None:
    """A program that may write there may make calls wait, and lose them; the application goes on, and hears of it."""
    async with with_redis(redis_url) as userpilot:
        await put(userpilot, range(5))
    with redis_server.client(decode_responses=True) as redis:
        ours = sorted(redis.keys(f"{{{NAME}}}:*"))
    assert len(ours) >= 3
    for key in ours:
        with redis_server.client() as redis:
            before = redis.dump(key)
            redis.delete(key)
            redis.execute_command(value[0], key, *value[1:])
        with anyio.fail_after(30):
            try:
                async with with_redis(redis_url, an_emulator(), close_timeout=0.5, max_wait=0.5) as userpilot:
                    await put(userpilot, ["fresh"])
                    await userpilot.flush(0.5)
            except OutboxError as error:
                assert str(error).isprintable()
        with redis_server.client() as redis:
            redis.delete(key)
            redis.restore(key, 0, before)


NAMES = [
    "'] redis.call('FLUSHALL') --[[", '" .. redis.call("FLUSHALL") .. "', "]]FLUSHALL[[", "a}:log{b", "*", "?[a-z]",
    "\\", "a b", "x:account", "\u202ename", "{}", "a" * 255,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_name_that_is_a_command_or_a_pattern_is_a_name_or_refused(
    name: str, redis_server: Any, redis_url: str
) -> None:
    with redis_server.client() as redis:
        redis.set("somebody", "else's")
        redis.set("{other}:log", "else's")
    try:
        async with with_redis(redis_url, an_emulator(), name=name) as userpilot:
            (receipt,) = await put(userpilot, ["fresh"])
            assert (await userpilot.flush(10)).complete
            assert "delivered" == receipt.status
    except (ConfigurationError, OutboxError) as error:
        assert str(error).isprintable()

    with redis_server.client() as redis:
        assert (b"else's", b"else's") == (redis.get("somebody"), redis.get("{other}:log"))


HEAPS: dict[str, list[tuple[str, str]]] = {
    "an entry of 60 MB": [("c", "x" * 60 * MEGABYTE)],
    "an entry of 20,000 fields": [(f"f{n}", "x") for n in range(20_000)],
    "an entry without a call": [("nothing", "x")],
}


@pytest.mark.parametrize("heap", HEAPS.values(), ids=HEAPS)
async def test_entries_that_are_no_calls_are_set_aside_and_the_others_delivered(
    heap: list[tuple[str, str]], redis_server: Any, redis_url: str
) -> None:
    async with with_redis(redis_url) as userpilot:
        await put(userpilot, range(5))
    with redis_server.client() as redis:
        redis.xadd(f"{{{NAME}}}:log", dict(heap), id="7-1")
    emulator = an_emulator()
    with little_memory(400 * MEGABYTE):
        async with with_redis(redis_url, emulator, close_timeout=5.0) as userpilot:
            await put(userpilot, ["fresh"])
            with anyio.move_on_after(15):
                while 6 > len(emulator.store.events):
                    await anyio.sleep(0.05)

    assert {*range(5), "fresh"} == {event.metadata["mark"] for event in emulator.store.events}


async def test_a_script_that_somebody_put_under_our_digest_does_not_run(redis_server: Any, redis_url: str) -> None:
    """A digest is made by Redis from the text; ours are loaded anew wherever they are not known."""
    with redis_server.client() as redis:
        redis.script_flush()
        redis.script_load("return redis.call('FLUSHALL')")
        redis.set("somebody", "else's")
    emulator = an_emulator()
    async with with_redis(redis_url, emulator) as userpilot:
        await put(userpilot, range(3))
        assert (await userpilot.flush(10)).complete

    with redis_server.client() as redis:
        assert b"else's" == redis.get("somebody")
    assert 3 == len(emulator.store.events)

"""The Redis user of the guide `machines`: may do what an outbox needs, in each form, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.contract.inline import Client, at_once, open_now
from tests.contract.inline_redis import InlineRedisOutbox
from tests.harness.documents import redis_user
from tests.harness.redis_server import ClusterNode, RedisServer
from userpilot_async import OutboxError
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.owner import Claim
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.redis import RedisOutbox

redis = pytest.importorskip("redis")

LINES = [redis_user()]
FORMS: dict[str, tuple[type[RedisServer], dict[str, Any], str]] = {
    "one server": (RedisServer, {}, "redis://"),
    "TLS": (RedisServer, {"tls": True}, "rediss://"),
    "a cluster": (ClusterNode, {}, "redis+cluster://"),
}
DANGEROUS = [
    "CLIENT KILL TYPE normal", "CLIENT PAUSE 1000", "CLIENT LIST", "CLIENT NO-EVICT on", "CONFIG GET *",
    "CONFIG SET maxmemory 1", "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "ACL LIST",
    "SHUTDOWN NOSAVE", "SAVE", "BGREWRITEAOF", "REPLICAOF NO ONE", "MONITOR", "MODULE LIST",
    "SCRIPT FLUSH", "SCRIPT KILL", "EVAL return(1) 0", "FUNCTION LIST", "SLOWLOG GET", "LATENCY RESET", "SWAPDB 0 1",
    "MIGRATE h 1 k 0 1", "CLUSTER RESET", "CLUSTER FORGET x", "PUBLISH {shop}:x y", "SUBSCRIBE c",
    "SORT {shop}:log BY x GET other*",
    "DUMP {shop}:log", "RENAME {shop}:log {shop}:x", "COMMAND", "GET other", "SET other 1", "HGETALL {shop}other",
    "XRANGE {other}:log - +", "DEL {other}:log", "MULTI", "WATCH {shop}:log", "RESTORE {shop}:x 0 y", "PSYNC ? -1",
]  # fmt: skip


def lives(url: str) -> None:
    """Calls are put, sent and settled; and what a person may see and mend from outside, is seen and mended."""
    outbox = InlineRedisOutbox(url)
    client = Client()
    open_now(outbox, client.opening())
    ids = [outbox.put("track", f"u{n}", b"{}", 2, 0.0, DedupeKey.of(f"evt_{n}", 60.0)).id for n in range(4)]
    assert outbox.put("track", "u1", b"{}", 2, 0.0, DedupeKey.of("evt_1", 60.0)).is_duplicate
    outbox.take(4)
    assert at_once(
        outbox.send_log.sending(RequestNote("track", ids, filename="file-1", kind="user", last_calls=ids[:1]))
    )
    outbox.settle(Settlement(ids[:1], (), DELIVERED, 2, None))
    outbox.settle(Settlement(ids[1:], (), Outcome("dead", "expired"), 6, b"{}"))
    outbox.poll()
    assert (1, 3) == (outbox.ledger.delivered, outbox.ledger.losses()["expired"])
    at_once(outbox.aclose())

    seen = RedisOutbox(url)
    assert 3 == seen.admin().inspect().lost == len(seen.admin().dead_letters().kept)
    assert 3 == seen.admin().retry().calls
    assert 1 == seen.admin().purge(Subject("user", "u1")).waiting
    opening = client.opening()
    assert 2 == seen.admin().rebind(Claim(opening.destination, opening.fingerprint)).waiting


def test_there_is_one_line_to_copy() -> None:
    assert 1 == len(LINES)


@pytest.mark.parametrize("form", FORMS)
def test_the_user_of_the_readme_may_do_what_is_needed(
    form: str, own_redis: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    kind, options, scheme = FORMS[form]
    server = own_redis(kind, users=LINES, **options)
    asked = {"name": "shop"} | ({"ssl_ca_certs": str(server.ca_file)} if server.tls else {})

    lives(f"{scheme}pods:PASSWORD@127.0.0.1:{server.port}?{urlencode(asked)}")

    assert [] == caplog.messages


def test_the_user_of_the_readme_can_do_nothing_else(own_redis: Callable[..., Any]) -> None:
    server = own_redis(users=LINES)
    refused = []
    with redis.Redis.from_url(server.url_of(user="pods", password="PASSWORD")) as pods:
        for command in DANGEROUS:
            with pytest.raises(redis.exceptions.ResponseError) as answer:
                pods.execute_command(*command.split())
            is_unknown = str(answer.value).startswith("unknown command")  # to an older server
            refused += [command] if is_unknown or isinstance(answer.value, redis.exceptions.NoPermissionError) else []

    assert DANGEROUS == refused


@pytest.mark.parametrize(
    ("form", "kind"),
    [("redis://{}", RedisServer), ("redis+cluster://{}", ClusterNode)],
)
def test_a_wrong_password_is_told_when_the_outbox_is_opened(
    form: str, kind: type[RedisServer], own_redis: Callable[..., Any]
) -> None:
    server = own_redis(kind, password="right")
    url = form.format(f":{quote('wr/ng', safe='')}@127.0.0.1:{server.port}")

    with pytest.raises(OutboxError, match="does not let us in"):
        open_now(InlineRedisOutbox(url), Client().opening())

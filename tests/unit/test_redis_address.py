"""Where Redis is, as a URL: what is ours in it, what is redis-py's, and what may be said aloud."""

from __future__ import annotations

from typing import Any

import pytest
from redis.cluster import RedisCluster

from userpilot_async.redis import RedisOutbox
from userpilot_async.redis._address import address_of

SECRET = "hunter2%2F%40"
PLAIN_SECRET = "hunter2/@"


def client_of(url: str) -> Any:
    """A client of redis-py's; none of these connects before it is used."""
    return address_of(url, {})[0].client(1.0, lambda connection: None)


def kwargs_of(url: str) -> dict[str, Any]:
    options: dict[str, Any] = client_of(url).connection_pool.connection_kwargs
    return options


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache:7000/3", {"host": "cache", "port": 7000, "db": 3}),
        ("redis://cache", {"host": "cache"}),
        ("redis://[::1]:7000/0", {"host": "::1", "port": 7000}),
        (f"redis://pods:{SECRET}@cache:7000", {"username": "pods", "password": PLAIN_SECRET}),
        (f"redis://:{SECRET}@cache:7000", {"password": PLAIN_SECRET}),
        ("rediss://cache?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required", {"ssl_ca_certs": "/ca.pem"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        (f"unix://pods:{SECRET}@/run/redis.sock", {"username": "pods", "password": PLAIN_SECRET}),
        (f"redis+sentinel://pods:{SECRET}@s1:5000,s2/main/4", {"db": 4, "username": "pods", "password": PLAIN_SECRET}),
        ("redis+sentinel://[::1]:5000,[::2]/main/4", {"db": 4}),
        (f"redis+sentinel://:{SECRET}@s1/main", {"password": PLAIN_SECRET, "username": None}),
        ("rediss+sentinel://s1/main?ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
    ],
)
def test_redis_py_gets_what_the_url_says(url: str, expected: dict[str, Any]) -> None:
    options = kwargs_of(url)

    assert expected == {name: options.get(name) for name in expected}


@pytest.mark.parametrize("url", ["redis://cache", "unix:///run/redis.sock", "redis+sentinel://s1/main"])
def test_nothing_is_tried_twice_and_each_command_has_a_deadline(url: str) -> None:
    options = kwargs_of(url)

    assert 1.0 == options["socket_timeout"]
    assert 0 == options["retry"]._retries


def test_sentinels_are_asked_where_they_are_with_passwords_of_their_own() -> None:
    manager = client_of("redis+sentinel://s1:5000,s2/main?sentinel_password=other").connection_pool.sentinel_manager
    asked = [one.connection_pool.connection_kwargs for one in manager.sentinels]

    assert [("s1", 5000), ("s2", 26379)] == [(one["host"], one["port"]) for one in asked]
    assert ["other", "other"] == [one["password"] for one in asked]


def test_a_cluster_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(RedisCluster, "from_url", classmethod(lambda cls, url, **options: asked.append(url)))

    client_of("redis+cluster://node:7000")
    client_of("rediss+cluster://node:7000")

    assert ["redis://node:7000", "rediss://node:7000"] == asked


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"redis://pods:{SECRET}@cache:7000/3", "redis://cache:7000/3"),
        ("rediss://cache?name=shop&ssl_password=hunter2", "rediss://cache (shop)"),
        (f"redis+sentinel://pods:{SECRET}@s1:5000,s2/main/4", "redis+sentinel://s1:5000,s2/main/4"),
        (f"unix://pods:{SECRET}@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_what_is_said_aloud_has_no_password(url: str, place: str) -> None:
    outbox = RedisOutbox(url)

    assert place == outbox.place
    assert f"<RedisOutbox {place}>" == repr(outbox)


def test_options_stand_in_the_url_or_in_the_call_and_the_call_wins() -> None:
    outbox = RedisOutbox(
        "redis://cache?name=shop&sender=false&max_bytes=1000&lease_ttl=5&fallback=memory", name="other"
    )

    assert ("other", False, 1000, 5.0) == (
        outbox.name, outbox._may_send, outbox._max_bytes, outbox._lease_ttl,
    )  # fmt: skip
    assert {"name", "max_bytes"}.isdisjoint(outbox._address.url)
    sending = outbox.that_sends()
    assert (True, "other", 1000) == (sending._may_send, sending.name, sending._max_bytes)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("redis://cache/shop", {}, r"^the database of a Redis outbox is a number; its name is written as \?name=shop$"),
        ("redis+sentinel://s1/main/shop", {}, "^the database of a Redis outbox is a number"),
        ("redis+other://cache", {}, "^a Redis outbox is at redis://"),
        ("unix+cluster:///run/redis.sock", {}, "^a Redis outbox is at redis://"),
        ("redis+sentinel://s1,s2", {}, "the name of the service is missing"),
        ("redis+sentinel://s1,,s2/main", {}, "a sentinel is host or host:port"),
        ("redis://cache:port/0", {}, "is not one"),
        ("redis://cache?nmae=shop", {}, "^no option of RedisOutbox, and not all of them redis-py's: nmae$"),
        ("redis://cache?sender=yes", {}, "^sender must be true or false, not yes$"),
        ("redis://cache?max_calls=many", {}, "^max_calls must be a whole number, not many$"),
        ("redis://cache?lease_ttl=long", {}, "^lease_ttl must be a number, not long$"),
        ("redis://cache?lease_ttl=nan", {}, "^lease_ttl must be"),
        ("redis://cache?name=a%7Bb", {}, "^name must be a word"),
        ("redis://cache", {"name": ""}, "^name must be a word"),
        ("redis://cache", {"max_calls": 0}, "^max_calls must be an int, 1 or more$"),
        ("redis://cache", {"max_bytes": True}, "^max_bytes must be an int, 1 or more$"),
        ("redis://cache", {"lease_ttl": 0.1}, "^lease_ttl must be 1 to 86,400 seconds$"),
        ("redis://cache", {"timeout": 0.0}, "^timeout must be 0.01 to 60 seconds$"),
        ("redis://cache", {"sender": "false"}, "^sender must be True or False, not str$"),
        ("redis://cache", {"rebind": 1}, "^rebind must be True or False, not int$"),
        ("redis://cache", {"timeout": True}, "^timeout must be"),
        ("redis://cache", {"timeout": "2"}, "^timeout must be"),
        ("redis://cache?keep_lost=inf", {}, "^keep_lost must be"),
        ("redis://cache?socket_timeout=60", {}, "^socket_timeout is not to be set for an outbox: say timeout$"),
        ("redis://cache?decode_responses=true", {}, "^decode_responses is not to be set for an outbox$"),
        ("redis+sentinel://s1:x,s2/main", {}, "a sentinel is host or host:port"),
        ("redis://cache", {"replicas": -1}, "^replicas must be an int, 0 or more$"),
        ("redis://cache", {"fallback": "disk"}, '^fallback must be None or "memory"$'),
        ("redis://cache", {"keep_lost": -1.0}, "^keep_lost must be 0 to"),
        ("redis+cluster://cache", {"replicas": 1}, "^replicas cannot be waited for in a cluster$"),
    ],
)
def test_what_cannot_be_right_is_refused(url: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisOutbox(url, **options)


@pytest.mark.parametrize(
    "url",
    [
        "redis://pods:hunter2@cache:port/0",
        "redis://:hunter2/x@cache:7000/0",
        "redis://hunter2/x@cache/0",
        "redis://:1234/hunter2@cache/0",
        "redis://:x?hunter2@cache/0",
        "redis://:x#hunter2@cache/0",
        "redis+sentinel://:hunter2/x@s1,s2/main",
    ],
)
def test_what_cannot_be_right_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisOutbox(url)

    assert "hunter2" not in str(caught.value)

"""Where Redis is, as a URL: what is ours in it, what is redis-py's, and what may be said aloud."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from userpilot_async.redis import RedisOutbox
from userpilot_async.redis._address import address_of

SECRET = "hunter2%2F%40"
PLAIN_SECRET = "hunter2/@"


def connection_of(url: str, *node: Any) -> Any:
    """A connection of redis-py's; none of these connects before it is used."""
    return address_of(url, {})[0].connection(1.0, lambda connection: None, *node)


def known(connection: Any, name: str) -> Any:
    """An option, as redis-py has taken it."""
    return getattr(connection, {"ssl_ca_certs": "ca_certs"}.get(name, name))


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
    connection = connection_of(url)

    assert expected == {name: known(connection, name) for name in expected}


@pytest.mark.parametrize(
    "url", ["redis://cache", "unix:///run/redis.sock", "redis+sentinel://s1/main", "redis+cluster://node"]
)
def test_nothing_is_tried_twice_and_each_command_has_a_deadline(url: str) -> None:
    connection = connection_of(url)

    assert 1.0 == connection.socket_timeout
    assert 0 == connection.retry._retries


def test_sentinels_are_asked_where_they_are_with_passwords_of_their_own() -> None:
    address, _ = address_of("redis+sentinel://s1:5000,s2,[::1]/main?sentinel_password=other", {})
    asked = [address.connection_to_sentinel(1.0, lambda connection: None, node) for node in address.nodes]

    assert "main" == address.service
    assert [("s1", 5000), ("s2", 26379), ("::1", 26379)] == [(one.host, one.port) for one in asked]
    assert ["other"] * 3 == [one.password for one in asked]


@pytest.mark.parametrize(("scheme", "kind"), [("redis", redis.Connection), ("rediss", redis.SSLConnection)])
def test_any_node_of_a_cluster_is_reached_as_the_url_says(scheme: str, kind: type[Any]) -> None:
    url = f"{scheme}+cluster://pods:{SECRET}@n1:7000,n2,[::1]:7002/0"
    address, _ = address_of(url, {})
    learned = connection_of(url, ("10.0.0.7", 7003))

    assert [("n1", 7000), ("n2", 6379), ("::1", 7002)] == address.nodes
    assert ("10.0.0.7", 7003, "pods", PLAIN_SECRET) == (
        learned.host, learned.port, learned.username, learned.password,
    )  # fmt: skip
    assert kind is type(learned)


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
        ("redis+sentinel://s1,s2/the%20main", {}, "the name of the service is missing, or has other characters"),
        ("redis://cache;name=shop", {}, "^a host of a Redis outbox is a name or an address"),
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
        (
            "redis+cluster://n1,,n2",
            {},
            "^a node of a cluster is host or host:port, and several are",
        ),
        ("redis+cluster://n1:0,n2", {}, "^a node of a cluster is host or host:port"),
        ("redis+cluster://n1/1", {}, "^a cluster has one database, 0"),
        ("unix:///run/redis@shop/redis.sock", {}, "an @ behind the host %40$"),
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


def test_a_command_that_takes_its_whole_time_does_not_cost_the_lease() -> None:
    assert 1.0 == RedisOutbox("redis://host/0", lease_ttl=5.0, timeout=4.0)._timeout

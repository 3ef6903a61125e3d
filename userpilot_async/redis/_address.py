"""Where Redis is, written as a URL, and a client of redis-py's for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import attrs

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import RedisCluster
    from redis.retry import Retry
    from redis.sentinel import Sentinel
except ImportError as exc:  # pragma: no cover
    raise ImportError("an outbox in Redis needs redis-py: pip install 'userpilot-async[redis]'") from exc

SENTINEL_PORT = 26379
PLAIN = ("redis", "rediss", "unix")
FORMS = (
    "redis://host:6379/0, rediss://… (TLS), unix:///path, redis+sentinel://host,host/service/0, redis+cluster://host"
)


@attrs.frozen
class Address:
    """``url`` with all that redis-py wants to know; ``shown`` is what may be said aloud."""

    url: str = attrs.field(repr=False)
    shown: str
    is_cluster: bool

    def client(self, timeout: float, connected: Callable[[Any], None]) -> redis.Redis | RedisCluster:
        """A client that has not connected yet, and tries nothing twice by itself; ``connected`` is told when it has.

        Raises `ValueError`.
        """
        once: dict[str, Any] = {
            "protocol": 2,  # answers of scripts look the same whatever redis-py's default is
            "redis_connect_func": connected,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "decode_responses": False,
        }
        scheme = urlsplit(self.url).scheme
        if scheme in PLAIN:
            return redis.Redis.from_url(self.url, **once)
        tls = scheme.startswith("rediss")
        if self.is_cluster:
            plain = self.url.replace("+cluster", "", 1)
            return RedisCluster.from_url(plain, **once)
        return _through_sentinels(self.url, tls, once)


def _through_sentinels(url: str, tls: bool, once: Mapping[str, Any]) -> redis.Redis:
    parts = urlsplit(url)
    service, _, db = parts.path.strip("/").partition("/")
    # What is in the query is for redis-py, as in its own URLs: parsed by it, on a URL of the first sentinel's.
    hosts = [_host(one) for one in parts.netloc.rpartition("@")[2].split(",")]
    like = urlunsplit(("rediss" if tls else "redis", hosts[0][0], f"/{db or 0}", parts.query, ""))
    parse_url: Callable[[str], dict[str, Any]] = redis.connection.parse_url
    asked = dict(parse_url(like))
    for name in ("host", "port"):
        asked.pop(name, None)
    asked.pop("connection_class", None)
    credentials = parts.netloc.rpartition("@")[0]
    if credentials:
        user, _, password = credentials.partition(":")
        asked |= {"username": unquote(user) or None, "password": unquote(password)}
    sentinel_options = {
        name.removeprefix("sentinel_"): asked.pop(name) for name in list(asked) if name.startswith("sentinel_")
    }
    options = {**asked, **once, **({"ssl": True} if tls else {})}
    of_sentinels = {name: value for name, value in once.items() if name != "redis_connect_func"}
    sentinel_type: Any = Sentinel  # its methods have no types
    master: redis.Redis = sentinel_type(
        hosts, sentinel_kwargs={**of_sentinels, **sentinel_options}, **options
    ).master_for(service)
    return master


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"a sentinel is host or host:port, not {text!r}")
    return parts.hostname, parts.port or SENTINEL_PORT


def address_of(url: str, own: Mapping[str, Callable[[str, str], Any]]) -> tuple[Address, dict[str, Any]]:
    """The address, and those options of the query that are ours, by name; all the rest is redis-py's. `ValueError`."""
    try:
        parts = urlsplit(url)
        port = parts.port if "," not in parts.netloc else None
    except ValueError as exc:
        raise ValueError(f"the URL of a Redis outbox is not one ({exc}); those are {FORMS}") from None
    base, _, how = parts.scheme.partition("+")
    if base not in PLAIN or how not in ("", "cluster", "sentinel") or (how and base == "unix"):
        raise ValueError(f"a Redis outbox is at {FORMS}")
    if how == "sentinel" and not parts.path.strip("/"):
        raise ValueError("redis+sentinel://host,host/service: the name of the service is missing")
    options: dict[str, Any] = {}
    theirs = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in own:
            options[name] = own[name](name, value)
        else:
            theirs.append((name, value))
    where = parts.netloc.rpartition("@")[2]  # no user, no password
    shown = f"{parts.scheme}://{where or parts.path if port is None else where}"
    if where and parts.path.strip("/"):
        shown += parts.path
    return Address(urlunsplit(parts._replace(query=urlencode(theirs))), shown, how == "cluster"), options

"""Where Redis is, written as a URL, and a client of redis-py's for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import attrs
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from .._errors import ConfigurationError

SENTINEL_PORT = 26379
PLAIN = ("redis", "rediss", "unix")
FIXED = (
    "socket_timeout", "socket_connect_timeout", "protocol", "decode_responses", "retry_on_timeout", "retry_on_error",
    "retry", "health_check_interval", "single_connection_client",
)  # fmt: skip
"""Options of redis-py that are not to be chosen here; in its own URLs they win over what a program says."""
CONNECTIONS = 2  # that an outbox holds at once: one for its scripts, and one for what redis-py asks beside them
FORMS = (
    "redis://host:6379/0, rediss://… (TLS), unix:///path, redis+sentinel://host,host/service/0, redis+cluster://host"
)


@attrs.frozen
class Address:
    """``url`` with all that redis-py wants to know; ``shown`` is what may be said aloud."""

    url: str = attrs.field(repr=False)
    shown: str
    is_cluster: bool

    def client(self, timeout: float, connected: Callable[[Any], None]) -> Any:
        """A client that has not connected yet, and tries nothing twice by itself; ``connected`` is told when it has.

        Raises `ConfigurationError`.
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
        if not self.is_cluster:  # whose client would not pass it on
            once["command_packer"] = OnePiece()
        if scheme in PLAIN:
            return redis.Redis.from_url(self.url, **once)
        tls = scheme.startswith("rediss")
        if self.is_cluster:
            plain = self.url.replace("+cluster", "", 1)
            return RedisCluster.from_url(plain, **once)
        return _through_sentinels(self.url, tls, once)


class OnePiece:
    """A command as one piece of bytes. redis-py makes many of a large one, and each costs the thread its turn."""

    def pack(self, *arguments: str | bytes | float) -> list[bytes]:
        """As redis-py asks for it: a command's name may be two words."""
        words = [*str(arguments[0]).encode().split(), *arguments[1:]]
        pieces = [b"*%d\r\n" % len(words)]
        for word in words:
            encoded = word if isinstance(word, bytes) else str(word).encode()
            pieces.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
        return [b"".join(pieces)]


def _through_sentinels(url: str, tls: bool, once: Mapping[str, Any]) -> redis.Redis:
    parts = urlsplit(url)
    service, _, db = parts.path.strip("/").partition("/")
    # What is in the query is for redis-py, as in its own URLs: parsed by it, on a URL of the first sentinel's.
    hosts = [_host(one) for one in parts.netloc.rpartition("@")[2].split(",")]
    like = urlunsplit(("rediss" if tls else "redis", "localhost", f"/{db or 0}", parts.query, ""))
    parse: Callable[[str], dict[str, Any]] = parse_url  # which has no types
    asked = dict(parse(like))
    for name in ("host", "port"):
        asked.pop(name, None)
    asked.pop("connection_class", None)
    credentials = parts.netloc.rpartition("@")[0]
    if credentials:
        user, _, password = credentials.partition(":")
        asked |= {"username": unquote(user) or None, "password": unquote(password)}
    secure = {"ssl": True, **{name: asked[name] for name in asked if name.startswith("ssl_")}} if tls else {}
    sentinel_options = {
        name.removeprefix("sentinel_"): asked.pop(name) for name in list(asked) if name.startswith("sentinel_")
    }
    options = {**asked, **once, **secure}
    of_sentinels = {name: value for name, value in once.items() if name not in ("redis_connect_func", "command_packer")}
    sentinel_type: Any = Sentinel  # its methods have no types
    master: redis.Redis = sentinel_type(
        hosts, sentinel_kwargs={**of_sentinels, **secure, **sentinel_options}, **options
    ).master_for(service)
    return master


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ConfigurationError("a sentinel is host or host:port, and several are separated by commas")
    return parts.hostname, port or SENTINEL_PORT


def address_of(url: str, own: Mapping[str, Callable[[str, str], Any]]) -> tuple[Address, dict[str, Any]]:
    """The address, and those options of the query that are ours, by name; all the rest is redis-py's.

    Raises `ConfigurationError`.
    """
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:  # several sentinels, each looked at by itself
            _ = parts.port  # raises where that is no number
    except ValueError:  # whose words may have a part of the password
        raise ConfigurationError(f"the URL of a Redis outbox is not one; those are {FORMS}") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise ConfigurationError(
            "in the URL of a Redis outbox, /, ? and # within user or password are written %2F, %3F and %23"
        )
    base, _, how = parts.scheme.partition("+")
    if base not in PLAIN or how not in ("", "cluster", "sentinel") or (how and base == "unix"):
        raise ConfigurationError(f"a Redis outbox is at {FORMS}")
    database = parts.path.strip("/").partition("/")[2] if how == "sentinel" else parts.path.strip("/")
    if base != "unix" and database and not database.isdecimal():
        raise ConfigurationError(f"the database of a Redis outbox is a number; its name is written as ?name={database}")
    if how == "sentinel" and not parts.path.strip("/"):
        raise ConfigurationError("redis+sentinel://host,host/service: the name of the service is missing")
    options: dict[str, Any] = {}
    theirs = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in own:
            options[name] = own[name](name, value)
        elif name in FIXED:
            instead = ": say timeout" if "timeout" in name else ""
            raise ConfigurationError(f"{name} is not to be set for an outbox{instead}")
        else:
            if name == "max_connections" and not (value.isdecimal() and CONNECTIONS <= int(value[:9])):
                raise ConfigurationError(f"max_connections must be a whole number, {CONNECTIONS} or more")
            theirs.append((name, value))
    where = parts.netloc.rpartition("@")[2]  # no user, no password
    shown = f"{parts.scheme}://{where or parts.path}"
    if where and parts.path.strip("/"):
        shown += parts.path
    plain = url.partition("?")[0].partition("#")[0]
    address = Address(plain + (f"?{urlencode(theirs)}" if theirs else ""), shown, how == "cluster")
    if how != "cluster":  # whose client connects when it is made
        _try(address, [name for name, _ in theirs])
    return address, options


def _try(address: Address, theirs: list[str]) -> None:
    """Make a connection that is not used: redis-py looks at options no earlier."""
    try:
        address.client(1.0, lambda connection: None).connection_pool.make_connection()
    except TypeError:
        names = ", ".join(theirs)
        raise ConfigurationError(f"no option of RedisOutbox, and not all of them redis-py's: {names}") from None
    except ConfigurationError:
        raise
    except (ValueError, redis.RedisError):  # whose words may have the value
        raise ConfigurationError(f"redis-py refuses the value of an option: {', '.join(theirs)}") from None

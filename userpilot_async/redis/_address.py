"""Where Redis is, written as a URL, and connections of redis-py's to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import attrs
import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from .._errors.tree import ConfigurationError, without_frames
from .._outbox.url import Readers, quoted, split_query

SENTINEL_PORT = 26379
CLUSTER_PORT = 6379
PLAIN = ("redis", "rediss", "unix")
FIXED = (
    "socket_timeout", "socket_connect_timeout", "protocol", "decode_responses", "retry_on_timeout", "retry_on_error",
    "retry", "health_check_interval", "single_connection_client",
)  # fmt: skip
"""Options of redis-py that are not to be chosen here; in its own URLs they win over what a program says."""
CHECKED = "ssl_check_hostname"
HOST = re.compile(r"[\w.-]*|[0-9a-fA-F:.]+(?:%[\w.-]+)?")  # a name, or an address, of IPv6 with its zone
SERVICE = re.compile(r"[A-Za-z0-9._-]+")  # Source: redis.io, sentinel.conf, "sentinel monitor", read 2026-11
FORMS = (
    "redis://host:6379/0, rediss://… (TLS), unix:///path, redis+sentinel://host,host/service/0, "
    "redis+cluster://host,host"
)


@attrs.frozen
class Address:
    """``url`` with all that redis-py wants to know; ``shown`` is what may be said aloud."""

    url: str = attrs.field(repr=False)
    shown: str
    how: str
    """How the server with the outbox is found: "" is the URL itself, or ``sentinel``, or ``cluster``."""

    @property
    def is_cluster(self) -> bool:
        """True if the nodes of a cluster say which of them has the outbox."""
        return self.how == "cluster"

    @property
    def is_tls(self) -> bool:
        """True if no machine on the way can read along."""
        return self.shown.startswith("rediss")

    @property
    def has_password(self) -> bool:
        """For the server, or for a Sentinel."""
        parts = urlsplit(self.url)
        return bool(parts.password) or any("password" in name for name, _ in parse_qsl(parts.query))

    def is_overheard(self, host: str) -> bool:
        """On the way to this host others may read the password: it is another machine, and there is no TLS."""
        return self.has_password and not self.is_tls and not _is_here(host)

    @property
    def nodes(self) -> list[tuple[str, int]]:
        """Hosts and ports in the URL: of Sentinels, or of nodes of a cluster. Raises `ConfigurationError`."""
        return [self._host(one) for one in urlsplit(self.url).netloc.rpartition("@")[2].split(",")]

    @property
    def hosts(self) -> list[str]:
        """Hosts that the URL names; none where it is a socket of this machine."""
        if self.how:
            return [host for host, _ in self.nodes]
        host = urlsplit(self.url).hostname
        return [] if host is None else [host]

    @property
    def service(self) -> str:
        """The name that Sentinels call the master by."""
        return unquote(urlsplit(self.url).path.strip("/").partition("/")[0])

    def connection(
        self, timeout: float, connected: Callable[[Any], None], node: tuple[str, int] | None = None,
        *, connect_timeout: float | None = None,
    ) -> Any:  # fmt: skip
        """A connection of redis-py's, to the server of the URL, or to this ``node``: not connected yet, and nothing is
        tried twice; ``connected`` is called when it is. Raises `ConfigurationError`, and what redis-py raises.
        """
        options = {name: value for name, value in self._url_options().items() if not name.startswith("sentinel_")}
        return self._made(options, timeout, connected, node, connect_timeout)

    def connection_to_sentinel(
        self, timeout: float, connected: Callable[[Any], None], node: tuple[str, int]
    ) -> Any:  # fmt: skip
        """The same, to a Sentinel, which has passwords of its own, and TLS as the servers have."""
        options = self._url_options()
        own = {name.removeprefix("sentinel_"): options[name] for name in options if name.startswith("sentinel_")}
        secure = {name: options[name] for name in options if name == "connection_class" or name.startswith("ssl_")}
        return self._made({**secure, **own}, timeout, connected, node, None)

    def _url_options(self) -> dict[str, Any]:
        """The options of the URL, as redis-py reads its own: of several hosts, it reads the first."""
        if not self.how:
            url = self.url
        else:
            parts = urlsplit(self.url)
            login, at, hosts = parts.netloc.rpartition("@")
            db = parts.path.strip("/").partition("/")[2] if self.how == "sentinel" else ""
            first = hosts.partition(",")[0]
            url = urlunsplit((parts.scheme.partition("+")[0], f"{login}{at}{first}", f"/{db}", parts.query, ""))
        parse: Callable[[str], dict[str, Any]] = parse_url  # which has no types
        return parse(url)

    def _made(
        self, given: Mapping[str, Any], timeout: float, connected: Callable[[Any], None],
        node: tuple[str, int] | None, connect_timeout: float | None,
    ) -> Any:  # fmt: skip
        options = {name: value for name, value in given.items() if name != "max_connections"}  # of a pool
        kind: Any = options.pop("connection_class", redis.Connection)
        if node is not None:
            options |= {"host": node[0], "port": node[1]}
        return kind(
            **options,
            protocol=2,  # answers of scripts are the same whatever redis-py's default is
            redis_connect_func=connected,
            socket_timeout=timeout,
            socket_connect_timeout=connect_timeout or timeout,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
        )

    def _host(self, text: str) -> tuple[str, int]:
        parts = urlsplit(f"//{text}")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if not parts.hostname or port == 0:
            kind = "a node of a cluster" if self.is_cluster else "a sentinel"
            raise ConfigurationError(f"{kind} is host or host:port, and several are separated by commas")
        return parts.hostname, port or (CLUSTER_PORT if self.is_cluster else SENTINEL_PORT)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.startswith("/")


def address_of(url: str, own: Readers) -> tuple[Address, dict[str, Any]]:
    """The address, and those options of the query that are ours, by name; all the rest is redis-py's.

    Raises `ConfigurationError`: the URL is neither in its words, nor in the locals of a frame of ours.
    """
    try:
        return _read(url.strip(), own)
    except ConfigurationError as error:
        refusal = without_frames(error)
    del url
    raise refusal


def _read(url: str, own: Readers) -> tuple[Address, dict[str, Any]]:
    if " " in url or not url.isprintable():  # some of which Python would take out without a word
        raise ConfigurationError("the URL of a Redis outbox has a space or a line's end in it; a space is written %20")
    try:
        parts = urlsplit(url)
        if "," not in parts.netloc:  # several hosts, each checked by itself
            _ = parts.port  # raises where that is no number
    except ValueError:  # whose words may have a part of the password
        raise ConfigurationError(f"the URL of a Redis outbox is not one; those are {FORMS}") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise ConfigurationError(
            "in the URL of a Redis outbox, /, ? and # within user or password are written %2F, %3F and %23, and an @ "
            "behind the host %40"
        )
    base, _, how = parts.scheme.partition("+")
    if base not in PLAIN or how not in ("", "cluster", "sentinel") or (how and base == "unix"):
        raise ConfigurationError(f"a Redis outbox is at {FORMS}")
    database = parts.path.strip("/").partition("/")[2] if how == "sentinel" else parts.path.strip("/")
    if base != "unix" and database and not database.isdecimal():
        raise ConfigurationError(
            f"the database of a Redis outbox is a number; its name is written as ?name={quoted(database)}"
        )
    if how == "sentinel" and not SERVICE.fullmatch(unquote(parts.path.strip("/").partition("/")[0])):
        raise ConfigurationError(
            "redis+sentinel://host,host/service: the name of the service is missing, or has other characters than "
            "letters, digits, dots, dashes and underscores"
        )
    options, theirs = split_query(parts.query, own)
    for name, value in theirs:
        _check(name, value)
    if how == "cluster" and (database.strip("0") or any(name == "db" and value.strip("0") for name, value in theirs)):
        raise ConfigurationError("a cluster has one database, 0; the name of a Redis outbox is written as ?name=shop")
    if base == "rediss":
        theirs += _check_names(dict(theirs))
    where = parts.netloc.rpartition("@")[2]  # no user, no password
    shown = f"{parts.scheme}://{where or parts.path}"
    if where and parts.path.strip("/"):
        shown += parts.path
    plain = url.partition("?")[0].partition("#")[0]
    address = Address(plain + (f"?{urlencode(theirs)}" if theirs else ""), shown, how)
    if base != "unix" and not all(map(HOST.fullmatch, address.hosts)):  # as where the @, or the ?, is missing
        raise ConfigurationError(f"a host of a Redis outbox is a name or an address: {FORMS}")
    _try(address, ", ".join(quoted(name) for name, _ in theirs))
    return address, options


def _check(name: str, value: str) -> None:
    """An option of redis-py's that is ours to choose, or that redis-py would not check."""
    if name in FIXED:
        instead = ": say timeout" if "timeout" in name else ""
        raise ConfigurationError(f"{name} is not to be set for an outbox{instead}")
    if name == "max_connections" and not (value.isdecimal() and int(value[:9])):
        raise ConfigurationError("max_connections must be a whole number, 1 or more")
    if name == CHECKED and value.lower() not in ("true", "false", "yes", "no", "1", "0"):  # "" would be false
        raise ConfigurationError(f"{CHECKED} must be true or false, not {quoted(value)}")


def _check_names(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """A certificate must be for the host we connect to, unless the URL says otherwise: not each redis-py wants that."""
    if CHECKED in given:
        return []
    required = given.get("ssl_cert_reqs", "required").lower()
    return [(CHECKED, "false" if required in ("none", "cert_none") else "true")]  # or there is no name to check


def _try(address: Address, theirs: str) -> None:
    """Make connections that are not used: redis-py checks options no earlier."""
    try:
        for node in address.nodes if address.how else [None]:
            address.connection(1.0, lambda connection: None, node)
            if address.how == "sentinel" and node is not None:
                address.connection_to_sentinel(1.0, lambda connection: None, node)
    except TypeError:
        raise ConfigurationError(f"no option of RedisOutbox, and not all of them redis-py's: {theirs}") from None
    except ConfigurationError:
        raise
    except (ValueError, redis.RedisError):  # whose words may have the value
        raise ConfigurationError(f"redis-py refuses the value of an option: {theirs}") from None

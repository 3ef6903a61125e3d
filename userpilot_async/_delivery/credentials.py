"""Where to send, and with which key: checked at construction, without ever showing the key."""

from __future__ import annotations

import hashlib
import inspect
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

from .._errors.foreign import must_be
from .._errors.secret import Hidden, Secret
from .._errors.tree import ConfigurationError
from .._runtime import stand_in
from .._runtime.disabled import SwitchedOff
from .._runtime.environment import variable as environment_variable

Key = str | Callable[[], str]

# What a fingerprint costs, and each guess at one: 16 MB and about 50 ms. RFC 7914 (2) names 8 and 1 for the other two.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_ROUNDS = 600_000  # of PBKDF2 with SHA-256: OWASP's Password Storage Cheat Sheet, read 2026-11
_MAX_URL = 2_000  # characters; httpx takes 65,536, and the paths of endpoints come behind it
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # underscores: container networks have them
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")  # a last label that makes the host an IPv4 address: WHATWG's URL, 3.5
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")  # RFC 3986, 3.3
_FULL_STOPS = "\u3002\uff0e\uff61"  # which IDNA takes for dots: RFC 3490, 3.1


class Transport(Protocol):
    """An object that makes requests: httpx's ``AsyncBaseTransport``, described without loading httpx."""

    async def handle_async_request(self, request: Any) -> Any:
        """Give the `httpx.Response` to an `httpx.Request`."""
        ...

    async def aclose(self) -> None:
        """Let go of all connections."""
        ...


def checked_transport(transport: Transport | None) -> Transport | None:
    """Check the transport, if one is given; raises `ConfigurationError`, as for httpx's transport for blocking code."""
    if transport is not None and not callable(getattr(transport, "handle_async_request", None)):
        raise ConfigurationError(f"transport {must_be('an httpx.AsyncBaseTransport', transport)}")
    return transport


class BadKey(ConfigurationError):
    """A value was given as a key that cannot be one; the text does not show it."""


class KeyRing:
    """The API key, or the callable that gives the current one; else the environment's ``variable``. Shows none."""

    __slots__ = ("_key", "_last", "missing", "switch")

    def __init__(self, key: Key | Hidden[Any] | SwitchedOff | None, variable: str) -> None:
        self.switch: SwitchedOff | None = key if isinstance(key, SwitchedOff) else None
        """What switched the client off, so that there is no key, or ``None``."""
        self.missing: str = ""
        """The error for opening a client that was made in a test without a key, where nothing stands in; else empty."""
        given, called = hidden(key), "api_key"
        del key  # no frame that an exception leaves shows it
        if given.reveal() is None:
            given, called = hidden(environment_variable(variable)), variable
        if given.reveal() is None:
            off = f"disabled=True or {variable.replace('_API_KEY', '_DISABLED')}=1"
            self.missing = f"api_key is missing: pass it, set {variable}, or switch the client off with {off}"
            if not stand_in.is_test():
                raise ConfigurationError(self.missing)
            given = hidden(stand_in.KEY)
        if callable(given.reveal()):
            if _is_async(given.reveal()):
                what = "api_key must be str or a callable that returns one"
                raise BadKey(f"{what}; this one is async, and nothing awaits it")
        elif fault := _fault_of_key(given):
            raise BadKey(f"{called} {fault}")
        self._key = given
        self._last: Secret | None = None

    def __repr__(self) -> str:
        return "<KeyRing>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an API key is not for pickling")

    def secret(self) -> Secret:
        """Give the key for the next request; asked anew each time, so that a key can be rotated.

        Raises whatever the callable raises, or `BadKey` for a key that cannot be one.
        """
        key = self._key
        if callable(key.reveal()):
            key = Hidden(key.reveal()())
        if inspect.iscoroutine(key.reveal()):  # of a callable that did not look async: nothing awaits it
            key.reveal().close()
        fault = _fault_of_key(key)
        if fault:
            raise BadKey(f"api_key {fault}")
        last = self._last  # other threads ask, too
        if last is None or last.reveal() != key.reveal():  # a `Secret` remembers what it looks for
            last = self._last = Secret(key.reveal())
        return last

    def starts_with(self, prefixes: tuple[str, ...]) -> bool:
        """Whether the key that was handed out last begins with one of these, in any case."""
        return self._last is not None and self._last.reveal().lower().startswith(prefixes)

    def fingerprint(self, salt: bytes) -> str:
        """Give a text that tells this key from others, and makes each guess at it slow. Raises as `secret` does.

        Not for the thread of an event loop: it takes as long as each guess shall take.
        """
        key = self.secret()
        try:
            digest = hashlib.scrypt(key.reveal().encode(), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, dklen=16)
        except (AttributeError, ValueError):  # of a Python, or an OpenSSL, that allows what FIPS has approved only
            digest = hashlib.pbkdf2_hmac("sha256", key.reveal().encode(), salt, _ROUNDS, dklen=16)
            return f"pbkdf2:{_ROUNDS}:{digest.hex()}"
        return f"scrypt:{_COST}:{_BLOCK}:{_PARALLEL}:{digest.hex()}"

    def old_fingerprint(self, salt: bytes) -> str:
        """Give the fingerprint that outboxes and journals had before: one hash, by which guesses are fast."""
        return hashlib.sha256(salt + self.secret().reveal().encode()).hexdigest()[:32]


def hidden(key: Any) -> Hidden[Any]:
    """Hide what was given as a key, unless it is hidden already."""
    return key if isinstance(key, Hidden) else Hidden(key)


def _is_async(function: object) -> bool:
    """Whether a call gives a coroutine; also of an object that has `__call__`."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _fault_of_key(key: Hidden[Any]) -> str:
    """Say why a key cannot stand in a header; empty if it can."""
    if not isinstance(key.reveal(), str):
        return must_be("str or a callable that returns one", key.reveal())
    if not key.reveal():
        return "is empty"
    if not key.reveal().isascii() or not key.reveal().isprintable() or " " in key.reveal():
        return "has characters that no key has: white space, control characters or non-ASCII"
    return ""


# ── the URL ──


def checked_base_url(
    base_url: object, called: str = "base_url", *, allow_http: bool = False, remedy: str = "allow_http=True"
) -> str:
    """Check the server's origin (and path, for a proxy), and give it without a trailing slash.

    https only; http for loopback, where the emulator lives, and with ``allow_http`` for any host: ``remedy`` says how
    to have that. What is taken can be read in one way only: requests go to
    that host and port, and their paths begin with that path. Raises `ConfigurationError`, in which the URL is
    ``called`` so, and not shown: it may hold credentials.
    """
    if not isinstance(base_url, str):
        raise ConfigurationError(f"{called} {must_be('str', base_url)}")
    scheme, separator, rest = base_url.partition("://")
    scheme = scheme.lower()
    authority, _, path = rest.rstrip("/").partition("/")
    if not separator or scheme not in ("http", "https"):
        raise ConfigurationError(f"{called} must start with https:// (http:// only for loopback)")
    if "@" in authority:
        raise ConfigurationError(f"{called} must not hold credentials")
    try:
        _check_characters(base_url)
        host = _checked_host(authority)
        _check_path(path)
    except ValueError as error:
        raise ConfigurationError(f"{called} must be an origin like https://host.example, without {error}") from None
    if scheme == "http" and not (allow_http or _is_loopback(host)):
        only = f"http:// only for loopback, and with {remedy} for a server in a network of your own, such as Compose's"
        raise ConfigurationError(f"{called} must start with https:// ({only})")
    return f"{scheme}://{rest.rstrip('/')}"


# Each of these raises `ValueError` with what an origin is without.


def _check_characters(url: str) -> None:
    if not url.isprintable() or " " in url:
        raise ValueError("white space and control characters")
    for sign, what in (("?", "a query (?)"), ("#", "a fragment (#)"), ("\\", "backslashes")):
        if sign in url:
            raise ValueError(what)
    if len(url) > _MAX_URL:
        raise ValueError(f"more than {_MAX_URL:,} characters")


def _checked_host(authority: str) -> str:
    """Check the host and port of a URL; gives the host, without brackets."""
    if authority.startswith("["):
        host, bracket, behind = authority[1:].partition("]")
        if not bracket or (behind and not behind.startswith(":")):
            raise ValueError("brackets, but for those around an IPv6 address")
        _check_ipv6(host)
    else:
        if authority.count(":") > 1:
            raise ValueError("more than one colon, but for those of an IPv6 address in brackets")
        host, colon, port = authority.partition(":")
        behind = colon + port
        _check_name(host)
    if behind and not (re.fullmatch(":[0-9]{1,5}", behind) and 0 < int(behind[1:]) <= 65_535):
        raise ValueError("a port that is no number from 1 to 65535")
    return host


def _check_ipv6(host: str) -> None:
    if "%" in host:
        raise ValueError("the zone of an IPv6 address (%)")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("brackets, but for those around an IPv6 address") from None


def _check_name(host: str) -> None:
    """Check the name of a host, or its IPv4 address."""
    if "[" in host or "]" in host:
        raise ValueError("brackets, but for those around an IPv6 address")
    name = host.lower() if host.isascii() else _in_ascii(host.lower())
    labels = name.split(".")
    if "" in labels:
        raise ValueError("a dot at either end of its host, or two in a row" if host else "an empty host")
    if len(name) > 253 or any(len(label) > 63 for label in labels):
        raise ValueError("a host of more than 253 characters, or 63 between dots")
    if not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("a host of other characters than letters, digits, dots, and dashes between them")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            raise ValueError("a host that ends in a number and is no IPv4 address") from None
    if any(label.startswith("xn--") for label in labels):
        _check_idna(name)


def _in_ascii(host: str) -> str:
    """Write a host as httpx writes it into requests."""
    import idna  # 10 ms, and hardly ever needed

    try:
        if any(stop in host for stop in _FULL_STOPS):
            raise UnicodeError
        return idna.encode(host).decode("ascii")
    except UnicodeError:
        raise ValueError("a host that no international name may be: write it as xn--…") from None


def _check_idna(name: str) -> None:
    """Check a name in the way of httpx, which turns it into Unicode with each request."""
    import idna

    try:
        idna.decode(name)
    except UnicodeError:
        raise ValueError("a host with xn-- before what stands for no international name") from None


def _check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise ValueError("characters in its path that have to be percent-encoded")
    plain = unquote(path, "latin-1")
    if any(character < " " or character == "\x7f" for character in plain):
        raise ValueError("control characters")
    if path and not all(path.split("/")):
        raise ValueError("empty parts in its path (//)")
    if any(part in (".", "..") for part in re.split(r"[/\\]", plain)):
        raise ValueError("the parts . and .. in its path")


def reaches_network(base_url: str) -> bool:
    """Ask whether a URL that has been checked is of a server elsewhere, in a network that others can listen in to."""
    scheme, _, rest = base_url.partition("://")
    return scheme == "https" and not _is_loopback(_checked_host(rest.partition("/")[0]))


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Where to send, and with which key: checked at construction, without ever showing the key."""

from __future__ import annotations

import hashlib
import inspect
import ipaddress
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

from ._environment import given
from ._errors import ConfigurationError
from ._foreign import must_be
from ._switch import SwitchedOff

Key = str | Callable[[], str]


class Transport(Protocol):
    """What requests go through: httpx's ``AsyncBaseTransport``, said without loading httpx."""

    async def handle_async_request(self, request: Any) -> Any:
        """The `httpx.Response` to an `httpx.Request`."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


def checked_transport(transport: Transport | None) -> Transport | None:
    """The transport, if there is one; `ConfigurationError` for what is none, such as httpx's for blocking code."""
    if transport is not None and not callable(getattr(transport, "handle_async_request", None)):
        raise ConfigurationError(f"transport {must_be('an httpx.AsyncBaseTransport', transport)}")
    return transport


class BadKey(ConfigurationError):
    """What was given as a key cannot be one; the text does not show it."""


class KeyRing:
    """The API key, or the callable that gives the current one; else the environment's ``variable``. Shows none."""

    __slots__ = ("_key", "switch")

    def __init__(self, key: Key | SwitchedOff | None, variable: str) -> None:
        self.switch = key if isinstance(key, SwitchedOff) else None
        """What switched the client off, so that there is no key, or ``None``."""
        found, called = given(key, "api_key", variable)
        if found is None:
            off = f"disabled=True or {variable.replace('_API_KEY', '_DISABLED')}=1"
            raise ConfigurationError(
                f"api_key is missing: pass it, set {variable}, or switch the client off with {off}"
            )
        if callable(found) and _is_async(found):
            raise BadKey("api_key must be str or a callable that returns one; this one is async, and nobody awaits it")
        self._key: Key = found if callable(found) else checked_key(found, called)

    def __repr__(self) -> str:
        return "<KeyRing>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an API key is not for pickling")

    def current(self) -> str:
        """The key for the next request; asked anew each time, so that a key can be rotated.

        Raises whatever the callable raises, or `BadKey` for a key that cannot be one.
        """
        if not callable(self._key):
            return self._key
        key: object = self._key()
        if inspect.iscoroutine(key):  # of a callable that did not look async: nobody awaits it
            key.close()
        return checked_key(key)

    def fingerprint(self, salt: bytes) -> str:
        """What tells this key from others, and tells nothing of it. Raises as `current` does."""
        return hashlib.sha256(salt + self.current().encode()).hexdigest()[:32]


def _is_async(function: Callable[..., object]) -> bool:
    """Also an object that is called."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def checked_key(key: object, called: str = "api_key") -> str:
    """A key that can stand in a header; `BadKey` otherwise, without the key. ``called`` is where it comes from."""
    if not isinstance(key, str):
        raise BadKey(f"{called} {must_be('str or a callable that returns one', key)}")
    if not key:
        raise BadKey(f"{called} is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadKey(f"{called} has characters that no key has: white space, control characters or non-ASCII")
    return key


def checked_base_url(base_url: object, called: str = "base_url") -> str:
    """The server's origin (and path, for a proxy) without a trailing slash.

    https only; http for loopback, where the emulator lives. Raises `ConfigurationError`, in which the URL is ``called``
    so.
    """
    if not isinstance(base_url, str):
        raise ConfigurationError(f"{called} {must_be('str', base_url)}")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold credentials
        raise ConfigurationError(f"{called} is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{called} must not hold credentials")
    if parts.scheme not in ("http", "https"):
        raise ConfigurationError(f"{called} must start with https:// (http:// only for loopback)")
    if parts.query or parts.fragment or not host or port == 0 or not base_url.isprintable() or " " in base_url:
        raise ConfigurationError(f"{called} must be an origin like https://host.example")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ConfigurationError(f"{called} must start with https:// (http:// only for loopback)")
    return parts.scheme + base_url[len(parts.scheme) :].rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

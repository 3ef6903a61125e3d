"""Where to send, and with which key: checked at construction, without ever showing the key."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Callable
from urllib.parse import urlsplit

from ._errors import ConfigurationError
from ._switch import SwitchedOff

Key = str | Callable[[], str]


class BadKey(ValueError):
    """What was given as a key cannot be one; the text does not show it."""


class KeyRing:
    """The API key, or the callable that gives the current one; else the environment's ``variable``. Shows none."""

    __slots__ = ("_key", "switch")

    def __init__(self, key: Key | SwitchedOff | None, variable: str) -> None:
        self.switch = key if isinstance(key, SwitchedOff) else None
        """What switched the client off, so that there is no key, or ``None``."""
        given = key if key is not None else os.environ.get(variable)
        if given is None:
            off = f"disabled=True or {variable.replace('_API_KEY', '_DISABLED')}=1"
            raise ConfigurationError(
                f"api_key is missing: pass it, set {variable}, or switch the client off with {off}"
            )
        self._key: Key = given if callable(given) else checked_key(given)

    def __repr__(self) -> str:
        return "<KeyRing>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an API key is not for pickling")

    def current(self) -> str:
        """The key for the next request; asked anew each time, so that a key can be rotated.

        Raises whatever the callable raises, or `ValueError` for a key that cannot be one.
        """
        return checked_key(self._key()) if callable(self._key) else self._key

    def fingerprint(self, salt: bytes) -> str:
        """What tells this key from others, and tells nothing of it. Raises as `current` does."""
        return hashlib.sha256(salt + self.current().encode()).hexdigest()[:32]


def checked_key(key: object) -> str:
    """A key that can stand in a header; `BadKey` otherwise, without the key."""
    if not isinstance(key, str):
        raise BadKey(f"api_key must be str or a callable that returns one, not {type(key).__name__}")
    if not key:
        raise BadKey("api_key is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise BadKey("api_key has characters that no key has: white space, control characters or non-ASCII")
    return key


def checked_base_url(base_url: object) -> str:
    """The server's origin (and path, for a proxy) without a trailing slash.

    https only; http for loopback, where the emulator lives. Raises `ValueError`.
    """
    if not isinstance(base_url, str):
        raise ValueError(f"base_url must be str, not {type(base_url).__name__}")
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may hold credentials
        raise ValueError("base_url is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("base_url must not hold credentials")
    if parts.scheme not in ("http", "https"):
        raise ValueError("base_url must start with https:// (http:// only for loopback)")
    if parts.query or parts.fragment or not host or port == 0 or not base_url.isprintable() or " " in base_url:
        raise ValueError("base_url must be an origin like https://host.example")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("base_url must start with https:// (http:// only for loopback)")
    return parts.scheme + base_url[len(parts.scheme) :].rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

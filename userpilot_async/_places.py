"""Where an outbox is, written as a URL."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

from ._outbox import MemoryOutbox, Outbox

# By scheme: a module, and what in it makes an outbox of a URL. By name, so that nobody loads what is not asked for.
_REDIS = ("redis", "RedisOutbox")
_SCHEMES = {
    "sqlite": ("sqlite", "SQLiteOutbox"), "redis": _REDIS, "rediss": _REDIS, "unix": _REDIS,
    "redis+sentinel": _REDIS, "rediss+sentinel": _REDIS, "redis+cluster": _REDIS, "rediss+cluster": _REDIS,
}  # fmt: skip
T = TypeVar("T")


def word_in_url(name: str, value: str) -> str:
    """An option as it is written. Raises `ValueError`, as the others do."""
    return value


def flag_in_url(name: str, value: str) -> bool:
    """``true`` or ``false``."""
    if value not in ("true", "false"):
        raise ValueError(f"{name} must be true or false, not {value}")
    return value == "true"


def number_in_url(kind: Callable[[str], T]) -> Callable[[str, str], T]:
    """A number of this kind."""

    def number(name: str, value: str) -> T:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"{name} must be a{' whole' if kind is int else ''} number, not {value}") from None

    return number


def outbox_at(place: Outbox | str | None) -> Outbox:
    """The outbox itself, or the one at a URL: ``memory://``, ``sqlite:///events.db``, ``redis://host/0``.

    Raises `ValueError`; `ImportError` where an extra is not installed.
    """
    if place is None or place == "memory://":
        return MemoryOutbox()
    if not isinstance(place, str):
        return place
    scheme = place.partition("://")[0]
    if "://" not in place:
        raise ValueError(f"outbox must be an Outbox or a URL; a file is sqlite:///{place}")
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://…" for name in ("memory", *_SCHEMES))
        raise ValueError(f"outbox is {scheme}://…, and this version knows {known}")
    module, name = _SCHEMES[scheme]
    made: Outbox = getattr(import_module(f".{module}", __package__), name).from_url(place)
    return made

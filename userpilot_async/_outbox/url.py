"""Where an outbox is, written as a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError, without_frames
from .memory import MemoryOutbox
from .protocol import Outbox

if TYPE_CHECKING:
    from .admin import OutboxAdmin  # which clients need not load

# By scheme: a module, and what in it makes an outbox of a URL. By name, so that nothing is loaded without need.
_REDIS, _POSTGRES = ("redis", "RedisOutbox"), ("postgres", "PostgresOutbox")
_SCHEMES = {
    "sqlite": ("sqlite", "SQLiteOutbox"), "redis": _REDIS, "rediss": _REDIS, "unix": _REDIS,
    "redis+sentinel": _REDIS, "rediss+sentinel": _REDIS, "redis+cluster": _REDIS, "rediss+cluster": _REDIS,
    "postgresql": _POSTGRES, "postgres": _POSTGRES,
}  # fmt: skip
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_OURS = "|".join(map(re.escape, _SCHEMES))
# A scheme, with a slash behind its colon, or one of ours with a colon; redis// without one; what looks like a user, or
# a password, and does not begin as a path does; an option that is a password, perhaps mistyped.
_URL = re.compile(
    rf"\s*(?:[a-z][a-z0-9+.-]+:/|(?:{_OURS}):|rediss?[+a-z]*//|(?!/[^/]|\.{{1,2}}/|~).*(?::|//).*@|.*pass\w*=)",
    re.DOTALL | re.IGNORECASE,
)
_WORD = re.compile(r"[\w.+-]{1,20}")
_METHODS = ("open", "put", "hold", "take", "settle", "aclose")  # of an `Outbox`: what else has all of these?
AnyPlace = Outbox | str | os.PathLike[str]
"""An outbox, its URL, or the path of its file. The protocol is our own: nothing promises it to others."""

Readers = Mapping[str, Callable[[str, str], Any]]
"""How the options of a kind of outbox are read in a URL, by their names: from a name and a value."""

T = TypeVar("T")


def may_be_url(text: str) -> bool:
    """A URL, right or mistyped, and no name of a file: it may have a password in it, and is quoted nowhere."""
    return _URL.match(text) is not None


def quoted(value: str) -> str:
    """A value as a message shows it; not so, where it may be a piece of something else that was mistyped."""
    return value if _WORD.fullmatch(value) else "…"


def word_in_url(name: str, value: str) -> str:
    """An option as it is written. Raises `ConfigurationError`, as the others do."""
    return value


def flag_in_url(name: str, value: str) -> bool:
    """The flag that is written as ``true`` or ``false``. Raises `ConfigurationError`."""
    if value not in ("true", "false"):
        raise ConfigurationError(f"{name} must be true or false, not {quoted(value)}")
    return value == "true"


def number_in_url(kind: Callable[[str], T]) -> Callable[[str, str], T]:
    """A number of this kind."""

    def number(name: str, value: str) -> T:
        try:
            return kind(value)
        except ValueError:
            raise ConfigurationError(
                f"{name} must be a{' whole' if kind is int else ''} number, not {quoted(value)}"
            ) from None

    return number


def split_query(query: str, own: Readers) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Split the query of a URL into our own options, by name, and all others, as they are written there.

    Raises `ConfigurationError` if one of ours has a value that it cannot have.
    """
    options: dict[str, Any] = {}
    others = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in own:
            options[name] = own[name](name, value)
        else:
            others.append((name, value))
    return options, others


def outbox_at(place: AnyPlace | None, called: str = "outbox") -> Outbox:
    """The outbox itself, or the one at a URL (``memory://``, ``sqlite:///events.db``, ``redis://host/0``,
    ``postgresql://host/database``) or path.

    Raises `ConfigurationError`, in which the place is ``called`` so; `ImportError` where an extra is not installed.
    Neither has the URL in its words, or in the locals of a frame of ours.
    """
    try:
        return _outbox_at(place, called)
    except (ConfigurationError, ImportError) as error:
        refusal = without_frames(error)
    del place
    raise refusal


def admin_at(url: str) -> OutboxAdmin:
    """The outbox at a URL from outside.

    Raises as `outbox_at` does, and `ConfigurationError` for one that is in a process's memory.
    """
    outbox: Any = outbox_at(url)
    if not outbox.durable:
        raise ConfigurationError("an outbox in memory can be inspected only by the process that has it")
    admin: OutboxAdmin = outbox.admin()
    return admin


def _outbox_at(place: AnyPlace | None, called: str) -> Outbox:
    if place is None or place == "memory://":
        return MemoryOutbox()
    if isinstance(place, os.PathLike):
        made: Outbox = _maker("sqlite")(place)
        return made
    if not isinstance(place, str):
        if isinstance(place, type) or not all(callable(getattr(place, name, None)) for name in _METHODS):
            kinds = "a MemoryOutbox, SQLiteOutbox or RedisOutbox, a URL, or a Path"
            raise ConfigurationError(f"{called} {must_be(kinds, place)}")
        return place
    scheme, is_url, _ = place.partition("://")
    if ":memory:" in place:
        raise ConfigurationError(
            f"{called} names SQLite's database in memory, which keeps nothing: leave it out, or use memory://"
        )
    if not is_url:
        file = place if place.isprintable() and not may_be_url(place) else "path"
        raise ConfigurationError(f"{called} must be a URL; a file is sqlite:///{file}")
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://…" for name in ("memory", *_SCHEMES))
        what = f"is {scheme}://…" if _SCHEME.fullmatch(scheme) else "is no URL"
        raise ConfigurationError(f"{called} {what}, and this version knows {known}")
    try:
        made = _maker(scheme).from_url(place)
    except ConfigurationError as error:
        if called == "outbox":
            raise
        raise ConfigurationError(f"{called}: {error}") from None
    return made


def _maker(scheme: str) -> Any:
    module, name = _SCHEMES[scheme]
    return getattr(import_module(f"..{module}", __package__), name)

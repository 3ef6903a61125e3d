"""Variables of the environment. An empty one counts as unset; no file, such as ``.env``, is ever read."""

from __future__ import annotations

import os
from typing import TypeVar

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError

T = TypeVar("T")

ON = ("true", "1", "yes", "on")
OFF = ("false", "0", "no", "off")


def variable(name: str) -> str | None:
    """Read the variable ``name``; ``None`` if it is unset, or empty, as ``${NAME:-}`` in a compose file leaves it."""
    return os.environ.get(name) or None


def flag(name: str) -> bool | None:
    """Read the variable ``name``, which is true or false, in any case; ``None`` if it is unset, or blank.

    Raises `ConfigurationError` with its name.
    """
    text = (variable(name) or "").strip().lower()
    if not text:
        return None
    if text not in (*ON, *OFF):
        raise ConfigurationError(f"{name} must be one of {', '.join(ON)}, or one of {', '.join(OFF)}")
    return text in ON


def flag_given(value: bool | None, argument: str, name: str) -> bool:
    """Give the ``value`` of an ``argument``, or that of the variable ``name``, which is false where neither is set.

    Raises `ConfigurationError` for a value that is no bool, and as `flag` does.
    """
    if value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{argument} {must_be('a bool or None', value)}")
    return value if value is not None else flag(name) or False


def given(value: T | None, argument: str, name: str) -> tuple[T | str | None, str]:
    """Give the ``value`` of an ``argument``, or that of the variable ``name``; and what to call it in a message."""
    return (value, argument) if value is not None else (variable(name), name)

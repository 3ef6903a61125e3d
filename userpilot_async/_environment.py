"""What the environment says. A variable that is empty is unset; no file, such as ``.env``, is ever read."""

from __future__ import annotations

import os
from typing import TypeVar

from ._errors import ConfigurationError

T = TypeVar("T")

_FLAGS = {
    "true": True, "1": True, "yes": True, "on": True,
    "false": False, "0": False, "no": False, "off": False,
}  # fmt: skip


def variable(name: str) -> str | None:
    """What a variable says; ``None`` if it is unset, or empty, as ``${NAME:-}`` in a compose file leaves it."""
    return os.environ.get(name) or None


def flag(name: str) -> bool | None:
    """What a variable says that is true or false; ``None`` as `variable`. Raises `ConfigurationError` with its name."""
    text = variable(name)
    if text is None:
        return None
    if text.lower() not in _FLAGS:
        raise ConfigurationError(f"{name} must be true, 1, yes or on; or false, 0, no or off")
    return _FLAGS[text.lower()]


def given(value: T | None, argument: str, name: str) -> tuple[T | str | None, str]:
    """The argument if there is one, else what the variable ``name`` says; and what to call that in a message."""
    return (value, argument) if value is not None else (variable(name), name)

"""Whether a client is switched off: by its argument, else by an environment variable."""

from __future__ import annotations

from typing import NoReturn

import attrs

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError, Unavailable
from .environment import flag, variable


@attrs.frozen
class SwitchedOff:
    """Stands where the API key would: none is asked for, and no request is made.

    ``by`` is what switched the client off, as messages name it: ``disabled=True`` or ``USERPILOT_DISABLED=1``.
    """

    by: str

    def __call__(self) -> NoReturn:
        """Raise `Unavailable`, which names what to undo."""
        raise Unavailable(f"the client is switched off ({self.by}), so it makes no request; {self.undo}")

    @property
    def undo(self) -> str:
        """The remedy, for messages: how to have requests made."""
        variable = self.by.partition("=")[0]
        return "leave disabled=True out to send" if variable == "disabled" else f"unset {variable} to send"


def switched_off(disabled: bool | None, name: str) -> SwitchedOff | None:
    """Give what switches the client off, or ``None``. ``disabled`` wins over the variable called ``name``.

    Raises `ConfigurationError` for a ``disabled`` that is no bool, and for a variable that is no `flag`.
    """
    if disabled is not None:
        if not isinstance(disabled, bool):
            raise ConfigurationError(f"disabled {must_be('a bool or None', disabled)}")
        return SwitchedOff("disabled=True") if disabled else None
    return SwitchedOff(f"{name}={(variable(name) or '').strip()}") if flag(name) else None

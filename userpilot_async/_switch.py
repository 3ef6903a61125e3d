"""Whether a client is switched off: by its argument, else by an environment variable."""

from __future__ import annotations

import os
from typing import NoReturn

import attrs

from ._environment import flag
from ._errors import ConfigurationError, Unavailable
from ._foreign import must_be


@attrs.frozen
class SwitchedOff:
    """Stands where the API key would: nobody is asked for one, and no request is made.

    ``by`` is what switched the client off, as messages name it: ``disabled=True`` or ``USERPILOT_DISABLED=1``.
    """

    by: str

    def __call__(self) -> NoReturn:
        """Raise `Unavailable`, which names what to undo."""
        raise Unavailable(f"the client is switched off ({self.by}), so it makes no request; {self.undo}")

    @property
    def undo(self) -> str:
        """What to do to have requests made."""
        variable = self.by.partition("=")[0]
        return "leave disabled=True out to send" if variable == "disabled" else f"unset {variable} to send"


def switched_off(disabled: bool | None, variable: str) -> SwitchedOff | None:
    """What switches the client off, or ``None`` if nothing does. ``disabled`` wins over the environment's ``variable``.

    Raises `ConfigurationError` for a ``disabled`` that is no bool, and for a variable that is neither one of
    true, 1, yes, on nor one of false, 0, no, off (in any case). An empty variable is one that is not set.
    """
    if disabled is not None:
        if not isinstance(disabled, bool):
            raise ConfigurationError(f"disabled {must_be('a bool or None', disabled)}")
        return SwitchedOff("disabled=True") if disabled else None
    return SwitchedOff(f"{variable}={os.environ[variable]}") if flag(variable) else None

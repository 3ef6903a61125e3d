"""Arguments that the clients of all destinations take, checked in one way."""

from __future__ import annotations

from typing import Any, TypeVar

from .._errors.foreign import must_be
from .._errors.secret import Hidden
from .._errors.tree import ConfigurationError
from .._outbox.protocol import Outbox
from .._outbox.url import AnyPlace, outbox_at
from .._runtime.disabled import SwitchedOff
from .._runtime.environment import given
from .._settings import DeliverySettings

S = TypeVar("S", bound=DeliverySettings)


def checked_settings(settings: S | None, kind: type[S]) -> S:
    """The settings, or the defaults of their ``kind``; raises `ConfigurationError` for those of another kind."""
    if settings is not None and not isinstance(settings, kind):
        raise ConfigurationError(f"settings {must_be(kind.__name__, settings)}")
    return settings if settings is not None else kind()


def outbox_given(outbox: Hidden[Any], variable: str, switch: SwitchedOff | None) -> Outbox | None:
    """The outbox that was given, or else named by the environment's ``variable``; raises `ConfigurationError`.

    ``None`` for a client that is switched off: the place need not be there, nor the library that reaches it.
    """
    place: AnyPlace | None
    place, called = given(outbox.reveal(), "outbox", variable)
    try:
        return outbox_at(place, called) if switch is None else None
    finally:
        del place  # a URL may have a password: no frame that an exception leaves shows it

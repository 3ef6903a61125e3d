"""Calls for Parcelvoy as values: what each says, checked when it is made.

Sources: docs.parcelvoy.com, "Client API", read 2026-10; for the lengths, the server's database schema
(github.com/parcelvoy/platform, ``apps/platform/db``, read 2026-11): it answers 204 before it looks at them, so that
what is too long would be lost without a word. What else is taken and lost was seen at a real server (2.3.3, 2026-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import attrs

from .._calls.dedupe import checked_dedupe_or_none, with_dedupe
from .._calls.ndjson import call_of, object_on
from .._calls.values import checked_id, checked_time, iso_utc
from .._errors.foreign import is_a
from .._errors.tree import InvalidCall
from ._data import checked_data

MAX_TEXT = 255  # characters of an id, a name, an address: the server's columns
MAX_PHONE = 64
FIELDS = ("email", "phone", "timezone", "locale")  # of a person, beside the ids and ``data``
Data = Mapping[str, Any] | None
"""JSON: nested mappings and lists of str, int, float, bool and None; `Any` because that cannot be said in a type."""


class Clear(Enum):
    """The type of `CLEAR`, which has no other value."""

    CLEAR = "clear"


CLEAR: Final = Clear.CLEAR
"""For a field of a person that is to be empty again: it goes over the wire as ``null``, where ``None`` says nothing."""

Field = str | Literal[Clear.CLEAR] | None


def _name(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _keep(instance, attribute, checked_id(value, attribute.name, MAX_TEXT))


def _keep(instance: object, attribute: attrs.Attribute[Any], text: str) -> None:
    """Set the plain text, not the instance of a subclass that was given, whose methods may do anything."""
    object.__setattr__(instance, attribute.name, text)


def _name_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _name(instance, attribute, value)


def _text_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check as `_name` does; an empty text is taken too."""
    if is_a(value, str) and not str.__str__(value):
        _keep(instance, attribute, "")
    else:
        _name_or_none(instance, attribute, value)


def _field(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a field of a person. An empty text is refused: the server would keep it as an address."""
    if value is CLEAR or value is None:
        return
    if is_a(value, str) and not str.__str__(value):
        raise InvalidCall(attribute.name, "must not be empty or blank: CLEAR takes an earlier one back")
    most = MAX_PHONE if attribute.name == "phone" else MAX_TEXT
    _keep(instance, attribute, checked_id(value, attribute.name, most))


@lru_cache(maxsize=1_024)  # each reads the disk
def _is_time_zone(name: str) -> bool:
    try:
        # Beside the names of zones, and one of no place, for which the server's ICU has no rules: it answers 422.
        is_file = name.startswith(("posix", "right/", "localtime", "Factory"))
        return ZoneInfo(name) is not None and not is_file
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a directory, an OSError
        return False


def _time_zone(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is CLEAR or value is None:
        return
    _name(instance, attribute, value)
    name = getattr(instance, attribute.name)
    if not _is_time_zone(name) and _is_time_zone("Europe/London"):  # else this machine knows none
        raise InvalidCall("timezone", "must be the IANA name of a time zone, like 'Europe/London'")


class _Person:
    """A call about a person, by the id your system knows them by, by one from before you knew them, or by both."""

    __slots__ = ()
    external_id: str | None
    anonymous_id: str | None

    def __attrs_post_init__(self) -> None:
        if self.external_id is None and self.anonymous_id is None:
            raise missing_id()

    def _ids(self) -> dict[str, Any]:
        return _given(external_id=self.external_id, anonymous_id=self.anonymous_id)


def missing_id() -> InvalidCall:
    """Make the error for a call that does not say whose it is."""
    return InvalidCall("external_id", "is missing, and so is anonymous_id: one of them must say whose this is")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@attrs.frozen
class Identify(_Person):
    """Says what is known of a person: fields and ``data`` that changed; `CLEAR` empties a field.

    A ``None`` in ``data`` is sent as it is.
    """

    external_id: str | None = attrs.field(default=None, validator=_name_or_none)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    email: Field = attrs.field(default=None, validator=_field, kw_only=True)
    phone: Field = attrs.field(default=None, validator=_field, kw_only=True)
    timezone: Field = attrs.field(default=None, validator=_time_zone, kw_only=True)
    locale: Field = attrs.field(default=None, validator=_field, kw_only=True)
    data: Mapping[str, Any] = attrs.field(default=None, converter=checked_data, kw_only=True)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def fields(self) -> dict[str, Any]:
        """Give all fields that were given, but for ``data``; one that is to be cleared is ``None``."""
        given = _given(email=self.email, phone=self.phone, timezone=self.timezone, locale=self.locale)
        return self._ids() | {name: None if value is CLEAR else value for name, value in given.items()}

    def as_dict(self) -> dict[str, Any]:
        """Give the call as one line of an NDJSON file that ``userpilot-async send --to parcelvoy`` reads."""
        return with_dedupe({"type": "identify", **self.fields(), "data": dict(self.data)}, self.dedupe)


@attrs.frozen
class Alias:
    """The person known by ``anonymous_id`` is the one known by ``external_id``. Done once."""

    anonymous_id: str = attrs.field(validator=_name)
    external_id: str = attrs.field(validator=_name)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Give the call as one line of NDJSON, as `Identify.as_dict`."""
        line = {"type": "alias", "anonymous_id": self.anonymous_id, "external_id": self.external_id}
        return with_dedupe(line, self.dedupe)


@attrs.frozen
class Device(_Person):
    """A device of a person's; ``token`` is its address for push notifications."""

    device_id: str = attrs.field(validator=_name)
    external_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    os: str = attrs.field(validator=_name, kw_only=True)
    model: str = attrs.field(validator=_name, kw_only=True)
    app_build: str = attrs.field(validator=_name, kw_only=True)
    app_version: str = attrs.field(validator=_name, kw_only=True)
    token: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    os_version: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def body(self) -> dict[str, Any]:
        """Give the fields that go over the wire."""
        return attrs.asdict(self, filter=lambda field, value: value is not None and field.name != "dedupe")

    def as_dict(self) -> dict[str, Any]:
        """Give the call as one line of NDJSON, as `Identify.as_dict`."""
        return with_dedupe({"type": "device", **self.body()}, self.dedupe)


@attrs.frozen
class Track(_Person):
    """Something a person did. ``occurred_at`` is aware: see `ParcelvoySettings.occurred_at_key`."""

    name: str = attrs.field(validator=_name)
    external_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    data: Mapping[str, Any] = attrs.field(default=None, converter=checked_data, kw_only=True)
    occurred_at: datetime | None = attrs.field(default=None, converter=checked_time, kw_only=True)
    dedupe: str | None = attrs.field(default=None, converter=checked_dedupe_or_none, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Give the call as one line of NDJSON, as `Identify.as_dict`."""
        line: dict[str, Any] = {"type": "track", "name": self.name, **self._ids(), "data": dict(self.data)}
        line = line if self.occurred_at is None else line | {"occurred_at": iso_utc(self.occurred_at)}
        return with_dedupe(line, self.dedupe)


def with_clear(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give ``fields`` as they were said, with `CLEAR` for each ``null`` of a person's fields."""
    return {name: CLEAR if value is None and name in FIELDS else value for name, value in fields.items()}


Call = Identify | Alias | Device | Track
_TYPES: dict[str, Any] = {"identify": Identify, "alias": Alias, "device": Device, "track": Track}


def from_line(line: bytes | str) -> Call:
    """Read a call from one ``line`` of NDJSON; raises `InvalidCall`, naming the field.

    A ``null`` of an identify's field clears it, as `Identify.as_dict` writes it.
    """
    call: Call = call_of(with_clear(object_on(line)), _TYPES)
    return call

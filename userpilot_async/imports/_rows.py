"""The rows of an import: four types, each checked on birth, and the same checks for a row out of a file.

Decided here is which fields a type of row has, and must have; one field is checked in `_fields`.

Source: docs.userpilot.com, "Import event schema", read 2026-10. What it leaves open is held to the rules of the
realtime endpoints: ids, and the names, values and number of properties.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

import attrs

from .._calls.values import (
    Convertible,
    checked_company_id,
    checked_event_name,
    checked_user_id,
    quoted,
)
from .._errors.foreign import is_a, items_of, raised
from .._errors.tree import InvalidCall
from ._fields import DEFAULT_SOURCE, Source, checked_source, event_properties, pixels_check, text_check, user_properties
from ._timestamps import moment_text
from .converters._rows import Converted

_TEXTS = (
    "hostname", "pathname", "url", "country_code", "operating_system", "browser", "browser_language", "user_agent",
    "device_type",
)  # fmt: skip
_PIXELS = ("screen_width", "screen_height")
_OWN_MAPPINGS = (dict, Converted)  # whose length and items are those of a dict


# ── a row out of a file ──


def _event_type(value: Any) -> Any:
    return str.__str__(value)  # it is known, or its checks would not have been found


_ANY: dict[str, Callable[[Any], Any]] = {
    "event_type": _event_type,
    "source": checked_source,
    "inserted_at": moment_text,
}
_OF_USERS: dict[str, Callable[[Any], Any]] = {
    **_ANY,
    "user_id": checked_user_id,
    "company_id": checked_company_id,
    "event_name": checked_event_name,
    **{name: text_check(name) for name in _TEXTS},
    **{name: pixels_check(name) for name in _PIXELS},
}


@attrs.frozen
class _Rules:
    """Rules of one type of row: the fields that it may have, and those that it must."""

    checks: Mapping[str, Callable[[Any], Any]]
    required: tuple[str, ...]
    ignores_others: bool = False
    on_a_page: bool = False


_RULES: dict[str, _Rules] = {
    "identify_user": _Rules({**_OF_USERS, "metadata": user_properties}, ("user_id", "inserted_at")),
    "identify_company": _Rules(
        {**_ANY, "company_id": checked_company_id, "metadata": user_properties},
        ("company_id", "inserted_at"),
        ignores_others=True,
    ),
    "page_view": _Rules({**_OF_USERS, "metadata": event_properties}, ("user_id", "inserted_at"), on_a_page=True),
    "track": _Rules({**_OF_USERS, "metadata": event_properties}, ("user_id", "event_name", "inserted_at")),
}


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it goes into an upload, from an untyped one; raises `InvalidCall` with the field and the rule.

    ``None`` and an empty text are no value: the field is left out, and `source` and `metadata` get their defaults. A
    `url` stands for `hostname` and `pathname`, which are then left out. A field that no row has is refused, because it
    is a typo that would lose data without a word; only of `identify_company` rows the rest is ignored, as documented.
    """
    at = "row"
    try:
        event_type = fields.get("event_type")
        rules = _RULES.get(str.__str__(event_type)) if is_a(event_type, str) else None
        if rules is None:
            raise InvalidCall("event_type", f"must be one of {', '.join(_RULES)}")
        checks = rules.checks
        row: dict[str, Any] = {}
        for given, value in fields.items() if type(fields) in _OWN_MAPPINGS else items_of(fields):
            kind = type(value)
            if value is None or (not value if kind is str else issubclass(kind, str) and not str.__str__(value)):
                continue
            name = given if type(given) is str else str.__str__(given) if is_a(given, str) else ""
            check = checks.get(name)
            if check is not None:
                at = name
                row[name] = check(value)
                at = "row"
            elif not rules.ignores_others:
                raise InvalidCall(quoted(name) if is_a(given, str) else "row", "is no field of an import row")
    except InvalidCall:
        raise
    except Exception as error:  # of the row's own methods, or of a value's
        raise raised(at, error) from None
    for name in rules.required:
        if name not in row:
            raise InvalidCall(name, "is missing")
    if "source" not in row:
        row["source"] = DEFAULT_SOURCE
    if "metadata" not in row:
        row["metadata"] = {}
    if not rules.ignores_others:
        _settle_the_page(row, rules)
    return row


def _settle_the_page(row: dict[str, Any], rules: _Rules) -> None:
    """Where it happened, and with what browser, if the row must say so."""
    from_browser = row["source"] == "web-client"
    if "url" in row:
        row.pop("hostname", None)
        row.pop("pathname", None)
    elif rules.on_a_page or from_browser:
        who = f"a {row['event_type']} row" if rules.on_a_page else "a row of web-client"
        for name in ("hostname", "pathname"):
            if name not in row:
                raise InvalidCall(name, f"is missing: {who} needs hostname and pathname, or url")
    if from_browser and "user_agent" not in row:
        raise InvalidCall("user_agent", "is missing: a row of web-client needs it")


# ── rows written in Python ──


@attrs.frozen(kw_only=True)
class _Row:
    """Checked on birth by `checked`; what it holds afterwards is what goes into the upload."""

    event_type: ClassVar[str]

    inserted_at: datetime | str
    """When it happened: an aware datetime, or ISO 8601 (in UTC where it has no offset). Held as text."""
    metadata: Mapping[str, Convertible] = attrs.field(factory=dict)
    source: Source = DEFAULT_SOURCE

    def __attrs_post_init__(self) -> None:
        names = [field.name for field in attrs.fields(type(self))]
        row = checked({"event_type": self.event_type, **{name: getattr(self, name) for name in names}})
        for name in names:
            object.__setattr__(self, name, row.get(name))

    def as_dict(self) -> dict[str, Any]:
        """The row of the upload: no need to have it `checked` again."""
        row: dict[str, Any] = {"event_type": self.event_type}
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value is not None:
                row[field.name] = dict(value) if field.name == "metadata" else value
        return row


@attrs.frozen(kw_only=True)
class _UserRow(_Row):
    """Fields that all rows of users have. All but the `user_id` may be left out."""

    user_id: str
    company_id: str | None = None
    """The company the user belonged to at that moment."""
    hostname: str | None = None
    pathname: str | None = None
    url: str | None = None
    """Stands for `hostname` and `pathname`, which are then not sent."""
    country_code: str | None = None
    screen_width: int | None = None  # pixels, both
    screen_height: int | None = None
    operating_system: str | None = None
    """Derived by the vendor from the `user_agent`, if there is one; the browser, too."""
    browser: str | None = None
    browser_language: str | None = None
    user_agent: str | None = None
    device_type: str | None = None


@attrs.frozen(kw_only=True)
class IdentifyUser(_UserRow):
    """Facts that were known of a user: up to 500 properties in `metadata`, ``None`` for one to remove."""

    event_type: ClassVar[str] = "identify_user"


@attrs.frozen(kw_only=True)
class IdentifyCompany(_Row):
    """Facts that were known of a company; the same rules as for a user."""

    event_type: ClassVar[str] = "identify_company"

    company_id: str


@attrs.frozen(kw_only=True)
class PageView(_UserRow):
    """A user looked at a page: `hostname` and `pathname`, or `url`."""

    event_type: ClassVar[str] = "page_view"


@attrs.frozen(kw_only=True)
class TrackEvent(_UserRow):
    """A user did something: `metadata` is at most 10 KB."""

    event_type: ClassVar[str] = "track"

    event_name: str


FIELDS = tuple(_RULES["track"].checks)
"""Every field that a row can have; a company's are some of them."""

Row = IdentifyUser | IdentifyCompany | PageView | TrackEvent

"""Mixpanel: events as its raw export writes them, and user profiles as its Engage query does.

Sources, read 2026-11: docs.mixpanel.com, "Event Export API" (JSON lines), "Default Properties", "Reserved Properties",
"Company analytics", "Query Profiles"; mixpanel.com/help, "Exporting Raw Data" (time zones).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..._errors.tree import InvalidCall
from .._timestamps import epoch_text
from ._common import (
    JOINS_NOBODY,
    NO_EVENT,
    Exported,
    attempt,
    country,
    country_name,
    first,
    flat,
    identity,
    is_company,
    is_device,
    members,
    named,
    one_of,
    other_group,
    page,
    pixels,
    row,
    short,
    text,
)
from ._people import reserved
from ._rows import Rows

_OWN = ("$", "mp_")
_OF_THE_EVENT = ("distinct_id", "time", "token")
_JOINING = ("$identify", "$create_alias", "$merge")
_PAGE_VIEW = "$mp_web_page_view"
_OF_PROFILES = {
    "$name": "name", "$first_name": "first_name", "$last_name": "last_name", "$email": "email", "$phone": "phone",
    "$avatar": "avatar", "$created": "created_at",
}  # fmt: skip
"""Reserved properties of a profile that are the user's, and what Userpilot calls them."""


def from_mixpanel(line: Exported, company_group: str | None = None) -> Rows:
    """The rows of one event, of one profile (``{"$distinct_id": …, "$properties": {…}}``), or of a page of profiles.

    ``$mp_web_page_view`` is a page view. Other events that Mixpanel itself records (``$identify``, ``$mp_click`` …)
    have no rows, and the properties that it collects go only where a row has a field for them; those of the user
    (``$email``, ``$name`` …) are a user row. The property ``company_id`` (or ``company_group``) is the company, as
    Mixpanel's guide for companies calls it. Times are taken as UTC; those of a project from before 2023 may be in its
    own time zone, see "Exporting Raw Data". A profile is dated with its ``$last_seen``, or else with its ``$created``,
    or else with the time of its conversion. A profile with a ``$group_key`` is a company's, or another group's.
    """
    group = company_group or "company_id"
    rows = Rows()
    if "event" not in line and isinstance(line.get("results"), list):
        for profile in line["results"]:
            if not isinstance(profile, dict):
                raise InvalidCall("results", "must be an array of objects")
            _profile(rows, profile, group, company_group)
        return rows if rows or rows.skipped else rows.skip("results", "a page without profiles")
    if "event" not in line and not line.keys().isdisjoint(("$distinct_id", "$group_id")):
        _profile(rows, line, group, company_group)
        return rows
    name = named(line, "event")
    properties = members(line, "properties")
    time = first(properties, "time", "$time")
    person = {
        "user_id": user_of(properties),
        "company_id": one_of(properties.get(group)),
        "inserted_at": None if time is None else epoch_text(time),
        **_page_of(properties, name),
        **_surroundings(properties),
        "country_code": country(properties.get("mp_country_code")),
    }
    known, once = reserved(_reserved_in(properties))
    if known:
        rows.append(row("identify_user", once, implied=True, **person, metadata=attempt(lambda: flat(known))))
    if name.startswith(_OWN) and name != _PAGE_VIEW:
        return rows.skip(short(name), JOINS_NOBODY if name in _JOINING else NO_EVENT)
    place = country_name(properties.get("mp_country_code"))
    without = {*_OF_THE_EVENT, group, *_OF_PROFILES}
    metadata = attempt(lambda: {**place, **flat(properties, without, _OWN, rows)})
    if name == _PAGE_VIEW:
        rows.append(row("page_view", **person, metadata=metadata))
    else:
        rows.append(row("track", **person, event_name=name, metadata=metadata))
    return rows


def _profile(rows: Rows, line: Exported, group: str, company_group: str | None) -> None:
    properties = members(line, "$properties")
    at = first(properties, "$last_seen", "$created")
    if at is None:
        rows.note("profiles without `$last_seen` and `$created`: dated with the time of this conversion")
        at = datetime.now(UTC)
    kind = first(line, "$group_key") or first(properties, "$group_key")
    if kind is not None:
        _group_profile(rows, line, properties, at, text(kind) or "", company_group)
        return
    known, once = reserved({**_reserved_in(properties), **_others(properties)})
    metadata = attempt(lambda: {**country_name(properties.get("$country_code")), **flat(known, [group], _OWN, rows)})
    rows.append(
        row(
            "identify_user",
            once,
            user_id=identity(line.get("$distinct_id")),
            company_id=one_of(properties.get(group)),
            inserted_at=at,
            country_code=country(properties.get("$country_code")),
            metadata=metadata,
            **_surroundings(properties),
        )
    )


def _group_profile(
    rows: Rows, line: Exported, properties: dict[str, Any], at: object, kind: str, company_group: str | None
) -> None:
    if not is_company(kind, company_group):
        rows.skip("profile of a group", other_group(kind))
        return
    company_id = identity(line.get("$group_id"), properties.get("$group_id"), line.get("$distinct_id"))
    known, _ = reserved({**_reserved_in(properties), **_others(properties)})
    metadata = attempt(lambda: flat(known, own=_OWN, notes=rows))
    rows.append(row("identify_company", company_id=company_id, inserted_at=at, metadata=metadata))


def user_of(properties: dict[str, Any]) -> str | None:
    """The id that the application knows, where one of them is such; a device's is one of the last resort."""
    ids = [identity(properties.get(name)) for name in ("$user_id", "distinct_id", "$distinct_id_before_identity")]
    ours = next((one for one in ids if one is not None and not is_device(one)), None)
    return ours or identity(properties.get("distinct_id"), properties.get("$device_id"))


def _page_of(properties: dict[str, Any], name: str) -> dict[str, str]:
    url = properties.get("$current_url")
    if name != _PAGE_VIEW:
        return page(url)
    return page(url, properties.get("current_domain"), properties.get("current_url_path"))


def _reserved_in(properties: dict[str, Any]) -> dict[str, Any]:
    return {ours: properties[theirs] for theirs, ours in _OF_PROFILES.items() if theirs in properties}


def _others(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in _OF_PROFILES}


def _surroundings(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "screen_width": pixels(properties.get("$screen_width")),
        "screen_height": pixels(properties.get("$screen_height")),
        "operating_system": text(properties.get("$os")),
        "browser": text(properties.get("$browser")),
        "device_type": text(properties.get("$device")),
    }

"""Mixpanel: events as its raw export writes them, and user profiles as its Engage query does.

Sources, read 2026-11: docs.mixpanel.com, "Event Export API" (JSON lines), "Default Properties", "Reserved Properties",
"Company analytics", "Query Profiles"; mixpanel.com/help, "Exporting Raw Data" (time zones).
"""

from __future__ import annotations

from typing import Any

from .._timestamps import epoch_text
from ._common import Exported, Rows, country, first, flat, identity, members, named, one_of, page, pixels, row, text

_OWN = ("$", "mp_")
_OF_THE_EVENT = ("distinct_id", "time", "token", "company_id")
_PAGE_VIEW = "$mp_web_page_view"
_OF_PROFILES = {
    "$name": "name", "$first_name": "first_name", "$last_name": "last_name", "$email": "email", "$phone": "phone",
    "$avatar": "avatar", "$created": "created_at",
}  # fmt: skip
"""Reserved properties of a profile that are the user's, and what Userpilot calls them."""


def from_mixpanel(line: Exported) -> Rows:
    """The row of one event, or of one profile (``{"$distinct_id": …, "$properties": {…}}``), which is a user's.

    ``$mp_web_page_view`` is a page view. Other events that Mixpanel itself records (``$identify``, ``$mp_click`` …)
    have no rows, and the properties that it collects go only where a row has a field for them. The property
    ``company_id`` is the company, as Mixpanel's guide for companies calls it. Times are taken as UTC; those of a
    project from before 2023 may be in its own time zone, see "Exporting Raw Data". A profile is dated with its
    ``$last_seen``.
    """
    if "$distinct_id" in line and "event" not in line:
        return [_profile(line)]
    name = named(line, "event")
    properties = members(line, "properties")
    time = first(properties, "time", "$time")
    person = {
        "user_id": identity(properties.get("$user_id"), properties.get("distinct_id"), properties.get("$device_id")),
        "company_id": one_of(properties.get("company_id")),
        "inserted_at": None if time is None else epoch_text(time),
        **page(properties.get("$current_url")),
        **_surroundings(properties),
        "country_code": country(properties.get("mp_country_code")),
    }
    metadata = flat(properties, _OF_THE_EVENT, _OWN)
    if name == _PAGE_VIEW:
        return [row("page_view", **person, metadata=metadata)]
    if name.startswith(_OWN):
        return []
    return [row("track", **person, event_name=name, metadata=metadata)]


def _profile(line: Exported) -> dict[str, Any]:
    properties = members(line, "$properties")
    known = {ours: properties[theirs] for theirs, ours in _OF_PROFILES.items() if theirs in properties}
    return row(
        "identify_user",
        user_id=identity(line["$distinct_id"]),
        company_id=one_of(properties.get("company_id")),
        inserted_at=first(properties, "$last_seen", "$created"),
        country_code=country(properties.get("$country_code")),
        metadata={**flat(known), **flat(properties, ["company_id"], _OWN)},
        **_surroundings(properties),
    )


def _surroundings(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "screen_width": pixels(properties.get("$screen_width")),
        "screen_height": pixels(properties.get("$screen_height")),
        "operating_system": text(properties.get("$os")),
        "browser": text(properties.get("$browser")),
        "device_type": text(properties.get("$device")),
    }

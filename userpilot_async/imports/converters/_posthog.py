"""PostHog: events as its batch exports write them.

Sources, read 2026-11: posthog.com/docs, "S3 destination for batch exports" (events model, JSON lines), "Capture and
batch API endpoints" (the special events and their properties), and posthog-js, "Properties" (what it collects).
"""

from __future__ import annotations

from typing import Any

from ._common import (
    Exported,
    Rows,
    company_in,
    company_type,
    country,
    first,
    flat,
    identity,
    inner,
    members,
    named,
    page,
    pixels,
    row,
    screen,
    text,
)

_OWN = ("$",)
_IDENTIFIES = ("$identify", "$set")
_SETS = ("$set", "$set_once", "$unset")
_OF_THE_CALL = ("distinct_id", "token")


def from_posthog(event: Exported) -> Rows:
    """The rows of one event: what it sets of the user, and then what happened.

    ``$identify`` and ``$set`` are user rows, ``$groupidentify`` is a company row, ``$pageview`` and ``$screen`` are
    page views. Other events that PostHog itself records (``$autocapture``, ``$create_alias`` …) have no rows, and the
    properties that it collects (``$lib``, ``$referrer`` …) go only where a row has a field for them: they alone would
    often be more than the 10 KB of an event. ``$set_once`` is overruled by the person's properties in the export, which
    know what was first. A group is a company if its type is called one (`COMPANY_GROUPS`); others have no rows.
    """
    name = named(event, "event")
    properties = members(event, "properties")
    at = first(event, "timestamp", "created_at")
    if name == "$groupidentify":
        return _company(properties, at)
    person = {
        "user_id": identity(event.get("distinct_id"), properties.get("distinct_id")),
        "company_id": company_in(inner(properties, "$groups"))[1],
        "inserted_at": at,
        **_surroundings(properties),
    }
    sets = name in _IDENTIFIES or not properties.keys().isdisjoint(_SETS)
    known = _known_of_the_person(event, properties) if sets else {}
    rows = [row("identify_user", **person, metadata=known)] if known or name in _IDENTIFIES else []
    metadata = flat(properties, _OF_THE_CALL, _OWN)
    if name == "$pageview":
        rows.append(row("page_view", **person, metadata=metadata))
    elif name == "$screen":
        person.pop("url", None)
        seen = screen(properties.get("$screen_name"), properties.get("$app_namespace"), properties.get("$app_name"))
        rows.append(row("page_view", **{**person, **seen}, metadata=metadata))
    elif not name.startswith("$"):
        rows.append(row("track", **person, event_name=name, metadata=metadata))
    return rows


def _company(properties: dict[str, Any], at: object) -> Rows:
    if company_type(named(properties, "$group_type")) is None:
        return []
    company_id = identity(properties.get("$group_key"))
    metadata = flat(members(properties, "$group_set"), own=_OWN)
    return [row("identify_company", company_id=company_id, inserted_at=at, metadata=metadata)]


def _known_of_the_person(event: Exported, properties: dict[str, Any]) -> dict[str, Any]:
    """Properties known before this event, with those that it sets; ``None`` for those that it removes.

    A row with fewer of them could blank the rest.
    """
    before = members(event, "person_properties")
    once = {name: before.get(name, value) for name, value in members(properties, "$set_once").items()}
    known = {**before, **once, **members(properties, "$set")}
    unset = properties.get("$unset")
    if isinstance(unset, list):
        known |= {name: None for name in unset if isinstance(name, str)}
    return flat(known, own=_OWN)


def _surroundings(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        **page(properties.get("$current_url"), properties.get("$host"), properties.get("$pathname")),
        "country_code": country(properties.get("$geoip_country_code")),
        "screen_width": pixels(properties.get("$screen_width")),
        "screen_height": pixels(properties.get("$screen_height")),
        "operating_system": text(properties.get("$os"), properties.get("$os_name")),
        "browser": text(properties.get("$browser")),
        "browser_language": text(properties.get("$browser_language"), properties.get("$locale")),
        "user_agent": text(properties.get("$raw_user_agent"), properties.get("$user_agent")),
        "device_type": text(properties.get("$device_type")),
    }

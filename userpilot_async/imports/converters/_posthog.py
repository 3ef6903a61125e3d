"""PostHog: events and persons as its batch exports write them.

Sources, read 2026-11: posthog.com/docs, "S3 destination for batch exports" (events and persons models, JSON lines),
"Capture and batch API endpoints" (the special events and their properties), and posthog-js, "Properties" (what it
collects).
"""

from __future__ import annotations

from typing import Any

from ._common import (
    JOINS_NOBODY,
    NO_EVENT,
    Exported,
    attempt,
    company_in,
    country,
    country_name,
    first,
    flat,
    identity,
    inner,
    is_company,
    members,
    named,
    other_group,
    page,
    pixels,
    row,
    screen,
    short,
    text,
)
from ._people import reserved
from ._rows import Rows

_OWN = ("$",)
_IDENTIFIES = ("$identify", "$set")
_SETS = ("$set", "$set_once", "$unset")
_OF_THE_CALL = ("distinct_id", "token")
_SURVEY = "$survey_"
_COUNTRY = "$geoip_country_name"
_ALIASES = ("$create_alias", "$merge_dangerously")


def from_posthog(event: Exported, company_group: str | None = None) -> Rows:
    """The rows of one event: what is known of the user at that moment, and then what happened; or of one person.

    ``$identify`` and ``$set`` are user rows, ``$groupidentify`` is a company row, ``$pageview`` and ``$screen`` are
    page views. Other events that PostHog itself records (``$autocapture``, ``$create_alias`` …) have no rows, and the
    properties that it collects (``$lib``, ``$referrer`` …) go only where a row has a field for them: they alone would
    often be more than the 10 KB of an event; what a survey was answered stays. ``$set_once`` is overruled by what is
    known: the person's properties in the export, and earlier rows. A group is a company if its type is called one
    (`COMPANY_GROUPS`), or is ``company_group``; others have no rows.
    """
    if "event" not in event and "properties" in event and "distinct_id" in event:
        return _person(event)
    name = named(event, "event")
    properties = members(event, "properties")
    at = first(event, "timestamp", "created_at")
    rows = Rows()
    if name == "$groupidentify":
        return _company(rows, properties, at, company_group)
    person = {
        "user_id": identity(event.get("distinct_id"), properties.get("distinct_id")),
        "company_id": company_in(inner(properties, "$groups"), company_group, rows)[1],
        "inserted_at": at,
        **_surroundings(properties),
    }
    sets = name in _IDENTIFIES or not properties.keys().isdisjoint(_SETS)
    _user(rows, event, properties, person, asked=name in _IDENTIFIES, implied=not sets)
    metadata = attempt(lambda: {**_place(properties), **_of_event(properties, rows)})
    if name == "$pageview":
        rows.append(row("page_view", **person, metadata=metadata))
    elif name == "$screen":
        person.pop("url", None)
        seen = screen(properties.get("$screen_name"), properties.get("$app_namespace"), properties.get("$app_name"))
        rows.append(row("page_view", **{**person, **seen}, metadata=metadata))
    elif not name.startswith("$"):
        rows.append(row("track", **person, event_name=name, metadata=metadata))
    elif name not in _IDENTIFIES:
        rows.skip(short(name), JOINS_NOBODY if name in _ALIASES else NO_EVENT)
    return rows


def _company(rows: Rows, properties: dict[str, Any], at: object, company_group: str | None) -> Rows:
    kind = named(properties, "$group_type")
    if not is_company(kind, company_group):
        return rows.skip("$groupidentify", other_group(kind))
    company_id = identity(properties.get("$group_key"))
    found = members(properties, "$group_set")
    metadata = attempt(lambda: flat(reserved(found)[0], own=_OWN, notes=rows))
    rows.append(row("identify_company", company_id=company_id, inserted_at=at, metadata=metadata))
    return rows


def _person(person: Exported) -> Rows:
    """A line of an export of persons: dated with its creation, because nothing else in it is a time of the person's."""
    rows = Rows()
    if person.get("is_deleted") is True:
        return rows.skip("is_deleted", "a person that was deleted there")
    known, once = reserved(members(person, "properties"))
    at = first(person, "created_at", "_inserted_at")
    user_id = identity(person.get("distinct_id"))
    metadata = attempt(lambda: flat(known, own=_OWN, notes=rows))
    rows.append(row("identify_user", once, user_id=user_id, inserted_at=at, metadata=metadata))
    return rows


def _user(
    rows: Rows, event: Exported, properties: dict[str, Any], person: dict[str, Any], *, asked: bool, implied: bool
) -> None:
    """The user as the person is known at this event: what was before, what it sets, ``None`` for what it removes.

    A row with fewer of them could blank the rest.
    """
    before, once = members(event, "person_properties"), members(properties, "$set_once")
    known = {**once, **before, **members(properties, "$set")}
    unset = properties.get("$unset")
    if isinstance(unset, list):
        known |= {name: None for name in unset if isinstance(name, str)}
    gives_way = {name for name in once if known[name] is once[name] and name not in before}
    result, gives_way_too = reserved(known, gives_way)
    metadata = attempt(lambda: flat(result, own=_OWN, notes=rows))
    if metadata or asked:
        rows.append(row("identify_user", gives_way_too, implied=implied, **person, metadata=metadata))


def _of_event(properties: dict[str, Any], rows: Rows) -> dict[str, Any]:
    said = flat(properties, _OF_THE_CALL, _OWN, rows)
    answers = {name: value for name, value in properties.items() if name.startswith(_SURVEY)}
    return {**said, **flat(answers)} if answers else said


def _place(properties: dict[str, Any]) -> dict[str, str]:
    return country_name(None if country(properties.get("$geoip_country_code")) else properties.get(_COUNTRY))


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

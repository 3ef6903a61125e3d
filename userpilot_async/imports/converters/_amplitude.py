"""Amplitude: events as its Export API writes them.

Sources, read 2026-11: amplitude.com/docs, "Export API" (response schema), "Identify API" and "Group Identify API" (the
operations on properties), "Web Autocapture Schema" (page views).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._common import Exported, Rows, company_in, country, first, flat, identity, members, named, page, row, text

_OWN = ("[Amplitude] ",)
_NOT_OF_USERS = ("$", *_OWN)
_PAGE_VIEW = "page viewed"
_PAGE = ("Page Domain", "Page Location", "Page Path", "Page URL")
_PREFIXED_PAGE = tuple(f"[Amplitude] {name}" for name in _PAGE)
_OPERATIONS = ("$set", "$setOnce", "$unset")


def from_amplitude(event: Exported) -> Rows:
    """The rows of one event: what is known of the company and of the user at that moment, and then what happened.

    Every exported event carries all properties of its user, and that is the only place where they are; ``$identify``
    and ``$groupidentify`` are nothing else. Other events that Amplitude itself records (``[Amplitude] Element Clicked``
    …) have no row of their own, and the properties that it collects go only where a row has a field for them. A group
    is a company if its type is called one (`COMPANY_GROUPS`). Times are UTC.
    """
    name = named(event, "event_type")
    company_group, company_id = company_in(members(event, "groups"))
    at = first(event, "event_time", "client_event_time")
    properties = members(event, "event_properties")
    on_web = text(event.get("platform")) == "Web"  # there the "OS" is the browser
    person = {
        "user_id": identity(event.get("user_id"), event.get("device_id")),
        "company_id": company_id,
        "inserted_at": at,
        **_place(properties, _PREFIXED_PAGE),
        "country_code": country(event.get("country")),
        "browser" if on_web else "operating_system": text(event.get("os_name")),
        "browser_language": text(event.get("language")),
        "user_agent": text(event.get("user_agent")),
        "device_type": text(event.get("device_type"), event.get("device_family")),
    }
    rows: Rows = []
    of_company = _properties_of(members(event, "group_properties"), company_group, company_id)
    if of_company:
        rows.append(row("identify_company", company_id=company_id, inserted_at=at, metadata=of_company))
    of_user = _operated(members(event, "user_properties"))
    if of_user or name == "$identify":
        rows.append(row("identify_user", **person, metadata=of_user))
    if name.removeprefix(*_OWN).lower() == _PAGE_VIEW:
        seen = _place(properties, _PAGE)
        rows.append(row("page_view", **{**person, **seen}, metadata=flat(properties, _PAGE, _OWN)))
    elif not name.startswith(_NOT_OF_USERS):
        rows.append(row("track", **person, event_name=name, metadata=flat(properties, own=_OWN)))
    return rows


def _place(properties: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Where it happened, out of the four properties of these names."""
    domain, location, path, url = (properties.get(name) for name in names)
    return page(location or url, domain, path)


def _properties_of(groups: Mapping[str, Any], kind: str | None, company_id: str | None) -> dict[str, Any]:
    """The company's, out of ``{type: {id: {…}}}`` or ``{type: {…}}``, or of ``{"$set": {…}}`` as it is identified."""
    if kind is None or company_id is None:
        return {}
    if not groups.keys().isdisjoint(_OPERATIONS):
        return _operated(groups)
    found = members(groups, kind)
    return _operated(members(found, company_id) if isinstance(found.get(company_id), dict) else found)


def _operated(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties after the operations that give a value; what adds to one that is not in the export cannot be done."""
    plain = flat(properties, own=_NOT_OF_USERS)
    if properties.keys().isdisjoint(_OPERATIONS):
        return plain
    plain |= flat({**members(properties, "$setOnce"), **members(properties, "$set")}, own=_OWN)
    unset = properties.get("$unset")
    if isinstance(unset, (dict, list)):
        plain |= dict.fromkeys((name for name in unset if isinstance(name, str)), None)
    return plain

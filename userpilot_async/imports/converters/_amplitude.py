"""Amplitude: events as its Export API writes them.

Sources, read 2026-11: amplitude.com/docs, "Export API" (response schema), "Identify API" and "Group Identify API" (the
operations on properties), "Web Autocapture Schema" (page views).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..._errors.tree import InvalidCall
from ._common import (
    NO_EVENT,
    Exported,
    attempt,
    company_in,
    country,
    country_name,
    first,
    flat,
    identity,
    members,
    named,
    page,
    row,
    short,
    text,
)
from ._people import iso, reserved
from ._rows import Rows

_OWN = ("[Amplitude] ",)
_NOT_OF_USERS = ("$", *_OWN)
_PAGE_VIEW = "page viewed"
_PAGE = ("Page Domain", "Page Location", "Page Path", "Page URL")
_PREFIXED_PAGE = tuple(f"[Amplitude] {name}" for name in _PAGE)
_OPERATIONS = ("$set", "$setOnce", "$unset")
_SESSIONS = ("session_start", "session_end")
_EMPTY = "EMPTY"
_DEVICE = ("os_name", "device_type", "device_family", "device_model", "language", "user_agent")
_SYSTEMS = {
    "windows": "Windows", "mac os": "Mac OS X", "mac os x": "Mac OS X", "macos": "Mac OS X", "linux": "Linux",
    "ubuntu": "Ubuntu", "chrome os": "Chrome OS", "chromium os": "Chrome OS", "ios": "iOS", "android": "Android",
    "windows phone": "Windows Phone", "fedora": "Fedora", "debian": "Debian", "freebsd": "FreeBSD",
}  # fmt: skip
"""Operating systems that stand as a device in what browsers report, under the names that user agents' readers use."""
_is_code = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*").fullmatch


def from_amplitude(event: Exported, company_group: str | None = None) -> Rows:
    """The rows of one event: what is known of the company and of the user at that moment, and then what happened.

    Every exported event carries all properties of its user, and that is the only place where they are; ``$identify``
    and ``$groupidentify`` are nothing else. Other events that Amplitude itself records (``[Amplitude] Element Clicked``
    , ``session_start`` …) have no row of their own, and the properties that it collects go only where a row has a field
    for them. A group is a company if its type is called one (`COMPANY_GROUPS`), or is ``company_group``. Times are UTC.
    """
    name = named(event, "event_type")
    rows = Rows()
    company_group, company_id = company_in(members(event, "groups"), company_group, rows)
    at = first(event, "event_time", "client_event_time")
    properties = members(event, "event_properties")
    person = {
        "user_id": identity(event.get("user_id"), event.get("device_id")),
        "company_id": company_id,
        "inserted_at": at,
        **_place(properties, _PREFIXED_PAGE),
        **_surroundings(event),
    }
    _company(rows, event, company_group, company_id, at)
    happens = not name.startswith(_NOT_OF_USERS) and name not in _SESSIONS
    viewed = name.removeprefix(*_OWN).lower() == _PAGE_VIEW
    words = _in_words(event)
    _user(rows, event, person, company_group, words, name=name, dated=happens or viewed)
    if viewed:
        seen = _place(properties, _PAGE)
        metadata = attempt(lambda: {**words, **flat(_given(properties, rows), _PAGE, _OWN, rows)})
        rows.append(row("page_view", **{**person, **seen}, metadata=metadata))
    elif happens:
        metadata = attempt(lambda: {**words, **flat(_given(properties, rows), own=_OWN, notes=rows)})
        rows.append(row("track", **person, event_name=name, metadata=metadata))
    elif name in _SESSIONS or name.startswith(_OWN):
        rows.skip(short(name), NO_EVENT)
    elif not rows:
        rows.skip(short(name), "nothing of a company" if name == "$groupidentify" else NO_EVENT)
    return rows


def _company(rows: Rows, event: Exported, kind: str | None, company_id: str | None, at: object) -> None:
    of_company = attempt(lambda: _properties_of(members(event, "group_properties"), kind, company_id, rows)[0])
    if of_company:
        rows.append(row("identify_company", company_id=company_id, inserted_at=at, metadata=of_company))


def _user(
    rows: Rows, event: Exported, person: dict[str, Any], company_group: str | None, words: dict[str, str], *,
    name: str, dated: bool,
) -> None:  # fmt: skip
    """The user, if the event knows something of one; a user's creation alone is known only from what happens."""
    try:
        found, once = _operated(members(event, "user_properties"), rows, without=(company_group or "",))
    except InvalidCall as error:
        rows.append(row("identify_user", **person, metadata=error))
        return
    created = event.get("user_creation_time")
    if not (found or name == "$identify" or (created and dated)):
        return
    if created and "created_at" not in found:
        found, once = {**found, "created_at": iso(created)}, once | {"created_at"}
    for word, value in words.items():
        found.setdefault(word, value)
    rows.append(row("identify_user", once, implied=name != "$identify", **person, metadata=found))


def _surroundings(event: Exported) -> dict[str, Any]:
    """Where it happened. In a browser the "OS" is the browser, and the "device" often the operating system."""
    given = {name: value for name in _DEVICE if (value := text(event.get(name))) not in (None, _EMPTY)}
    language = given.get("language")
    result: dict[str, Any] = {
        "country_code": country(event.get("country")),
        "browser_language": language if language is not None and _is_code(language) else None,
        "user_agent": given.get("user_agent"),
    }
    kinds = [given[name] for name in ("device_type", "device_family") if name in given]
    if event.get("platform") != "Web":
        return {**result, "operating_system": given.get("os_name"), "device_type": text(*kinds)}
    systems = [system for kind in (*reversed(kinds), given.get("device_model", "")) if (system := _system(kind))]
    result["operating_system"] = text(*systems)
    result["device_type"] = text(*(kind for kind in kinds if not _system(kind)))
    result["browser"] = given.get("os_name")
    return result


def _system(kind: str) -> str | None:
    return _SYSTEMS.get(kind.lower())


def _in_words(event: Exported) -> dict[str, str]:
    """A country and a language that are named in words, for which rows have no field."""
    country_in_words, language = event.get("country"), text(event.get("language"))
    result = {} if country_in_words == _EMPTY else country_name(country_in_words)
    if language not in (None, _EMPTY) and not _is_code(language):
        result["language"] = language
    return result


def _place(properties: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Where it happened, out of the four properties of these names."""
    domain, location, path, url = (properties.get(name) for name in names)
    return page(location or url, domain, path)


def _properties_of(
    groups: Mapping[str, Any], kind: str | None, company_id: str | None, rows: Rows
) -> tuple[dict[str, Any], frozenset[str]]:
    """The company's, out of ``{type: {id: {…}}}`` or ``{type: {…}}``, or of ``{"$set": {…}}`` as it is identified."""
    if kind is None or company_id is None:
        return {}, frozenset()
    if not groups.keys().isdisjoint(_OPERATIONS):
        return _operated(groups, rows)
    found = members(groups, kind)
    return _operated(members(found, company_id) if isinstance(found.get(company_id), dict) else found, rows)


def _operated(
    properties: Mapping[str, Any], rows: Rows, without: tuple[str, ...] = ()
) -> tuple[dict[str, Any], frozenset[str]]:
    """Properties after the operations that give a value, and the names of those that give way to known values.

    What adds to a value that is not in the export cannot be done.
    """
    if not properties:
        return {}, frozenset()
    operations = [name for name in properties if name.startswith("$")]
    plain = {name: value for name, value in properties.items() if name not in operations}
    set_, once = members(properties, "$set"), members(properties, "$setOnce")
    unset = properties.get("$unset")
    removed = [name for name in unset if isinstance(name, str)] if isinstance(unset, (dict, list)) else []
    for name in operations:
        if name not in _OPERATIONS:
            rows.note(f"the operation `{short(name)}`: it adds to a value that the export has not")
    together = {**plain, **once, **set_, **dict.fromkeys(removed)}
    gives_way = once.keys() - set_.keys() - set(removed)
    known, gives_way_too = reserved(_given(together, rows), gives_way)
    return flat(known, without, own=_OWN, notes=rows), gives_way_too


def _given(properties: Mapping[str, Any], rows: Rows) -> Mapping[str, Any]:
    """Without those whose value is Amplitude's word for none."""
    if _EMPTY not in (value for value in properties.values() if type(value) is str):
        return properties
    rows.note(f"properties with the value {_EMPTY}, Amplitude's word for none")
    return {name: value for name, value in properties.items() if value != _EMPTY}

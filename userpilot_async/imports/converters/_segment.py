"""Segment and RudderStack: calls of one specification, which RudderStack took over.

Sources, read 2026-11: segment.com/docs, "Spec: Common Fields", "Spec: Identify", "Spec: Group", "Spec: Page", "Spec:
Screen", "Spec: Track", and "Amazon S3 Destination" (raw logs: whole calls, one a line); rudderstack.com/docs, "Common
fields", "Identify", "Group", "Page", "Screen", "Track".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._errors.tree import InvalidCall
from .._fields import Source
from ._common import (
    Converter,
    Exported,
    Rows,
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


def _converted(call: Exported, source: Source) -> Rows:
    """The rows of one call; `alias` has none, because Userpilot joins no users.

    An identify's ``traits.company``, if it has an id, and a group become a company row and the user's `company_id`.
    Clocks: ``timestamp`` is the one that both tools have corrected; the others stand in for it.
    """
    kind = named(call, "type")
    make = _CALLS.get(kind)
    if make is None:
        raise InvalidCall("type", f"must be one of {', '.join(_CALLS)}")
    context = inner(call, "context")
    display, where = inner(context, "screen"), inner(context, "page")
    of_user = {
        "user_id": identity(call.get("userId"), call.get("anonymousId")),
        "company_id": identity(context.get("groupId")),
        **page(where.get("url")),
        "country_code": country(inner(context, "location").get("country")),
        "screen_width": pixels(display.get("width")),
        "screen_height": pixels(display.get("height")),
        "operating_system": text(inner(context, "os").get("name")),
        "browser_language": text(context.get("locale")),
        "user_agent": text(context.get("userAgent")),
        "device_type": text(inner(context, "device").get("type")),
    }
    of_all = {
        "source": source,
        "inserted_at": first(call, "timestamp", "originalTimestamp", "sentAt", "receivedAt"),
    }
    return make(call, of_user, of_all)


def _identify(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    # RudderStack has them under context.
    traits = members(call, "traits") or members(inner(call, "context"), "traits")
    company = inner(traits, "company")
    company_id = identity(company.get("id"))
    if company_id is None:
        return [row("identify_user", **of_all, **of_user, metadata=flat(traits))]
    rows = [row("identify_user", **of_all, **{**of_user, "company_id": company_id}, metadata=flat(traits, ["company"]))]
    if len(company) > 1:
        rows.insert(0, row("identify_company", **of_all, company_id=company_id, metadata=flat(company, ["id"])))
    return rows


def _group(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    company_id = identity(call.get("groupId"))
    if company_id is None:
        raise InvalidCall("groupId", "is missing")
    rows = [row("identify_company", **of_all, company_id=company_id, metadata=flat(members(call, "traits")))]
    if of_user["user_id"] is not None:
        # It moves the user, and would blank what it does not name: many libraries send along what is known.
        known = flat(members(inner(call, "context"), "traits"), ["company"])
        rows.append(row("identify_user", **of_all, **{**of_user, "company_id": company_id}, metadata=known))
    return rows


def _page(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    properties = members(call, "properties")
    seen_at = page(properties.get("url"))
    metadata = {**_titles(call), **flat(properties, ["url", "path"] if seen_at else [])}
    return [row("page_view", **of_all, **{**of_user, **seen_at}, metadata=metadata)]


def _screen(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    app = inner(inner(call, "context"), "app")
    properties = members(call, "properties")
    seen = screen(text(call.get("name"), properties.get("name")), app.get("namespace"), app.get("name"))
    of_user.pop("url", None)
    return [row("page_view", **of_all, **of_user, **seen, metadata={**_titles(call), **flat(properties)})]


def _track(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    name = named(call, "event")
    return [row("track", **of_all, **of_user, event_name=name, metadata=flat(members(call, "properties")))]


def _alias(call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> Rows:
    return []


def _titles(call: Exported) -> dict[str, str]:
    """The name of a page or screen."""
    return {name: call[name] for name in ("name", "category") if text(call.get(name))}


_CALLS = {
    "identify": _identify, "group": _group, "page": _page, "screen": _screen, "track": _track, "alias": _alias,
}  # fmt: skip

from_segment: Converter = partial(_converted, source="backend-segment")
from_rudderstack: Converter = partial(_converted, source="backend-http-import")

"""Segment and RudderStack: calls of one specification, which RudderStack took over.

Sources, read 2026-11: segment.com/docs, "Spec: Common Fields", "Spec: Identify", "Spec: Group", "Spec: Page", "Spec:
Screen", "Spec: Track", and "Amazon S3 Destination" (raw logs: whole calls, one a line); rudderstack.com/docs, "Common
fields", "Identify", "Group", "Page", "Screen", "Track", "Event archives" (calls in an envelope, as ``payload``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._errors.tree import InvalidCall
from .._fields import Source
from ._common import (
    JOINS_NOBODY,
    Converter,
    Exported,
    attempt,
    country,
    country_name,
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
from ._people import reserved
from ._rows import Rows

CLOCKS = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")


def _converted(call: Exported, source: Source, company_group: str | None = None) -> Rows:
    """The rows of one call; `alias` has none, because Userpilot joins no users.

    An identify's ``traits.company``, if it has an id, and a group become a company row and the user's `company_id`;
    there is one type of groups, so that ``company_group`` decides nothing. Clocks: ``timestamp`` is the one that both
    tools have corrected; the others stand in for it. A call may lie in an envelope, as in RudderStack's archive.
    """
    if "type" not in call and (payload := members(call, "payload")):
        call = _taken_out(call, payload)
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
    of_all = {"source": source, "inserted_at": first(call, *CLOCKS)}
    rows = Rows()
    make(rows, call, of_user, of_all)
    return rows


def unwrapped(call: Exported) -> Exported:
    """The call, also one that lies in an envelope; an envelope that cannot be read as it is."""
    return _taken_out(call, payload) if "type" not in call and (payload := inner(call, "payload")) else call


def _taken_out(envelope: Exported, payload: Exported) -> Exported:
    return {"timestamp": first(payload, *CLOCKS) or envelope.get("createdAt"), **payload}


def _identify(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    # RudderStack has them under context, and some libraries in both places.
    traits = {**inner(inner(call, "context"), "traits"), **members(call, "traits")}
    company = inner(traits, "company")
    company_id = identity(company.get("id"))
    without: list[str] = []
    if company_id is not None:
        of_user["company_id"], without = company_id, ["company"]
        if len(company) > 1:
            of_company = attempt(lambda: flat(reserved(company)[0], ["id"]))
            rows.append(row("identify_company", **of_all, company_id=company_id, metadata=of_company))
    known, once = reserved(traits)
    metadata = attempt(lambda: {**_country(call), **flat(known, without)})
    rows.append(row("identify_user", once, **of_all, **of_user, metadata=metadata))


def _group(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    company_id = identity(call.get("groupId"))
    if company_id is None:
        raise InvalidCall("groupId", "is missing")
    traits, _ = reserved(members(call, "traits"))
    rows.append(row("identify_company", **of_all, company_id=company_id, metadata=attempt(lambda: flat(traits))))
    if of_user["user_id"] is not None:
        # It moves the user, and would blank what it does not name: many libraries send along what is known.
        known, once = reserved(inner(inner(call, "context"), "traits"))
        metadata = attempt(lambda: {**_country(call), **flat(known, ["company"])})
        rows.append(row("identify_user", once, **of_all, **{**of_user, "company_id": company_id}, metadata=metadata))


def _page(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    properties = members(call, "properties")
    seen_at = page(properties.get("url"))
    metadata = attempt(
        lambda: {**_country(call), **_titles(call), **flat(properties, ["url", "path"] if seen_at else [])}
    )
    rows.append(row("page_view", **of_all, **{**of_user, **seen_at}, metadata=metadata))


def _screen(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    app = inner(inner(call, "context"), "app")
    properties = members(call, "properties")
    seen = screen(text(call.get("name"), properties.get("name")), app.get("namespace"), app.get("name"))
    of_user.pop("url", None)
    metadata = attempt(lambda: {**_country(call), **_titles(call), **flat(properties)})
    rows.append(row("page_view", **{**of_all, **of_user, **seen}, metadata=metadata))


def _track(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    name = named(call, "event")
    properties = members(call, "properties")
    metadata = attempt(lambda: {**_country(call), **flat(properties)})
    rows.append(row("track", **of_all, **of_user, event_name=name, metadata=metadata))


def _alias(rows: Rows, call: Exported, of_user: dict[str, Any], of_all: dict[str, Any]) -> None:
    rows.skip("alias", JOINS_NOBODY)


def _country(call: Exported) -> dict[str, str]:
    return country_name(inner(inner(call, "context"), "location").get("country"))


def _titles(call: Exported) -> dict[str, str]:
    """The name of a page or screen."""
    return {name: call[name] for name in ("name", "category") if text(call.get(name))}


_CALLS = {
    "identify": _identify, "group": _group, "page": _page, "screen": _screen, "track": _track, "alias": _alias,
}  # fmt: skip

from_segment: Converter = partial(_converted, source="backend-segment")
from_rudderstack: Converter = partial(_converted, source="backend-http-import")

"""The four row types of an import file, and what each must carry.

Source: the vendor's page "Import event schema".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from userpilot_async.emulator._rules import event_metadata_errors, property_errors, text_errors
from userpilot_async.emulator._user_agents import derived_from
from userpilot_async.emulator._wire import Payload, WireError

REQUIRED: dict[str, tuple[str, ...]] = {
    "identify_user": ("user_id", "source", "inserted_at"),
    "identify_company": ("company_id", "source", "inserted_at"),
    "page_view": ("user_id", "source", "inserted_at"),
    "track": ("user_id", "event_name", "source", "inserted_at"),
}
"""Besides `event_type`. The schema also calls `metadata` required, but a row without it gets `{}`."""

SOURCES = frozenset(
    {
        "web-client",
        "backend-http",
        "backend-hubspot",
        "backend-salesforce",
        "backend-segment",
        "backend-http-import",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)

# ISO 8601 with a calendar's date in dashes; the time of day may be missing, or its seconds, their fraction, the offset.
# The vendor's samples have a `T` or a space before it. Not `datetime.fromisoformat`, which takes more with each Python.
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)


def import_row_errors(row: Payload) -> list[WireError]:
    event_type = row.get("event_type")
    if not isinstance(event_type, str) or event_type not in REQUIRED:
        return [WireError(400, f"event_type must be one of {', '.join(REQUIRED)}")]
    errors = [error for field in REQUIRED[event_type] for error in text_errors(row, field)]
    if event_type != "identify_company":
        errors += _company_id_errors(row) + (text_errors(row, "url") if row.get("url") else [])
    errors += event_metadata_errors(row) if event_type in ("track", "page_view") else property_errors(row)
    if errors:
        return errors
    if row["source"] not in SOURCES:
        errors.append(WireError(400, f"source must be one of {', '.join(sorted(SOURCES))}"))
    if moment(row["inserted_at"]) is None:
        errors.append(WireError(400, "inserted_at must be an ISO 8601 time"))
    return errors + _page_errors(row, event_type)


def moment(text: str) -> float | None:
    """Seconds since the epoch; None if `text` is no ISO 8601 time. A time without an offset is UTC."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    *fields, fraction, sign, hours, minutes = found.groups("0")
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset >= _DAY or int(minutes) > 59:
        return None
    try:
        year, month, day, hour, minute, second = map(int, fields)
        time = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # the 30th of February
        return None
    since = time - _EPOCH - (-offset if sign == "-" else offset)
    return since.total_seconds() + float(f"0.{fraction}")


def context_of(row: Payload) -> dict[str, str]:
    """Where a row happened, and with what: its `url` stands above its `hostname` and `pathname`, and what its
    `user_agent` says above its `browser` and `operating_system`. Fields that are no text, or empty, are left out."""
    context = {name: row.get(name) for name in ("hostname", "pathname", "browser", "operating_system")}
    if row.get("url"):
        context |= _parts(row["url"])
    agent = row.get("user_agent")
    if isinstance(agent, str):
        context |= derived_from(agent)
    return {name: value for name, value in context.items() if isinstance(value, str) and value}


def _parts(url: str) -> dict[str, str]:
    try:
        parts = urlsplit(url)
        return {"hostname": parts.hostname or "", "pathname": parts.path or "/"}
    except ValueError:  # a bracket without an address in it
        return {"hostname": "", "pathname": ""}


def _company_id_errors(row: Payload) -> list[WireError]:
    """A company's id may be left out, or be empty as in the vendor's samples; anything else must be an id."""
    company_id = row.get("company_id", "")
    if isinstance(company_id, str) and (company_id.strip() or not company_id):
        return []
    return [WireError(400, "company_id must be a string, with an id in it or empty")]


def _page_errors(row: Payload, event_type: str) -> list[WireError]:
    """Where a row happened. A `url` stands for `hostname` and `pathname`; of a company only four fields are read."""
    from_browser = row["source"] == "web-client" and event_type != "identify_company"
    errors: list[WireError] = []
    if (from_browser or event_type == "page_view") and not row.get("url"):
        errors += text_errors(row, "hostname") + text_errors(row, "pathname")
    if from_browser:
        errors += text_errors(row, "user_agent")
    return errors

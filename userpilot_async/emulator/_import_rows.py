"""The four row types of an import file, and what each must carry.

Source: the vendor's page "Import event schema".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from userpilot_async.emulator._rules import event_metadata_errors, property_errors, text_errors
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

_FRACTION = re.compile(r"\.(\d+)")


def import_row_errors(row: Payload) -> list[WireError]:
    event_type = row.get("event_type")
    if not isinstance(event_type, str) or event_type not in REQUIRED:
        return [WireError(400, f"event_type must be one of {', '.join(REQUIRED)}")]
    errors = [error for field in REQUIRED[event_type] for error in text_errors(row, field)]
    errors += event_metadata_errors(row) if event_type in ("track", "page_view") else property_errors(row)
    if errors:
        return errors
    if row["source"] not in SOURCES:
        errors.append(WireError(400, f"source must be one of {', '.join(sorted(SOURCES))}"))
    if moment(row["inserted_at"]) is None:
        errors.append(WireError(400, "inserted_at must be an ISO 8601 time"))
    return errors + _page_errors(row, event_type)


def moment(text: str) -> float | None:
    """Seconds since the epoch; None if `text` is no ISO 8601 time. A time without an offset is UTC.

    `datetime.fromisoformat` of Python 3.10 knows neither `Z` nor a fraction of other than 3 or 6 digits.
    """
    text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), text.strip())
    if text[-1:] in ("Z", "z"):
        text = text[:-1] + "+00:00"
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _page_errors(row: Payload, event_type: str) -> list[WireError]:
    """Where a row happened. A `url` stands for `hostname` and `pathname`; of a company only four fields are read."""
    from_browser = row["source"] == "web-client" and event_type != "identify_company"
    errors: list[WireError] = []
    if (from_browser or event_type == "page_view") and not row.get("url"):
        errors += text_errors(row, "hostname") + text_errors(row, "pathname")
    if from_browser:
        errors += text_errors(row, "user_agent")
    return errors

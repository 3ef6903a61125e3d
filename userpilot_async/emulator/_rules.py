"""The documented rules for what a call may carry: each function lists what is wrong with it.

Sources: the vendor's HTTP API page, its analytex OpenAPI document, and the limits its help pages give.
An empty list means that the call is accepted.
"""

from __future__ import annotations

import json
from typing import Any

from userpilot_async.emulator._wire import Payload, WireError

MAX_PROPERTIES = 500  # on a user or a company; the vendor's help pages
MAX_NAME_CHARACTERS = 255  # of a property's name; same pages
MAX_VALUE_CHARACTERS = 65_535  # of a property's value; same pages
MAX_EVENT_METADATA_BYTES = 10 * 1024  # "10 KB"; whether the vendor's KB is 1,000 or 1,024 is not said
MAX_BULK_ROWS = 10_000  # a request, JSON or file; OpenAPI, bulk_identify
MAX_FILE_BYTES = 50 * 1024 * 1024  # "50 MB"; same document, same doubt about the M
MAX_EVENT_NAME_BYTES = 512 * 1024  # "the combined size of all of your unique event names"; HTTP API page
MAX_REPORTED_ERRORS = 20  # ours: a refused file of 10,000 bad rows need not be answered with 10,000 errors

_PRIMITIVES = (str, int, float, bool, type(None))


def identify_errors(payload: Payload) -> list[WireError]:
    errors = text_errors(payload, "user_id") + property_errors(payload)
    if "company" in payload:
        errors += company_errors(payload["company"])
    return errors


def company_identify_errors(payload: Payload) -> list[WireError]:
    return text_errors(payload, "company_id") + property_errors(payload)


def track_errors(payload: Payload) -> list[WireError]:
    errors = text_errors(payload, "user_id") + text_errors(payload, "event_name")
    return errors + event_metadata_errors(payload)


def user_row_errors(row: Payload) -> list[WireError]:
    """A row of `POST /v1/users/bulk_identify`: the company is only an id here, never an object."""
    errors = text_errors(row, "user_id") + property_errors(row)
    if "company_id" in row:
        errors += text_errors(row, "company_id")
    return errors


def deletion_errors(payload: Payload, field: str) -> list[WireError]:
    ids = payload.get(field)
    if not isinstance(ids, list) or not ids:
        return [WireError(400, f"{field} must be a non-empty array of ids")]
    if not all(_is_text(one) for one in ids):
        return [WireError(400, f"{field} must hold non-empty strings only")]
    return []


def text_errors(payload: Payload, field: str) -> list[WireError]:
    """A required field must be a string with something in it."""
    value = payload.get(field)
    if value is None:
        return [WireError(400, f"{field} is required")]
    if not _is_text(value):
        return [WireError(400, f"{field} must be a non-empty string")]
    return []


def company_errors(company: object) -> list[WireError]:
    """The `company` object of an identify: its id under `id` or `company_id`, the rest are properties.

    The HTTP API page calls the key `id`, the OpenAPI document `company_id`; both are taken, as long as
    they agree. Which one wins if they do not is undocumented, so a client that sends two has a bug.
    """
    if not isinstance(company, dict):
        return [WireError(400, "company must be an object")]
    names = [name for name in ("company_id", "id") if name in company]
    if not names:
        return [WireError(400, "company_id is required when company is given")]
    errors = text_errors(company, names[0])
    if company[names[0]] != company[names[-1]]:
        errors.append(WireError(400, "company names two different ids"))
    return errors + _properties_errors(company_properties(company), "company")


def company_id_of(company: Payload) -> str:
    company_id: str = company["company_id"] if "company_id" in company else company["id"]
    return company_id


def company_properties(company: Payload) -> Payload:
    return {name: value for name, value in company.items() if name not in ("id", "company_id")}


def property_errors(payload: Payload) -> list[WireError]:
    """The `metadata` of a user or a company, if there is any."""
    return _properties_errors(payload.get("metadata", {}), "metadata")


def event_metadata_errors(payload: Payload) -> list[WireError]:
    """An event's metadata: primitives like a user's, but bounded by its size instead of its count."""
    metadata = payload.get("metadata", {})
    if not isinstance(metadata, dict):
        return [WireError(400, "metadata must be an object")]
    errors = _value_errors(metadata, "metadata")
    if errors:
        return errors
    size = len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_EVENT_METADATA_BYTES:
        return [WireError(413, f"metadata has {size} bytes, the limit is {MAX_EVENT_METADATA_BYTES}")]
    return []


def _properties_errors(properties: Any, field: str) -> list[WireError]:
    if not isinstance(properties, dict):
        return [WireError(400, f"{field} must be an object")]
    errors = _value_errors(properties, field)
    if len(properties) > MAX_PROPERTIES:
        errors.append(WireError(400, f"{field} has {len(properties)} properties, the limit is {MAX_PROPERTIES}"))
    for name, value in properties.items():
        if len(name) > MAX_NAME_CHARACTERS:
            errors.append(WireError(400, f"a name in {field} is longer than {MAX_NAME_CHARACTERS} characters"))
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS:
            errors.append(WireError(400, f"a value in {field} is longer than {MAX_VALUE_CHARACTERS} characters", name))
    return errors


def _value_errors(properties: Payload, field: str) -> list[WireError]:
    return [
        WireError(400, f"{field} values must be strings, numbers, booleans or null", name)
        for name, value in properties.items()
        if not isinstance(value, _PRIMITIVES)
    ]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

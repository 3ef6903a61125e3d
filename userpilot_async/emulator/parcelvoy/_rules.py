"""Rules for the bodies of Parcelvoy's calls: each function lists what is wrong; an empty list accepts the call.

Sources: Parcelvoy's page "Client API", and where that is silent the server's own schemas
(parcelvoy/platform, `ClientController.ts`), which say what is nullable and where other keys are refused.
"""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from userpilot_async.emulator._import_rows import moment
from userpilot_async.emulator._wire import Payload, WireError

REJECTED = 422  # "Validation error", the only status of a refusal in the document

IDS = ("anonymous_id", "external_id")
FIELDS = ("email", "phone", "timezone", "locale")
DEVICE_REQUIRED = ("os", "model", "app_build", "app_version")
DEVICE_OPTIONAL = ("os_version", "token")
_IDENTIFY_KEYS = frozenset((*IDS, *FIELDS, "data"))


def identify_errors(payload: Payload) -> list[WireError]:
    """The one call that refuses keys it does not know."""
    errors = _identity_errors(payload) + _trait_errors(payload)
    return errors + [_wrong("there is no such key", name) for name in payload if name not in _IDENTIFY_KEYS]


def alias_errors(payload: Payload) -> list[WireError]:
    return _text_errors(payload, *IDS) or _identity_errors(payload)


def device_errors(payload: Payload) -> list[WireError]:
    errors = _identity_errors(payload) + _text_errors(payload, "device_id", *DEVICE_REQUIRED)
    return errors + _nullable_text_errors(payload, *DEVICE_OPTIONAL)


def event_errors(event: Payload) -> list[WireError]:
    """An event of the array. The document calls `name` optional, the server requires it.

    `created_at` and `user` are the server's: the document has neither. The server does not read the
    time; here it must be one, since a client that sends something else has a bug.
    """
    errors = _identity_errors(event) + _object_errors(event, "data", "user")
    if not event.get("name") or not isinstance(event["name"], str):
        errors.append(_wrong("name must be a non-empty string"))
    if "created_at" in event and not _is_time(event["created_at"]):
        errors.append(_wrong("created_at must be an ISO 8601 time"))
    if not errors and event.get("user"):
        errors = _trait_errors(event["user"])
    return errors


def _identity_errors(payload: Payload) -> list[WireError]:
    """At least one id. An empty one is ours to refuse: it names no user."""
    errors = _nullable_text_errors(payload, *IDS)
    errors += [_wrong(f"{name} must not be empty") for name in IDS if payload.get(name) == ""]
    if all(payload.get(name) is None for name in IDS):
        errors.append(_wrong("anonymous_id or external_id is required"))
    return errors


def _trait_errors(payload: Payload) -> list[WireError]:
    errors = _nullable_text_errors(payload, *FIELDS) + _object_errors(payload, "data")
    if not errors and payload.get("timezone") is not None and not _is_timezone(payload["timezone"]):
        errors.append(_wrong("timezone must be in the IANA format"))
    return errors


def _text_errors(payload: Payload, *names: str) -> list[WireError]:
    return [_wrong(f"{name} must be a string") for name in names if not isinstance(payload.get(name), str)]


def _nullable_text_errors(payload: Payload, *names: str) -> list[WireError]:
    given = [name for name in names if payload.get(name) is not None]
    return _text_errors(payload, *given)


def _object_errors(payload: Payload, *names: str) -> list[WireError]:
    """The value must be an object or null."""
    given = [name for name in names if payload.get(name) is not None]
    return [_wrong(f"{name} must be an object") for name in given if not isinstance(payload[name], dict)]


def _is_time(value: object) -> bool:
    return isinstance(value, str) and moment(value) is not None


def _is_timezone(name: str) -> bool:
    """By the machine's own database; where there is none (Windows, slim images) any name passes."""
    known = _timezones()
    return name in known or not known


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())  # 0.1 s of reading files, the first time only


def _wrong(message: str, details: str = "") -> WireError:
    return WireError(REJECTED, message, details)

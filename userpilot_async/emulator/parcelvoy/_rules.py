"""Rules for the bodies of Parcelvoy's calls: each function lists what is wrong; an empty list accepts the call.

Only what the server itself refuses is refused. Source: the schemas of parcelvoy/platform 2.3.3 (`ClientController.ts`,
`UserController.ts`), which say what is nullable and where other keys are refused; an empty string is a string.
"""

from __future__ import annotations

from functools import cache
from zoneinfo import available_timezones

from userpilot_async.emulator._wire import Payload, WireError

REJECTED = 422  # "Validation error", the only status of a refusal in the document

IDS = ("anonymous_id", "external_id")
FIELDS = ("email", "phone", "timezone", "locale")
DEVICE_REQUIRED = ("os", "model", "app_build", "app_version")
DEVICE_OPTIONAL = ("os_version", "token")
_IDENTIFY_KEYS = frozenset((*IDS, *FIELDS, "data"))

_ONLY_ICU = (
    "ACT AET AGT ART AST BET BST CAT CNT CST CTT Canada/East-Saskatchewan EAT ECT IET IST JST MIT NET NST PLT PNT PRT"
    " PST SST US/Pacific-New VST SystemV/AST4 SystemV/AST4ADT SystemV/CST6 SystemV/CST6CDT SystemV/EST5"
    " SystemV/EST5EDT SystemV/HST10 SystemV/MST7 SystemV/MST7MDT SystemV/PST8 SystemV/PST8PDT SystemV/YST9"
    " SystemV/YST9YDT"
)
"""Time zones of ICU's (78.2, in Node 20) that the tz database does not have, or no longer."""
_NO_ICU = ("Factory", "localtime")


def identify_errors(payload: Payload) -> list[WireError]:
    """The one call that refuses keys it does not know."""
    errors = _identity_errors(payload) + _trait_errors(payload)
    timezone = payload.get("timezone")
    if isinstance(timezone, str) and not _is_timezone(timezone):
        errors.append(_wrong("timezone must be in the IANA format"))
    return errors + [_wrong("there is no such key", name) for name in payload if name not in _IDENTIFY_KEYS]


def alias_errors(payload: Payload) -> list[WireError]:
    return _text_errors(payload, *IDS)


def device_errors(payload: Payload) -> list[WireError]:
    errors = _identity_errors(payload) + _text_errors(payload, "device_id", *DEVICE_REQUIRED)
    given = [name for name in ("os_version",) if name in payload]  # the one optional text that must not be null
    return errors + _text_errors(payload, *given) + _nullable_text_errors(payload, "token")


def event_errors(event: Payload) -> list[WireError]:
    """An event of the array. The document calls `name` optional, the server requires it."""
    errors = _identity_errors(event) + _text_errors(event, "name") + _object_errors(event, "data", "user")
    about = event.get("user")
    return errors + (_trait_errors(about) if isinstance(about, dict) else [])


def user_errors(user: Payload) -> list[WireError]:
    """A user of the list that a secret key may send: one id has to be a string."""
    errors = _nullable_text_errors(user, *IDS) + _trait_errors(user)
    if not any(isinstance(user.get(name), str) for name in IDS):
        errors.append(_wrong("anonymous_id or external_id must be a string"))
    return errors


def _identity_errors(payload: Payload) -> list[WireError]:
    """At least one id, which may be null."""
    errors = _nullable_text_errors(payload, *IDS)
    if not any(name in payload for name in IDS):
        errors.append(_wrong("anonymous_id or external_id is required"))
    return errors


def _trait_errors(payload: Payload) -> list[WireError]:
    return _nullable_text_errors(payload, *FIELDS) + _object_errors(payload, "data")


def _text_errors(payload: Payload, *names: str) -> list[WireError]:
    return [_wrong(f"{name} must be a string") for name in names if not isinstance(payload.get(name), str)]


def _nullable_text_errors(payload: Payload, *names: str) -> list[WireError]:
    given = [name for name in names if payload.get(name) is not None]
    return _text_errors(payload, *given)


def _object_errors(payload: Payload, *names: str) -> list[WireError]:
    """The value must be an object or null."""
    given = [name for name in names if payload.get(name) is not None]
    return [_wrong(f"{name} must be an object") for name in given if not isinstance(payload[name], dict)]


def _is_timezone(name: str) -> bool:
    """By the machine's own database, and what ICU has besides; where there is no database (Windows) any name passes."""
    known = _timezones()
    return bool(name) and (not known or (name.isascii() and name.lower() in known))


@cache
def _timezones() -> frozenset[str]:
    """In lower case: case does not matter."""
    available = available_timezones()  # 0.1 s of reading files, the first time only
    if not available:
        return frozenset()
    return frozenset(name.lower() for name in (*available.difference(_NO_ICU), *_ONLY_ICU.split()))


def _wrong(message: str, details: str = "") -> WireError:
    return WireError(REJECTED, message, details)

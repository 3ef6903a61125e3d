"""Why a call that was answered 204 is lost: the server's worker cannot apply it, and tells nobody. Pure.

Each function says it in a sentence, or None. Source: parcelvoy/platform 2.3.3 (its table `users`), and what was seen at
such a server on MySQL 9.7.
"""

from __future__ import annotations

import json

from userpilot_async.emulator._wire import Payload
from userpilot_async.emulator.parcelvoy._bodies import is_deeper

NOBODY = "the ids are null or empty: the server makes a person whom no later call finds"
NO_ID = "the external_id is empty, which finds nobody"
STRANGER = "the server does not know this person: an identify or an event has to come first"
ANOTHERS = "another person has this external_id, and the server never joins two people"
SAME_BUT_FOR_CASE = (
    "the database takes an id for that of another person: it differs only in case, accents or invisible characters"
)

LENGTHS = {"anonymous_id": 255, "external_id": 255, "email": 255, "phone": 64, "timezone": 50, "locale": 255}
"""Characters that the columns hold."""
NAME = 255  # characters of an event's name
LEVELS = 100  # of objects and arrays in a JSON value: MySQL's limit

IGNORED = frozenset({"anonymous_id", "external_id", "created_at", "updated_at", "firstName", "lastName", "fullName"})
"""Keys that do no harm: ids are read elsewhere, and the others are the server's own, or it takes them out."""

_encode = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` would make an encoder for every event


def lost_text(name: str, text: str, most: int | None = None) -> str | None:
    """Look at a value for a column of text."""
    most = LENGTHS[name] if most is None else most
    if len(text) > most:
        return f"{name} has {len(text)} characters, and the database holds {most}"
    return None if _is_encodable(text) else f"{name} has half of a surrogate pair, which is no character"


def lost_user(traits: Payload) -> str | None:
    """Look at what is said of a user, but for the ids."""
    for name, value in traits.items():
        if name == "data":
            reason = lost_json(name, value)
        elif name in IGNORED or (name in LENGTHS and value is None):
            continue
        elif name in LENGTHS:
            reason = lost_text(name, value)
        else:
            reason = f"the database has no column for the key {name!a}"
        if reason:
            return reason
    return None


def lost_event(event: Payload) -> str | None:
    return lost_text("name", event["name"], NAME) or lost_json("data", event.get("data"))


def lost_device(device: Payload) -> str | None:
    """Look at a device: all of it is stored, in a list, and so two levels deeper."""
    return lost_json("the device", [device])


def lost_json(name: str, value: object) -> str | None:
    """Look at a value for a column of JSON."""
    text = _encode(value)
    if not _is_encodable(text):
        return f"{name} has half of a surrogate pair, which is no character"
    may_be_deep = text.count("{") + text.count("[") > LEVELS  # a cheap question first: every event comes by
    return f"{name} is nested deeper than {LEVELS} levels" if may_be_deep and is_deeper(value, LEVELS) else None


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

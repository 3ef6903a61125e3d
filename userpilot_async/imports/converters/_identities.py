"""Identities on a line of an export: whether its user was known by then, and whom an id is said to have become.

Sources, read 2026-11: segment.com/docs, "Spec: Alias" and "Spec: Common Fields"; amplitude.com/docs, "Track unique
users" (device, user and Amplitude ids); posthog.com/docs, "Identifying users" and "Capture and batch API endpoints"
(``$identify``, ``$create_alias``, ``$merge_dangerously``); docs.mixpanel.com, "Identifying Users (Simplified)" and
"Identifying Users (Original)" (``$device:``, ``$identify``, ``$create_alias``, ``$merge``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import attrs

from ..._calls.values import checked_user_id
from ..._errors.tree import InvalidCall
from .._timestamps import epoch_text, moment_text, order_of
from ._common import Exported, first, identity, inner, is_device, members
from ._mixpanel import user_of as mixpanel_user
from ._segment import CLOCKS, unwrapped

# Keys of the store: ids of different kinds may be spelled alike, and a device called 7 is not the user 7.
_DEVICE, _PERSON, _ANY = "device:", "person:", "id:"


@attrs.frozen
class Link:
    """Statement of a line that an id is a person's."""

    key: str
    """The id, with its kind before it."""
    known: str
    """The person's id in the application."""
    at: str
    """When it was said, as `order_of` gives it; empty if that is not known."""


@attrs.frozen
class Identity:
    """Statements of a line about its user and about ids."""

    anonymous: bool = False
    """The user is a device, a browser or the like: nobody was known when it happened."""
    keys: tuple[str, ...] | None = None
    """Keys under which its user may have become known, the most certain first; ``None``: that of any row's user id."""
    links: tuple[Link, ...] = ()


Identify = Callable[[Exported], Identity]

NOBODY = Identity()


def key_of(user_id: str) -> str:
    """The key of an id that stands in the one place that a tool has for ids."""
    return f"{_ANY}{user_id}"


def _of_call(call: Exported) -> Identity:
    """Segment and RudderStack: a call with both ids says whose the anonymous one is; `alias` says what an id became."""
    call = unwrapped(call)
    user_id, anonymous = identity(call.get("userId")), identity(call.get("anonymousId"))
    if user_id is None:
        return NOBODY if anonymous is None else Identity(True, (f"{_DEVICE}{anonymous}", key_of(anonymous)))
    at = _moment(first(call, *CLOCKS))
    keys = [] if anonymous is None else [f"{_DEVICE}{anonymous}"]
    previous = identity(call.get("previousId")) if call.get("type") == "alias" else None
    if previous is not None:
        keys.append(key_of(previous))
    return Identity(links=tuple(_links(keys, user_id, at)))


def _of_amplitude(event: Exported) -> Identity:
    """An event with a user id says whose its device is; Amplitude's own id of the person is more certain than that."""
    user_id = identity(event.get("user_id"))
    person, device = identity(event.get("amplitude_id")), identity(event.get("device_id"))
    ids = ((_PERSON, person), (_DEVICE, device))
    keys = [f"{kind}{one}" for kind, one in ids if one is not None and is_sendable(one)]
    if user_id is None:
        return NOBODY if device is None else Identity(True, tuple(keys))
    at = _moment(first(event, "event_time", "client_event_time"))
    return Identity(keys=(), links=tuple(_links(keys, user_id, at)))


def _of_posthog(event: Exported) -> Identity:
    """An ``$identify`` says who an id became that nobody was identified with; an alias goes to its event's id."""
    properties = _object(event, "properties")
    distinct_id = identity(event.get("distinct_id"), properties.get("distinct_id"))
    if distinct_id is None:
        return NOBODY
    name = event.get("event")
    identified = properties.get("$is_identified")
    anonymous = name != "$identify" and (
        identified is False or (identified is not True and distinct_id == properties.get("$device_id"))
    )
    # Of somebody who is identified, PostHog takes no `$identify` for the word that he is another one.
    keys = (key_of(distinct_id),) if identified is True else (f"{_DEVICE}{distinct_id}", key_of(distinct_id))
    said: list[str] = []
    if name == "$identify" and (before := identity(properties.get("$anon_distinct_id"))) is not None:
        said.append(f"{_DEVICE}{before}")
    elif name in ("$create_alias", "$merge_dangerously") and (other := identity(properties.get("alias"))) is not None:
        said.append(key_of(other))
    links = tuple(_links(said, distinct_id, _moment(first(event, "timestamp", "created_at")))) if said else ()
    return Identity(anonymous, keys, links)


def _of_mixpanel(line: Exported) -> Identity:
    """An event with two ids says whose the device's is, and so do the three events that join ids.

    An alias is the id that the application chose. Of a ``$merge``, which has no direction, only a device's id becomes
    the other one.
    """
    properties = _object(line, "properties")
    if "event" not in line or not properties:
        return NOBODY
    name, user_id, device = line["event"], mixpanel_user(properties), identity(properties.get("$device_id"))
    at = _moment(first(properties, "time", "$time"))
    if name == "$identify" and (chosen := identity(properties.get("$identified_id"))) is not None:
        before = identity(properties.get("$anon_id"), properties.get("$anon_distinct_id"))
        return Identity(links=tuple(_links(_spellings(before), chosen, at)))
    if name == "$create_alias" and (chosen := identity(properties.get("alias"))) is not None:
        return Identity(links=tuple(_links(_spellings(identity(properties.get("distinct_id"))), chosen, at)))
    if name == "$merge":
        ids = properties.get("$distinct_ids")
        pair = [one for value in (ids if isinstance(ids, list) else ()) if (one := identity(value)) is not None]
        devices = [one for one in pair if is_device(one)]
        if len(pair) == 2 and len(devices) == 1:
            (chosen,) = (one for one in pair if not is_device(one))
            return Identity(links=tuple(_links(_spellings(devices[0]), chosen, at)))
        return NOBODY
    if user_id is None:
        return NOBODY
    if is_device(user_id) or (user_id == device and identity(properties.get("$user_id")) is None):
        return Identity(True)
    others = [identity(properties.get(one)) for one in ("distinct_id", "$distinct_id_before_identity")]
    keys = [key for one in others if one is not None and one != user_id for key in _spellings(one)]
    return Identity(links=tuple(_links(dict.fromkeys([*_spellings(device), *keys]), user_id, at)))


def _spellings(device: str | None) -> list[str]:
    """The keys of a device's id, which newer libraries write with ``$device:`` before it."""
    if device is None:
        return []
    bare = device.removeprefix("$device:")
    return [key_of(bare), key_of(f"$device:{bare}")]


def _object(exported: Mapping[str, object], name: str) -> dict[str, object]:
    """The object of that name, also where it is JSON in a text; empty for anything else."""
    value = exported.get(name)
    if isinstance(value, str):
        try:
            return members(exported, name)
        except InvalidCall:
            return {}
    return inner(exported, name)


def _links(keys: Iterable[str], known: str, at: str) -> Iterator[Link]:
    if not is_sendable(known):
        return
    for key in keys:
        other = key.partition(":")[2]
        if other != known and is_sendable(other):  # an id that is its own person says nothing
            yield Link(key, known, at)


def is_sendable(user_id: str) -> bool:
    """Whether it is an id that a row may have; rows of others are refused, whoever they are of."""
    try:
        checked_user_id(user_id)
    except InvalidCall:
        return False
    return True


def _moment(value: object) -> str:
    try:
        if isinstance(value, str):
            return order_of(moment_text(value))
        return order_of(epoch_text(value))
    except InvalidCall:
        return ""


IDENTITIES: Mapping[str, Identify] = MappingProxyType(
    {
        "segment": _of_call,
        "rudderstack": _of_call,
        "posthog": _of_posthog,
        "amplitude": _of_amplitude,
        "mixpanel": _of_mixpanel,
    }
)
"""By tool: what a line says of ids, whatever the line looks like; it raises nothing."""

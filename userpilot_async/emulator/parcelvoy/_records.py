"""Records of Parcelvoy's calls. A user is known by a number, since their ids come one by one."""

from __future__ import annotations

from typing import Any

import attrs

from userpilot_async.emulator._records import AppliedKind
from userpilot_async.emulator._wire import Payload


@attrs.define
class User:
    """A person. `first_seen` and `last_seen` are stamps of the server's clock."""

    number: int
    external_id: str | None
    first_seen: float
    last_seen: float
    anonymous_ids: list[str] = attrs.field(factory=list)
    """The server keeps at most one, and forgets it when a new one is written."""
    fields: dict[str, str] = attrs.field(factory=dict)
    """Of email, phone, timezone and locale those that are not null."""
    data: dict[str, Any] = attrs.field(factory=dict)  # `Any`: whatever JSON holds
    devices: list[str] = attrs.field(factory=list)
    """The `device_id` of each device."""


@attrs.define
class Event:
    """An event as it was posted, and whose it is."""

    sequence: int  # the same number as in the applied log
    stamp: float  # when the server took it in
    user: int  # number of the user
    anonymous_id: str | None  # this and the next: as given
    external_id: str | None
    name: str
    data: Payload
    created_at: Any  # as given (`Any`: whatever JSON holds); the server dates events by itself
    user_known: bool  # False: the event made the user


@attrs.frozen
class Device:
    """A device of one user; another user may have one of the same `device_id`."""

    device_id: str
    user: int
    first_seen: float
    last_seen: float
    os: str
    model: str
    app_build: str
    app_version: str
    os_version: str | None = None
    token: str | None = None


@attrs.frozen
class Lost:
    """A call, or an event of an array, that was answered 204 and not applied."""

    stamp: float
    kind: AppliedKind
    payload: Payload
    reason: str
    """Says in a sentence why."""

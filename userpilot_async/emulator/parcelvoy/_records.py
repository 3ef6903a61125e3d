"""Records of Parcelvoy's calls. A user is known by a number, since their ids come one by one."""

from __future__ import annotations

from typing import Any

import attrs

from userpilot_async.emulator._wire import Payload


@attrs.define
class User:
    """A person. `first_seen` and `last_seen` are stamps of the server's clock."""

    number: int
    external_id: str | None
    first_seen: float
    last_seen: float
    anonymous_ids: list[str] = attrs.field(factory=list)
    """All that were ever this person's, in the order they became known: one for each browser or phone, say."""
    fields: dict[str, str | None] = attrs.field(factory=dict)
    """Of email, phone, timezone and locale those that were given, null too."""
    data: dict[str, Any] = attrs.field(factory=dict)  # `Any`: whatever JSON holds
    devices: list[str] = attrs.field(factory=list)
    """The `device_id` of each device."""


@attrs.define
class Event:
    """An event as it was posted, and whose it is now."""

    sequence: int  # the same number as in the applied log
    stamp: float  # when the server took it in
    user: int  # number of the user; an alias moves it when it merges two
    anonymous_id: str | None  # this and the next: as given
    external_id: str | None
    name: str
    data: Payload
    created_at: str | None  # as given
    user_known: bool  # False: the event made the user


@attrs.frozen
class Device:
    """A device, which belongs to the user it was last registered for."""

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

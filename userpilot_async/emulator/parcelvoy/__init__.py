"""Parcelvoy's client API, as a second set of routes of the emulator; their results are in `store.parcelvoy`.

`_routes` has the four endpoints, `_rules` what their bodies may contain, and `_store` the users, events and devices of
`_records`. A user has a number, since its ids come one by one: a call finds its user by `external_id`, then by
`anonymous_id`, or creates one, and an alias joins two of them. The server answers 204 before it applies a call, so the
rules here are those of the server's validation, not of its database. Guard, faults, keys and the request log are
Userpilot's, too; there is no rate limit.
"""

from userpilot_async.emulator.parcelvoy._records import Device, Event, User
from userpilot_async.emulator.parcelvoy._store import Store

__all__ = ["Device", "Event", "Store", "User"]

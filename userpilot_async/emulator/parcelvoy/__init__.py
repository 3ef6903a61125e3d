"""Parcelvoy's client API, as a second set of routes of the emulator; their results are in `store.parcelvoy`.

Whatever is not in Parcelvoy's document is as Parcelvoy 2.3.3 does it: a server was run and its answers and its database
written down (`parcelvoy-observed.json`, with the tests), and where that is silent its source was read.

`_bodies` reads a body as JavaScript does (400), `_routes` has the endpoints and the keys (401, 403, 404, 405), and
`_rules` the server's validation (422). A 204 only means that a call was queued: `_losses` says what the server's
database refuses afterwards, without a word to anybody. Such calls are in `store.parcelvoy.lost`, or refused with 422 if
the emulator is strict.

`_store` has the users, events and devices of `_records`. A user has a number, since ids come one by one, and
`_directory` finds it: by `external_id`, then by `anonymous_id`. An alias gives another external id to whoever has the
anonymous one, and nothing ever joins two users. `_collation` compares ids as the database does.

One thing is different: the server's workers apply calls ten at a time, in any order; here they are applied at once, in
the order in which they come. Guard, faults and the request log are Userpilot's, too; there is no rate limit.
"""

from userpilot_async.emulator.parcelvoy._records import Device, Event, Lost, User
from userpilot_async.emulator.parcelvoy._store import Store

__all__ = ["Device", "Event", "Lost", "Store", "User"]

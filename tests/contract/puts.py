"""A call of every kind, in the form in which either client puts it into its outbox."""

from __future__ import annotations

from datetime import UTC, datetime

from userpilot_async._calls.values import Value, size_of
from userpilot_async._delivery.client import Checked
from userpilot_async._userpilot.calls import track_body
from userpilot_async._userpilot.destination import facts_of
from userpilot_async.parcelvoy import Alias, Device, Identify, Track
from userpilot_async.parcelvoy._destination import checked_call

MOMENT = datetime(2026, 11, 21, 9, 30, 15, 250_000, tzinfo=UTC)
PROPERTIES: dict[str, Value] = {
    "plan": "pro",
    "seats": 3,
    "share": 0.5,
    "paid": True,
    "left": None,
    "naïve\x00 key": "🛰 \u2028",
}
NESTED = {"list": [1, {"deep": None}], "empty": {}}
BODY = track_body("u1", "exported", PROPERTIES)
DEVICE = Device("d1", external_id="e1", anonymous_id="a1", os="iOS", model="15,2", app_build="465", app_version="1.2")


def _userpilot_identify(company: dict[str, object] | None) -> Checked:
    facts = facts_of(dict(PROPERTIES), company, size_of(PROPERTIES))  # type: ignore[arg-type]  # what they say
    return "user", "u1", facts, facts[2]


PUTS: dict[str, Checked] = {
    "userpilot track": ("track", "u1", BODY, len(BODY)),
    "userpilot track of a time": ("track", "u1", (BODY, MOMENT), len(BODY)),
    "userpilot identify": _userpilot_identify(None),
    "userpilot identify in a company": _userpilot_identify({"id": "acme"}),
    "userpilot identify that describes a company": _userpilot_identify({"id": "acme", "name": "Acme", "size": 7}),
    "userpilot company": ("company", "acme", (dict(PROPERTIES), None, size_of(PROPERTIES), None), size_of(PROPERTIES)),
    "userpilot identify without properties": ("user", "u1", ({}, None, size_of({}), None), size_of({})),
    "parcelvoy track": checked_call(Track("opened", external_id="e1", data=NESTED, occurred_at=MOMENT)),
    "parcelvoy track with both ids": checked_call(Track("opened", external_id="e1", anonymous_id="a1")),
    "parcelvoy identify": checked_call(Identify(anonymous_id="a1", data=NESTED)),
    "parcelvoy identify with both ids": checked_call(Identify("e1", anonymous_id="a1", email="a@b.c", data=NESTED)),
    "parcelvoy alias": checked_call(Alias("a1", "e1")),
    "parcelvoy device": checked_call(DEVICE),
    "parcelvoy device of an odd id": checked_call(Device("d2", anonymous_id="a 🛰 e:1", os="-", model="-", app_build="-",
                                                    app_version="-")),
}  # fmt: skip

"""Changes since a browser was last told: the stream of the page, as a comparison of two looks.

Pure. A stream asks for a look, compares it with the one before, and says which lists are new. Nothing is queued for
anyone: a browser that is slow to read is told less often, and then what holds by now. So a stream costs the same
whether one event came in between or 100,000.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from userpilot_async.emulator._faults import Faults
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._traffic import Traffic
from userpilot_async.emulator._windows import WINDOW

Look: TypeAlias = dict[str, Any]
"""A revision of each list of the page by its name: anything that differs whenever the list does."""


def look(store: Store, faults: Faults, traffic: Traffic, now: float) -> Look:
    """Revisions of everything the page shows. Costs as much as there are jobs under way and faults, and no more."""
    applied = len(store.applied)
    return {
        "account": store,  # another one after a reset: whatever it counted begins again
        "events": [len(store.events), applied],
        "users": applied,
        "companies": applied,
        "jobs": [len(store.jobs), store.jobs.under_way(now)],
        "requests": traffic.total,
        "windows": [traffic.total, int(now // WINDOW)],
        "faults": [[armed.fault.name, armed.seen, armed.fired] for armed in faults],
        "parcelvoy/users": [len(store.parcelvoy.users), applied],
        "parcelvoy/events": len(store.parcelvoy.events),
        "parcelvoy/devices": [len(store.parcelvoy.devices), applied],
        "parcelvoy/lost": len(store.parcelvoy.lost),
    }


def changed(before: Look, after: Look) -> list[str]:
    """Names of the lists that are not what they were, in the order of the page; all of them after a reset."""
    if before.get("account") is not after["account"]:
        return [name for name in after if name != "account"]
    return [name for name in after if before.get(name) != after[name]]


def message(content: object) -> str:
    """A message of the stream, whose data is JSON in ASCII. Source: HTML Living Standard, 9.2."""
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"

"""Parcelvoy's client API, as a second set of routes of the emulator; what they leave behind is `store.parcelvoy`."""

from userpilot_async.emulator.parcelvoy._records import Device, Event, User
from userpilot_async.emulator.parcelvoy._store import Store

__all__ = ["Device", "Event", "Store", "User"]

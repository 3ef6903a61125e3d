"""The users, events and devices of Parcelvoy's side. Pure: time is handed in.

The server answers 204 as soon as a call is queued. What its worker cannot apply is gone without a word; here it is in
`lost`, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from userpilot_async.emulator._records import AppliedKind, AppliedLog
from userpilot_async.emulator._saved import Saved, records, table
from userpilot_async.emulator._wire import Payload, WireError
from userpilot_async.emulator.parcelvoy._directory import Directory
from userpilot_async.emulator.parcelvoy._records import Device, Event, Lost, User
from userpilot_async.emulator.parcelvoy._rules import DEVICE_OPTIONAL, DEVICE_REQUIRED, FIELDS, REJECTED

_PHONE = re.compile(r"\+[\s().-]*(?:\d[\s().-]*){4,19}$")
"""Near what the server's library (libphonenumber) takes for a number: any with its country's code."""


class Store:
    """Users, events and devices; `Directory` says whose a call is."""

    def __init__(self, log: AppliedLog, *, strict: bool = False) -> None:
        self.strict = strict
        """Calls that would be lost are refused."""
        self.users: dict[int, User] = {}
        """By number; `find` takes an id."""
        self.events: list[Event] = []
        self.devices: dict[tuple[int, str], Device] = {}
        """By the number of the user and `device_id`: two users may have the same one."""
        self.aliases: dict[str, str] = {}
        """From `anonymous_id` to the `external_id` of its last alias that was applied."""
        self.lost: list[Lost] = []
        """Calls that were answered 204 and not applied, oldest first."""
        self._log = log
        self._directory = Directory()

    def find(self, id: str) -> User | None:
        """The user with this external or anonymous id."""
        number = self._directory.find({"external_id": id, "anonymous_id": id})
        return None if number is None else self.users[number]

    def refusals(self, kind: AppliedKind, payloads: Sequence[Payload]) -> list[WireError]:
        """List what a strict server refuses: the calls that would be lost, if they came one after the other."""
        directory = self._directory.trial()
        errors: list[WireError] = []
        for number, payload in enumerate(payloads, start=1):
            reason = directory.place(kind, payload).reason
            if reason:
                errors.append(WireError(REJECTED, reason, f"row {number}" if len(payloads) > 1 else ""))
        return errors

    def identify(self, payload: Payload, stamp: float) -> None:
        """Merge what is said of a user, who is made if there is none."""
        if applied := self._apply("identify", payload, stamp):
            _learn(applied[0], payload)

    def alias(self, payload: Payload, stamp: float) -> None:
        """Give another `external_id` to the user with the `previous_id`, or else to the one with the `anonymous_id`."""
        if self._apply("alias", payload, stamp):
            self.aliases[payload["anonymous_id"]] = payload["external_id"]

    def register(self, payload: Payload, stamp: float) -> None:
        """Create or update a device: the first of the user's with this `device_id` or token, which may get a new id."""
        if not (applied := self._apply("device", payload, stamp)):
            return
        user, device_id, token = applied[0], payload["device_id"], payload.get("token")
        given = {name: payload[name] for name in (*DEVICE_REQUIRED, *DEVICE_OPTIONAL) if name in payload}
        for place, known in enumerate(user.devices):
            device = self.devices[user.number, known]
            if known == device_id or (token is not None and token == device.token):
                del self.devices[user.number, known]
                user.devices[place] = device_id
                device = attrs.evolve(device, device_id=device_id, last_seen=stamp, **given)
                break
        else:
            user.devices.append(device_id)
            device = Device(device_id, user.number, first_seen=stamp, last_seen=stamp, **given)
        self.devices[user.number, device_id] = device
        user.devices = list(dict.fromkeys(user.devices))  # one may have had the new id already

    def post(self, payload: Payload, stamp: float) -> None:
        """Store an event, dated now; what a nested `user` says is taken in first, even if the event is lost then."""
        people = len(self.users)
        if not (applied := self._apply("event", payload, stamp)):
            return
        user, sequence = applied
        event = Event(
            sequence=sequence,
            stamp=stamp,
            user=user.number,
            anonymous_id=payload.get("anonymous_id"),
            external_id=payload.get("external_id"),
            name=payload["name"],
            data=payload.get("data") or {},
            created_at=payload.get("created_at"),
            user_known=len(self.users) == people,
        )
        self.events.append(event)

    def counts(self) -> dict[str, int]:
        return {
            "users": len(self.users),
            "events": len(self.events),
            "devices": len(self.devices),
            "aliases": len(self.aliases),
            "lost": len(self.lost),
        }

    def saved(self) -> Saved:
        """All of it as JSON."""
        return {
            "users": table(User, self.users.values()),
            "events": table(Event, self.events),
            "devices": table(Device, self.devices.values()),
            "aliases": self.aliases,
            "lost": table(Lost, self.lost),
            "directory": self._directory.saved(),
        }

    def restore(self, saved: Saved) -> None:
        """Fill an empty store with what was saved; raises KeyError, TypeError or ValueError for what was not."""
        self.users = {user.number: user for user in records(User, saved["users"])}
        self.events = records(Event, saved["events"])
        self.devices = {(device.user, device.device_id): device for device in records(Device, saved["devices"])}
        self.aliases = dict(saved["aliases"])
        self.lost = records(Lost, saved["lost"])
        self._directory.restore(saved["directory"])

    def _apply(self, kind: AppliedKind, payload: Payload, stamp: float) -> tuple[User, int] | None:
        """The user whom a call is about, and its number in the applied log; or None, and the call is in `lost`."""
        placed = self._directory.place(kind, payload)
        user = None if placed.number is None else self._met(placed.number, stamp)
        if user is not None and kind == "event":
            _learn(user, payload.get("user") or {})
        if user is None or placed.reason is not None:
            self.lost.append(Lost(stamp, kind, payload, placed.reason or ""))
            return None
        subject = payload.get("external_id") or payload.get("anonymous_id") or ""
        return user, self._log.add(kind, subject, payload, stamp, "parcelvoy")

    def _met(self, number: int, stamp: float) -> User:
        """The user of this number, made if there is none, with the ids that the directory has, and seen now."""
        user = self.users.get(number)
        if user is None:
            user = self.users[number] = User(number, None, stamp, stamp)
        anonymous_id = self._directory.id_of("anonymous_id", number)
        user.external_id = self._directory.id_of("external_id", number)
        user.anonymous_ids = [] if anonymous_id is None else [anonymous_id]
        user.last_seen = stamp
        return user


def _learn(user: User, traits: Payload) -> None:
    """Merge fields, and `data` key by key: null is kept in there, and a nested object is replaced whole.

    A phone number without `data` wipes all the data (a bug of the server's, which then writes `phone_country` and
    `phone_is_valid`; they are not derived here).
    """
    given = {name: traits[name] for name in FIELDS if name in traits}
    user.fields = {name: value for name, value in {**user.fields, **given}.items() if value is not None}
    data: dict[str, Any] | None = traits.get("data")  # `Any`: whatever JSON holds
    if data is None and _PHONE.search(traits.get("phone") or ""):
        user.data = {}
    user.data.update(data or {})

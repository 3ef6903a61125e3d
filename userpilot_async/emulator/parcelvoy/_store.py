"""The users, events and devices of Parcelvoy's side, and who is who. Pure: time is handed in."""

from __future__ import annotations

from collections import defaultdict

import attrs

from userpilot_async.emulator._records import AppliedKind, AppliedLog
from userpilot_async.emulator._wire import Payload, WireError
from userpilot_async.emulator.parcelvoy._records import Device, Event, User
from userpilot_async.emulator.parcelvoy._rules import DEVICE_OPTIONAL, DEVICE_REQUIRED, FIELDS, REJECTED


class Store:
    """Users, events and devices; a person named by two ids is one user, found by either.

    A call finds its user by `external_id`, else by `anonymous_id`, else creates one; an id that is no user's yet
    becomes theirs, except for a second `external_id`. The order is the server's (parcelvoy/platform,
    `UserRepository.ts`). The server keeps one `anonymous_id` a user and forgets the one before; here all are kept,
    because the document does not say that a person is lost with their old browser.
    """

    def __init__(self, log: AppliedLog) -> None:
        self.users: dict[int, User] = {}
        """By number; `find` takes an id."""
        self.events: list[Event] = []
        self.devices: dict[str, Device] = {}
        """By `device_id`."""
        self.aliases: dict[str, str] = {}
        """From `anonymous_id` to the `external_id` of its one alias."""
        self._log = log
        self._by_external_id: dict[str, User] = {}
        self._by_anonymous_id: dict[str, User] = {}
        self._events_of: defaultdict[int, list[Event]] = defaultdict(list)
        self._created = 0

    def find(self, id: str) -> User | None:
        """The user with this external or anonymous id."""
        return self._named({"external_id": id, "anonymous_id": id})

    def identify(self, payload: Payload, stamp: float) -> None:
        """Merge the fields given, and `data` key by key; null is a value like any other and is kept."""
        _learn(self._met(payload, stamp), payload)
        self._note("identify", payload, stamp)

    def alias_errors(self, payload: Payload) -> list[WireError]:
        """A second alias of an anonymous id, to another user: "this action can only be performed once".

        And one that would take the id from another user, to whom a call with both ids gave it. The same alias again
        changes nothing, as at the server itself.
        """
        if self.aliases.get(payload["anonymous_id"], payload["external_id"]) != payload["external_id"]:
            return [WireError(REJECTED, "anonymous_id has an alias already")]
        user = self._by_anonymous_id.get(payload["anonymous_id"])
        if user is not None and user.external_id not in (None, payload["external_id"]):
            return [WireError(REJECTED, "anonymous_id belongs to another external_id")]
        return []

    def alias(self, payload: Payload, stamp: float) -> None:
        """Make one user of the two ids, whether they were known or not; there must be no `alias_errors`.

        "Merge a previous identifier to the users new identifier" is taken at its word: what the anonymous user did
        and is becomes the external one's, whose own values win. The server itself changes nothing in that case.
        """
        anonymous = self._by_anonymous_id.get(payload["anonymous_id"])
        external = self._by_external_id.get(payload["external_id"])
        if anonymous is not None and external is not None and anonymous is not external:
            self._absorb(anonymous, external)
        self._met(payload, stamp)
        self.aliases[payload["anonymous_id"]] = payload["external_id"]
        self._note("alias", payload, stamp)

    def register(self, payload: Payload, stamp: float) -> None:
        """Create or update the device; what is not given stays. It moves to the user it is registered for."""
        user = self._met(payload, stamp)
        device_id = payload["device_id"]
        given = {name: payload[name] for name in (*DEVICE_REQUIRED, *DEVICE_OPTIONAL) if name in payload}
        device = self.devices.get(device_id)
        if device is None:
            device = Device(device_id, user.number, first_seen=stamp, last_seen=stamp, **given)
        else:
            self.users[device.user].devices.remove(device_id)
            device = attrs.evolve(device, user=user.number, last_seen=stamp, **given)
        user.devices.append(device_id)
        self.devices[device_id] = device
        self._note("device", payload, stamp)

    def post(self, payload: Payload, stamp: float) -> None:
        """Store one event; a nested `user` is what an identify with the same ids would be."""
        user_known = self._named(payload) is not None
        user = self._met(payload, stamp)
        _learn(user, payload.get("user") or {})
        event = Event(
            sequence=self._note("event", payload, stamp),
            stamp=stamp,
            user=user.number,
            anonymous_id=payload.get("anonymous_id"),
            external_id=payload.get("external_id"),
            name=payload["name"],
            data=payload.get("data") or {},
            created_at=payload.get("created_at"),
            user_known=user_known,
        )
        self.events.append(event)
        self._events_of[user.number].append(event)

    def counts(self) -> dict[str, int]:
        return {
            "users": len(self.users),
            "events": len(self.events),
            "devices": len(self.devices),
            "aliases": len(self.aliases),
        }

    def _named(self, ids: Payload) -> User | None:
        external = self._by_external_id.get(ids.get("external_id") or "")  # no id is empty
        return external or self._by_anonymous_id.get(ids.get("anonymous_id") or "")

    def _met(self, ids: Payload, stamp: float) -> User:
        """The user of these ids, created if there is none, seen now; an id without a user is theirs from here on."""
        external_id, anonymous_id = ids.get("external_id"), ids.get("anonymous_id")
        user = self._named(ids)
        if user is None:
            self._created += 1
            user = self.users[self._created] = User(self._created, None, stamp, stamp)
        user.last_seen = stamp
        if external_id is not None and user.external_id is None:
            user.external_id = external_id
            self._by_external_id[external_id] = user
        if anonymous_id is not None and anonymous_id not in self._by_anonymous_id:
            user.anonymous_ids.append(anonymous_id)
            self._by_anonymous_id[anonymous_id] = user
        return user

    def _absorb(self, anonymous: User, external: User) -> None:
        """Make what is `anonymous`' that of `external`. Costs what the anonymous user has, not what the store holds."""
        self._by_anonymous_id |= dict.fromkeys(anonymous.anonymous_ids, external)
        external.anonymous_ids += anonymous.anonymous_ids
        external.devices += anonymous.devices
        external.fields = {**anonymous.fields, **external.fields}
        external.data = {**anonymous.data, **external.data}
        external.first_seen = min(anonymous.first_seen, external.first_seen)
        for device_id in anonymous.devices:
            self.devices[device_id] = attrs.evolve(self.devices[device_id], user=external.number)
        # They move once at the most: a user with an external id is never absorbed.
        for event in self._events_of.pop(anonymous.number, []):
            event.user = external.number
        del self.users[anonymous.number]

    def _note(self, kind: AppliedKind, payload: Payload, stamp: float) -> int:
        subject = payload.get("external_id") or payload["anonymous_id"]
        return self._log.add(kind, subject, payload, stamp, "parcelvoy")


def _learn(user: User, traits: Payload) -> None:
    user.fields.update({name: traits[name] for name in FIELDS if name in traits})
    user.data.update(traits.get("data") or {})

"""The other side of the fault tests: `PARCELVOY` for what both sides share, and the calls that only Parcelvoy has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import Event, judge, same_events, same_state
from tests.harness.stage.calls import Calls, Side, person
from tests.harness.stage.scenes import USERPILOT, Rehearsal
from userpilot_async import Receipt
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings

EVENTS, ALIASES, DEVICES = "/api/client/events", "/api/client/alias", "/api/client/devices"
FIELDS = ("email", "phone", "timezone", "locale")  # what an identify says beside its data
DEVICE = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}


def visitor(number: int) -> str:
    """The anonymous id of a person."""
    return f"visitor of {person(number)}"


async def alias(scene: Calls, number: int) -> Receipt:
    """The visitor of this number, whom the server has met, is the person of this number, whom it has not."""
    users = scene.model.users
    users[visitor(number)] = users[person(number)] = {**users.get(visitor(number), {}), **users.get(person(number), {})}
    receipt: Receipt = await scene.client.alias(visitor(number), person(number))
    return receipt


async def register(scene: Calls, user: str, device_id: str) -> Receipt:
    scene.model.identify(user, {f"device {device_id}": DEVICE})
    receipt: Receipt = await scene.client.register_device(device_id, **_ids(user), **DEVICE)
    return receipt


def _ids(user: str) -> dict[str, Any]:
    return {"anonymous_id" if user.startswith("visitor") else "external_id": user}


async def _identify(client: ParcelvoyClient, user: str, said: dict[str, Any], company: None) -> Receipt:
    fields = {name: said[name] for name in FIELDS if name in said}
    return await client.identify(**_ids(user), **fields, data={name: said[name] for name in said if name not in FIELDS})


async def _track(client: ParcelvoyClient, user: str, name: str, said: dict[str, Any]) -> Receipt:
    return await client.track(name, **_ids(user), data=said)


def _judge_parcelvoy(scene: Rehearsal, extra: int) -> None:
    store = scene.emulator.store.parcelvoy
    if (limit := scene.client.settings.requests_per_minute) is not None:
        judge.requests_in_any_minute((request.stamp for request in scene.emulator.store.requests), limit)
    stored: dict[str, dict[str, Any]] = {}
    for user in store.users.values():
        devices = {f"device {name}": {field: getattr(store.devices[user.number, name], field) for field in DEVICE}
                   for name in user.devices}  # fmt: skip
        for name in (user.external_id, *user.anonymous_ids):
            if name is not None:
                stored[name] = {**user.fields, **user.data, **devices}
    for event in scene.model.events:
        scene.model.users.setdefault(event.user_id, {})  # an event makes its user
    same_state(scene.model, stored)
    same_events(
        scene.model, [Event(e.external_id or e.anonymous_id or "", e.name, e.data) for e in store.events], extra
    )


PARCELVOY = Side(
    name="parcelvoy",
    client=ParcelvoyClient,
    quick=ParcelvoySettings(request_timeout=0.4, flush_interval=0, close_timeout=1.0),
    events=EVENTS,
    identifies="/api/client/identify",
    rejects=422,
    identify=_identify,
    track=_track,
    judge_store=_judge_parcelvoy,
)

both = pytest.mark.parametrize("to", [USERPILOT, PARCELVOY], ids=lambda side: side.name)

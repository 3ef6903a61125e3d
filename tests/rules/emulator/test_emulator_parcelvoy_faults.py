"""Scripted faults and control routes on Parcelvoy's side: the same as on the other, and what they show."""

from __future__ import annotations

import httpx
import pytest

from userpilot_async.emulator import ConnectionCut, Emulator, Fault

pytestmark = pytest.mark.anyio

EVENTS = [{"external_id": "E", "name": "one"}, {"anonymous_id": "A/1", "name": "two"}]
ALIAS = {"anonymous_id": "A/1", "external_id": "F"}
DEVICE = {"device_id": "d1", "os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}
ROUTE = "/__emulator__"


@pytest.fixture
def control(emulator):
    return httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, times=2),
        Fault(status=503, times=2, path="/api/client/*"),
        Fault(status=503, times=2, family="parcelvoy_events"),
        Fault(status=503, times=2, user_id="E"),
        Fault(status=503, times=2, user_id="A/1"),
        Fault(status=503, times=2, body_contains='"two"'),
        Fault(status=503, times=2, body_over=20),
    ],
)
async def test_a_status_befalls_the_calls_it_describes_as_often_as_it_says(parcelvoy, emulator, fault):
    emulator.faults.add(fault)
    answers = [await parcelvoy.post("/events", json=EVENTS) for _ in range(3)]

    assert [503, 503, 204] == [answer.status_code for answer in answers]
    assert 2 == len(emulator.store.parcelvoy.events)


@pytest.mark.parametrize("fault", [Fault(status=503, path="/v1/*"), Fault(status=503, family="identify")])
async def test_a_fault_of_the_other_api_leaves_these_calls_alone(parcelvoy, emulator, fault):
    emulator.faults.add(fault)

    assert 204 == (await parcelvoy.post("/identify", json={"external_id": "E"})).status_code


async def test_a_scripted_error_has_the_shape_of_parcelvoys_and_its_own_headers(parcelvoy, emulator):
    emulator.faults.add(Fault(name="busy", status=429, headers={"Retry-After": "5"}))
    answer = await parcelvoy.post("/events", json=EVENTS)

    assert ("5", {"status": "error", "error": "scripted fault busy"}) == (answer.headers["retry-after"], answer.json())


async def test_one_poison_event_refuses_every_array_it_is_in(parcelvoy, emulator):
    emulator.faults.add(Fault(body_contains="poison-é", status=422, times=None))
    poison = {"external_id": "E", "name": "x", "data": {"deep": ["poison-é"]}}
    statuses = [
        (await parcelvoy.post("/events", json=events)).status_code for events in ([*EVENTS, poison], EVENTS, [poison])
    ]

    assert [422, 204, 422] == statuses


@pytest.mark.parametrize(("cut", "events"), [("before", 0), ("after", 2)])
async def test_a_cut_is_before_or_after_the_whole_array_was_applied(parcelvoy, emulator, cut, events):
    emulator.faults.add(Fault(cut=cut))
    with pytest.raises(ConnectionCut):
        await parcelvoy.post("/events", json=EVENTS)

    (request,) = emulator.store.requests
    assert (None, events, bool(events)) == (request.status, request.rows, request.applied)
    assert events == len(emulator.store.parcelvoy.events)


async def test_an_alias_whose_answer_was_lost_changes_nothing_when_it_comes_again(parcelvoy, emulator):
    await parcelvoy.post("/events", json=EVENTS)
    emulator.faults.add(Fault(family="parcelvoy_alias", cut="after"))
    with pytest.raises(ConnectionCut):
        await parcelvoy.post("/alias", json=ALIAS)

    assert 204 == (await parcelvoy.post("/alias", json=ALIAS)).status_code
    assert ({"A/1": "F"}, []) == (emulator.store.parcelvoy.aliases, emulator.store.parcelvoy.lost)


async def test_an_answer_can_be_good_although_nothing_was_applied(parcelvoy, emulator):
    emulator.faults.add(Fault(apply=False))
    answer = await parcelvoy.post("/events", json=EVENTS)

    assert (204, b"") == (answer.status_code, answer.content)
    assert [] == emulator.store.parcelvoy.events


async def test_an_answer_can_fail_although_the_call_was_applied(parcelvoy, emulator):
    emulator.faults.add(Fault(status=504, apply=True))

    assert 504 == (await parcelvoy.post("/events", json=EVENTS)).status_code
    assert 2 == len(emulator.store.parcelvoy.events)


@pytest.fixture
def populate(parcelvoy):
    async def populate():
        await parcelvoy.post("/events", json=EVENTS)
        await parcelvoy.post("/devices", json={"anonymous_id": "A/1", **DEVICE})
        await parcelvoy.post("/alias", json=ALIAS)
        await parcelvoy.post("/identify", json={"external_id": "F", "email": "e@f.g", "data": {"n": {"m": 1}}})
        await parcelvoy.post("/alias", json={**ALIAS, "external_id": "E"})

    return populate


async def test_a_user_is_shown_by_either_id(control, populate, clock):
    await populate()
    by_external = (await control.get(f"{ROUTE}/parcelvoy/users/F")).json()
    by_anonymous = (await control.get(f"{ROUTE}/parcelvoy/users/A%2F1")).json()

    assert {
        "number": 2,
        "external_id": "F",
        "first_seen": clock.now,
        "last_seen": clock.now,
        "anonymous_ids": ["A/1"],
        "fields": {"email": "e@f.g"},
        "data": {"n": {"m": 1}},
        "devices": ["d1"],
    } == by_external
    assert by_external == by_anonymous
    assert 404 == (await control.get(f"{ROUTE}/parcelvoy/users/nobody")).status_code


async def test_events_and_devices_are_shown_with_the_user_they_belong_to(control, populate, clock):
    await populate()
    events = (await control.get(f"{ROUTE}/parcelvoy/events?offset=1")).json()
    devices = (await control.get(f"{ROUTE}/parcelvoy/devices")).json()["items"]

    assert (2, 2) == (events["total"], (await control.get(f"{ROUTE}/parcelvoy/users")).json()["total"])
    assert [
        {
            "sequence": 2,
            "stamp": clock.now,
            "user": 2,
            "anonymous_id": "A/1",
            "external_id": None,
            "name": "two",
            "data": {},
            "created_at": None,
            "user_known": False,
        }
    ] == events["items"]
    assert [("d1", 2, "465", None)] == [(d["device_id"], d["user"], d["app_build"], d["token"]) for d in devices]


async def test_what_was_lost_is_shown_with_the_reason(control, populate, parcelvoy, clock):
    await populate()
    broken = b'{"external_id": "G", "data": {"a": "\\ud800"}}'
    await parcelvoy.post("/identify", content=broken, headers={"Content-Type": "application/json"})
    lost = (await control.get(f"{ROUTE}/parcelvoy/lost")).json()

    assert 2 == lost["total"]
    assert [
        {
            "stamp": clock.now,
            "kind": "alias",
            "payload": {**ALIAS, "external_id": "E"},
            "reason": "another person has this external_id, and the server never joins two people",
        },
        {
            "stamp": clock.now,
            "kind": "identify",
            "payload": {"external_id": "G", "data": {"a": "\ud800"}},
            "reason": "data has half of a surrogate pair, which is no character",
        },
    ] == lost["items"]


async def test_a_strict_emulator_refuses_an_array_with_one_event_that_would_be_lost(clock, connect_parcelvoy):
    emulator = Emulator(clock=clock, strict=True)
    parcelvoy = connect_parcelvoy(emulator)
    answer = await parcelvoy.post("/events", json=[*EVENTS, {"external_id": "e", "name": "three"}])
    emulator.reset()
    again = await parcelvoy.post("/alias", json=ALIAS)

    assert 422 == answer.status_code
    assert answer.json()["error"].endswith("differs only in case, accents or invisible characters: row 3")
    assert (422, "the server does not know this person: an identify or an event has to come first") == (
        again.status_code,
        again.json()["error"],
    )
    assert ([], [], {}) == (emulator.store.applied, emulator.store.parcelvoy.lost, emulator.store.parcelvoy.users)


async def test_the_counters_count_parcelvoys_side_and_a_reset_clears_it(control, populate):
    await populate()
    full = (await control.get(f"{ROUTE}/counters")).json()
    await control.post(f"{ROUTE}/reset")
    empty = (await control.get(f"{ROUTE}/counters")).json()

    assert {"users": 2, "events": 2, "devices": 1, "aliases": 1, "lost": 1} == full["parcelvoy"]
    assert {"204": 1} == full["requests"]["parcelvoy_events"]
    assert {"users": 0, "events": 0, "devices": 0, "aliases": 0, "lost": 0} == empty["parcelvoy"]

"""Parcelvoy's calls: whom they let in, what they refuse and what they leave behind.

What was seen at a real server is in `test_emulator_parcelvoy_observed.py`; here is what its source says besides.
"""

from __future__ import annotations

import pytest

from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

IDENTIFY = {
    "external_id": "EXTERNAL_ID",
    "email": "test@test.com",
    "timezone": "America/Chicago",
    "locale": "en",
    "data": {"first_name": "John", "last_name": "Smith", "has_completed_onboarding": True},
}
DEVICE = {
    "external_id": "EXTERNAL_ID",
    "device_id": "5e356e66-03aa-4926-a322-d7f5c89049c1",
    "token": "45d2e0c7",
    "os": "iOS 16.3",
    "model": "iPhone15,2",
    "app_build": "465",
    "app_version": "1.2.4",
}
EVENT = {"external_id": "EXTERNAL_ID", "name": "Product Purchased", "data": {"product_id": 12345, "price": 49.99}}
ALIAS = {"anonymous_id": "ANONYMOUS_ID", "external_id": "EXTERNAL_ID"}


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/identify", IDENTIFY),
        ("/identify", {"anonymous_id": "A"}),
        ("/identify", {"external_id": "E", "anonymous_id": None, "email": None, "timezone": None, "data": None}),
        ("/identify", {"external_id": "E", "phone": "+1", "data": {"deep": {"list": [1, {"a": None}]}}}),
        ("/identify", {"external_id": "E", "phone": "", "email": "no address", "timezone": "us/pacific-NEW"}),
        ("/alias", ALIAS),
        ("/alias", {**ALIAS, "previous_id": "P"}),
        ("/alias", {**ALIAS, "previous_id": ["P"]}),
        ("/devices", DEVICE),
        ("/devices", {**DEVICE, "token": None, "os_version": ""}),
        ("/devices", {name: value for name, value in DEVICE.items() if name != "token"}),
        ("/events", [EVENT]),
        ("/events", [{"anonymous_id": "A", "name": "opened", "data": None, "user": None}]),
        ("/events", [{"anonymous_id": "A", "name": "", "created_at": {"no": "time"}, "more": 1}]),
        ("/events", [{"anonymous_id": "A", "name": "opened", "user": {}}]),
        ("/events", [{"anonymous_id": "A", "name": "opened", "user": {"timezone": "Chicago", "firstName": "John"}}]),
        ("/events", [{"anonymous_id": "A", "name": "opened", "user": {"email": "a@b.c", "data": {"plan": "pro"}}}]),
    ],
)
async def test_a_call_by_the_rules_is_answered_with_204_and_an_empty_body(parcelvoy, emulator, path, payload):
    await parcelvoy.post("/identify", json={"anonymous_id": "ANONYMOUS_ID"})
    await parcelvoy.post("/identify", json={"external_id": DEVICE["external_id"] if path == "/devices" else "P"})
    answer = await parcelvoy.post(path, json=payload)

    assert (204, b"") == (answer.status_code, answer.content)
    assert [] == emulator.store.parcelvoy.lost
    assert 3 == len(emulator.store.applied)


@pytest.mark.parametrize(
    ("path", "payload", "named"),
    [
        ("/identify", [], "object"),
        ("/identify", {"email": "a@b.c"}, "anonymous_id or external_id"),
        ("/identify", {"external_id": 7}, "external_id"),
        ("/identify", {"external_id": "E", "anonymous_id": 7}, "anonymous_id"),
        ("/identify", {"external_id": "E", "email": 7}, "email"),
        ("/identify", {"external_id": "E", "phone": 49}, "phone"),
        ("/identify", {"external_id": "E", "locale": True}, "locale"),
        ("/identify", {"external_id": "E", "timezone": "Chicago"}, "timezone"),
        ("/identify", {"external_id": "E", "timezone": "../etc/passwd"}, "timezone"),
        ("/identify", {"external_id": "E", "timezone": ""}, "timezone"),
        ("/identify", {"external_id": "E", "timezone": "Factory"}, "timezone"),
        ("/identify", {"external_id": "E", "timezone": "+01:00"}, "timezone"),
        ("/identify", {"external_id": "E", "timezone": "UTC "}, "timezone"),
        ("/identify", {"external_id": "E", "data": []}, "data"),
        ("/identify", {"external_id": "E", "first_name": "John"}, "first_name"),
        ("/alias", {"anonymous_id": "A"}, "external_id"),
        ("/alias", {"external_id": "E"}, "anonymous_id"),
        ("/alias", {"anonymous_id": "A", "external_id": None}, "external_id"),
        *(
            ("/devices", {**DEVICE, name: wrong}, name)
            for name in ("device_id", "os", "model", "app_build", "app_version")
            for wrong in (None, 465)
        ),
        ("/devices", {**DEVICE, "token": 1}, "token"),
        ("/devices", {**DEVICE, "os_version": 16.3}, "os_version"),
        ("/devices", {**DEVICE, "os_version": None}, "os_version"),
        ("/devices", {name: value for name, value in DEVICE.items() if name != "external_id"}, "external_id"),
        ("/events", [], "array"),
        ("/events", EVENT, "array"),
        ("/events", [[EVENT]], "object"),
        ("/events", [{"external_id": "E"}], "name"),
        ("/events", [{"external_id": "E", "name": 7}], "name"),
        ("/events", [{"name": "opened"}], "anonymous_id or external_id"),
        ("/events", [{**EVENT, "data": "x"}], "data"),
        ("/events", [{**EVENT, "user": "E"}], "user"),
        ("/events", [{**EVENT, "user": {"email": 7}}], "email"),
    ],
)
async def test_a_call_against_the_rules_is_refused_with_422_and_changes_nothing(
    parcelvoy, emulator, path, payload, named
):
    answer = await parcelvoy.post(path, json=payload)

    assert 422 == answer.status_code
    assert "error" == answer.json()["status"]
    assert named in answer.json()["error"]
    assert [] == emulator.store.applied
    assert {} == emulator.store.parcelvoy.users


async def test_one_bad_event_refuses_the_whole_array_and_the_error_names_its_row(parcelvoy, emulator):
    answer = await parcelvoy.post("/events", json=[EVENT, {"external_id": "E"}, EVENT])

    assert (422, "name must be a string: row 2") == (answer.status_code, answer.json()["error"])
    assert [] == emulator.store.parcelvoy.events


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Token KEY", "KEY", "bearer KEY"])
async def test_a_call_without_a_bearer_key_is_refused(parcelvoy, authorization):
    answer = await parcelvoy.post("/identify", json=IDENTIFY, headers={"Authorization": authorization})

    assert 401 == answer.status_code
    assert {"status": "error", "error": "Authorization error.", "code": 1000} == answer.json()


@pytest.mark.parametrize("key", ["pk_KEY", "sk_KEY", "anything"])
async def test_any_key_is_accepted_unless_keys_were_given(emulator, connect_parcelvoy, key):
    assert 204 == (await connect_parcelvoy(emulator, key=key).post("/identify", json=IDENTIFY)).status_code


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("pk_RIGHT", 204, None),
        ("pk_right", 204, None),
        ("pk_WRONG", 404, 6000),
        ("sk_WRONG", 404, 6000),
        ("KEY", 401, 1000),
    ],
)
async def test_an_unknown_key_is_refused_by_its_prefix(clock, connect_parcelvoy, key, status, code):
    parcelvoy = connect_parcelvoy(Emulator(clock=clock, api_keys=["pk_RIGHT"]), key=key)
    answer = await parcelvoy.post("/identify", json=IDENTIFY)

    assert (status, code) == (answer.status_code, answer.json()["code"] if answer.content else None)


@pytest.mark.parametrize(
    ("body", "key", "status"), [(b"{", "pk_WRONG", 400), (b"{}", "pk_WRONG", 404), (b"{}", "pk_RIGHT", 422)]
)
async def test_the_body_is_parsed_before_the_key_is_looked_at_and_checked_after_it(
    clock, connect_parcelvoy, body, key, status
):
    parcelvoy = connect_parcelvoy(Emulator(clock=clock, api_keys=["pk_RIGHT"]), key=key)
    answer = await parcelvoy.post("/identify", content=body, headers={"Content-Type": "application/json"})

    assert status == answer.status_code


async def test_the_emulators_keys_are_those_of_both_apis(clock, connect, connect_parcelvoy):
    emulator = Emulator(clock=clock, api_keys=["RIGHT"])
    track = {"user_id": "u1", "event_name": "opened"}

    assert 401 == (await connect_parcelvoy(emulator, key="WRONG").post("/events", json=[EVENT])).status_code
    assert 204 == (await connect_parcelvoy(emulator, key="RIGHT").post("/events", json=[EVENT])).status_code
    assert 202 == (await connect(emulator, key="RIGHT").post("/v1/track", json=track)).status_code
    assert 1 == len(emulator.store.parcelvoy.events)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/nope", 404, None),
        ("POST", "/identify//", 404, None),
        ("POST", "/identify/x", 404, None),
        ("POST", "/%69dentify", 404, None),
        ("OPTIONS", "/nope", 404, None),
        ("GET", "/identify", 405, "POST"),
        ("HEAD", "/Identify/", 405, "POST"),
        ("DELETE", "/events", 405, "POST"),
        ("OPTIONS", "/events/", 200, "POST"),
        ("POST", "/users", 405, "PATCH"),
    ],
)
async def test_where_there_is_nothing_to_do_no_key_is_asked_for(parcelvoy, method, path, status, allow):
    answer = await parcelvoy.request(method, path, headers={"Authorization": ""})

    assert (status, allow) == (answer.status_code, answer.headers.get("allow"))
    assert {404: "Not Found", 405: "" if method == "HEAD" else "Method Not Allowed", 200: ""}[status] == answer.text


async def test_a_broken_body_is_400_wherever_it_goes(parcelvoy):
    headers = {"Content-Type": "application/json"}
    sent = [("POST", "/nope"), ("PUT", "/identify"), ("DELETE", "/identify")]
    answers = [await parcelvoy.request(method, path, content=b"{", headers=headers) for method, path in sent]

    assert [400, 400, 405] == [answer.status_code for answer in answers]


async def test_a_secret_key_patches_a_list_of_users_and_a_public_one_does_not(emulator, connect_parcelvoy):
    users = [{"external_id": "E", "data": {"a": 1}}, {"anonymous_id": "A", "external_id": None, "timezone": "Chicago"}]
    public, secret = (connect_parcelvoy(emulator, key=key) for key in ("pk_KEY", "sk_KEY"))
    denied = await public.patch("/users", json=users)
    taken = await secret.patch("/users", json=users)
    wrong = [await secret.patch("/users", json=body) for body in ([], [{"external_id": None}], {"external_id": "E"})]

    assert (403, 1007) == (denied.status_code, denied.json()["code"])
    assert (204, b"") == (taken.status_code, taken.content)
    assert [422] * 3 == [answer.status_code for answer in wrong]
    assert {"a": 1} == emulator.store.parcelvoy.find("E").data
    assert {"timezone": "Chicago"} == emulator.store.parcelvoy.find("A").fields


async def test_there_is_no_rate_limit_and_no_word_of_one(clock, connect_parcelvoy):
    parcelvoy = connect_parcelvoy(Emulator(clock=clock, rate_limit=1))
    answers = [await parcelvoy.post("/events", json=[EVENT]) for _ in range(3)]

    assert [204] * 3 == [answer.status_code for answer in answers]
    assert "date" in answers[0].headers
    assert not [name for name in answers[0].headers if name.startswith("x-ratelimit")]


async def test_parcelvoy_spends_nothing_of_userpilots_minute(client, parcelvoy):
    await parcelvoy.post("/identify", json=IDENTIFY)
    answer = await client.post("/v1/identify", json={"user_id": "u1"})

    assert "599" == answer.headers["x-ratelimit-remaining"]


async def test_the_request_log_tells_the_calls_apart_and_counts_the_events(parcelvoy, emulator):
    for path, payload in [("/identify", IDENTIFY), ("/alias", ALIAS), ("/devices", DEVICE), ("/events", [EVENT] * 3)]:
        await parcelvoy.post(path, json=payload)
    await parcelvoy.post("/events", json=[])

    assert [
        ("parcelvoy_identify", 204, 1, True),
        ("parcelvoy_alias", 204, 1, True),
        ("parcelvoy_devices", 204, 1, True),
        ("parcelvoy_events", 204, 3, True),
        ("parcelvoy_events", 422, 0, False),
    ] == [(seen.family, seen.status, seen.rows, seen.applied) for seen in emulator.store.requests]
    assert "pk_KEY" not in repr(emulator.store.requests)


async def test_the_applied_log_keeps_both_apis_in_one_order(client, parcelvoy, emulator):
    first, second = {"anonymous_id": "A", "name": "one"}, {**EVENT, "name": "two"}
    alias = {"anonymous_id": "A", "external_id": "F"}
    await parcelvoy.post("/events", json=[first, second])
    await client.post("/v1/identify", json={"user_id": "u1"})
    await parcelvoy.post("/identify", json=IDENTIFY)
    await parcelvoy.post("/devices", json=DEVICE)
    await parcelvoy.post("/alias", json=alias)

    assert [
        (1, "event", "A", "parcelvoy", first),
        (2, "event", "EXTERNAL_ID", "parcelvoy", second),
        (3, "identify", "u1", "realtime", {"user_id": "u1"}),
        (4, "identify", "EXTERNAL_ID", "parcelvoy", IDENTIFY),
        (5, "device", "EXTERNAL_ID", "parcelvoy", DEVICE),
        (6, "alias", "F", "parcelvoy", alias),
    ] == [(entry.sequence, entry.kind, entry.id, entry.via, entry.payload) for entry in emulator.store.applied]
    assert [1, 2] == [event.sequence for event in emulator.store.parcelvoy.events]

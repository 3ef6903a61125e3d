"""The three realtime calls: what they refuse and what they leave behind."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.anyio

LONG = "x" * 256
AT = b"2024-12-01T08:55:43"


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/v1/identify", {"user_id": "u1", "metadata": {"plan": "pro"}, "company": {"id": "c1"}}),
        ("/v1/companies/identify", {"company_id": "c1", "metadata": {"seats": 5}}),
        ("/v1/companies/identify", {"company_id": "c1"}),
        ("/v1/track", {"user_id": "u1", "event_name": "opened", "metadata": {"plan": "pro"}}),
    ],
)
async def test_a_realtime_call_is_answered_202_with_an_empty_body(client, emulator, path, payload):
    answer = await client.post(path, json=payload)

    assert (202, b"") == (answer.status_code, answer.content)
    assert [payload] == [entry.payload for entry in emulator.store.applied]


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("/v1/identify", {}),
        ("/v1/identify", {"user_id": ""}),
        ("/v1/identify", {"user_id": "  "}),
        ("/v1/identify", {"user_id": 7}),
        ("/v1/identify", {"user_id": None}),
        ("/v1/identify", {"user_id": "u1", "metadata": []}),
        ("/v1/identify", {"user_id": "u1", "metadata": {"a": [1]}}),
        ("/v1/identify", {"user_id": "u1", "metadata": {"a": {"b": 1}}}),
        ("/v1/identify", {"user_id": "u1", "metadata": {LONG: 1}}),
        ("/v1/identify", {"user_id": "u1", "metadata": {"a": "x" * 65_536}}),
        ("/v1/identify", {"user_id": "u1", "metadata": {str(n): n for n in range(501)}}),
        ("/v1/identify", {"user_id": "u1", "company": "acme"}),
        ("/v1/identify", {"user_id": "u1", "company": {"name": "Acme"}}),
        ("/v1/identify", {"user_id": "u1", "company": {"id": ""}}),
        ("/v1/identify", {"user_id": "u1", "company": {"id": "a", "company_id": "b"}}),
        ("/v1/identify", {"user_id": "u1", "company": {"id": "a", "tags": ["x"]}}),
        ("/v1/companies/identify", {"metadata": {}}),
        ("/v1/companies/identify", {"company_id": "c1", "metadata": {"a": [1]}}),
        ("/v1/track", {"user_id": "u1"}),
        ("/v1/track", {"event_name": "opened"}),
        ("/v1/track", {"user_id": "u1", "event_name": ""}),
        ("/v1/track", {"user_id": "u1", "event_name": "opened", "metadata": {"a": {}}}),
        ("/v1/track", [{"user_id": "u1", "event_name": "opened"}]),
    ],
)
async def test_a_call_against_the_rules_is_refused_with_400_and_changes_nothing(client, emulator, path, payload):
    answer = await client.post(path, json=payload)

    assert 400 == answer.status_code
    assert "bad_request" == answer.json()["errors"][0]["error_code"]
    assert [] == emulator.store.applied


@pytest.mark.parametrize(
    "payload",
    [
        {"user_id": "u1", "metadata": {"a": "x" * 65_535}},
        {"user_id": "u1", "metadata": {"x" * 255: 1}},
        {"user_id": "u1", "metadata": {str(n): n for n in range(500)}},
        {"user_id": "u1", "metadata": {"s": "ü", "i": 2**70, "f": -0.5, "b": True, "n": None}},
        {"user_id": "u1", "company": {"id": "c1", "company_id": "c1", "name": "Acme"}},
    ],
)
async def test_an_identify_at_the_limits_is_accepted(client, payload):
    assert 202 == (await client.post("/v1/identify", json=payload)).status_code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b'{"user_id": "u1", "event_name": "e", "metadata": {"a": NaN}}',
        b'{"user_id": "u1", "event_name": "e", "metadata": {"a": Infinity}}',
        b'{"user_id": "u1", "event_name": "e", "metadata": {"a": 1e400}}',
        b'{"user_id": "u1", "event_name": "e", "more": [-1E+999]}',
        b'{"user_id": "\\ud800", "event_name": "e"}',
        b'{"user_id": "\xff", "event_name": "e"}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(client, body):
    answer = await client.post("/v1/track", content=body, headers={"Content-Type": "application/json"})

    assert 400 == answer.status_code


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400"])
async def test_a_number_that_is_infinite_is_refused_wherever_it_comes_and_the_store_can_be_read(client, number):
    row = b'{"event_type": "identify_user", "user_id": "u1", "source": "backend-http", "inserted_at": "%s"' % AT
    cells = b'identify_user,u1,backend-http,%s,"{""a"": %s}"' % (AT, number)
    files = [
        ("/v1/users/bulk_identify", b'{"user_id": "u1", "metadata": {"a": %s}}' % number),
        ("/v1/companies/bulk_identify", b'{"company_id": "c1", "metadata": {"a": %s}}' % number),
        ("/v1/imports", row + b', "screen_width": %s}' % number),
        ("/v1/imports", b"event_type,user_id,source,inserted_at,metadata\n" + cells),
    ]
    bodies = [
        ("/v1/identify", b'{"user_id": "u1", "company": {"id": "c1", "seats": %s}}' % number),
        ("/v1/companies/identify", b'{"company_id": "c1", "metadata": {"a": %s}}' % number),
        ("/v1/users/bulk_identify", b'{"users": [{"user_id": "u1", "metadata": {"a": %s}}]}' % number),
    ]
    as_json = {"Content-Type": "application/json"}
    refused = [await client.post(path, content=body, headers=as_json) for path, body in bodies]
    refused += [await client.post(path, files={"file": ("rows", content)}) for path, content in files]

    assert [400] * 7 == [answer.status_code for answer in refused]
    for page in ("users", "companies", "events", "applied", "jobs"):
        assert 0 == (await client.get(f"/__emulator__/{page}")).json()["total"]


async def test_a_body_of_another_content_type_is_refused(client):
    body = json.dumps({"user_id": "u1", "event_name": "opened"})

    assert 400 == (await client.post("/v1/track", content=body, headers={"Content-Type": "text/plain"})).status_code
    assert 400 == (await client.post("/v1/track", content=body)).status_code


async def test_event_metadata_may_have_10_kb_and_not_a_byte_more(client):
    event = {"user_id": "u1", "event_name": "opened"}
    fits = {"a": "x" * (10 * 1024 - len('{"a":""}'))}
    too_large = {"a": fits["a"] + "x"}

    assert 202 == (await client.post("/v1/track", json={**event, "metadata": fits})).status_code
    assert 413 == (await client.post("/v1/track", json={**event, "metadata": too_large})).status_code


async def test_metadata_merges_key_by_key_and_null_removes(client, emulator):
    await client.post("/v1/identify", json={"user_id": "u1", "metadata": {"plan": "free", "age": 3, "old": "x"}})
    await client.post("/v1/identify", json={"user_id": "u1", "metadata": {"plan": "pro", "old": None}})

    assert {"plan": "pro", "age": 3} == emulator.store.users["u1"].properties


@pytest.mark.parametrize("key", ["id", "company_id"])
async def test_the_company_of_an_identify_is_merged_and_its_id_is_no_property(client, emulator, key):
    await client.post("/v1/companies/identify", json={"company_id": "c1", "metadata": {"seats": 5, "tier": "a"}})
    await client.post("/v1/identify", json={"user_id": "u1", "company": {key: "c1", "name": "Acme", "tier": None}})

    assert {"seats": 5, "name": "Acme"} == emulator.store.companies["c1"].properties
    assert "c1" == emulator.store.users["u1"].company_id


async def test_events_are_booked_on_the_company_of_their_moment(client, emulator):
    event = {"user_id": "u1", "event_name": "opened"}
    for company in ("c1", "c2"):
        await client.post("/v1/identify", json={"user_id": "u1", "company": {"id": company}})
        await client.post("/v1/track", json=event)
    await client.post("/v1/identify", json={"user_id": "u1"})
    await client.post("/v1/track", json=event)

    assert ["c1", "c2", "c2"] == [event.company_id for event in emulator.store.events]


async def test_an_event_of_an_unknown_user_is_accepted_and_marked(client, emulator, clock):
    answer = await client.post("/v1/track", json={"user_id": "ghost", "event_name": "opened"})
    await client.post("/v1/identify", json={"user_id": "ghost"})
    await client.post("/v1/track", json={"user_id": "ghost", "event_name": "closed"})

    assert 202 == answer.status_code
    assert [False, True] == [event.user_known for event in emulator.store.events]
    assert 1 == emulator.store.counters(clock.now).unknown_user_events


async def test_an_event_is_dated_on_arrival(client, emulator, clock):
    clock.now += 7
    await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened", "inserted_at": "2001-01-01"})

    assert clock.now == emulator.store.events[0].occurred_at


async def test_a_repeated_event_counts_twice_and_is_reported_as_a_duplicate(client, emulator, clock):
    for metadata in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2, "b": 2}):
        await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened", "metadata": metadata})

    assert 3 == len(emulator.store.events)
    assert 1 == emulator.store.counters(clock.now).duplicate_events


async def test_event_names_beyond_512_kb_are_accepted_and_counted(client, emulator, clock):
    """The vendor names the limit and not what happens beyond it: nothing may be lost for it here."""
    name = "n" * (256 * 1024 - 1)
    answers = [await client.post("/v1/track", json={"user_id": "u1", "event_name": name + last}) for last in "ababc"]
    counters = emulator.store.counters(clock.now)

    assert [202] * 5 == [answer.status_code for answer in answers]
    assert (3 * 256 * 1024, 1) == (counters.event_name_bytes, counters.events_over_name_limit)


async def test_the_applied_log_keeps_every_write_in_order_with_its_payload(client, emulator):
    calls = [
        ("/v1/identify", {"user_id": "u1", "metadata": {"a": None}}),
        ("/v1/track", {"user_id": "u1", "event_name": "opened"}),
        ("/v1/companies/identify", {"company_id": "c1"}),
    ]
    for path, payload in calls:
        await client.post(path, json=payload)

    applied = emulator.store.applied
    assert [
        (1, "identify", "u1", "realtime"),
        (2, "track", "u1", "realtime"),
        (3, "company", "c1", "realtime"),
    ] == [(entry.sequence, entry.kind, entry.id, entry.via) for entry in applied]
    assert [payload for _, payload in calls] == [entry.payload for entry in applied]
    assert 2 == emulator.store.events[0].sequence


async def test_first_and_last_seen_are_stamps_of_the_servers_clock(client, emulator, clock):
    await client.post("/v1/identify", json={"user_id": "u1"})
    begun = clock.now
    clock.now += 5
    await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})

    user = emulator.store.users["u1"]
    assert (begun, begun + 5) == (user.first_seen, user.last_seen)

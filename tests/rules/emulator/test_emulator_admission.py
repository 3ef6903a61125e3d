"""Which requests are admitted: keys, versions, paths, and the rate limit."""

from __future__ import annotations

import anyio
import pytest

from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

TRACK = {"user_id": "u1", "event_name": "opened"}


async def test_any_key_is_accepted_unless_keys_were_given(client):
    assert 202 == (await client.post("/v1/track", json=TRACK)).status_code


@pytest.mark.parametrize("authorization", ["", "Token", "Token ", "Bearer KEY", "KEY"])
async def test_a_call_without_a_key_is_refused(client, authorization):
    answer = await client.post("/v1/track", json=TRACK, headers={"Authorization": authorization})

    assert 401 == answer.status_code


async def test_an_unknown_key_is_refused_and_the_error_has_the_documented_shape(clock, connect):
    emulator = Emulator(clock=clock, api_keys=["RIGHT"])

    answer = await connect(emulator, key="WRONG").post("/v1/track", json=TRACK)

    assert 401 == answer.status_code
    (error,) = answer.json()["errors"]
    assert {"error", "error_code", "message", "details"} == set(error)
    assert [] == emulator.store.events


async def test_the_scheme_is_token_in_any_case(client):
    for scheme in ("token", "Token", "TOKEN"):
        answer = await client.post("/v1/track", json=TRACK, headers={"Authorization": f"{scheme} KEY"})
        assert 202 == answer.status_code


@pytest.mark.parametrize("version", ["", "2020-09-23"])
async def test_the_api_version_is_required(client, version):
    answer = await client.post("/v1/track", json=TRACK, headers={"X-API-Version": version})

    assert 400 == answer.status_code
    assert "X-API-Version" in answer.json()["errors"][0]["message"]


async def test_an_unknown_path_is_404_and_a_wrong_method_405(client):
    assert 404 == (await client.post("/v2/track", json=TRACK)).status_code
    assert 405 == (await client.get("/v1/track")).status_code


async def test_the_601st_request_of_a_minute_is_refused_and_the_next_minute_starts_anew(client, clock, emulator):
    clock.now += 30  # somewhere inside: the window is the clock's minute, not ours
    statuses = [(await client.post("/v1/track", json=TRACK)).status_code for _ in range(601)]
    clock.now += 29.999
    late = await client.post("/v1/track", json=TRACK)
    clock.now += 0.001
    next_minute = await client.post("/v1/track", json=TRACK)

    assert [202] * 600 + [429] == statuses
    assert 429 == late.status_code
    assert 202 == next_minute.status_code
    assert 601 == len(emulator.store.events)


async def test_the_headers_count_down_and_name_the_end_of_the_minute_in_milliseconds(client, clock):
    clock.now += 12.5
    first = await client.post("/v1/track", json=TRACK)
    second = await client.post("/v1/track", json=TRACK)

    assert "600" == first.headers["x-ratelimit-limit"]
    assert ["599", "598"] == [answer.headers["x-ratelimit-remaining"] for answer in (first, second)]
    assert "1600854660000" == first.headers["x-ratelimit-reset"]  # the vendor's own sample
    assert "Wed, 23 Sep 2020 09:50:12 GMT" == first.headers["date"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/track", 400),
        ("GET", "/v1/background_jobs", 200),
        ("GET", "/v1/background_jobs/none", 404),
        ("POST", "/v1/imports", 400),
        ("DELETE", "/v1/users", 400),
        ("GET", "/nowhere", 404),
    ],
)
async def test_every_answer_carries_date_and_rate_headers(client, method, path, status):
    answer = await client.request(method, path)

    assert status == answer.status_code
    assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "date"} <= set(answer.headers)


async def test_a_refused_request_spends_the_window_too(client):
    await client.post("/v1/track", json={})
    answer = await client.post("/v1/track", json=TRACK)

    assert "598" == answer.headers["x-ratelimit-remaining"]


async def test_a_401_spends_nothing(clock, connect):
    emulator = Emulator(clock=clock, rate_limit=1, imports_enabled=False)
    client = connect(emulator)

    answers = [await client.post("/v1/imports") for _ in range(3)]

    assert [401, 401, 401] == [answer.status_code for answer in answers]
    assert "1" == answers[-1].headers["x-ratelimit-remaining"]


async def test_each_family_of_endpoints_has_a_window_of_its_own_for_each_key(clock, connect):
    emulator = Emulator(clock=clock, rate_limit=1)
    client, other = connect(emulator), connect(emulator, key="OTHER")

    assert 202 == (await client.post("/v1/track", json=TRACK)).status_code
    assert 202 == (await client.post("/v1/identify", json={"user_id": "u1"})).status_code
    assert 429 == (await client.post("/v1/companies/identify", json={"company_id": "c1"})).status_code
    assert 200 == (await client.get("/v1/background_jobs")).status_code
    assert 429 == (await client.post("/v1/track", json=TRACK)).status_code
    assert 202 == (await other.post("/v1/track", json=TRACK)).status_code


async def test_the_request_log_shows_refused_requests_and_never_the_key(client, emulator):
    await client.post("/v1/track", json={})
    await client.post("/v1/identify", json={"user_id": "u1"})

    assert [
        ("track", 400, False),
        ("identify", 202, True),
    ] == [(r.family, r.status, r.applied) for r in emulator.store.requests]
    assert "KEY" not in repr(emulator.store.requests)


@pytest.mark.virtual
async def test_latency_holds_the_answer_back_after_the_call_was_applied(connect):
    emulator = Emulator(clock=lambda: 1.6e9 + anyio.current_time(), latency=0.25)
    begun = emulator.clock()
    await connect(emulator).post("/v1/track", json=TRACK)

    assert begun == emulator.store.events[0].stamp
    assert pytest.approx(0.25) == emulator.clock() - begun

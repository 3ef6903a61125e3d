"""Which requests are admitted: keys, versions, paths, and the rate limit."""

from __future__ import annotations

import json
import re

import anyio
import pytest

from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

TRACK = {"user_id": "u1", "event_name": "opened"}
ROW = {"event_type": "track", "source": "backend-http", "inserted_at": "2024-12-01T08:55:43", **TRACK}


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


UNVERSIONED = {
    "bulk": ("POST", "/v1/users/bulk_identify", {"json": {"users": [{"user_id": "u1"}]}}, 202),
    "bulk of companies": ("POST", "/v1/companies/bulk_identify", {"json": {"companies": [{"company_id": "c"}]}}, 202),
    "import": ("POST", "/v1/imports", {"files": {"file": ("rows.ndjson", json.dumps(ROW).encode())}}, 200),
    "jobs": ("GET", "/v1/background_jobs", {}, 200),
    "job": ("GET", "/v1/background_jobs/none", {}, 404),
    "no endpoint": ("GET", "/nowhere", {}, 404),
    "no method": ("GET", "/v1/track", {}, 405),
}
VERSIONED = {
    "identify": ("POST", "/v1/identify", {"user_id": "u1"}),
    "company": ("POST", "/v1/companies/identify", {"company_id": "c1"}),
    "track": ("POST", "/v1/track", TRACK),
    "users' deletion": ("DELETE", "/v1/users", {"users": ["u1"]}),
    "companies' deletion": ("DELETE", "/v1/companies", {"companies": ["c1"]}),
}


@pytest.mark.parametrize("case", UNVERSIONED)
async def test_bulk_imports_and_jobs_do_not_ask_for_the_version(client, case):
    method, path, content, status = UNVERSIONED[case]
    del client.headers["X-API-Version"]

    assert status == (await client.request(method, path, **content)).status_code


@pytest.mark.parametrize("case", VERSIONED)
async def test_the_realtime_calls_and_deletions_ask_for_the_version(client, case):
    method, path, payload = VERSIONED[case]
    with_it = await client.request(method, path, json=payload)
    del client.headers["X-API-Version"]
    without = await client.request(method, path, json=payload)

    assert (202, 400) == (with_it.status_code, without.status_code)


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
        ("PUT", "/v1/track", 405),
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


async def every_refusal(connect, emulator):
    """The answers of a server by their status, one each."""
    client = connect(emulator, "KEY")
    row = {"users": [{"user_id": "u1"}]}
    asked = [
        client.post("/v1/track", json={}),
        connect(emulator, "WRONG").post("/v1/track", json=TRACK),
        client.get("/v1/background_jobs/none"),
        client.delete("/v1/track"),
        client.post("/v1/users/bulk_identify", json=row),
        client.post("/v1/companies/bulk_identify", json={"companies": [{"company_id": "c1"}]}),
        client.post("/v1/track", json={**TRACK, "metadata": {"a": "x" * 10_240}}),
        client.post("/v1/track", json=TRACK),
    ]
    return {answer.status_code: answer for answer in [await one for one in asked]}


async def test_every_refusal_has_the_documented_body_and_every_answer_the_headers(clock, connect):
    """400, 401, 404, 405, 409, 413 and 429; and a 202 among them."""
    answers = await every_refusal(connect, Emulator(clock=clock, rate_limit=2, api_keys=["KEY"]))

    assert {202, 400, 401, 404, 405, 409, 413, 429} == set(answers)
    for status, answer in answers.items():
        assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "date"} <= set(answer.headers)
        assert ("Cowboy", "max-age=0, private, must-revalidate") == (
            answer.headers["server"],
            answer.headers["cache-control"],
        )
        if status != 202:
            assert ["errors"] == list(answer.json())
            assert answer.json()["errors"]
            for error in answer.json()["errors"]:
                assert {"error", "error_code", "message", "details"} == set(error)
                assert all(isinstance(text, str) for text in error.values())
                assert error["message"]


async def test_each_answer_has_an_id_of_its_own_that_the_request_log_knows(client, emulator):
    ids = [(await client.post("/v1/track", json=TRACK)).headers["x-request-id"] for _ in range(3)]

    assert 3 == len({*ids})
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{20}", one) for one in ids)
    assert ids == [request.request_id for request in emulator.store.requests]


async def test_bulk_imports_jobs_and_deletions_have_no_limit_a_minute(clock, connect):
    """Two a minute for identify and for track; the documents name no number for the others."""
    client = connect(Emulator(clock=clock, rate_limit=2))
    asked = [("POST", "/v1/users/bulk_identify"), ("POST", "/v1/companies/bulk_identify"), ("POST", "/v1/imports"),
             ("GET", "/v1/background_jobs"), ("GET", "/v1/background_jobs/none"), ("DELETE", "/v1/users"),
             ("DELETE", "/v1/companies"), ("GET", "/nowhere")]  # fmt: skip
    for method, path in asked:
        answers = [await client.request(method, path) for _ in range(4)]
        assert 429 not in {answer.status_code for answer in answers}
        assert {("2", "2")} == {
            (one.headers["x-ratelimit-limit"], one.headers["x-ratelimit-remaining"]) for one in answers
        }


async def test_a_refused_request_spends_the_window_too(client):
    await client.post("/v1/track", json={})
    answer = await client.post("/v1/track", json=TRACK)

    assert "598" == answer.headers["x-ratelimit-remaining"]


async def test_a_401_spends_nothing(clock, connect):
    emulator = Emulator(clock=clock, rate_limit=1, imports_enabled=False)
    client = connect(emulator)

    refused = [await client.post("/v1/track", json=TRACK, headers={"Authorization": "Token"}) for _ in range(3)]
    refused.append(await client.post("/v1/imports"))

    assert [401] * 4 == [answer.status_code for answer in refused]
    assert ["1"] * 4 == [answer.headers["x-ratelimit-remaining"] for answer in refused]
    assert 202 == (await client.post("/v1/track", json=TRACK)).status_code


async def test_identify_and_track_have_a_window_each_for_each_key(clock, connect):
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

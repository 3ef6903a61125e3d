"""Scripted faults: whom they befall, and that each does what it says and no more."""

from __future__ import annotations

import anyio
import pytest

from userpilot_async.emulator import ConnectionCut, Emulator, Fault

pytestmark = pytest.mark.anyio

TRACK = {"user_id": "u1", "event_name": "opened"}
ROWS = {"users": [{"user_id": "u1", "metadata": {"a": 1}}, {"user_id": "u2"}]}


async def statuses(client, count, path="/v1/track", payload=TRACK):
    return [(await client.post(path, json=payload)).status_code for _ in range(count)]


async def test_a_fault_fires_as_often_as_it_says_after_those_it_skips(client, emulator):
    emulator.faults.add(Fault(name="flaky", path="/v1/track", status=503, skip=1, times=2))

    assert [202, 503, 503, 202, 202] == await statuses(client, 5)
    assert [None, "flaky", "flaky", None, None] == [request.fault for request in emulator.store.requests]
    assert 3 == len(emulator.store.events)
    assert 2 == emulator.faults.fired("flaky")


async def test_times_none_fires_for_ever_until_removed(client, emulator):
    fault = emulator.faults.add(Fault(status=500, times=None))
    assert [500] * 3 == await statuses(client, 3)

    emulator.faults.remove(fault.name)
    assert [202] == await statuses(client, 1)


async def test_a_probability_fires_now_and_then_and_repeatably(clock, connect):
    runs = []
    for _ in range(2):
        emulator = Emulator(clock=clock, seed=7)
        emulator.faults.add(Fault(status=500, times=None, probability=0.5))
        runs.append(await statuses(connect(emulator), 100))

    assert runs[0] == runs[1]
    assert 30 < runs[0].count(500) < 70


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, method="POST"),
        Fault(status=500, path="/v1/*"),
        Fault(status=500, family="track"),
        Fault(status=500, user_id="ü1"),
        Fault(status=500, body_contains="Zürich"),
        Fault(status=500, body_over=20),
    ],
)
async def test_a_fault_befalls_the_calls_it_describes(client, emulator, fault):
    emulator.faults.add(fault)

    assert [500] == await statuses(client, 1, payload={**TRACK, "user_id": "ü1", "metadata": {"a": "Zürich"}})


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, method="GET"),
        Fault(status=500, path="/v1/identify"),
        Fault(status=500, family="bulk"),
        Fault(status=500, user_id="u"),
        Fault(status=500, body_contains="Zürich"),
        Fault(status=500, body_over=2000),
    ],
)
async def test_a_fault_leaves_other_calls_alone(client, emulator, fault):
    emulator.faults.add(fault)

    assert [202] == await statuses(client, 1)


async def test_the_first_fault_that_fires_is_the_only_one(client, emulator):
    emulator.faults.add(Fault(status=500))
    emulator.faults.add(Fault(status=503))

    assert [500, 503, 202] == await statuses(client, 3)


async def test_a_scripted_answer_has_its_own_body_and_headers(client, emulator):
    emulator.faults.add(Fault(status=429, headers={"Retry-After": "5", "x-ratelimit-reset": None}))
    emulator.faults.add(Fault(status=502, body="<h1>Bad Gateway</h1>"))
    emulator.faults.add(Fault(status=202, body={"job_id": "../../v1/track", "status": "queued"}))
    emulator.faults.add(Fault(status=520))
    limited, proxied, lying, unknown = [await client.post("/v1/track", json=TRACK) for _ in range(4)]

    assert "5" == limited.headers["retry-after"]
    assert "x-ratelimit-reset" not in limited.headers
    assert "too_many_requests" == limited.json()["errors"][0]["error_code"]
    assert ("<h1>Bad Gateway</h1>", "text/html") == (proxied.text, proxied.headers["content-type"])
    assert "../../v1/track" == lying.json()["job_id"]
    assert "Error" == unknown.json()["errors"][0]["error"]


async def test_headers_of_a_good_answer_can_lie(client, emulator):
    emulator.faults.add(Fault(times=None, headers={"x-ratelimit-remaining": "NaN", "date": None}))
    answer = await client.post("/v1/track", json=TRACK)

    assert 202 == answer.status_code
    assert "NaN" == answer.headers["x-ratelimit-remaining"]
    assert "date" not in answer.headers
    assert 1 == len(emulator.store.events)


async def test_an_answer_can_fail_although_the_call_was_applied(client, emulator):
    emulator.faults.add(Fault(status=504, apply=True))

    assert [504] == await statuses(client, 1)
    assert 1 == len(emulator.store.events)
    assert emulator.store.requests[0].applied


async def test_an_answer_can_be_good_although_nothing_was_applied(client, emulator):
    emulator.faults.add(Fault(apply=False))

    assert [202] == await statuses(client, 1)
    assert [] == emulator.store.events
    assert not emulator.store.requests[0].applied


@pytest.mark.parametrize(("cut", "events"), [("before", 0), ("after", 1)])
async def test_a_cut_in_process_raises_and_the_log_knows_what_was_applied(client, emulator, cut, events):
    emulator.faults.add(Fault(name="cut", cut=cut))
    with pytest.raises(ConnectionCut):
        await client.post("/v1/track", json=TRACK)

    (request,) = emulator.store.requests
    assert (None, "cut", bool(events)) == (request.status, request.fault, request.applied)
    assert events == len(emulator.store.events)


async def test_a_faulty_request_spends_the_window_unless_it_is_a_401(client, emulator):
    emulator.faults.add(Fault(status=500))
    emulator.faults.add(Fault(status=401))
    await statuses(client, 2)

    answer = await client.post("/v1/track", json=TRACK)
    assert "598" == answer.headers["x-ratelimit-remaining"]


@pytest.mark.virtual
async def test_delay_waits_before_the_stamp_and_latency_after_it(connect):
    emulator = Emulator(clock=lambda: 1.6e9 + anyio.current_time())
    begun = emulator.clock()
    emulator.faults.add(Fault(delay=2.0, latency=5.0))
    await statuses(connect(emulator), 1)

    assert pytest.approx(begun + 2) == emulator.store.events[0].stamp
    assert pytest.approx(begun + 7) == emulator.clock()


@pytest.mark.virtual
async def test_whoever_gives_up_during_the_latency_was_served_all_the_same(client, emulator):
    emulator.faults.add(Fault(latency=3600.0))
    with anyio.move_on_after(15) as patience:
        await client.post("/v1/track", json=TRACK)

    assert patience.cancelled_caught
    assert 1 == len(emulator.store.events)


async def test_a_failed_job_ends_failed_and_applies_nothing(client, emulator, clock):
    emulator.faults.add(Fault(family="bulk", job="failed"))
    job = (await client.post("/v1/users/bulk_identify", json=ROWS)).json()
    clock.now += 60
    seen = (await client.get(job["links"])).json()
    again = await client.post("/v1/users/bulk_identify", json=ROWS)

    assert ("failed", False) == (seen["status"], seen["end_time"] is None)
    assert {} == emulator.store.users
    assert 202 == again.status_code  # a failed job gives its slot back


async def test_a_failed_job_may_have_applied_its_rows(client, emulator, clock):
    emulator.faults.add(Fault(family="bulk", job="failed", apply=True))
    await client.post("/v1/users/bulk_identify", json=ROWS)
    clock.now += 60
    emulator.advance()

    assert {"u1", "u2"} == set(emulator.store.users)


async def test_only_the_job_with_the_poison_row_fails(client, emulator, clock):
    emulator.faults.add(Fault(fail_if_row_contains="poison-é", times=None))
    endings = []
    for name in ("harmless", "poison-é"):
        rows = {"users": [{"user_id": "u1"}, {"user_id": "u2", "metadata": {"name": name}}]}
        job = (await client.post("/v1/users/bulk_identify", json=rows)).json()
        clock.now += 60
        endings.append((await client.get(job["links"])).json()["status"])

    assert ["completed", "failed"] == endings


async def test_a_stuck_job_processes_for_ever_and_holds_its_slot(client, emulator, clock):
    emulator.faults.add(Fault(family="bulk", job="stuck"))
    job = (await client.post("/v1/users/bulk_identify", json=ROWS)).json()
    clock.now += 86_400
    seen = (await client.get(job["links"])).json()

    assert ("processing", 0) == (seen["status"], seen["completed_rows"])
    assert 409 == (await client.post("/v1/users/bulk_identify", json=ROWS)).status_code
    assert {} == emulator.store.users


async def test_a_scripted_life_may_go_anywhere_and_is_applied_at_completed(client, emulator, clock):
    sequence = ["reticulating", ["processing", 600], ["queued", 0.5], "completed"]
    emulator.faults.add(Fault(family="bulk", job={"status_sequence": sequence}))
    job = (await client.post("/v1/users/bulk_identify", json=ROWS)).json()
    begun = clock.now
    seen = []
    for seconds in (0, 1, 600.9, 601, 601.5):
        clock.now = begun + seconds
        status = (await client.get(job["links"])).json()["status"]
        busy = (await client.post("/v1/companies/bulk_identify", json={"companies": [{"company_id": "c"}]})).status_code
        seen.append((status, busy, len(emulator.store.users)))

    assert [
        ("reticulating", 409, 0),
        ("processing", 409, 0),
        ("processing", 409, 0),
        ("queued", 409, 0),
        ("completed", 202, 2),
    ] == seen


async def test_a_submit_may_vanish_although_it_was_answered(client, emulator, clock):
    emulator.faults.add(Fault(family="bulk", apply=False))
    job = (await client.post("/v1/users/bulk_identify", json=ROWS)).json()
    clock.now += 60

    assert "completed" == (await client.get(job["links"])).json()["status"]
    assert {} == emulator.store.users


async def test_a_submit_whose_answer_is_lost_is_found_by_its_filename(client, emulator, file_of):
    emulator.faults.add(Fault(family="bulk", cut="after"))
    with pytest.raises(ConnectionCut):
        await client.post("/v1/users/bulk_identify", files=file_of({"user_id": "u1"}, filename="a-17.ndjson"))

    assert ["a-17.ndjson"] == [job["filename"] for job in (await client.get("/v1/background_jobs")).json()]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ([], "JSON object"),
        ({"stats": 500}, "stats"),
        ({"status": "500"}, "status"),
        ({"status": 99}, "status"),
        ({"path": 7}, "path"),
        ({"family": "tracks"}, "family"),
        ({"times": -1}, "times"),
        ({"skip": None}, "skip"),
        ({"probability": 2}, "probability"),
        ({"latency": "1"}, "latency"),
        ({"delay": -1}, "delay"),
        ({"cut": "between"}, "cut"),
        ({"cut": "after", "status": 500}, "cut"),
        ({"cut": "before", "apply": True}, "cut"),
        ({"headers": {"a": 1}}, "headers"),
        ({"headers": {"a": "b\r\nc: d"}}, "headers"),
        ({"job": "lost"}, "job"),
        ({"job": {"status_sequence": []}}, "job"),
        ({"job": {"status_sequence": [["queued", "long"]]}}, "status_sequence"),
        ({"apply": 0}, "apply"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_and_says_which_field(wrong, named):
    with pytest.raises(ValueError, match=named):
        Fault.from_json(wrong)


def test_a_field_that_a_fault_does_not_have_is_answered_with_those_that_it_has():
    with pytest.raises(ValueError, match=r"^a fault has no 'code', 'xtimes'; its fields are name, .*, status, "):
        Fault.from_json({"path": "/v1/track", "code": 503, "xtimes": 2})

"""The import endpoint: four row types, numbers as strings, and rows that blank what they leave out."""

from __future__ import annotations

import json

import pytest

from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

AT = {"source": "backend-http-import", "inserted_at": "2024-12-01T08:55:43.220396"}
AT_SECONDS = 1733043343.220396

USER = {"event_type": "identify_user", "user_id": "u1", "metadata": {"a": 1}, **AT}
COMPANY = {"event_type": "identify_company", "company_id": "c1", "metadata": {"seats": 2}, **AT}
VIEW = {"event_type": "page_view", "user_id": "u1", "hostname": "example.com", "pathname": "/", **AT}
TRACK = {"event_type": "track", "user_id": "u1", "event_name": "opened", **AT}


async def test_an_import_answers_200_and_gives_its_numbers_as_strings(client, clock, file_of):
    answer = await client.post("/v1/imports", files=file_of(USER, TRACK, filename="import-1.ndjson"))
    clock.now += 2.04
    job = (await client.get(answer.json()["links"])).json()

    assert 200 == answer.status_code
    assert ("2", "1", "2") == (job["total_rows"], job["completed_rows"], job["elapsed_time"])
    assert isinstance(job["file_size"], str)
    assert ("import-1.ndjson", "processing") == (job["filename"], job["status"])


async def test_one_import_runs_at_a_time_apart_from_bulk_jobs(client, clock, file_of):
    assert 202 == (await client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u1"}]})).status_code
    assert 200 == (await client.post("/v1/imports", files=file_of(USER))).status_code
    assert 409 == (await client.post("/v1/imports", files=file_of(USER))).status_code
    clock.now += 60
    assert 200 == (await client.post("/v1/imports", files=file_of(USER))).status_code


async def test_each_row_type_is_stored_as_what_it_is(load, emulator):
    await load(COMPANY, {**USER, "company_id": "c1"}, TRACK, VIEW)

    store = emulator.store
    assert {"seats": 2} == store.companies["c1"].properties
    assert ({"a": 1}, "c1") == (store.users["u1"].properties, store.users["u1"].company_id)
    assert [("opened", "import", "c1", True)] == [
        (e.event_name, e.via, e.company_id, e.user_known) for e in store.events
    ]
    assert ["/"] == [view.row["pathname"] for view in store.page_views]
    assert ["company", "identify", "track", "page_view"] == [entry.kind for entry in store.applied]


async def test_an_imported_event_happened_at_inserted_at(load, emulator):
    await load(
        TRACK,
        {**TRACK, "inserted_at": "2024-12-01 08:55:43.220396"},
        {**TRACK, "inserted_at": "2024-12-01T08:55:43.220396Z"},
        {**TRACK, "inserted_at": "2024-12-01T09:55:43.2204+01:00"},
    )

    assert pytest.approx([AT_SECONDS] * 4, abs=1e-4) == [event.occurred_at for event in emulator.store.events]


async def test_a_later_row_blanks_the_properties_it_leaves_out(load, client, emulator):
    """In an import, unlike in identify: whoever builds rows has to carry all the properties forward."""
    await client.post("/v1/identify", json={"user_id": "u1", "metadata": {"known": 1}})
    await load({**USER, "metadata": {"a": 1, "b": 2}}, {**USER, "metadata": {"b": 3, "c": None}})
    await load({**COMPANY, "metadata": {"x": 1}}, {**COMPANY, "metadata": {"y": 1}})

    assert {"b": 3} == emulator.store.users["u1"].properties
    assert {"y": 1} == emulator.store.companies["c1"].properties


async def test_a_row_without_metadata_has_none(load, emulator):
    await load(USER, {name: value for name, value in USER.items() if name != "metadata"}, TRACK)

    assert {} == emulator.store.users["u1"].properties
    assert {} == emulator.store.events[0].metadata


@pytest.mark.parametrize(
    "row",
    [
        {**TRACK, "url": "https://example.com/a", "source": "web-client", "user_agent": "Mozilla/5.0"},
        {**TRACK, "hostname": "e.com", "pathname": "/", "source": "web-client", "user_agent": "Mozilla/5.0"},
        {**COMPANY, "source": "web-client", "hostname": 7},
        {**TRACK, "company_id": "", "event_name": "x"},
        {**VIEW, "event_name": ""},
        {**{k: v for k, v in VIEW.items() if k not in ("hostname", "pathname")}, "url": "https://example.com/a"},
    ],
)
async def test_a_complete_row_is_accepted(client, file_of, row):
    assert 200 == (await client.post("/v1/imports", files=file_of(row))).status_code


@pytest.mark.parametrize(
    "row",
    [
        {},
        {**USER, "event_type": "identify"},
        {**USER, "event_type": ["track"]},
        {**USER, "user_id": ""},
        {**COMPANY, "company_id": None},
        {**TRACK, "event_name": ""},
        {**TRACK, "source": "segment"},
        {**TRACK, "source": "web-client"},
        {**TRACK, "source": "web-client", "url": "https://example.com/a"},
        {**TRACK, "inserted_at": "yesterday"},
        {**TRACK, "inserted_at": 1733043343},
        {**TRACK, "metadata": {"a": []}},
        {**USER, "metadata": "none"},
        {name: value for name, value in VIEW.items() if name != "pathname"},
        {name: value for name, value in TRACK.items() if name != "inserted_at"},
    ],
)
async def test_an_incomplete_row_refuses_the_whole_file(client, file_of, emulator, row):
    answer = await client.post("/v1/imports", files=file_of(USER, row))

    assert 400 == answer.status_code
    assert "row 2" in answer.json()["errors"][0]["details"]
    assert 0 == len(emulator.store.jobs)


async def test_csv_is_taken_too_with_metadata_as_json(client, clock, emulator):
    lines = [
        "event_type,user_id,event_name,source,inserted_at,metadata",
        'identify_user,u1,,backend-http,2024-12-01 08:55:43,"{""plan"": ""pro""}"',
        "track,u1,opened,backend-http,2024-12-01 08:55:44,",
    ]
    answer = await client.post("/v1/imports", files={"file": ("rows.csv", "\r\n".join(lines).encode())})
    clock.now += 60
    emulator.advance()

    assert 200 == answer.status_code
    assert {"plan": "pro"} == emulator.store.users["u1"].properties
    assert {} == emulator.store.events[0].metadata


@pytest.mark.parametrize("size", [131_073, 8 * 1024 * 1024])
async def test_a_cell_may_be_longer_than_pythons_limit_of_131_072(client, clock, emulator, size):
    event_name = "x" * size
    names = "event_type,user_id,event_name,source,inserted_at"
    content = f"{names}\ntrack,u1,{event_name},backend-http,2024-12-01 08:55:43"
    answer = await client.post("/v1/imports", files={"file": ("rows.csv", content.encode())})
    clock.now += 60
    emulator.advance()

    assert 200 == answer.status_code
    assert [event_name] == [event.event_name for event in emulator.store.events]


async def test_500_properties_of_65_535_characters_fit_into_a_cell(client, clock, emulator):
    properties = {f"name {number}": "x" * 65_535 for number in range(500)}
    cell = json.dumps(properties).replace('"', '""')
    names = "event_type,user_id,source,inserted_at,metadata"
    content = f'{names}\nidentify_user,u1,backend-http,2024-12-01 08:55:43,"{cell}"'
    answer = await client.post("/v1/imports", files={"file": ("rows.csv", content.encode())})
    clock.now += 60
    emulator.advance()

    assert 200 == answer.status_code
    assert properties == emulator.store.users["u1"].properties


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"user_id\n", b"event_type,user_id\ntrack,u1,extra\n"])
async def test_a_file_that_is_neither_ndjson_nor_csv_is_refused(client, content):
    assert 400 == (await client.post("/v1/imports", files={"file": ("rows.csv", content)})).status_code


async def test_an_import_must_be_a_file(client):
    assert 400 == (await client.post("/v1/imports", json=USER)).status_code


async def test_a_plan_without_imports_answers_401_and_realtime_goes_on(clock, connect, file_of):
    client = connect(Emulator(clock=clock, imports_enabled=False))

    assert 401 == (await client.post("/v1/imports", files=file_of(USER))).status_code
    assert 202 == (await client.post("/v1/identify", json={"user_id": "u1"})).status_code

"""How much of a request the emulator reads: what its route takes, and no more."""

from __future__ import annotations

import json
import tracemalloc

import httpx
import pytest

from userpilot_async.emulator import Fault
from userpilot_async.emulator._bodies import SMALL
from userpilot_async.emulator._calls import FRAMING
from userpilot_async.emulator._rules import MAX_FILE_BYTES

pytestmark = pytest.mark.anyio

CHUNK = 256 * 1024
LARGE = MAX_FILE_BYTES + FRAMING
ROUTES = [
    ("/v1/imports", LARGE),
    ("/v1/users/bulk_identify", LARGE),
    ("/v1/companies/bulk_identify", LARGE),
    ("/v1/identify", LARGE),
    ("/v1/track", SMALL),
    ("/nowhere", SMALL),
    ("/__emulator__/faults", SMALL),
]


class Upload(httpx.AsyncByteStream):
    """A body in chunks, without an announced length; `given` counts the bytes that were asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.given = 0

    def __aiter__(self) -> Upload:
        return self

    async def __anext__(self) -> bytes:
        if self.given >= self._size:
            raise StopAsyncIteration
        self.given += CHUNK
        return CHUNK * b" "


async def post(client: httpx.AsyncClient, path: str, upload: Upload, **headers: str) -> httpx.Response:
    request = client.build_request("POST", path, headers=headers)
    request.headers.setdefault("transfer-encoding", "chunked")
    request.stream = upload  # httpx would wrap what is given as `content` into a generator, which trio sees abandoned
    return await client.send(request)


@pytest.mark.parametrize(("path", "most"), ROUTES)
async def test_a_body_without_a_length_is_read_up_to_the_limit_of_its_route(client, emulator, path, most):
    upload = Upload(300 * 1024 * 1024)
    answer = await post(client, path, upload)

    assert 413 == answer.status_code
    assert upload.given <= most + CHUNK
    assert not emulator.store.applied


@pytest.mark.parametrize(("path", "most"), ROUTES)
@pytest.mark.parametrize("announced", [1, 10**30])
async def test_nothing_is_read_of_a_body_that_announces_more(client, path, most, announced):
    upload = Upload(CHUNK)
    answer = await post(client, path, upload, **{"content-length": str(most + announced)})

    assert (413, 0) == (answer.status_code, upload.given)


async def test_what_is_too_large_is_not_held(client):
    tracemalloc.start()
    try:
        for _ in range(3):
            await post(client, "/v1/track", Upload(20 * 1024 * 1024))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 * SMALL


async def test_a_length_that_is_none_is_not_believed(client):
    for length in ("-1", "1e9", "soon", ""):
        upload = Upload(4 * SMALL)
        answer = await post(client, "/v1/track", upload, **{"content-length": length})

        assert 413 == answer.status_code
        assert upload.given <= SMALL + CHUNK


async def test_a_call_that_is_too_large_is_in_the_request_log_and_meets_its_faults(client, emulator):
    await post(client, "/v1/track", Upload(2 * SMALL))
    emulator.faults.add(Fault(name="small proxy", body_over=1_000, status=502))
    met = await post(client, "/v1/track", Upload(2 * SMALL))

    assert 502 == met.status_code
    assert [(413, None), (502, "small proxy")] == [(one.status, one.fault) for one in emulator.store.requests]


async def test_without_a_key_a_large_body_is_refused_for_that(client, emulator):
    assert 401 == (await post(client, "/v1/track", Upload(2 * SMALL), authorization="")).status_code


async def test_a_user_with_all_the_properties_there_may_be_fits(client):
    user = {"user_id": "u1", "metadata": {f"name {number}": "x" * 65_535 for number in range(500)}}

    assert 202 == (await client.post("/v1/identify", json=user)).status_code


async def test_packed_bodies_are_not_unpacked(client):
    """So that none can hold more than it weighs."""
    answer = await client.post("/v1/track", content=b"\x1f\x8b" + bytes(100), headers={"content-encoding": "gzip"})

    assert 400 == answer.status_code


@pytest.mark.parametrize("spec", [b"[" * 100_000, b'{"body": ' * 100_000])
async def test_a_fault_that_is_nested_too_deeply_is_refused(client, spec):
    assert 400 == (await client.post("/__emulator__/faults", content=spec)).status_code


async def test_a_number_in_a_query_is_bounded(client):
    answer = await client.get("/__emulator__/users", params={"limit": "9" * 5_000})

    assert 400 == answer.status_code
    assert "limit must be a number" in answer.text


async def test_whatever_was_taken_can_be_shown(client, emulator):
    deep = b'{"user_id": "u1", "event_name": "e", "more": ' + b"[" * 900 + b"]" * 900 + b"}"
    taken = await client.post("/v1/track", content=deep, headers={"content-type": "application/json"})
    shown = await client.get("/__emulator__/applied")

    assert 200 == shown.status_code
    assert (202 == taken.status_code) == (1 == json.loads(shown.content)["total"])

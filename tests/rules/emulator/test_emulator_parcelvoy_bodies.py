"""How bodies of Parcelvoy's calls are read: packed or not, and JSON as JavaScript has it.

Where the table of what was seen at a real server is silent, its body parser was run (koa-body 5.0.0 on Node 20).
"""

from __future__ import annotations

import gzip
import zlib

import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "body",
    [b"{", b" ", b"[NaN]", b"[-Infinity]", b"\xff", b"[" * 100_000, b"null", b"5", b"\x0c[]", b"[1e]", b"[01]"],
)
async def test_a_body_that_is_no_json_is_refused_with_400(parcelvoy, body):
    answer = await parcelvoy.post("/events", content=body, headers={"Content-Type": "application/json"})

    assert (400, "error") == (answer.status_code, answer.json()["status"])


async def test_an_empty_body_is_an_empty_object(parcelvoy):
    answer = await parcelvoy.post("/identify", content=b"", headers={"Content-Type": "application/json"})

    assert (422, "anonymous_id or external_id is required") == (answer.status_code, answer.json()["error"])


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"9007199254740993", 9007199254740992),
        (b"-9007199254740993", -9007199254740992),
        (b"100000000000000000000", 100000000000000000000),
        (b"1000000000000000000001", 1e21),
        (b"1" + b"0" * 5_000, None),
        (b'[1e400, {"a": -1e400}]', [None, {"a": None}]),
        (b"-0", 0),
        (b"1e2", 100),
        (b"1.50", 1.5),
        (b'"\xff"', "\ufffd"),
    ],
)
async def test_numbers_are_doubles_and_broken_text_is_replaced(parcelvoy, emulator, sent, stored):
    body = b'[{"external_id": "E", "name": "x", "data": {"a": %b}}]' % sent
    answer = await parcelvoy.post("/events", content=body, headers={"Content-Type": "application/json"})

    assert 204 == answer.status_code
    (event,) = emulator.store.parcelvoy.events
    assert repr({"a": stored}) == repr(event.data)


async def test_a_number_that_is_too_large_for_a_double_is_no_null_when_the_body_is_checked(parcelvoy):
    headers = {"Content-Type": "application/json"}

    assert 422 == (await parcelvoy.post("/identify", content=b'{"external_id": 1e400}', headers=headers)).status_code


@pytest.mark.parametrize(("levels", "status"), [(497, 204), (498, 400), (5_000, 400)])
async def test_a_body_may_be_as_deep_as_it_can_be_shown_again(parcelvoy, levels, status):
    """Three levels are the array, the event and its data. Whatever is accepted, the control routes must survive."""
    body = '[{"external_id": "E", "name": "x", "data": {"a": ' + "[" * levels + "]" * levels + "}}]"
    headers = {"Content-Type": "application/json"}
    lost = await parcelvoy.post("/events", content=body, headers=headers)
    applied = await parcelvoy.post("/events", content=body.replace("data", "unread"), headers=headers)

    assert (status, status) == (lost.status_code, applied.status_code)
    for listing in ("applied", "parcelvoy/lost"):
        shown = await parcelvoy.get(f"https://emulator/__emulator__/{listing}")
        assert (200, 1 if status == 204 else 0) == (shown.status_code, shown.json()["total"])


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/ld+json", "application/json;", "json"])
async def test_a_body_of_another_content_type_is_never_read_and_so_invalid(parcelvoy, content_type):
    answer = await parcelvoy.post("/identify", content=b'{"external_id": "E"}', headers={"Content-Type": content_type})

    assert 422 == answer.status_code


@pytest.mark.parametrize(
    "content_type", ["APPLICATION/JSON", "application/json-patch+json", "application/csp-report; charset=latin1"]
)
async def test_some_content_types_are_read_as_json(parcelvoy, content_type):
    answer = await parcelvoy.post("/identify", content=b'{"external_id": "E"}', headers={"Content-Type": content_type})

    assert 204 == answer.status_code


BODY = b'{"external_id": "E"}'
PACKED = gzip.compress(BODY, mtime=0)  # the same for each worker


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", PACKED, 204),
        ("deflate", zlib.compress(BODY), 204),
        ("deflate", PACKED, 204),
        ("gzip", gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0), 204),
        ("identity", BODY, 204),
        ("", BODY, 204),
        ("gzip", b"", 400),
        ("gzip", BODY, 400),
        ("gzip", PACKED[:-4], 400),
        ("gzip", PACKED[:-8] + bytes(8), 400),
        ("gzip", PACKED + b"more", 400),
        ("GZIP", PACKED, 400),
        ("br2", BODY, 400),
    ],
)
async def test_a_packed_body_is_unpacked(parcelvoy, encoding, body, status):
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}

    assert status == (await parcelvoy.post("/identify", content=body, headers=headers)).status_code


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("size", "status"), [(1_048_576, 204), (1_048_577, 400), (20_000_000, 400)])
async def test_a_body_has_at_most_a_mebibyte_unpacked(parcelvoy, pack, size, status):
    body = BODY[:-1] + b" " * (size - len(BODY)) + b"}"
    headers = {"Content-Type": "application/json"} | ({} if pack is bytes else {"Content-Encoding": "gzip"})

    assert status == (await parcelvoy.post("/identify", content=pack(body), headers=headers)).status_code

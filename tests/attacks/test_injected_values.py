"""Values of the application's users, who choose their names, reach no header, no path, and no other line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.attacks._ground import SURVIVOR, under_attack
from tests.harness import RawServer, answer
from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import asyncio_only
from userpilot_async import ConfigurationError, InvalidCall, Rejected, UserpilotAPI, UserpilotClient
from userpilot_async.imports import TrackEvent, lines, write_csv, write_ndjson
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = [pytest.mark.anyio, asyncio_only]

NASTY = {
    "CRLF": "u\r\nX-Evil: 1\r\n\r\n",
    "a request": "u\r\n\r\nPOST /v1/users HTTP/1.1\r\nHost: 127.0.0.2\r\nContent-Length: 0\r\n\r\n",
    "NUL": "u\x00admin",
    "path": "../../v1/users",
    "query": "u?users=all#fragment&x=1",
    "quoted path": "%2e%2e%2fv1%2fusers%00",
    "JSON": '"},"user_id":"admin","x":{"y":"',
    "a row": 'u"}\n{"user_id":"admin","metadata":{"role":"owner"}}\n{"x":"',
    "SQL": "'; DROP TABLE calls; --",
    "SQL, quoted": '"calls"); DELETE FROM calls WHERE ("1"="1',
    "Lua": "'] redis.call('FLUSHALL') --[[",
    "format": "{0.__class__.__mro__}%(key)s$HOME`id`$(id)",
    "right to left": "\u202eresu\u2066",
    "formula": "=HYPERLINK(\"http://127.0.0.2/\"&A1)",
    "terminal": "\x1b]0;owned\x07\x1b[2J",
    "colon": "{userpilot_async}:account",
}  # fmt: skip
nasty = pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)


@nasty
async def test_a_name_is_one_value_of_one_request(text: str) -> None:
    """As the id of a user, a company, a property, an event: the body has it as it was, and nothing else has it."""
    with RawServer() as server:
        async with under_attack(server) as scene:
            client = scene.client
            await client.identify(text, {text: text}, company={"id": text, "name": text})
            await client.track(text, text, {text: text})
            await scene.drained()

        asked = [request for request in server.requests if person(SURVIVOR) not in request.body.decode()]
        assert ["/v1/companies/identify", "/v1/identify", "/v1/track"] == sorted(request.path for request in asked)
        for request in asked:
            assert {text} == {
                value for name, value in json.loads(request.body).items() if name.endswith(("_id", "name"))
            }
            assert "x-evil" not in request.headers
            assert not [value for value in request.headers.values() if text in value]


@nasty
async def test_a_row_of_a_file_is_one_row(text: str) -> None:
    with RawServer(answer(202, b'{"job_id": "j"}', {"content-type": "application/json"})) as server:
        async with UserpilotAPI(KEY, base_url=server.url) as api:
            await api.bulk_identify_users([{"user_id": text, "metadata": {text: text}}, {"user_id": "second"}])

        (request,) = server.requests
        rows = _uploaded(request.headers["content-type"], request.body)
        assert [text, "second"] == [json.loads(row)["user_id"] for row in rows.splitlines()]


@nasty
async def test_the_name_of_a_file_opens_no_part_and_no_header(text: str) -> None:
    """httpx writes it into a header of a part; nothing in it may end that line, or that part."""
    with RawServer(answer(202, b'{"job_id": "j"}', {"content-type": "application/json"})) as server:
        async with UserpilotAPI(KEY, base_url=server.url) as api:
            try:
                await api.import_rows(b'{"event_type":"track"}', filename=text)
            except InvalidCall:
                assert not server.requests
                return

        (request,) = server.requests
        assert "x-evil" not in request.headers
        assert b'{"event_type":"track"}' == _uploaded(request.headers["content-type"], request.body)


@nasty
async def test_a_job_id_is_one_segment_of_the_path(text: str) -> None:
    with RawServer(answer(404)) as server:
        async with UserpilotAPI(KEY, base_url=server.url) as api:
            with pytest.raises((InvalidCall, Rejected)):
                await api.job(text)

        for request in server.requests:
            prefix, _, segment = request.path.rpartition("/")
            assert "/v1/background_jobs" == prefix
            assert text == httpx.URL(f"http://h/{segment}").path[1:]
            assert not set("?#\r\n\0") & set(request.path)


@nasty
async def test_parcelvoy_has_it_as_one_value_too(text: str) -> None:
    with RawServer(answer(204)) as server:
        async with ParcelvoyClient(KEY, server.url) as client:
            await client.track(text, external_id=text, data={text: [text]})
            await client.alias(text, "someone")
            report = await client.flush(10)

        assert report.complete
        assert 2 == len(server.requests)
        assert {f"Bearer {KEY}"} == {request.headers["authorization"] for request in server.requests}


@nasty
async def test_an_outbox_of_that_name_holds_that_call_and_no_other(text: str, tmp_path: Path) -> None:
    """Names in SQL are bound, and never written into it."""
    with RawServer() as server:
        async with UserpilotClient(KEY, base_url=server.url, outbox=tmp_path / "calls.db") as client:
            await client.track(text, text, {text: text})
            await client.track("second", "opened")
            report = await client.flush(10)

        assert (2, 2) == (report.statistics.accepted, report.statistics.delivered)
        assert {text, "second"} == {json.loads(request.body)["user_id"] for request in server.requests}


KEYS = ["k\r\nX-Evil: 1", "k\n", "k\x00", "k v", "k\u00e9", "k\u2028", "\x1b[2J", "k\x7f", "\t", "", b"k", None, 5]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
async def test_a_key_that_is_made_later_opens_no_header_either(key: Any) -> None:
    """A vault's answer may end in a line end: nothing is sent, all is held, and neither the log nor an error has it."""
    with RawServer() as server:
        keys = iter([key])
        async with UserpilotClient(lambda: next(keys, KEY), base_url=server.url) as client:
            receipt = await client.track("u", "opened")
            with anyio.fail_after(5):
                while client.statistics().paused is None:
                    await anyio.sleep(0.01)
            assert "callable" in (client.statistics().paused or "")
            assert not server.requests
            await client.aclose(0.1)
        assert "dropped" == receipt.status


REGIONS = ["us\r\n", "US", "../us", "us@127.0.0.2", "us.127.0.0.2/", "\u0075\u0455", "us\x00", "", " us", 5, True]
URLS = [
    "https://h\r\nX: 1", "https://h\x00", "https://h/?q", "https://h/#f", "https://u:p@h", "https://h\\@127.0.0.2",
    "ftp://h", "file:///etc/passwd", "//h", "https://", "https:///v1", "javascript:alert(1)", "http://127.0.0.1.evil",
    "http://localhost.evil", "http://10.0.0.1", "http://169.254.169.254", "http://0.0.0.0", "http://[::]",
    "http://2130706433", "http://0x7f.1", "http://127.1", "https://h:0", "https://h:99999", "https://[::1", " https://h",
    "https://h ", "https://h\t", "http://\uff4cocalhost", "http://localhost\u3002evil",
]  # fmt: skip


@pytest.mark.parametrize("region", REGIONS, ids=range(len(REGIONS)))
async def test_a_region_is_one_of_two_words(region: Any) -> None:
    with pytest.raises(ConfigurationError):
        UserpilotClient(KEY, region=region)


@pytest.mark.parametrize("url", URLS, ids=range(len(URLS)))
async def test_the_key_goes_to_no_url_that_is_none_or_is_not_encrypted(url: str) -> None:
    for make in (lambda: UserpilotClient(KEY, base_url=url), lambda: ParcelvoyClient(KEY, url)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "u:p" not in str(caught.value)
        assert str(caught.value).isprintable()


@nasty
async def test_what_is_exported_is_read_back_as_that_one_row(text: str, tmp_path: Path) -> None:
    """As NDJSON and as CSV: neither a line end, nor a quote, nor a delimiter in it makes two rows of one."""
    row = TrackEvent(user_id=text, event_name=text[:255], inserted_at="2024-12-01T08:55:43Z", metadata={text: text})
    for name, write in (("rows.ndjson", write_ndjson), ("rows.csv", write_csv)):
        assert 1 == write(tmp_path / name, [row])
        (line,) = lines(tmp_path / name)
        assert line.error is None
        assert line.fields is not None
        assert (text, {text: text}) == (line.fields["user_id"], line.fields["metadata"])


def _uploaded(content_type: str, body: bytes) -> bytes:
    """What the one part of a multipart body holds, which has two headers and no more."""
    boundary = content_type.partition("boundary=")[2].encode()
    before, part, after = body.split(b"--" + boundary)
    assert (b"", b"--\r\n") == (before, after)
    head, _, content = part.partition(b"\r\n\r\n")
    assert 3 == len(head.split(b"\r\n"))  # the rest of the boundary's line, disposition, type
    return content.removesuffix(b"\r\n")

"""A job list of megabytes: read in a thread, within bounds, and for the same jobs as a short one."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import attrs
import httpx
import pytest

from userpilot_async import Unavailable, UserpilotAPI
from userpilot_async._delivery.connection import MAX_ANSWER, MAX_LISTING
from userpilot_async._protocol import job_list as module
from userpilot_async._protocol.job_list import MAX_PAGE_JOBS, Listing, Pages, listing, read
from userpilot_async._protocol.verdict import LARGE, Promise, as_promised, of_answer

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


def jobs(count: int) -> list[dict[str, Any]]:
    """Jobs such as the vendor's, as a server lists them: some 450 bytes each."""
    return [
        {
            "job_id": f"bulk:jobs:NX-12345678:00000000-0000-4000-8000-{number:012}", "status": "completed",
            "type": "bulk_users", "filename": f"userpilot-async-00000000000040008000{number:012}.ndjson",
            "file_size": 104_857, "total_rows": 10_000, "completed_rows": 10_000, "elapsed_time": 334,
            "start_time": "2026-10-01T09:00:00Z", "end_time": "2026-10-01T09:05:34Z",
            "submitted_at": "2026-10-01T09:00:00Z", "links": f"/v1/background_jobs/bulk%3Ajobs%3ANX-{number:012}",
        }
        for number in range(count)
    ]  # fmt: skip


def api_of(answer: Callable[[httpx.Request], httpx.Response]) -> UserpilotAPI:
    return UserpilotAPI("KEY", base_url="https://e.test", transport=httpx.MockTransport(answer), attempts=1)


def one_page(body: bytes, headers: Mapping[str, str] = JSON) -> UserpilotAPI:
    """A server whose list has one page; it looks as if there were more, which are empty."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.query:
            return httpx.Response(200, headers=JSON, content=b"[]")
        return httpx.Response(200, headers=headers, stream=Streamed(body))

    return api_of(answer)


class Streamed(httpx.AsyncByteStream):
    """A body that a server sends in pieces; `given` counts the bytes that were asked for."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.given = 0

    def __aiter__(self) -> Streamed:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()  # where a network waits
        piece = self._body[self.given : self.given + 65_536]
        self.given += len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece


@pytest.fixture
def read_in() -> Iterator[set[str]]:
    """The names of the threads in which job lists are read."""
    names: set[str] = set()
    codes = {module.listing.__code__, json.loads.__code__}

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in codes:
            names.add("the loop's" if threading.current_thread() is loops else threading.current_thread().name)

    loops = threading.current_thread()
    threading.setprofile(note)
    sys.setprofile(note)
    yield names
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("around", [lambda found: found, lambda found: {"jobs": found, "links": {"next": None}}])
async def test_a_long_list_is_read_in_a_thread_and_to_the_same_jobs(read_in, packed, around):
    body = json.dumps(around(jobs(1_000))).encode()
    headers = {**JSON, "content-encoding": "gzip"} if packed else JSON
    content = gzip.compress(body) if packed else body
    async with one_page(content, headers) as api:
        found = await api.jobs()

    assert len(body) > LARGE
    assert [job["job_id"] for job in jobs(1_000)] == [job.job_id for job in found]
    assert {"userpilot_async"} == read_in - {"the loop's"}


async def test_a_short_list_needs_no_thread(read_in):
    body = json.dumps(jobs(100)).encode()
    async with one_page(body) as api:
        found = await api.jobs()

    assert 100 == len(found)
    assert {"the loop's"} == read_in


async def test_who_asks_may_be_cancelled_while_a_list_is_read():
    body = json.dumps(jobs(1_000)).encode()
    async with one_page(body) as api:
        for _ in range(5):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(api.jobs)
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

        assert 1_000 == len(await api.jobs())


@pytest.mark.parametrize("piece", [b"{}", b"[]", b"1", b'""', b'"ab"', b'{"job_id":"a"}', b'{"a":[{}]}'])
async def test_a_hostile_list_takes_little_memory(piece):
    """Empty objects of 16 MiB took 518 MB, and the loop stood still for 2 s."""
    body = b"[" + (piece + b",") * (MAX_LISTING // (len(piece) + 1) - 1) + piece + b"]"
    async with one_page(body) as api:
        tracemalloc.start()
        try:
            with pytest.raises(Unavailable):
                await api.jobs()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 6 * MAX_LISTING


def test_a_list_of_as_many_jobs_as_fit_is_read_whole():
    count = 34_000
    body = b"[" + b",".join(count * [json.dumps(jobs(1)[0]).encode()]) + b"]"
    assert 0.8 * MAX_LISTING < len(body) < MAX_LISTING
    page = read(of_answer(200, JSON, body).body)

    assert (count, False) == (len(page.jobs), page.claims_more)


def test_of_a_page_no_more_jobs_are_kept_than_fit_and_the_list_is_not_whole():
    page = listing([{"job_id": str(number)} for number in range(MAX_PAGE_JOBS + 1)])

    assert (MAX_PAGE_JOBS, True) == (len(page.jobs), page.claims_more)


async def test_only_of_a_job_list_more_than_a_megabyte_is_read():
    streams: list[Streamed] = []

    def answer(request: httpx.Request) -> httpx.Response:
        streams.append(Streamed(b"[" * 2 * MAX_LISTING))
        return httpx.Response(200, headers=JSON, stream=streams[-1])

    async with api_of(answer) as api:
        for ask in (api.jobs, lambda: api.job("a job"), lambda: api.track("u1", "opened")):
            with pytest.raises(Unavailable):
                await ask()

    assert [MAX_LISTING, MAX_ANSWER, MAX_ANSWER] == [stream.given for stream in streams]


@pytest.mark.parametrize(
    "body",
    [
        [], [{}], jobs(3), [*jobs(2), 7], {"jobs": jobs(10), "total": 30}, {"data": {"jobs": jobs(2)}},
        {"jobs": jobs(2), "links": {"next": "https://e.test/list?page=2"}}, {"jobs": jobs(2), "next": "https://x.test/"},
    ],
)  # fmt: skip
def test_a_page_read_beforehand_is_walked_like_one_that_was_not(body):
    walks = Pages("e.test", "/list"), Pages("e.test", "/list")
    before = walks[0].take_in(read(body, "e.test", "/list"))
    after = walks[1].take_in(body)

    assert after == before
    assert 1 == len({(walk.query, walk.over, walk.whole) for walk in walks})


@pytest.mark.parametrize("body", [None, 7, "text", {}, {"errors": []}, {"errors": [{"message": "no"}]}, {"a": 1}])
def test_what_is_no_list_is_left_as_it_is(body):
    assert body is read(body)


def test_a_list_read_beforehand_is_what_a_job_list_promises_and_no_other():
    verdict = of_answer(200, JSON, b"[]")
    listed = as_promised(attrs.evolve(verdict, body=Listing([])), Promise.JOBS)

    assert listed.body == Listing([])
    assert as_promised(verdict, Promise.JOBS).meaning is listed.meaning
    assert as_promised(attrs.evolve(verdict, body=Listing([])), Promise.JOB).foreign

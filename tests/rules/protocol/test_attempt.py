"""An attempt at a request: what became of its answer's body, and which exception is no failure of a request."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable

import pytest

from userpilot_async._delivery.attempt import Attempt
from userpilot_async._delivery.failures import goes_on
from userpilot_async._errors.secret import Secret
from userpilot_async._protocol.verdict import Meaning, Verdict

KEY = Secret("canary-5b1f0c77")
MEGABYTE = 1024 * 1024
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress,
}  # fmt: skip


def answered(body: bytes, encoding: str) -> Verdict:
    """The verdict on a 200 with this packed body, which came to its end on the wire."""
    attempt = Attempt(body=bytearray(body), whole=True)
    attempt.take_headers([("Content-Encoding", encoding)], 200)
    return attempt.verdict(None, False, MEGABYTE, KEY)


@pytest.mark.parametrize("encoding", PACKED)
def test_half_of_a_packed_answer_is_none(encoding: str) -> None:
    packed = PACKED[encoding](b'{"message": "ok"}')
    whole, half = answered(packed, encoding), answered(packed[:-5], encoding)

    assert (Meaning.ACCEPTED, {"message": "ok"}) == (whole.meaning, whole.body)
    assert (Meaning.MISCONFIGURED, True) == (half.meaning, half.ambiguous)
    assert "answered 200 and broke off: is a proxy in between?" == half.detail


@pytest.mark.parametrize("encoding", PACKED)
def test_more_than_an_answer_may_have_is_not_unpacked(encoding: str) -> None:
    fits, more = (answered(PACKED[encoding](bytes(size)), encoding) for size in (MEGABYTE // 2, MEGABYTE + 1))

    assert [Meaning.ACCEPTED, Meaning.MISCONFIGURED] == [fits.meaning, more.meaning]


def test_a_cancellation_that_is_not_of_this_task_fails_one_request() -> None:
    """Of a future that somebody else has cancelled, as the transport waited for it."""

    async def told() -> bool:
        return goes_on(asyncio.CancelledError())

    assert not asyncio.run(told())


def test_a_cancellation_of_this_task_goes_on_through_it() -> None:
    async def told() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            return goes_on(error)
        return False

    assert asyncio.run(told())

"""httpx and httpx2: transports of either are taken, whichever of the two the client uses itself."""

from __future__ import annotations

import importlib
import importlib.util
import json
import ssl
from typing import Any

import pytest

from userpilot_async import Unavailable, UserpilotAPI
from userpilot_async._delivery.failures import named
from userpilot_async._runtime.http import httpx as used
from userpilot_async._runtime.http import library_of, loaded
from userpilot_async.emulator import Emulator

pytestmark = pytest.mark.anyio

LIBRARIES = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name) is not None]

of_each = pytest.mark.parametrize("library", [importlib.import_module(name) for name in LIBRARIES], ids=LIBRARIES)


def wrapped(transport: Any) -> Any:
    """A transport that is of no library, around one that is."""

    class Wrapping:
        async def handle_async_request(self, request: Any) -> Any:
            return await transport.handle_async_request(request)

        async def aclose(self) -> None:
            await transport.aclose()

    return Wrapping()


def api(transport: Any) -> UserpilotAPI:
    return UserpilotAPI("KEY", base_url="https://emulator", transport=transport, attempts=1)


def test_httpx2_is_used_where_it_is_installed() -> None:
    assert LIBRARIES[-1] == used.__name__
    assert used in loaded()


@of_each
def test_a_transports_library_is_known(library: Any) -> None:
    assert library is library_of(library.ASGITransport(Emulator()))
    assert used is library_of(wrapped(library.ASGITransport(Emulator())))


@pytest.mark.virtual
@of_each
@pytest.mark.parametrize("around", [lambda transport: transport, wrapped], ids=["itself", "wrapped"])
async def test_requests_with_a_body_without_one_and_with_a_file_go_through_a_transport(
    library: Any, around: Any
) -> None:
    emulator = Emulator()
    async with api(around(library.ASGITransport(emulator))) as calls:
        await calls.identify("u1", {"plan": "pro"})
        await calls.track("u1", "clicked")
        job = await calls.bulk_identify_users([{"user_id": "u2", "metadata": {"plan": "free"}}])
        assert job.job_id == (await calls.job(job.job_id)).job_id

    assert ["u1"] == list(emulator.store.users)


@pytest.mark.virtual
@of_each
async def test_a_transport_sees_requests_of_its_own_library(library: Any) -> None:
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return library.Response(202, json={})

    async with api(library.MockTransport(answer)) as calls:
        await calls.track("u1", "clicked", {"n": 1})

    (request,) = seen
    assert isinstance(request, library.Request)
    assert {"n": 1} == json.loads(request.content)["metadata"]


@pytest.mark.virtual
@of_each
@pytest.mark.parametrize(
    ("error", "sent"),
    [("ConnectError", False), ("ConnectTimeout", False), ("PoolTimeout", False), ("ReadError", True),
     ("RemoteProtocolError", True)],
)  # fmt: skip
async def test_errors_of_either_are_the_same(library: Any, error: str, sent: bool) -> None:
    class Failing(library.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            if sent:
                await request.aread()
            raise getattr(library, error)("https://secret") from OSError("secret")

    async with api(Failing()) as calls:
        with pytest.raises(Unavailable) as raised:
            await calls.track("u1", "clicked")

    assert error in str(raised.value)
    assert "secret" not in str(raised.value)
    assert sent == raised.value.ambiguous


@of_each
def test_a_certificate_that_is_refused_is_named_alike(library: Any) -> None:
    refused = library.ConnectError("refused")
    refused.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")

    assert "ConnectError, SSLCertVerificationError" == named(refused)

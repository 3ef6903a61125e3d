"""I9: the API key is in no frame that an exception comes through, and in nothing that is kept of a server's words."""

from __future__ import annotations

import logging
import sys
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

import anyio
import click
import httpx
import pytest
from _pytest._io.saferepr import saferepr
from click.testing import CliRunner

from tests.harness import judge
from userpilot_async import ConfigurationError, DeliveryError, Settings, UserpilotAPI, UserpilotClient
from userpilot_async._delivery.connection import Connection
from userpilot_async.cli._server import Server, ask, talks_to_server
from userpilot_async.parcelvoy import ParcelvoyClient

pytestmark = pytest.mark.anyio

KEY = 'canary/5b1f+0c77"of&the\\key='
URL = "https://server.test"


# ── frames ──


def shown(frame: FrameType) -> Iterator[tuple[str, str]]:
    """What an error reporter shows of a frame: all locals, but for those of this file."""
    if frame.f_code.co_filename != __file__:
        for name, value in list(frame.f_locals.items()):
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} {name}", saferepr(value, maxsize=10**6)


def shown_of(error: BaseException | None) -> dict[str, str]:
    """The same of an exception, and of all that led to it."""
    found: dict[str, str] = {}
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        found[f"{type(one).__name__}"] = f"{one!s} {one!r}"
        trace = one.__traceback__
        while trace is not None:
            found.update(shown(trace.tb_frame))
            trace = trace.tb_next
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found


class Looks(httpx.AsyncBaseTransport):
    """The application's own: it looks up the stack at each request, raises, and keeps what it raised."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.raised: list[RuntimeError] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        headers, raw = request.headers, request.headers.raw  # to be seen in this frame
        self.seen |= {f"own {name}": repr(value) for name, value in locals().items()}
        frame: FrameType | None = sys._getframe()
        while frame is not None and "_pytest" not in frame.f_code.co_filename:  # which knows the next test's arguments
            self.seen.update(shown(frame))
            frame = frame.f_back
        self.raised.append(RuntimeError("nobody has foreseen this"))
        raise self.raised[-1]

    def check(self) -> None:
        """Neither then nor afterwards was there a key to be seen."""
        assert self.raised
        assert any("connection.py" in name for name in self.seen)
        for error in self.raised:
            self.seen |= shown_of(error)
        judge.no_canary(self.seen, [KEY])


ASKS: dict[str, Callable[[UserpilotAPI], Awaitable[Any]]] = {
    "realtime": lambda api: api.track("u1", "exported"),
    "upload": lambda api: api.bulk_identify_users([{"user_id": "u1"}]),
    "job list": lambda api: api.jobs(),
    "job": lambda api: api.job("j1"),
    "deletion": lambda api: api.delete_users(["u1"]),
}


@pytest.mark.virtual
@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
async def test_no_frame_shows_the_key_when_a_transport_raises(ask: Callable[[UserpilotAPI], Awaitable[Any]]) -> None:
    transport = Looks()
    async with UserpilotAPI(KEY, base_url=URL, transport=transport, attempts=2) as api:
        with pytest.raises(DeliveryError) as caught:
            await ask(api)

    transport.check()
    judge.no_canary(shown_of(caught.value), [KEY])


CLIENTS: dict[str, Callable[[httpx.AsyncBaseTransport], Any]] = {
    "Userpilot": lambda transport: UserpilotClient(
        KEY, base_url=URL, transport=transport, settings=Settings(bulk_threshold=1, close_timeout=1.0)
    ),
    "a callable": lambda transport: UserpilotClient(
        lambda: KEY, base_url=URL, transport=transport, settings=Settings(close_timeout=1.0)
    ),
    "Parcelvoy": lambda transport: ParcelvoyClient(KEY, URL, transport=transport),
}


@pytest.mark.virtual
@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
async def test_no_frame_of_a_sender_shows_the_key_when_a_transport_raises(
    make: Callable[[httpx.AsyncBaseTransport], Any], caplog: pytest.LogCaptureFixture
) -> None:
    transport = Looks()
    async with make(transport) as client:
        for user in ("u1", "u2", "u3"):
            parcelvoy = isinstance(client, ParcelvoyClient)
            await (client.identify(external_id=user) if parcelvoy else client.identify(user))
        await client.flush(timeout=5.0)

    transport.check()
    judge.no_canary({"log": caplog.text}, [KEY])


class Interrupted(httpx.AsyncBaseTransport):
    """Ctrl-C arrives where the request is about to go out, as httpcore has it."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wire = b"Authorization: " + bytes(request.headers.raw[1][1])  # noqa: F841  # as h11 has it
        try:
            raise ConnectionError
        except ConnectionError as error:
            raise BaseExceptionGroup("", [error, KeyboardInterrupt()]) from error


async def test_what_goes_on_through_the_client_leaves_the_frames_of_its_transport_behind() -> None:
    api = UserpilotAPI(KEY, base_url=URL, transport=Interrupted())
    connection: Connection = api.reserve(1)
    connection.open()
    with pytest.raises(BaseExceptionGroup) as caught:
        await connection.exchange("track", "POST", "/v1/track", b"{}")

    frames = []
    trace = caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "handle_async_request" not in frames
    assert caught.value.__cause__ is not None and caught.value.__cause__.__traceback__ is None
    judge.no_canary(shown_of(caught.value), [KEY])


@pytest.mark.parametrize(
    "make",
    [
        lambda: UserpilotClient(KEY, base_url="https://server.test#"),
        lambda: UserpilotClient(KEY + "\n"),
        lambda: UserpilotClient(KEY, settings="none"),  # type: ignore[arg-type]  # the mistake
        lambda: UserpilotAPI(KEY, region="moon"),  # type: ignore[arg-type]  # the mistake
        lambda: UserpilotAPI(KEY + "é"),
        lambda: UserpilotAPI(KEY.encode()),  # type: ignore[arg-type]  # the mistake
        lambda: ParcelvoyClient(KEY, "https://."),
        lambda: ParcelvoyClient(KEY + "\0", URL),
    ],
)
def test_no_frame_shows_the_key_where_a_client_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()

    judge.no_canary(shown_of(caught.value), [KEY])


async def test_no_frame_shows_a_bad_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERPILOT_API_KEY", KEY + " ")
    with pytest.raises(ConfigurationError) as caught:
        UserpilotAPI()

    judge.no_canary(shown_of(caught.value), [KEY])


async def test_no_frame_shows_what_a_callable_gives_in_place_of_a_key() -> None:
    """The frames of the callable itself are the application's."""
    api = UserpilotAPI(lambda: KEY + "\r", base_url=URL)
    with pytest.raises(ConfigurationError) as caught:
        api.reserve(1).keys.secret().reveal()

    judge.no_canary(shown_of(caught.value), [KEY])


def test_no_frame_of_a_command_shows_the_key() -> None:
    transport = Looks()
    server = Server(KEY, base_url=URL)
    with pytest.raises(click.ClickException) as caught:
        ask(server.api(transport, attempts=1), lambda api: api.track("u1", "exported"))

    transport.check()
    judge.no_canary(shown_of(caught.value), [KEY])


def test_a_key_among_the_options_of_a_command_is_shown_by_none_of_its_parameters() -> None:
    @click.command()
    @talks_to_server
    def fails(server: Server) -> None:
        raise RuntimeError("a bug")

    # What was typed is in `sys.argv` and, as `args`, in click's frames: there is no help against `ps`, either.
    shown = shown_of(CliRunner().invoke(fails, ["--api-key", KEY]).exception)
    judge.no_canary({name: text for name, text in shown.items() if not name.endswith((" args", " rest"))}, [KEY])


# ── echoes ──

ECHOES = {
    "as it is": f"no account has the key {KEY}",
    "in a header": f"bad header: Authorization: Token {KEY}",
    "for a URL": f"GET /?key={quote(KEY, safe='')}",
    "in base64": f"Basic {b64encode(f'Token {KEY}'.encode()).decode()}",
    "in hex": f"bytes {KEY.encode().hex()}",
    "in capitals": f"KEY {KEY.upper()}",
    "where we cut": "." * 190 + KEY,
}


class Echoes(httpx.AsyncBaseTransport):
    """A server that says the key again wherever it can."""

    def __init__(self, status: int, said: str) -> None:
        self._status = status
        self._said = said

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        said = self._said
        error = {"message": said, "error_code": said, "error": said}
        job = {"job_id": said[:900], "status": "queued", "filename": said, "type": said, "links": {said: [said]}}
        body = [job] if self._status == 200 else {"errors": [error]}
        headers = {"x-request-id": quote(said, safe=""), "link": f"<{URL}/v1/background_jobs?k={quote(said)}>"}
        return httpx.Response(self._status, json=body, headers=headers, extensions={"reason_phrase": said.encode()})


@pytest.mark.parametrize(
    ("status", "said"),
    [(422, said) for said in ECHOES.values()] + [(one, ECHOES["as it is"]) for one in (400, 401, 404, 409, 429, 503)],
)
@pytest.mark.virtual
async def test_no_error_says_a_key_that_the_server_has_said(status: int, said: str) -> None:
    async with UserpilotAPI(KEY, base_url=URL, transport=Echoes(status, said), attempts=1) as api:
        with pytest.raises(DeliveryError) as caught:
            await api.track("u1", "exported")

    error: Any = caught.value
    texts = {name: f"{value}" for name, value in vars(error).items()}
    judge.no_canary({**texts, **shown_of(error)}, [KEY, KEY.upper(), KEY[:12]])


@pytest.mark.parametrize("said", ECHOES.values(), ids=ECHOES)
@pytest.mark.virtual
async def test_no_job_is_listed_with_a_key_that_the_server_has_said(said: str) -> None:
    async with UserpilotAPI(KEY, base_url=URL, transport=Echoes(200, said), attempts=1) as api:
        jobs = await api.jobs()

    assert 1 == len(jobs)
    judge.no_canary({"jobs": repr(jobs)}, [KEY, KEY.upper(), KEY[:12]])


@pytest.mark.parametrize("said", ECHOES.values(), ids=ECHOES)
async def test_a_refused_call_is_kept_without_a_key_that_the_server_has_said(
    tmp_path: Path, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the letter, in the log and in the outbox's file."""
    caplog.set_level(logging.DEBUG)
    letters: list[Any] = []
    place = tmp_path / "outbox.db"
    client = UserpilotClient(KEY, base_url=URL, transport=Echoes(422, said), outbox=place, on_dead=letters.append)
    async with client:
        receipt = await client.track("u1", "exported")
        with anyio.fail_after(10.0):
            await receipt.outcome()

    (letter,) = letters
    assert "(the API k" in letter.detail  # the rest may be cut off
    texts: dict[str, str | bytes] = {"letter": repr(letter), "log": caplog.text}
    texts |= {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    judge.no_canary(texts, [KEY, KEY.upper(), KEY[:12]])

"""The console as an ASGI app: its routes, and what a failure looks like. A failure is a sentence, never a traceback."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from importlib import resources
from typing import Any, Literal, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..._errors.printable import printable
from ..._errors.tree import OutboxError
from ..._outbox.admin import OutboxAdmin, Selection, Subject, server_of
from ..._outbox.pages import Page
from .._outbox_text import line_of_call
from ._aliases import Aliases
from ._guard import HEADERS, Guard
from ._traffic import Traffic
from ._views import Views
from ._visits import AT_ONCE, AnyCall, Visits

PAGE = 50  # calls at once on the screen
WINDOW = 1_000  # calls that are looked at for the people in them
MOST_BODY = 65_536  # bytes of a request
HIDDEN = "ids and values are hidden: start the console with --show-data to export them"
T = TypeVar("T")

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class WrongRequest(Exception):
    """A request that no page of ours makes; ``status`` is that of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


FAILURES = (WrongRequest, OutboxError, HTTPException, Exception)  # each that Starlette would handle by itself


class Answer(JSONResponse):
    """JSON in ASCII: a damaged row may hold half a character, or a number that JSON has no word for (null then)."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        text = json.dumps(content, separators=(",", ":"))
        if "NaN" in text or "Infinity" in text:
            text = json.dumps(json.loads(text, parse_constant=lambda name: None), separators=(",", ":"))
        return text.encode("ascii")


class Console:
    """The console of one outbox; ``token`` lets a request in."""

    def __init__(
        self, admin: OutboxAdmin, token: str, *, shows_data: bool = False,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._visits = Visits(admin)
        self._views = Views(Aliases(os.urandom(16)), shows_data)
        self._traffic = Traffic()
        self._steady = steady
        self._destination: str | None = None
        self._page = (resources.files("userpilot_async.cli.ui") / "console.html").read_text(encoding="utf-8")
        routes = [
            Route("/", self.page),
            Route("/api/state", self.state),
            Route("/api/waiting", self.waiting),
            Route("/api/people", self.people),
            Route("/api/dead", self.dead),
            Route("/api/export", self.export),
            Route("/api/retry", self.retry, methods=["POST"]),
            Route("/api/purge", self.purge, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers=dict.fromkeys(FAILURES, _failed))
        self.app: ASGIApp = Doorway(app, Guard(token))

    async def page(self, request: Request) -> Response:
        """The page: nothing of the outbox is in it."""
        return Response(self._page, media_type="text/html", headers={"content-security-policy": _policy(self._page)})

    # ── reading ──

    async def state(self, request: Request) -> Response:
        """The numbers of now, and a sample for the chart."""
        seen = await self._visits.ask(lambda admin: admin.inspect())
        self._destination = seen.destination
        now = self._steady()
        self._traffic.add(now, seen.account)
        return Answer(self._views.state(seen, self._visits.admin.kind, self._traffic.as_list(now)))

    async def waiting(self, request: Request) -> Response:
        """A page of what waits: of all, of one person by ``alias``, or of one by the ``id`` that somebody has typed."""
        asked = request.query_params
        after, ids = asked.get("after", ""), await self._ids_asked_for(asked.get("alias"), asked.get("id"))
        page = await self._page_at(lambda admin: admin.waiting(after, PAGE, ids))
        return Answer(self._views.waiting(page, await self._server()))

    async def people(self, request: Request) -> Response:
        """The people and companies in the next `WINDOW` calls, by their first calls."""
        after = request.query_params.get("after", "")
        page = await self._page_at(lambda admin: admin.waiting(after, WINDOW))
        return Answer(self._views.people(page))

    async def dead(self, request: Request) -> Response:
        """A page of the dead letters, of all or of one ``reason``."""
        after, reason = request.query_params.get("after", ""), request.query_params.get("reason") or None
        page = await self._page_at(lambda admin: admin.lost(after, PAGE, reason))
        return Answer(self._views.lost(page, await self._server()))

    async def _page_at(self, question: Callable[[OutboxAdmin], Page[T]]) -> Page[T]:
        try:
            return await self._visits.ask(question)
        except ValueError:
            raise WrongRequest("after is no place in this outbox") from None

    async def export(self, request: Request) -> Response:
        """All that waits, or all dead letters, as lines that `userpilot-async send` reads."""
        if not self._views.shows_data:
            raise WrongRequest(HIDDEN, 403)
        what, reason = request.query_params.get("what"), request.query_params.get("reason") or None
        if what not in ("waiting", "dead"):
            raise WrongRequest("what must be waiting or dead")
        lines = self._lines(what, reason, server_of(await self._server() or ""))
        first = await anext(lines, b"")  # what fails at once is told in a sentence
        return StreamingResponse(_with(first, lines), media_type="application/x-ndjson")

    async def _lines(self, what: str, reason: str | None, server: str) -> AsyncIterator[bytes]:
        def page(admin: OutboxAdmin, after: str) -> Any:  # Any: a page of either kind of call
            return admin.waiting(after, AT_ONCE) if what == "waiting" else admin.lost(after, AT_ONCE, reason)

        async for one in self._visits.all_calls(page):
            line = line_of_call(server, _call_of(one))
            if line is not None:  # damaged ones cannot be sent by anybody
                yield line.encode() + b"\n"

    async def _server(self) -> str | None:
        """The destination of the outbox: one that is known does not change but by `rebind`, which `state` notices."""
        if self._destination is None:
            self._destination = (await self._visits.ask(lambda admin: admin.inspect())).destination
        return self._destination

    async def _ids_asked_for(self, alias: str | None, given: str | None) -> tuple[str, ...]:
        if given:
            return (given, *Subject("user", given).keys(await self._server() or ""))
        if not alias:
            return ()
        ids = self._views.aliases.ids(alias)
        if ids is None:
            raise WrongRequest("this alias is not known any more: go back to the first page", 404)
        return ids

    # ── changing ──

    async def retry(self, request: Request) -> Response:
        """Put dead letters back: all, those of ``reasons``, or those with ``ids``."""
        asked = await _json(request)
        reasons, ids = _list_of(asked, "reasons", str), _list_of(asked, "ids", int)
        done = await self._visits.ask(lambda admin: admin.retry(Selection(reasons, ids)))
        return Answer(self._views.retried(done))

    async def purge(self, request: Request) -> Response:
        """Erase the ``user`` or ``company`` (``kind``) with this ``id``; not ``really``, only count."""
        asked = await _json(request)
        kind: Literal["user", "company"] = "company" if asked.get("kind") == "company" else "user"
        whose, really = asked.get("id"), asked.get("really", False)
        if not isinstance(whose, str) or not whose or type(really) is not bool:
            raise WrongRequest("id must be a text, and really true or false")
        report = await self._visits.ask(lambda admin: admin.purge(Subject(kind, whose), really=really))
        sender = await self._visits.ask(lambda admin: admin.holder())
        return Answer(self._views.purged(report, self._visits.admin.kind, sender))


def _call_of(one: AnyCall) -> Any:
    return one.call


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for one in rest:
        yield one


async def _json(request: Request) -> dict[str, Any]:
    """The object in a request's body. Raises `WrongRequest`."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise WrongRequest("application/json was expected", 415)
    body = b""
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MOST_BODY:
                raise WrongRequest("the request is too large", 413)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise WrongRequest("the request is not JSON") from None
    if not isinstance(found, dict):
        raise WrongRequest("a JSON object was expected")
    return found


def _list_of(asked: dict[str, Any], name: str, kind: type) -> list[Any]:
    found = asked.get(name, [])
    if not isinstance(found, list) or not all(type(one) is kind for one in found):
        raise WrongRequest(f"{name} must be a list of {'texts' if kind is str else 'whole numbers'}")
    return found


def _policy(page: str) -> str:
    """A policy under which the page's own script and style run, and nothing else."""
    hashes = {"script": "", "style": ""}
    for kind, text in _INLINE.findall(page):
        hashes[kind] += f" 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    sources = "".join(f"{kind}-src{found}; " for kind, found in hashes.items())
    return f"{sources}connect-src 'self'; {HEADERS['content-security-policy']}"


class Doorway:
    """The console's door: it asks the guard, and puts `HEADERS` on each answer."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            return
        complete = False

        async def send_guarded(message: Message) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in own]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refusal = self._guard.refusal(scope["headers"], needs_token=scope["path"] != "/")
        answer: ASGIApp = _failure(403, refusal) if refusal is not None else self._app
        try:
            await answer(scope, receive, send_guarded)
        except Exception:  # Starlette raises again what it has answered: the terminal shows no traceback
            if not complete:
                raise  # amid an answer: the server closes the connection, and the page notices


async def _failed(request: Request, error: Exception) -> Response:
    """A failure as a sentence, whatever it is."""
    if isinstance(error, WrongRequest):
        return _failure(error.status, str(error))
    if isinstance(error, HTTPException):
        return _failure(error.status_code, error.detail)
    if isinstance(error, OutboxError):
        return _failure(503, str(error))
    return _failure(500, f"a bug of this console ({type(error).__name__})")


def _failure(status: int, message: str) -> Response:
    return Answer({"error": printable(message)}, status)

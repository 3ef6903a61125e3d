"""The page that shows what an emulator received, in a browser, and what that page reads besides the control routes."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Literal, Protocol

import anyio.lowlevel
import attrs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from userpilot_async.emulator._accounts import Accounts
from userpilot_async.emulator._changes import Look, changed, look, message
from userpilot_async.emulator._control import PREFIX, chosen_store
from userpilot_async.emulator._faults import Faults
from userpilot_async.emulator._listing import Json, page, paged, plain
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._stream import Stream
from userpilot_async.emulator._summary import summarize
from userpilot_async.emulator._traffic import Exchange, Traffic
from userpilot_async.emulator._windows import Windows

STREAMS = 32  # at a time; a browser opens no more than six to one host
INDEXED = 20_000  # entries of the applied log that a look at a history takes in before others get a turn


class Shown(Protocol):
    """An emulator, as far as its page shows it."""

    accounts: Accounts
    faults: Faults
    traffic: Traffic
    windows: Windows

    def advance(self) -> float:
        """Apply what the jobs have to apply by now; returns the emulator's clock, in seconds."""
        ...

    def settings(self) -> dict[str, Any]:
        """The options of the start, as JSON."""
        ...


class Page:
    """The page at `/__emulator__/`, and its routes."""

    def __init__(self, emulator: Shown) -> None:
        self._emulator = emulator
        self._streams = 0

    def routes(self) -> list[Route]:
        """Routes to be mounted beside those of `Control`."""
        return [
            Route("/", self.document),
            Route("/state", self.state),
            Route("/changes", self.changes),
            Route("/minutes", self.minutes),
            Route("/windows", self.windows),
            Route("/exchanges", self.exchanges),
            Route("/exchanges/{number:int}", self.exchange),
            Route("/history/{space}", self.history),
        ]

    async def document(self, request: Request) -> Response:
        return HTMLResponse(document(), headers={"cache-control": "no-cache"})

    async def state(self, request: Request) -> Response:
        """How the emulator was started, the keys of each account, and how long each list is."""
        now = self._emulator.advance()
        store = chosen_store(self._emulator.accounts, request)
        keys = self._emulator.accounts.keys()
        return Json({**self._told(store, now), "settings": self._emulator.settings(), "accounts": keys})

    async def changes(self, request: Request) -> Response:
        """A stream of server-sent events: each has the names of the lists that changed, and their lengths."""
        if self._streams >= STREAMS:
            raise HTTPException(503, f"{STREAMS} pages are open already")
        chosen_store(self._emulator.accounts, request)  # refuses an account that there is not
        self._streams += 1
        return Stream(self._teller(request), self._leave)

    async def minutes(self, request: Request) -> Response:
        """Requests of each of the last thirty minutes, by how they ended."""
        return Json({"minutes": self._emulator.traffic.minutes(self._emulator.advance())})

    async def windows(self, request: Request) -> Response:
        """The rate window of each key and family that was ever spent from."""
        now = self._emulator.advance()
        shown = self._emulator.windows.shown(now)
        items = [{"account": account, "family": family, **attrs.asdict(window)} for account, family, window in shown]
        return Json({"now": now, "items": items})

    async def exchanges(self, request: Request) -> Response:
        """The last requests, each with who, what and why; bodies only one by one."""
        fields = "path status account filename fault searched"
        return await page(request, self._emulator.traffic.kept, _line, mentions=fields)

    async def exchange(self, request: Request) -> Response:
        """A request with the beginnings of both bodies, as text."""
        found = self._emulator.traffic.get(request.path_params["number"])
        if found is None:
            raise HTTPException(404, "there is no such request any more")
        bodies = {"body": _text(found.body), "answer": _text(found.answer)}
        return Json({**_line(found), "query": found.query, "answer_size": found.answer_size, **bodies})

    async def history(self, request: Request) -> Response:
        """The profile of `?id=`, or null, and a page of the writes that took effect on it, by default oldest first.

        It is one of a user, a company or a user of Parcelvoy's: `/history/user`, `/company`, `/parcelvoy`.
        """
        self._emulator.advance()
        store = chosen_store(self._emulator.accounts, request)
        while store.log.catch_up(INDEXED):
            await anyio.lowlevel.checkpoint()
        id, entries = request.query_params.get("id", ""), store.applied
        places, profile = _history(store, request.path_params["space"], id)
        shown = await paged(request, places, lambda place: attrs.asdict(entries[place], recurse=False))
        return Json({**shown, "profile": None if profile is None else plain(profile)})

    def _teller(self, request: Request) -> Callable[[], str]:
        """A function that says what to tell a browser: the state when it is asked first, then what changed."""
        before: Look = {}

        def next_message() -> str:
            nonlocal before
            now = self._emulator.advance()
            store = chosen_store(self._emulator.accounts, request, strict=False)
            after = look(store, self._emulator.faults, self._emulator.traffic, now)
            names, before = changed(before, after), after
            return message({**self._told(store, now), "changed": names}) if names else ""

        return next_message

    def _leave(self) -> None:
        self._streams -= 1

    def _told(self, store: Store, now: float) -> dict[str, Any]:
        """The emulator's time, and how long each list of the page is."""
        return {
            "now": now,
            "lengths": {
                "events": len(store.events),
                "users": len(store.users),
                "companies": len(store.companies),
                "jobs": len(store.jobs),
                "requests": self._emulator.traffic.total,
                "windows": len(self._emulator.windows),
                "faults": len(list(self._emulator.faults)),
                **{f"parcelvoy/{name}": count for name, count in store.parcelvoy.counts().items()},
            },
        }


def asks_for_page(scope: Scope) -> bool:
    """A browser, or something that wants HTML, asks for the root, or for the page without its slash."""
    if scope["method"] not in ("GET", "HEAD") or scope["path"] not in ("/", PREFIX):
        return False
    return any(b"text/html" in value for name, value in scope["headers"] if name.lower() == b"accept")


async def send_to_page(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the way to the page."""
    await Response(status_code=307, headers={"location": f"{PREFIX}/"})(scope, receive, send)


@cache
def document() -> str:
    """The page, which is one file of this package."""
    return files("userpilot_async.emulator").joinpath("page.html").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """The Content-Security-Policy of the page: its own script and style by their hashes, data from here, no more.

    With trusted types no script can make HTML of a text, by mistake or not. Source: W3C "Content Security Policy 3".
    """
    hashes = {tag: " ".join(_hashes(tag, document())) for tag in ("script", "style")}
    return (
        f"default-src 'self'; script-src {hashes['script']}; style-src {hashes['style']}; img-src data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hashes(tag: Literal["script", "style"], html: str) -> list[str]:
    """The source expression of each inline element of this tag."""
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return [f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" for content in contents]


def _line(exchange: Exchange) -> dict[str, Any]:
    """A request without its bodies, with what they say in a few words."""
    hidden = attrs.filters.exclude("body", "answer", "answer_size", "query")
    return {**attrs.asdict(exchange, recurse=False, filter=hidden), "outcome": exchange.outcome,
            **attrs.asdict(summarize(exchange))}  # fmt: skip


def _history(store: Store, space: str, id: str) -> tuple[list[int], object]:
    """Places in the applied log, and the profile if there is one; raises HTTPException for an unknown space."""
    if space == "user":
        return store.log.about("user", id), store.users.get(id)
    if space == "company":
        return store.log.about("company", id), store.companies.get(id)
    if space == "parcelvoy":
        user = store.parcelvoy.find(id)
        ids = {id} if user is None else {id, *user.anonymous_ids, *([user.external_id] if user.external_id else [])}
        return store.log.about("parcelvoy", *ids), user
    raise HTTPException(404, "a history is that of a user, a company or parcelvoy")


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")

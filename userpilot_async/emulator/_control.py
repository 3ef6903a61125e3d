"""The control routes under `/__emulator__/`, for tests and for people: no key, no rate limit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from userpilot_async.emulator._bodies import SMALL, read_body
from userpilot_async.emulator._faults import Armed, Fault, Faults
from userpilot_async.emulator._files import parse_json
from userpilot_async.emulator._jobs import Job
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import Refused

PREFIX = "/__emulator__"
PAGE = 100  # items a page holds if `limit` is not given
DIGITS = 18  # of a number in a query; Python slices by no larger ones


class Json(Response):
    """JSON in ASCII: what a call was made of may have had half of a surrogate pair in it, which UTF-8 cannot say."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Controlled(Protocol):
    """An emulator, as far as its control routes show and change it."""

    store: Store
    faults: Faults

    def advance(self) -> float:
        """Apply what the jobs have to apply by now; returns the emulator's clock, in seconds."""
        ...

    def reset(self) -> None:
        """Begin with an empty account and no faults."""
        ...


class Control:
    """Shows what the store holds, oldest first, and takes in faults."""

    def __init__(self, emulator: Controlled) -> None:
        self._emulator = emulator

    def app(self) -> Starlette:
        routes = [
            Route("/health", self.health),
            Route("/counters", self.counters),
            Route("/users", self.users),
            Route("/users/{id:path}", self.user),
            Route("/companies", self.companies),
            Route("/companies/{id:path}", self.company),
            Route("/events", self.events),
            Route("/page_views", self.page_views),
            Route("/parcelvoy/users", self.parcelvoy_users),
            Route("/parcelvoy/users/{id:path}", self.parcelvoy_user),
            Route("/parcelvoy/events", self.parcelvoy_events),
            Route("/parcelvoy/devices", self.parcelvoy_devices),
            Route("/parcelvoy/lost", self.parcelvoy_lost),
            Route("/applied", self.applied),
            Route("/requests", self.requests),
            Route("/jobs", self.jobs),
            Route("/reset", self.reset, methods=["POST"]),
            Route("/faults", self.faults, methods=["GET"]),
            Route("/faults", self.add_faults, methods=["POST"]),
            Route("/faults", self.remove_faults, methods=["DELETE"]),
        ]
        return Starlette(routes=[Mount(PREFIX, routes=routes)])

    async def health(self, request: Request) -> Response:
        return Json({"status": "ok", "now": self._emulator.advance()})

    async def counters(self, request: Request) -> Response:
        now = self._emulator.advance()
        return Json(_plain(self._emulator.store.counters(now)))

    async def users(self, request: Request) -> Response:
        self._emulator.advance()
        return _page(request, list(self._emulator.store.users.values()))

    async def user(self, request: Request) -> Response:
        self._emulator.advance()
        return _one(self._emulator.store.users.get(request.path_params["id"]))

    async def companies(self, request: Request) -> Response:
        self._emulator.advance()
        return _page(request, list(self._emulator.store.companies.values()))

    async def company(self, request: Request) -> Response:
        self._emulator.advance()
        return _one(self._emulator.store.companies.get(request.path_params["id"]))

    async def events(self, request: Request) -> Response:
        self._emulator.advance()
        return _page(request, self._emulator.store.events)

    async def page_views(self, request: Request) -> Response:
        self._emulator.advance()
        return _page(request, self._emulator.store.page_views)

    async def parcelvoy_users(self, request: Request) -> Response:
        return _page(request, list(self._emulator.store.parcelvoy.users.values()))

    async def parcelvoy_user(self, request: Request) -> Response:
        """By an external or an anonymous id."""
        return _one(self._emulator.store.parcelvoy.find(request.path_params["id"]))

    async def parcelvoy_events(self, request: Request) -> Response:
        return _page(request, self._emulator.store.parcelvoy.events)

    async def parcelvoy_devices(self, request: Request) -> Response:
        return _page(request, list(self._emulator.store.parcelvoy.devices.values()))

    async def parcelvoy_lost(self, request: Request) -> Response:
        """Calls that were answered 204 and not applied, with the reason."""
        return _page(request, self._emulator.store.parcelvoy.lost)

    async def applied(self, request: Request) -> Response:
        self._emulator.advance()
        return _page(request, self._emulator.store.applied)

    async def requests(self, request: Request) -> Response:
        return _page(request, self._emulator.store.requests)

    async def jobs(self, request: Request) -> Response:
        now = self._emulator.advance()
        return _page(request, [_job(job, now) for job in self._emulator.store.jobs])

    async def reset(self, request: Request) -> Response:
        self._emulator.reset()
        return Response(status_code=204)

    async def faults(self, request: Request) -> Response:
        return Json({"faults": [_armed(armed) for armed in self._emulator.faults]})

    async def add_faults(self, request: Request) -> Response:
        """Take one fault or a list of them; none is added if one is wrong."""
        body = await read_body(request, SMALL)
        if body.size > SMALL:
            return Json({"error": f"the body has more than {SMALL} bytes"}, status_code=413)
        try:
            specs = parse_json(body.content)
            faults = [Fault.from_json(spec) for spec in (specs if isinstance(specs, list) else [specs])]
        except Refused as refused:
            return Json({"error": str(refused)}, status_code=400)
        except ValueError as exc:
            return Json({"error": str(exc)}, status_code=400)
        added = [self._emulator.faults.add(fault) for fault in faults]
        return Json({"faults": [fault.as_json() for fault in added]}, status_code=201)

    async def remove_faults(self, request: Request) -> Response:
        """Remove those of `?name=`, or all."""
        name = request.query_params.get("name")
        if name is None:
            self._emulator.faults.clear()
        else:
            self._emulator.faults.remove(name)
        return Response(status_code=204)


def _page(request: Request, items: Sequence[object]) -> Response:
    offset, limit = _number(request, "offset", 0), _number(request, "limit", PAGE)
    shown = [_plain(item) for item in items[offset : offset + limit]]
    return Json({"total": len(items), "offset": offset, "limit": limit, "items": shown})


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise HTTPException(400, f"{name} must be a number, 0 or more")
    return int(text)


def _one(profile: object) -> Response:
    if profile is None:
        raise HTTPException(404, "there is no such profile")
    return Json(_plain(profile))


def _plain(item: Any) -> Any:
    """A record as a dict; a dict as it is. `Any`: attrs' own type for an instance of one of its classes."""
    return attrs.asdict(item, recurse=False) if attrs.has(type(item)) else item


def _job(job: Job, now: float) -> dict[str, Any]:
    """The job object, and what the API would not show of the job."""
    return {**job.as_json(now), "account": job.account, "applied_rows": job.applied_rows, "writes": job.writes}


def _armed(armed: Armed) -> dict[str, Any]:
    return {**armed.fault.as_json(), "seen": armed.seen, "fired": armed.fired}

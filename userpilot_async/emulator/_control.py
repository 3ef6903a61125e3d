"""The control routes under `/__emulator__/`, for tests and for people: no key, no rate limit."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from userpilot_async.emulator._accounts import Accounts, fingerprint
from userpilot_async.emulator._bodies import SMALL, read_body
from userpilot_async.emulator._faults import Armed, Fault, Faults
from userpilot_async.emulator._files import parse_json
from userpilot_async.emulator._jobs import Job
from userpilot_async.emulator._listing import Json, one, page
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import Refused

PREFIX = "/__emulator__"


class Controlled(Protocol):
    """An emulator, as far as its control routes show and change it."""

    accounts: Accounts
    faults: Faults

    def advance(self) -> float:
        """Apply what the jobs have to apply by now; returns the emulator's clock, in seconds."""
        ...

    def reset(self) -> None:
        """Begin with an empty account and no faults."""
        ...


class Control:
    """Shows what the store holds, and takes in faults.

    Lists come oldest first, and with `?newest=1` newest first; `?search=` leaves those that mention a text. Where each
    key has an account of its own, `?account=` with the fingerprint, or `?key=`, chooses one; else it is the first.
    """

    def __init__(self, emulator: Controlled) -> None:
        self._emulator = emulator

    def app(self, *more: Route) -> Starlette:
        """The routes as an application, with `more` beside them."""
        routes = [
            *more,
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
        return one(self._store(request).counters(now))

    async def users(self, request: Request) -> Response:
        self._emulator.advance()
        return await page(request, self._store(request).users.values(), mentions="user_id company_id")

    async def user(self, request: Request) -> Response:
        self._emulator.advance()
        return one(self._store(request).users.get(request.path_params["id"]))

    async def companies(self, request: Request) -> Response:
        self._emulator.advance()
        return await page(request, self._store(request).companies.values(), mentions="company_id")

    async def company(self, request: Request) -> Response:
        self._emulator.advance()
        return one(self._store(request).companies.get(request.path_params["id"]))

    async def events(self, request: Request) -> Response:
        self._emulator.advance()
        return await page(request, self._store(request).events, mentions="user_id event_name company_id")

    async def page_views(self, request: Request) -> Response:
        self._emulator.advance()
        return await page(request, self._store(request).page_views, mentions="user_id company_id")

    async def parcelvoy_users(self, request: Request) -> Response:
        users = self._store(request).parcelvoy.users.values()
        return await page(request, users, mentions="external_id anonymous_ids")

    async def parcelvoy_user(self, request: Request) -> Response:
        """By an external or an anonymous id."""
        return one(self._store(request).parcelvoy.find(request.path_params["id"]))

    async def parcelvoy_events(self, request: Request) -> Response:
        return await page(request, self._store(request).parcelvoy.events, mentions="external_id anonymous_id name")

    async def parcelvoy_devices(self, request: Request) -> Response:
        devices = self._store(request).parcelvoy.devices.values()
        return await page(request, devices, mentions="device_id model token")

    async def parcelvoy_lost(self, request: Request) -> Response:
        """Calls that were answered 204 and not applied, with the reason."""
        return await page(request, self._store(request).parcelvoy.lost, mentions="kind reason payload")

    async def applied(self, request: Request) -> Response:
        self._emulator.advance()
        return await page(request, self._store(request).applied, mentions="id kind")

    async def requests(self, request: Request) -> Response:
        return await page(request, self._store(request).requests, mentions="path status filename")

    async def jobs(self, request: Request) -> Response:
        now = self._emulator.advance()
        jobs = self._store(request).jobs
        return await page(request, jobs, lambda job: _job(job, now), mentions="job_id filename kind")

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

    def _store(self, request: Request) -> Store:
        return chosen_store(self._emulator.accounts, request)


def chosen_store(accounts: Accounts, request: Request, *, strict: bool = True) -> Store:
    """The store of `?account=` or `?key=`, else the first one.

    Raises HTTPException if no call with that key was accepted; it is the first one then, too, if not `strict`.
    """
    key = request.query_params.get("key")
    account = request.query_params.get("account") if key is None else fingerprint(key)
    if not account:
        return accounts.first
    store = accounts.get(account)
    if store is None and not strict:
        return accounts.first
    if store is None:
        raise HTTPException(404, "no call with such a key was accepted")
    return store


def _job(job: Job, now: float) -> dict[str, Any]:
    """The job object, and what the API would not show of the job."""
    return {**job.as_json(now), "account": job.account, "applied_rows": job.applied_rows, "writes": job.writes}


def _armed(armed: Armed) -> dict[str, Any]:
    return {**armed.fault.as_json(), "seen": armed.seen, "fired": armed.fired}

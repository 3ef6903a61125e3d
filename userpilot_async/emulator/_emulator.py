"""The emulator as an ASGI app: reads a request, waits where it is told to, and hands out the answer."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from userpilot_async.emulator._accounts import Accounts, fingerprint
from userpilot_async.emulator._admission import Admission, RawRequest
from userpilot_async.emulator._bodies import read_body
from userpilot_async.emulator._control import PREFIX, Control
from userpilot_async.emulator._cut import cut_connection
from userpilot_async.emulator._faults import Fault, Faults
from userpilot_async.emulator._guard import SAFE_METHODS, Guard, guarded
from userpilot_async.emulator._page import Page, asks_for_page, policy, send_to_page
from userpilot_async.emulator._routes import endpoints, find_route
from userpilot_async.emulator._saved import Saved
from userpilot_async.emulator._store import JOBS_PER_PAGE, Paging, Store
from userpilot_async.emulator._traffic import SHOWN, Exchange, Traffic
from userpilot_async.emulator._windows import Windows
from userpilot_async.emulator._wire import Answer, WireError


class Emulator:
    """Userpilot's realtime API by its documented rules, and Parcelvoy's client API as its server does, as one ASGI app.

    Parcelvoy's routes are under `/api/client`; they want a `Bearer` key, know no rate limit, and leave what they
    receive in `store.parcelvoy`, and what the server would lose in its `lost`. Faults, keys, the request log and the
    applied log are common to both.

    There are no background tasks: jobs are brought up to `clock()` by each request that comes in, so a virtual clock
    moves them as well as a real one. Nothing here knows of any client.

    On a port it answers requests for `localhost`, a loopback address, the address at which they come in, and the
    `allow_hosts`; others, and whatever a web page of another origin would change, get 403. In process (httpx's
    `ASGITransport`, starlette's `TestClient`) every host is its own.
    """

    accounts: Accounts
    """The stores by the fingerprint of a key."""

    windows: Windows
    """The rate windows of all keys."""

    traffic: Traffic
    """The last requests with their bodies, and how many there were in each of the last minutes."""

    faults: Faults
    """Faults in place; one more: `emulator.faults.add(Fault(...))`."""

    def __init__(
        self,
        *,
        api_keys: Collection[str] | None = None,
        speed: float = 1.0,
        rate_limit: int = 600,
        clock: Callable[[], float] = time.time,
        latency: float = 0.0,
        imports_enabled: bool = True,
        jobs_per_page: int = JOBS_PER_PAGE,
        jobs_paging: Paging = "page",
        seed: int | None = None,
        allow_hosts: Iterable[str] = (),
        strict: bool = False,
        account_per_key: bool = True,
        on_exchange: Callable[[Exchange], object] | None = None,
    ) -> None:
        """Start with an empty account on either side.

        `api_keys=None` accepts any key that is not empty. Jobs run `speed` times as fast as the vendor's; the minutes
        of the rate limit, which is of Userpilot's identify and track calls only, stay minutes. `clock` gives seconds
        since the epoch. Every answer is held back by `latency`, after the call was applied. `imports_enabled=False`
        refuses imports with 401, as a plan without them does. The job list shows `jobs_per_page`; `jobs_paging` is how
        to see the rest: "page" takes `?page=2`, "links" puts an object with a link to the next page around the list,
        "hidden" knows no way. `seed` makes the faults' probabilities repeatable. `allow_hosts`: names, without ports,
        by which others reach it, such as the service's name in a Compose file. `strict` refuses with 422, and the
        reason, the calls that a Parcelvoy server answers with 204 and loses. Each key has an account of its own; with
        `account_per_key=False` all share one, as a key and its successor do. `on_exchange` is called with each request
        that was answered, in the event loop, and must neither wait nor raise.
        """
        if not 0 < speed < math.inf:
            raise ValueError("speed must be a number, more than 0")
        if not 0 <= latency < math.inf:
            raise ValueError("latency must be a number of seconds, 0 or more")
        if jobs_per_page < 1:
            raise ValueError("jobs_per_page must be 1 or more")
        if jobs_paging not in ("page", "links", "hidden"):
            raise ValueError('jobs_paging must be "page", "links" or "hidden"')
        if isinstance(api_keys, str):
            raise TypeError("api_keys must be a collection of keys, not one key")
        if api_keys is not None and "" in api_keys:
            raise ValueError("an API key must not be empty")
        self.clock = clock
        self.latency = latency
        self.rate_limit = rate_limit
        self._api_keys = api_keys
        self._speed = speed
        self._imports_enabled = imports_enabled
        self._jobs_per_page = jobs_per_page
        self._strict = strict
        self._jobs_paging: Paging = jobs_paging
        self._chance = random.Random(seed)
        self._guard = Guard(allow_hosts)
        self._account_per_key = account_per_key
        self._on_exchange = on_exchange
        self._control = Control(self).app(*Page(self).routes())
        self._turn = Lock()  # in process, clients may ask from the loops of several threads
        self.reset()

    def reset(self) -> None:
        """An empty account again: a new `store`, fresh rate windows, no faults."""
        self.accounts = Accounts(self._empty_store, per_key=self._account_per_key)
        self.faults = Faults(self._chance)
        self.windows = Windows(self.rate_limit)
        self.traffic = Traffic(self._on_exchange)
        self._admission = Admission(
            self.accounts, self.windows, api_keys=self._api_keys, imports_enabled=self._imports_enabled
        )

    @property
    def store(self) -> Store:
        """Everything that was received. Call `advance` first to see the jobs' rows up to now.

        Raises LookupError if several keys have accounts: `store_of` has each. A key of either API share one.
        """
        return self.accounts.only()

    def store_of(self, key: str) -> Store:
        """Everything that was received with this key; raises LookupError if no call with it was accepted."""
        return self.accounts.of_key(key)

    def check_path(self, path: str) -> None:
        """Raise ValueError unless a call to one of the endpoints can have this path, which may be a glob."""
        known = endpoints()
        if not any(fnmatchcase(one, path) or fnmatchcase(path, re.sub("{.+?}", "*", one)) for one in known):
            raise ValueError(f"no endpoint has a path like {path!r}: there are {', '.join(known)}")

    def _empty_store(self) -> Store:
        return Store(self._speed, jobs_per_page=self._jobs_per_page, jobs_paging=self._jobs_paging, strict=self._strict)

    def advance(self) -> float:
        """Let the jobs do what is due by now; returns now."""
        now = self.clock()
        for store in self.accounts.stores():
            store.advance(now)
        return now

    def settings(self) -> dict[str, Any]:
        """The options of the start, as the page shows them: no key is among them."""
        return {
            "speed": self._speed,
            "rate_limit": self.rate_limit,
            "latency": self.latency,
            "imports_enabled": self._imports_enabled,
            "strict": self._strict,
            "any_key": self._api_keys is None,
            "account_per_key": self._account_per_key,
        }

    def saved(self) -> Saved:
        """The state as JSON: accounts and faults, without the rate windows and the bodies of the last requests."""
        return {"accounts": self.accounts.saved(), "faults": self.faults.saved()}

    def restore(self, saved: Saved) -> None:
        """Go on from a state that was saved; raises KeyError, TypeError or ValueError, and is empty, if it is none."""
        self.reset()
        try:
            self.accounts.restore(saved["accounts"])
            self.faults.restore(saved["faults"])
        except BaseException:
            self.reset()
            raise

    def revision(self) -> Any:  # Any: it is compared, and nothing else
        """Something that differs whenever what `saved` gives does, in O(accounts and faults)."""
        stores = [(store, len(store.applied), len(store.requests), len(store.jobs)) for store in self.accounts.stores()]
        lost = [len(store.parcelvoy.lost) for store in self.accounts.stores()]
        return stores, lost, [(armed.fault.name, armed.seen, armed.fired) for armed in self.faults]

    def allow_host(self, host: str) -> None:
        """Answer requests for this name or address, too, as for the `allow_hosts`; ValueError if it is neither."""
        self._guard.allow(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        asks = asks_for_page(scope)
        controls = asks or scope["path"].startswith(f"{PREFIX}/")
        send = guarded(send, policy() if scope["path"] == f"{PREFIX}/" else None)
        # Any call of an API is one more in the request log, and may set off a fault.
        refusal = self._guard.refusal(scope, changes=not controls or scope["method"] not in SAFE_METHODS)
        request = Request(scope, receive)
        if controls:
            allowed = send_to_page if asks else self._control
            answer = allowed if refusal is None else PlainTextResponse(refusal, 403)
            await answer(scope, receive, send)
            return
        path = scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        route = find_route(request.method, path)
        if refusal is not None:
            refused = route.api.complain([WireError(403, refusal)])
            await Response(refused.body, refused.status, refused.headers)(scope, receive, send)
            return
        try:
            body = await read_body(request, route.max_body)
        except ClientDisconnect:
            return  # It left in the middle of its request: there is nothing to apply, and no client to answer.
        raw = RawRequest(request.method, path, request.headers, body, route, request.url.query)
        await self._receive_call(raw, scope, receive, send)

    async def _receive_call(self, raw: RawRequest, scope: Scope, receive: Receive, send: Send) -> None:
        with self._turn:
            fault = self.faults.meet(raw.method, raw.path, raw.route.family, raw.body)
        await _pause(fault.delay)
        with self._turn:
            now = self.advance()
            answer = self._admission.answer(raw, fault, now)
            self.traffic.add(_exchange(self.traffic.total + 1, raw, fault, answer, now))
        await _pause(self.latency + fault.latency)
        if fault.cut:
            await cut_connection(scope, receive)
            return
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)


def _exchange(number: int, raw: RawRequest, fault: Fault, answer: Answer, now: float) -> Exchange:
    """As much of a request and its answer as is kept to be looked at."""
    return Exchange(
        number=number,
        stamp=now,
        method=raw.method,
        path=raw.path,
        query=raw.query,
        family=raw.route.family,
        account=fingerprint(raw.key),
        status=None if fault.cut else answer.status,
        rows=answer.rows,
        filename=answer.filename,
        fault=fault.name or None,
        applied=answer.applied,
        size=raw.body.size,
        body=raw.body.content[:SHOWN],
        answer_size=len(answer.body),
        answer=answer.body[:SHOWN],
    )


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await anyio.sleep(seconds)

"""Admission of requests: by key, rate and size, unless a fault refuses them first. Pure: nothing here waits."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from email.utils import formatdate
from hashlib import blake2b

import attrs

from userpilot_async.emulator._accounts import Accounts, fingerprint
from userpilot_async.emulator._bodies import Body
from userpilot_async.emulator._calls import Call, Route
from userpilot_async.emulator._faults import Fault
from userpilot_async.emulator._records import Requested
from userpilot_async.emulator._windows import Windows
from userpilot_async.emulator._wire import Answer, Refused, obey, refuse


@attrs.frozen
class RawRequest:
    """A request before anything of it was checked."""

    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)  # lower-case names; the key is in there
    body: Body
    route: Route
    query: str = ""

    @property
    def key(self) -> str:
        """The API key, or nothing."""
        return self.route.api.key_of(self.headers)


class Admission:
    """Hands a request to its endpoint, or refuses it; records each."""

    def __init__(
        self, accounts: Accounts, windows: Windows, *, api_keys: Collection[str] | None, imports_enabled: bool
    ) -> None:
        self._accounts = accounts
        self._windows = windows
        self._api_keys = None if api_keys is None else frozenset(api_keys)
        self._imports_enabled = imports_enabled

    def answer(self, request: RawRequest, fault: Fault, now: float) -> Answer:
        """The answer with all its headers, after the call was applied, if it was."""
        account, request_id = fingerprint(request.key), ""
        if request.route.api.numbered:
            request_id = _request_id(now, sum(len(store.requests) for store in self._accounts.stores()))
        try:
            answer = self._admit(request, fault, account, now)
        except Refused as refused:
            answer = request.route.api.complain(refused.errors)
        self._accounts.find(account).record(
            Requested(
                stamp=now,
                method=request.method,
                path=request.path,
                family=request.route.family,
                status=None if fault.cut else answer.status,
                rows=answer.rows,
                filename=answer.filename,
                key_fingerprint=account,
                fault=fault.name or None,
                applied=answer.applied,
                request_id=request_id,
            )
        )
        # The Date is of the emulator's clock, since a client turns the reset into a delay with it.
        headers = {**request.route.api.common_headers, **answer.headers, "date": formatdate(now, usegmt=True)}
        if request.route.api.numbered:
            headers |= {"x-request-id": request_id}
            headers |= self._windows.peek(account, request.route.family, now).headers()
        return attrs.evolve(answer, headers=_overridden(headers, fault.headers))

    def _admit(self, request: RawRequest, fault: Fault, account: str, now: float) -> Answer:
        """Key, then window, then endpoint. A 401, scripted or not, spends nothing of the window."""
        api, content = request.route.api, None
        if not fault.refuses:
            content = api.read(request.method, request.headers, request.body) if api.read else None
            self._check_key(request)
        counted = request.route.family in api.limited and not (fault.refuses and fault.status == 401)
        if counted and not self._windows.take(account, request.route.family, now):
            raise refuse(429, f"more than {self._windows.limit} requests in this minute")
        if fault.refuses:
            return fault.disguise(Answer(202), api)
        if api.read is None and request.body.size > request.route.max_body:
            raise refuse(413, f"the body has more than {request.route.max_body} bytes")
        if request.route.family in api.versioned and request.headers.get("x-api-version") != api.version:
            raise refuse(400, f"the header X-API-Version must be {api.version}")
        call = Call(
            request.method,
            request.path,
            request.headers,
            request.body.content,
            account,
            now,
            fault.apply,
            fault.script(),
            request.query,
            content,
        )
        store = self._accounts.open(account, api.kind_of(request.key))
        return fault.disguise(request.route.endpoint(store, call), api)

    def _check_key(self, request: RawRequest) -> None:
        if request.route.needs_key:
            obey(request.route.api.key_errors(request.key, self._api_keys))
        if request.route.family == "imports" and not self._imports_enabled:
            raise refuse(401, "the plan of this account has no imports")


def _request_id(now: float, number: int) -> str:
    """Twenty characters like those of the vendor's samples, for the so-many-th request of the logs."""
    return urlsafe_b64encode(blake2b(f"{now} {number}".encode(), digest_size=15).digest()).decode()


def _overridden(headers: dict[str, str], by: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**headers, **{name.lower(): value for name, value in by.items()}}
    return {name: value for name, value in merged.items() if value is not None}

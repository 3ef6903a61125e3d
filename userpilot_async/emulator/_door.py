"""The door of the API: who may come in, how often, and under which fault. Pure: nothing here waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from email.utils import formatdate
from hashlib import sha256

import attrs

from userpilot_async.emulator._bodies import Body
from userpilot_async.emulator._calls import Call, Route
from userpilot_async.emulator._faults import Fault
from userpilot_async.emulator._records import Requested
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._windows import Windows
from userpilot_async.emulator._wire import Answer, Refused, obey, refuse


@attrs.frozen
class Visitor:
    """A request as it stands before the door."""

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


class Door:
    """Lets a visitor in to the endpoint, or answers in its stead; writes each visit down."""

    def __init__(
        self, store: Store, windows: Windows, *, api_keys: Collection[str] | None, imports_enabled: bool
    ) -> None:
        self._store = store
        self._windows = windows
        self._api_keys = None if api_keys is None else frozenset(api_keys)
        self._imports_enabled = imports_enabled

    def answer(self, visitor: Visitor, fault: Fault, now: float) -> Answer:
        """The answer with all its headers, after the call was applied, if it was."""
        account = fingerprint(visitor.key)
        try:
            answer = self._admit(visitor, fault, account, now)
        except Refused as refused:
            answer = visitor.route.api.complain(refused.errors)
        self._store.record(
            Requested(
                stamp=now,
                method=visitor.method,
                path=visitor.path,
                family=visitor.route.family,
                status=None if fault.cut else answer.status,
                rows=answer.rows,
                filename=answer.filename,
                key_fingerprint=account,
                fault=fault.name or None,
                applied=answer.applied,
            )
        )
        # The Date is of the emulator's clock, since a client turns the reset into a delay with it.
        headers = {**answer.headers, "date": formatdate(now, usegmt=True)}
        if visitor.route.api.limited:
            headers |= self._windows.peek(account, visitor.route.family, now).headers()
        return attrs.evolve(answer, headers=_overridden(headers, fault.headers))

    def _admit(self, visitor: Visitor, fault: Fault, account: str, now: float) -> Answer:
        """Key, then window, then endpoint. A 401, scripted or not, spends nothing of the window."""
        api, content = visitor.route.api, None
        if not fault.refuses:
            content = api.read(visitor.method, visitor.headers, visitor.body) if api.read else None
            self._check_key(visitor)
        counted = api.limited and not (fault.refuses and fault.status == 401)
        if counted and not self._windows.take(account, visitor.route.family, now):
            raise refuse(429, f"more than {self._windows.limit} requests in this minute")
        if fault.refuses:
            return fault.disguise(Answer(202), api)
        if api.read is None and visitor.body.size > visitor.route.max_body:
            raise refuse(413, f"the body has more than {visitor.route.max_body} bytes")
        if api.version not in (None, visitor.headers.get("x-api-version")):
            raise refuse(400, f"the header X-API-Version must be {api.version}")
        call = Call(
            visitor.method,
            visitor.path,
            visitor.headers,
            visitor.body.content,
            account,
            now,
            fault.apply,
            fault.script(),
            visitor.query,
            content,
        )
        return fault.disguise(visitor.route.endpoint(self._store, call), api)

    def _check_key(self, visitor: Visitor) -> None:
        if visitor.route.needs_key:
            obey(visitor.route.api.key_errors(visitor.key, self._api_keys))
        if visitor.route.family == "imports" and not self._imports_enabled:
            raise refuse(401, "the plan of this account has no imports")


def fingerprint(key: str) -> str:
    """Eight characters that tell keys apart in logs and job ids, and do not give them away."""
    return sha256(key.encode()).hexdigest()[:8] if key else "anonymous"


def _overridden(headers: dict[str, str], by: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**headers, **{name.lower(): value for name, value in by.items()}}
    return {name: value for name, value in merged.items() if value is not None}

"""The endpoints under `/api/client`. Success is 204 with nothing in it, and means that a call was queued."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus

from userpilot_async.emulator._calls import Call, Route, apply_now, row_errors
from userpilot_async.emulator._records import AppliedKind
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import Answer, Api, Family, Payload, Refused, WireError, obey, refuse
from userpilot_async.emulator.parcelvoy import _rules as rules
from userpilot_async.emulator.parcelvoy._bodies import MAX_BODY, read_content
from userpilot_async.emulator.parcelvoy._collation import fold

PREFIX = "/api/"
_PATH = re.compile(r"/api/client/([a-z]+)/?", re.ASCII | re.IGNORECASE)  # koa's router takes any case

PUBLIC, SECRET = "pk_", "sk_"


def find_route(method: str, path: str) -> Route:
    """The route of a path, as it was sent. No key is looked at where there is nothing to do."""
    found = _PATH.fullmatch(path)
    methods = ROUTES.get(found[1].lower()) if found else None
    if methods is None:
        return _keyless(404)
    if method == "OPTIONS":
        return _keyless(200, allow=methods)
    return methods.get(method) or _keyless(405, allow=methods, silent=method == "HEAD")


def endpoints() -> list[str]:
    """The paths of all endpoints."""
    return [f"/api/client/{name}" for name in ROUTES]


def identify(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Identify User": 204."""
    return _take(store, call, "identify", [_object(call, rules.identify_errors)])


def alias(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Alias User": 204. The server takes it more than once."""
    return _take(store, call, "alias", [_object(call, rules.alias_errors)])


def register_device(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Register Device": 204."""
    return _take(store, call, "device", [_object(call, rules.device_errors)])


def post_events(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Post Event": 204; "an array containing at least one object"."""
    events = _array(call, rules.event_errors)
    return _take(store, call, "event", events, rows=len(events))


def patch_users(store: Store, call: Call) -> Answer:
    """Source: parcelvoy/platform 2.3.3, `UserController.ts`: 204 for a list of users, with a secret key."""
    if call.headers.get("authorization", "").startswith(f"{PARCELVOY.scheme} {PUBLIC}"):
        raise Refused([WireError(403, "Access denied.", code=1007)])
    users = _array(call, rules.user_errors)
    return _take(store, call, "identify", users, rows=len(users))


def key_errors(key: str, accepted: Collection[str] | None) -> list[WireError]:
    """A key of either prefix that is nobody's, or was revoked, is 404. The database compares keys without case."""
    if bool(key) if accepted is None else fold(key) in map(fold, accepted):
        return []
    if key.startswith((PUBLIC, SECRET)):
        return [WireError(404, "The requested project does not exist.", code=6000)]
    return [WireError(401, "Authorization error.", code=1000)]


def error_body(errors: Sequence[WireError]) -> Payload:
    """The first complaint, in a sentence, and the server's code for it where it has one."""
    first = errors[0]
    error = f"{first.message}: {first.details}" if first.details else first.message
    body: Payload = {"status": "error", "error": error}
    return body if first.code is None else {**body, "code": first.code}


# No version header and no rate limit is documented.
PARCELVOY = Api(
    "Bearer", error_body, key_errors, scheme_in_any_case=False, prefixes=(PUBLIC, SECRET), read=read_content
)


def _route(method: str, family: Family, endpoint: Callable[[Store, Call], Answer]) -> dict[str, Route]:
    return {method: Route(family, endpoint, PARCELVOY, MAX_BODY)}


ROUTES: dict[str, dict[str, Route]] = {
    "identify": _route("POST", "parcelvoy_identify", identify),
    "alias": _route("POST", "parcelvoy_alias", alias),
    "devices": _route("POST", "parcelvoy_devices", register_device),
    "events": _route("POST", "parcelvoy_events", post_events),
    "users": _route("PATCH", "parcelvoy_users", patch_users),
}


def _keyless(status: int, *, allow: Collection[str] = (), silent: bool = False) -> Route:
    """A route that answers what koa does where no endpoint does: the status in words, whoever asks."""
    body = b"" if silent or status == 200 else HTTPStatus(status).phrase.encode()
    headers = {"content-type": "text/plain; charset=utf-8"} | ({"allow": ", ".join(allow)} if allow else {})
    answer = Answer(status, body, headers)
    return Route("other", lambda store, call: answer, PARCELVOY, MAX_BODY, needs_key=False)


def _take(store: Store, call: Call, kind: AppliedKind, payloads: Sequence[Payload], *, rows: int = 1) -> Answer:
    """Queue calls of valid content; a strict server refuses them all if one of them would be lost."""
    parcelvoy = store.parcelvoy
    if parcelvoy.strict:
        obey(parcelvoy.refusals(kind, payloads))
    writes = {"alias": parcelvoy.alias, "device": parcelvoy.register, "event": parcelvoy.post}
    write = writes.get(kind, parcelvoy.identify)

    def take_all() -> None:
        for payload in payloads:
            write(payload, call.now)

    return apply_now(call, take_all, status=204, rows=rows)


def _object(call: Call, errors_of: Callable[[Payload], list[WireError]]) -> Payload:
    if not isinstance(call.content.value, dict):
        raise refuse(rules.REJECTED, "the body must be an object")
    obey(errors_of(call.content.value))
    payload: Payload = call.content.queued()
    return payload


def _array(call: Call, errors_of: Callable[[Payload], list[WireError]]) -> list[Payload]:
    rows = call.content.value
    if not isinstance(rows, list) or not rows:
        raise refuse(rules.REJECTED, "the body must be a non-empty array")
    obey(row_errors(rows, errors_of, status=rules.REJECTED))
    queued: list[Payload] = call.content.queued()
    return queued

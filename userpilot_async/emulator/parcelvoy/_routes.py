"""The four endpoints under `/api/client`. Success is 204 with nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from userpilot_async.emulator._calls import Call, Route, apply_now, require_content_type, row_errors
from userpilot_async.emulator._files import parse_json
from userpilot_async.emulator._store import Store
from userpilot_async.emulator._wire import Answer, Api, Family, Payload, WireError, obey, refuse
from userpilot_async.emulator.parcelvoy import _rules as rules

PREFIX = ("api", "client")

MAX_DEPTH = 500  # ours: what Python parses (about 1,000 deep) it has to be able to write out again to who asks


def identify(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Identify User": 204."""
    payload = _object(call, rules.identify_errors)
    return apply_now(call, lambda: store.parcelvoy.identify(payload, call.now), status=204)


def alias(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Alias User": 204, once."""
    payload = _object(call, rules.alias_errors)
    obey(store.parcelvoy.alias_errors(payload))
    return apply_now(call, lambda: store.parcelvoy.alias(payload, call.now), status=204)


def register_device(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Register Device": 204."""
    payload = _object(call, rules.device_errors)
    return apply_now(call, lambda: store.parcelvoy.register(payload, call.now), status=204)


def post_events(store: Store, call: Call) -> Answer:
    """Source: Parcelvoy's page "Client API", "Post Event": 204; "an array containing at least one object"."""
    events = _json(call)
    if not isinstance(events, list) or not events:
        raise refuse(rules.REJECTED, "the body must be a non-empty array")
    obey(row_errors(events, rules.event_errors, status=rules.REJECTED))

    def post_all() -> None:
        for event in events:
            store.parcelvoy.post(event, call.now)

    return apply_now(call, post_all, status=204, rows=len(events))


def error_body(errors: Sequence[WireError]) -> Payload:
    """The first complaint, in a sentence. The document shows no error body; this is the shape of the server's own."""
    first = errors[0]
    return {"status": "error", "error": f"{first.message}: {first.details}" if first.details else first.message}


PARCELVOY = Api("bearer", error_body)  # no version header and no rate limit is documented


def _route(family: Family, endpoint: Callable[[Store, Call], Answer]) -> dict[str, Route]:
    return {"POST": Route(family, endpoint, PARCELVOY)}


ROUTES: dict[tuple[str, ...], dict[str, Route]] = {
    (*PREFIX, "identify"): _route("parcelvoy_identify", identify),
    (*PREFIX, "alias"): _route("parcelvoy_alias", alias),
    (*PREFIX, "devices"): _route("parcelvoy_devices", register_device),
    (*PREFIX, "events"): _route("parcelvoy_events", post_events),
}


def _object(call: Call, errors_of: Callable[[Payload], list[WireError]]) -> Payload:
    payload = _json(call)
    if not isinstance(payload, dict):
        raise refuse(rules.REJECTED, "the body must be an object")
    obey(errors_of(payload))
    return payload


def _json(call: Call) -> Any:
    """The body, parsed (`Any`: whatever JSON holds). Broken JSON is 400, as the server's body parser has it.

    That parser leaves a body of another content type unread, so that the validation misses what it needs: 422.
    """
    require_content_type(call, "application/json", status=rules.REJECTED)
    value = parse_json(call.body)
    if _is_deeper(value, MAX_DEPTH):
        raise refuse(400, f"the body is nested deeper than {MAX_DEPTH} levels")
    return value


def _is_deeper(value: object, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than so many levels, found level by level and not by recursion."""
    nested = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        children = [child for one in nested for child in (one.values() if isinstance(one, dict) else one)]
        nested = [child for child in children if isinstance(child, (dict, list))]
    return bool(nested)

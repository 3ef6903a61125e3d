"""From the bytes of a body to what JavaScript makes of it. Pure.

Source: koa-body 5.0.0, co-body 5.2.0 and inflation 2.1.0, which parcelvoy/platform 2.3.3 reads bodies with. Whatever
they cannot read is 400, before anything else about the request is looked at.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from userpilot_async.emulator._bodies import SMALL, Body
from userpilot_async.emulator._wire import refuse

MAX_BODY = SMALL  # bytes after inflating: koa-body's "1mb"
MAX_DEPTH = 500  # ours: what Python parses (about 1,000 deep) it has to be able to write out again to who asks

PARSED_METHODS = frozenset({"POST", "PUT", "PATCH"})
_JSON_TYPE = re.compile(
    r"application/(?:json|json-patch\+json|vnd\.api\+json|csp-report)\s*(?:;\s*[!-~]+=(?:[!-~]+|\"[^\"]*\")\s*)*",
    re.IGNORECASE,
)
_AUTO = 47  # zlib's window bits for gzip or zlib, whichever it is: the server takes one for the other, too
_HUGE = 1e21  # from here JavaScript writes an integer with an exponent


@attrs.frozen
class Content:
    """A body as it was read. `value` is what JSON holds, with infinity where a number was too large."""

    value: Any
    has_infinity: bool = False

    def queued(self) -> Any:
        """The value as the server's queue holds it, once it was found valid: JSON has no infinity, so it is null."""
        stack = [self.value] if self.has_infinity else []
        while stack:
            one = stack.pop()
            for place, item in list(one.items() if isinstance(one, dict) else enumerate(one)):
                if isinstance(item, (dict, list)):
                    stack.append(item)
                elif isinstance(item, float) and math.isinf(item):
                    one[place] = None
        return self.value


def read_content(method: str, headers: Mapping[str, str], body: Body) -> Content:
    """Read the body of a request; one of another content type is left unread, and taken for an empty object."""
    if method not in PARSED_METHODS or not _JSON_TYPE.fullmatch(headers.get("content-type", "").strip()):
        return Content({})
    if body.size > MAX_BODY:
        raise refuse(400, f"the body has more than {MAX_BODY} bytes")
    packed = headers.get("content-encoding", "") or "identity"
    content = body.content if packed == "identity" else _inflated(body.content, packed)
    return _parsed(content.decode("utf-8-sig", "replace"))


def _inflated(content: bytes, encoding: str) -> bytes:
    """The server takes `br`, too, for which Python has no module."""
    if encoding not in ("gzip", "deflate"):
        raise refuse(400, "the content encoding is not supported", encoding)
    inflated = b""
    try:
        while True:  # gzip may have several members
            unpacker = zlib.decompressobj(_AUTO)
            inflated += unpacker.decompress(content, MAX_BODY + 1 - len(inflated))
            if len(inflated) > MAX_BODY:
                raise refuse(400, f"the body has more than {MAX_BODY} bytes")
            if not unpacker.eof:
                raise refuse(400, "the body ends too early for its content encoding")
            content = unpacker.unused_data
            if not content:
                break
    except zlib.error as exc:
        raise refuse(400, "the body is not of its content encoding") from exc
    return inflated


def _parsed(text: str) -> Content:
    """JSON as JavaScript reads it: every number is a double, and of two equal keys the last one counts."""
    if not text:
        return Content({})
    if text.lstrip(" \t\r\n")[:1] not in ("{", "["):
        raise refuse(400, "the body is neither a JSON object nor an array")
    infinities: list[str] = []

    def number(digits: str) -> float | int:
        double = float(digits)
        if math.isinf(double):
            infinities.append(digits)
        return int(double) if abs(double) < _HUGE and double.is_integer() else double

    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=number, parse_int=number)
    except (ValueError, RecursionError) as exc:
        raise refuse(400, "the body is not valid JSON") from exc
    if is_deeper(value, MAX_DEPTH):
        raise refuse(400, f"the body is nested deeper than {MAX_DEPTH} levels")
    return Content(value, bool(infinities))


def is_deeper(value: object, levels: int) -> bool:
    """Whether arrays and objects are nested deeper than so many levels, found level by level and not by recursion."""
    nested = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        children = [child for one in nested for child in (one.values() if isinstance(one, dict) else one)]
        nested = [child for child in children if isinstance(child, (dict, list))]
    return bool(nested)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

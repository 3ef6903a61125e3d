"""Lists of records as JSON, in pages: from the oldest or from the newest, all of them or those that mention a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Protocol

import anyio.lowlevel
import attrs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

PAGE = 100  # items a page holds if `limit` is not given
DIGITS = 18  # of a number in a query; Python slices by no larger ones
SLICE = 2_000  # records that are searched before others get a turn: a millisecond's worth


class Listed(Sized, Protocol):
    """Records in order: a list, the values of a dict, a deque."""

    def __iter__(self) -> Iterator[Any]: ...

    def __reversed__(self) -> Iterator[Any]: ...


class Json(Response):
    """JSON in ASCII: what a call was made of may have had half of a surrogate pair in it, which UTF-8 cannot say."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


async def page(
    request: Request, items: Listed, show: Callable[[Any], Any] | None = None, *, mentions: str = ""
) -> Response:
    """Answer with `paged`, and raise as it does."""
    return Json(await paged(request, items, show, mentions=mentions))


async def paged(
    request: Request, items: Listed, show: Callable[[Any], Any] | None = None, *, mentions: str = ""
) -> dict[str, Any]:
    """The items of `?offset=` and `?limit=`, oldest first, or with `?newest=1` newest first.

    With `?search=`, which knows no case, those in which a field of the names in `mentions` has the text, newest first.
    `total` is the number of all items. `show` makes JSON of an item. Raises HTTPException for a query without sense.
    """
    offset, limit = number(request, "offset", 0), number(request, "limit", PAGE)
    search = request.query_params.get("search", "").casefold()
    newest = bool(search) or request.query_params.get("newest", "") not in ("", "0")
    chosen: Iterable[Any]
    if search:
        # A copy, since more may come while others have a turn.
        chosen = await _found(reversed(list(items)), search, mentions.split(), offset, limit)
    else:
        chosen = islice(reversed(items) if newest else iter(items), offset, offset + limit)
    shown = [(show or plain)(item) for item in chosen]
    return {"total": len(items), "offset": offset, "limit": limit, "items": shown}


def number(request: Request, name: str, default: int) -> int:
    """A number of the query, 0 or more; raises HTTPException if it is none."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise HTTPException(400, f"{name} must be a number, 0 or more")
    return int(text)


def one(profile: object) -> Response:
    """Answer with a record; raises HTTPException if it is None."""
    if profile is None:
        raise HTTPException(404, "there is no such profile")
    return Json(plain(profile))


def plain(item: Any) -> Any:
    """A record as a dict; a dict as it is. `Any`: attrs' own type for an instance of one of its classes."""
    return attrs.asdict(item, recurse=False) if attrs.has(type(item)) else item


async def _found(items: Iterator[Any], search: str, fields: list[str], offset: int, limit: int) -> list[Any]:
    """Look through all items until the page is full; the emulator goes on answering meanwhile."""
    found: list[Any] = []
    while batch := list(islice(items, SLICE)):
        found += [item for item in batch if _mentions(item, search, fields)]
        if len(found) >= offset + limit:
            break
        await anyio.lowlevel.checkpoint()
    return found[offset : offset + limit]


def _mentions(item: Any, search: str, fields: list[str]) -> bool:
    for field in fields:
        value = getattr(item, field, None)
        if value is not None and any(search in str(one).casefold() for one in ([value], value)[type(value) is list]):
            return True
    return False

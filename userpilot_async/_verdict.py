"""What an answer means, or the lack of one: (status, headers, body) → `Verdict`.

Total: any status, any headers, any bytes. Sources: the vendor's API reference, read 2026-10 (statuses, error
body, rate headers); RFC 9110 for ``Retry-After`` and ``Date``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import attrs

from ._bucket import LONGEST_RESET

MAX_RETRY_AFTER = 60.0  # seconds; an hour asked for by mistake must not cost an hour
CANCELLED = "cancelled"  # the detail of a request that we broke off ourselves
_MAX_DETAIL = 200  # characters of the server's own words


class Meaning(Enum):
    """What to do with the calls of a request, in one word."""

    ACCEPTED = "accepted"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    DENIED = "denied"  # 401, 403: the key
    MISCONFIGURED = "misconfigured"  # 404, 405, 3xx, a bad certificate: the URL
    BUSY = "busy"  # 409: the one job slot is taken
    LIMITED = "limited"  # 429
    AGAIN = "again"  # answered, but not now
    LOST = "lost"  # no answer, and it may have been applied
    UNSENT = "unsent"  # no answer, and nothing had left


@attrs.frozen
class Rate:
    """The three rate headers; ``reset`` is a delay in seconds. ``None`` for what is missing or makes no sense."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


@attrs.frozen
class Verdict:
    """The meaning of one attempt, and what the schedule needs beside it."""

    meaning: Meaning
    status: int | None = None
    detail: str = ""
    """The server's own words, shortened and printable; or the kind of network error."""
    delay: float = 0.0
    """Seconds the server asked to be left alone, clamped to 0 … 60."""
    rate: Rate = Rate()
    body: Any = None
    """The decoded JSON of the answer, if it was any."""
    page: bool = False
    """The answer is a web page: what a website says to everything."""
    doubtful: bool = False
    """It may be one event's fault: they go again in smaller arrays."""


def of_answer(status: int, headers: Mapping[str, str], body: bytes, *, broken_off: bool = False) -> Verdict:
    """``headers`` with lower-case names. ``body`` may be cut off or garbage: a status is a status."""
    rate = rate_of(headers)
    decoded = _decoded(body)
    asked = retry_after(headers)
    if 200 <= status < 300:
        page = headers.get("content-type", "").lower().startswith("text/html") and bool(body.strip())
        return Verdict(Meaning.ACCEPTED, status, rate=rate, body=decoded, page=page)
    detail = _detail(decoded)
    if status == 429:
        return Verdict(Meaning.LIMITED, status, detail, max(1.0, asked or 0.0, rate.reset or 0.0), rate, decoded)
    return Verdict(_MEANINGS.get(status) or _by_class(status), status, detail, asked or 0.0, rate, decoded)


def of_failure(kind: str, *, sent: bool, certificate: bool = False) -> Verdict:
    """No usable answer. ``kind`` names the exception; ``sent`` says whether any byte of the request had left."""
    if certificate:
        return Verdict(Meaning.MISCONFIGURED, detail="the server's certificate is not trusted")
    return Verdict(Meaning.LOST if sent else Meaning.UNSENT, detail=kind)


_MEANINGS = {
    400: Meaning.INVALID,
    401: Meaning.DENIED,
    402: Meaning.DENIED,
    403: Meaning.DENIED,
    404: Meaning.MISCONFIGURED,
    405: Meaning.MISCONFIGURED,
    408: Meaning.AGAIN,
    409: Meaning.BUSY,
    413: Meaning.TOO_LARGE,
    422: Meaning.INVALID,
    425: Meaning.AGAIN,
    # A gateway speaks for a server that may well have applied the request before its answer went missing.
    502: Meaning.LOST,
    504: Meaning.LOST,
}


def _by_class(status: int) -> Meaning:
    if 300 <= status < 400:
        return Meaning.MISCONFIGURED
    if 400 <= status < 500:  # 406, 411, 415, …: this request will never do
        return Meaning.INVALID
    return Meaning.AGAIN if 500 <= status < 600 else Meaning.LOST  # 1xx, 6xx: who knows what it did


def rate_of(headers: Mapping[str, str]) -> Rate:
    """Read ``x-ratelimit-*``; the reset is the server's clock, so it is compared with the server's own ``Date``."""
    return Rate(
        _whole(headers.get("x-ratelimit-limit")),
        _whole(headers.get("x-ratelimit-remaining")),
        _reset(headers.get("x-ratelimit-reset"), headers.get("date")),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number or an HTTP date, clamped to 0 … 60; ``None`` if missing or meaningless."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    seconds = _number(text)
    if seconds is None:
        until, date = _http_date(text), _http_date(headers.get("date"))
        if until is None or date is None:
            return None
        seconds = until - date
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _reset(text: str | None, date: str | None) -> float | None:
    moment, sent = _number(text), _http_date(date)
    if moment is None or sent is None:
        return None
    if moment > 1e11:  # milliseconds, as documented; in seconds this would be the year 5138
        moment /= 1000.0
    return min(max(moment - sent, 0.0), LONGEST_RESET)


def _http_date(text: str | None) -> float | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # what the parser raises on garbage
        return None


def _number(text: str | None) -> float | None:
    if text is None or len(text) > 40:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0.0 else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None and 0 <= number < 1e9 else None


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _detail(decoded: Any) -> str:
    """The first error's message: ``{"errors": [{"error", "error_code", "message", "details"}]}``, each optional."""
    errors = decoded.get("errors") if isinstance(decoded, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else decoded
    if not isinstance(first, dict):
        return ""
    words = [first[name] for name in ("message", "error", "details") if isinstance(first.get(name), str)]
    return "".join(c if c.isprintable() else " " for c in words[0][:_MAX_DETAIL]) if words else ""

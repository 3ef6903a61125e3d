"""Headers of an answer, read for their meaning: the budget, the wait that was asked for, the next page of a list.

Total: a header may be missing, or be any text; what makes no sense counts as missing. Every wait is clamped, so that
none that was asked for by mistake stops the sending. Moments are the server's, compared with the server's own ``Date``.
Sources: the vendor's API reference, read 2026-10; RFC 9110 for ``Retry-After`` and ``Date``, RFC 8288 for ``Link``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

from .rate_limit import LONGEST_RESET

MAX_RETRY_AFTER = 60.0  # seconds; an hour asked for by mistake must not cost an hour
_MAX_LINKS = 2_000  # characters of a header that are read: what stands there may be meant to take long
_NEXT = re.compile(
    r"<([^<>]*)>[^<>]*?;\s*rel\s*=\s*(?:\"[^\"<>]*(?<![^\s\"])next(?![^\s\"])|next(?![^\s,;]))", re.IGNORECASE
)


@attrs.frozen
class Rate:
    """The three rate headers; ``reset`` is a delay in seconds. ``None`` for what is missing or makes no sense."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


NO_RATE = Rate()


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


def next_page(links: str) -> str:
    """The target of the first link to what is next, of a header such as ``<https://…?page=2>; rel="next"``."""
    found = _NEXT.search(links[:_MAX_LINKS]) if links else None
    return found[1].strip() if found is not None else ""


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

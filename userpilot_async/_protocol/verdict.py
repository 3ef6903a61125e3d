"""Answers, or the lack of one, read for their meaning: (status, headers, body) → `Verdict`.

Total: any status, any headers (`headers` reads them), any bytes. Source: the vendor's API reference, read 2026-10, for
statuses and the error body.

A 2xx is not yet a yes: a proxy's maintenance page and a sign-in page are 200, too. `of_answer` knows what no endpoint
answers; `as_promised` adds what the one that was asked has promised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

import attrs

from .._calls.outcome import Words
from .._errors.printable import printable
from .._errors.secret import Secret
from .headers import NO_RATE, Rate, next_page, rate_of, retry_after
from .job_list import Listing
from .jobs import is_job, is_list

CANCELLED = "cancelled"  # the detail of a request that we broke off ourselves
TIMEOUT = "timeout"  # and of one that was not answered in time
_MAX_DETAIL = 200  # characters of the server's own words
_MAX_ID = 100  # characters of an id to quote to the vendor's support; a real x-request-id has 20 to 36
_MAX_PLAIN = 64  # bytes of plain text that may be a yes, such as "OK"; a notice of maintenance is longer
_SHOWN = ("x-request-id", "link", "content-type")  # headers of which a verdict holds more than numbers
LARGE = 256 * 1024  # bytes of a job list (600 jobs), which take 10 ms to read: longer ones are read in a thread
# In 16 MiB, what 37,000 jobs of 450 bytes have is half of that. As many empty objects as fit would take 500 MB.
MAX_VALUES = 1_000_000
MAX_NESTED = 200_000  # objects and arrays
_PAGES = ("text/html", "application/xhtml+xml")
# Byte order marks, and the zeros of UTF-16, are what can stand before the first character of a page.
_MARKUP = re.compile(rb"[\xef\xbb\xbf\xfe\xff\x00 \t\r\n\f]*+<")


class Meaning(Enum):
    """The treatment that the calls of a request need, in one word."""

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


class Promise(Enum):
    """The content that an endpoint gives with a 2xx, by the vendor's API reference."""

    RECEIPT = "receipt"  # a realtime call or a deletion: nothing, or words
    NEW_JOB = "new job"  # a file that was taken: the job object it has become
    JOB = "job"
    JOBS = "jobs"  # a list of them, or an object around one


@attrs.frozen
class Verdict:
    """The meaning of one attempt, and what the schedule needs beside it."""

    meaning: Meaning
    status: int | None = None
    detail: str = ""
    """The server's own words, shortened and printable; or the kind of network error."""
    delay: float = 0.0
    """Seconds the server asked to be left alone, clamped to 0 … 60."""
    rate: Rate = NO_RATE
    body: Any = None
    """The decoded JSON of the answer, if it was any; of a long list of jobs, the `Listing` that was made of it."""
    next_page: str = ""
    """Where the header ``Link`` says that the next page of a list is (RFC 8288)."""
    foreign: bool = False
    """A 2xx that is no answer of this API: a web page, half a body, a list of errors. ``detail`` says what came."""
    ambiguous: bool = False
    """The server may have carried out the request all the same."""
    error_code: str | None = None
    request_id: str | None = None
    """The ids for the vendor's support, as in `Words`."""
    doubtful: bool = False
    """A single event may be at fault: the events go again in smaller arrays."""
    split: bool = False
    """Perhaps the request was too much at once: events of an array go again in smaller ones."""
    server_words: str = ""
    """The server's own words, where ``detail`` is ours. They may quote ids and values: no log may hold them."""

    @property
    def words(self) -> Words:
        """The detail and the ids that people need to act on it."""
        return Words(self.detail, self.error_code, self.request_id)


def of_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, broken_off: bool = False, hidden: Secret | None = None
) -> Verdict:
    """The verdict on a status, ``headers`` with lower-case names and a body, whichever endpoint was asked.

    ``body`` may be garbage; ``broken_off`` says that its end never came. A status is a status, but for a 2xx. The
    ``hidden`` key is in nothing that a verdict says, also where the server has said it.
    """
    rate, asked, decoded = rate_of(headers), retry_after(headers), _decoded(body)
    if hidden is not None:  # before anything is shortened: half of a key is not found any more
        if hidden.may_be_in(body):  # a long one with a key in it is no answer of this API, and takes seconds to clean
            decoded = hidden.clean_json(decoded) if len(body) <= LARGE else None
        headers = {**headers, **{name: hidden.clean(headers[name]) for name in _SHOWN if name in headers}}
    first = _first_error(decoded)
    verdict = Verdict(
        _MEANINGS.get(status) or _by_class(status), status, _detail(first), asked or 0.0, rate, decoded,
        error_code=_id(first.get("error_code")), request_id=_id(headers.get("x-request-id")),
        next_page=next_page(headers.get("link", "")),
    )  # fmt: skip
    if 200 <= status < 300:
        return _of_success(verdict, headers, body, broken_off)
    if status == 429:
        return attrs.evolve(verdict, delay=max(1.0, asked or 0.0, rate.reset or 0.0))
    return attrs.evolve(verdict, ambiguous=verdict.meaning is Meaning.LOST)


def _of_success(verdict: Verdict, headers: Mapping[str, str], body: bytes, broken_off: bool) -> Verdict:
    """A 2xx: accepted, or from another server, or cut off."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    # Unpacked, or left out where that was not possible.
    encoded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    if (kind in _PAGES and (body.strip() or encoded)) or _MARKUP.match(body):
        return _foreign(verdict, "with a web page: is a proxy or a sign-in page in between?")
    if broken_off:
        return _foreign(verdict, "and broke off: is a proxy in between?", ambiguous=True)
    if isinstance(verdict.body, dict) and (verdict.body.get("errors") or verdict.body.get("error")):
        return _foreign(attrs.evolve(verdict, server_words=verdict.detail), "with a list of errors")
    says_json = kind.endswith(("/json", "+json")) and body.strip() not in (b"", b"null")
    # OpenAPI, "Event tracking successful": type JSON, and no content; "Track events API": "202 Accepted". Both read
    # 2026-10. A server that writes that word out must not be held for ever.
    if says_json and verdict.body is None and body.strip().lower() != b"accepted":
        return _foreign(verdict, "with what it calls JSON and is none: is a proxy in between?", ambiguous=True)
    if (
        kind
        and not kind.endswith(("/json", "+json"))
        and verdict.body is None
        and len(body.strip()) > (_MAX_PLAIN if kind == "text/plain" else 0)
    ):
        return _foreign(verdict, f"with a document ({printable(kind[:_MAX_ID], ' ')}): is a proxy in between?")
    return attrs.evolve(verdict, meaning=Meaning.ACCEPTED, detail="", delay=0.0)


def _foreign(verdict: Verdict, what: str, *, ambiguous: bool = False) -> Verdict:
    detail = f"answered {verdict.status} {what}"
    return attrs.evolve(verdict, meaning=Meaning.MISCONFIGURED, detail=detail, foreign=True, ambiguous=ambiguous)


def as_promised(verdict: Verdict, promise: Promise) -> Verdict:
    """The verdict as the endpoint that was asked makes it: a 2xx has to give what that endpoint promises.

    What is no answer of this API says of a realtime call that the URL is not that of one (`Meaning.MISCONFIGURED`); of
    a file, that it may have been taken (`Meaning.LOST`); of a poll of jobs nothing, so that it is made again
    (`Meaning.AGAIN`).
    """
    if verdict.status is None or not 200 <= verdict.status < 300 or promise is Promise.RECEIPT:
        return verdict
    if promise is Promise.JOBS:
        kept = isinstance(verdict.body, Listing) or is_list(verdict.body)
    else:
        kept = is_job(verdict.body)
    if kept and verdict.meaning is Meaning.ACCEPTED:
        return verdict
    of_rows = isinstance(verdict.body, dict) and verdict.body.get("errors")
    if kept and of_rows and verdict.meaning is Meaning.MISCONFIGURED:  # there is a job all the same
        return attrs.evolve(
            verdict, meaning=Meaning.ACCEPTED, detail="", server_words="", foreign=False, ambiguous=False
        )  # fmt: skip
    missing = f"answered {verdict.status} with no {'list of jobs' if promise is Promise.JOBS else 'job object'}"
    came = verdict.detail.partition(" with ")[2]
    if not verdict.foreign:
        verdict = attrs.evolve(verdict, foreign=True, detail=f"{missing}: is this the URL of Userpilot's API?")
    elif came:
        verdict = attrs.evolve(verdict, detail=f"{missing}, but with {came}")
    if promise is Promise.NEW_JOB:
        return attrs.evolve(verdict, meaning=Meaning.LOST, ambiguous=True)
    return attrs.evolve(verdict, meaning=Meaning.AGAIN, ambiguous=False)


def of_failure(kind: str, *, sent: bool, certificate: bool = False) -> Verdict:
    """No usable answer. ``kind`` names the exception; ``sent`` says whether any byte of the request had left."""
    if certificate:
        return Verdict(Meaning.MISCONFIGURED, detail="the server's certificate is not trusted")
    return Verdict(Meaning.LOST if sent else Meaning.UNSENT, detail=kind, ambiguous=sent)


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
    429: Meaning.LIMITED,
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


def _decoded(body: bytes) -> Any:
    """The decoded JSON; ``None`` for anything else, and for more of it than any answer has, or memory would hold."""
    if body.count(b",") > MAX_VALUES or body.count(b"{") + body.count(b"[") > MAX_NESTED:
        return None
    try:
        # The decoder is one call of C: in a thread it holds the loop's up, too, but where it calls Python.
        return json.loads(body, object_hook=_as_it_is) if len(body) > LARGE else json.loads(body)
    except (ValueError, RecursionError):
        return None


def _as_it_is(fields: dict[str, Any]) -> dict[str, Any]:
    return fields


def _first_error(decoded: Any) -> Mapping[str, Any]:
    """Of ``{"errors": [{"error", "error_code", "message", "details"}]}``, each optional; empty if there is none."""
    errors = decoded.get("errors") if isinstance(decoded, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else decoded
    return first if isinstance(first, dict) else {}


def _detail(first: Mapping[str, Any]) -> str:
    words = [first[name] for name in ("message", "error", "details") if isinstance(first.get(name), str)]
    return printable(words[0][:_MAX_DETAIL], " ") if words else ""


def _id(value: object) -> str | None:
    """An id that people can copy into a letter to the vendor's support: short and printable, or ``None``."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    return (printable(value[:_MAX_ID], " ").strip() or None) if isinstance(value, str) else None

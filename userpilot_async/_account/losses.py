"""The log's lines about lost calls: how many, why, and what to do. Plain functions, so that every sentence is tested.

A line of losses has one of two forms, so that a program can add up what a log says. The numbers at the beginning of
all lines of a reason add up to `Statistics.lost_by_reason`, and those "more" to `Statistics.merged_lost`:

    3 calls lost, reason invalid: user_id is empty; 2 more had been merged into them; mend the code that makes them
    201 of 400 calls dropped on close: close_timeout=10 was too short, the rest needs 21 s at 600 a minute; flush first
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from .._settings import DeliverySettings

REMEDIES = {
    "invalid": "mend the code that makes such calls; on_dead gets each of them",
    "too_large": "send less with each call; on_dead gets each of them",
    "expired": "raise max_age, or see above why nothing was sent for so long",
    "queue_full": "raise max_queue_calls and max_queue_bytes, or make fewer calls",
    "closed": "close the client after the last call has returned",
    "ambiguous": 'with on_ambiguous="send" such calls are sent again, and may arrive twice',
    "job_failed": "on_dead gets each of them",
    "deleted": "their person or company was deleted after them",
    "outbox": "see to the outbox, or raise max_wait",
    "damaged": "see to the disk, and restore what was lost from where it came",
}
"""By reason: what the reader of the log can do."""

OPAQUE = re.compile(r"(?=\S*\d)\S{16,}")  # keys, ids and hashes; prose has no such words


def counted(number: int, noun: str = "call") -> str:
    """The number with its noun: ``1 call``, ``2 calls``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@attrs.frozen
class Losses:
    """The counts of a line: what was lost for one reason since the last line about it."""

    calls: int
    merged: int = 0
    """Further calls, which had been merged into those and share their outcome."""
    in_all: int = 0
    """Calls lost for this reason since the client was opened, these among them."""


def loss_line(reason: str, why: str, lost: Losses) -> str:
    """The line about calls lost for one reason; ``why`` is that of the first."""
    more = f"{lost.merged} more had been merged into {'it' if lost.calls == 1 else 'them'}" if lost.merged else ""
    in_all = f"{lost.in_all} in all" if lost.in_all > lost.calls else ""
    parts = [part for part in (why, more, in_all, REMEDIES.get(reason, "")) if part]
    return f"{counted(lost.calls)} lost, reason {reason}: {'; '.join(parts) or 'on_dead gets them'}"


def why_lost(reason: str, settings: DeliverySettings, failure: str | None = None) -> str:
    """Why calls are lost for a reason that lies in the settings; ``failure`` is what happened to the last request."""
    words = {
        "expired": f"no request took them within max_age={settings.max_age:g}",
        "queue_full": f"the queue was full (max_queue_calls={settings.max_queue_calls},"
        f" max_queue_bytes={settings.max_queue_bytes}, when_full={settings.when_full!r})",
        "ambiguous": "an answer was lost, so that they may have arrived or not",
        "deleted": "delete_users or delete_companies was called",
        "job_failed": "the server's background job with it failed, and does not say why",
        "closed": "they still waited for room when the client was closed",
    }.get(reason, "")
    return f"{words}; the last request failed: {failure}" if failure and reason == "expired" else words


def refused_words(words: str, call: Mapping[str, Any]) -> str:
    """The server's words about a call it refused, if they quote nothing of the call; else an empty text.

    A word of theirs that is part of a value counts as a quotation, and so does a value in the middle of theirs, and
    whatever looks like a key or an id: words that a log may hold are worth less than values that it must not.
    """
    text, values = words.casefold(), [value.casefold() for value in _values(call)]
    tokens = [token.strip("'\"`.,:;()[]{}<>") for token in text.split()]
    quotes = any(value in tokens or (len(value) > 2 and value in text) for value in values)
    partly = any(token in value for token in tokens if len(token) > 3 for value in values)
    return "" if quotes or partly or OPAQUE.search(text) else words


def in_brackets(words: str) -> str:
    """The server's words in brackets, to be put behind ours; empty if there are none, or if a key may be among them."""
    return f" ({words})" if words and not OPAQUE.search(words) else ""


def _values(call: Mapping[str, Any]) -> Iterator[str]:
    """Every value in a call, as text. Its names are the application's own, and may be said."""
    for name, value in call.items():
        if name == "type":
            continue
        nested = value if isinstance(value, (list, tuple)) else [value]
        for one in nested:
            if isinstance(one, Mapping):
                yield from _values(one)
            elif isinstance(one, (list, tuple)):
                yield from _values({"": one})
            elif one is not None and not isinstance(one, bool) and str(one):
                yield str(one)


@attrs.frozen(kw_only=True)
class Rest:
    """Calls that a close leaves, and what it would have taken to send it."""

    seconds: float
    """Until all of it could have been sent, at the present budgets."""
    pace: str
    """The pace that sets this: ``600 a minute``; empty where there is no limit."""
    requests: int
    """How many requests are needed."""


NOTHING_LEFT = Rest(seconds=0.0, pace="", requests=0)


def time_text(rest: Rest) -> str:
    """How long the rest takes: ``the rest needs 21 s at 600 a minute``."""
    if not rest.pace:
        return f"the rest needs {counted(rest.requests, 'request')}"
    return f"the rest needs {max(1, math.ceil(rest.seconds - 1e-6))} s at {rest.pace}"


@attrs.frozen(kw_only=True)
class Close:
    """How a close went that had to drop calls."""

    accepted: int
    """Calls, since there has been the outbox."""
    limit: str
    """The time it had, as the user gave it: ``close_timeout=10``, ``timeout=3``."""
    took: float
    """The time it took, in seconds."""
    ran_out: bool
    """The close took all the time there was, or nothing could have been sent before its end."""
    ended: str | None
    """Why nothing was sent any more when the close began, if so: a bug of ours, or tasks that were cancelled."""
    paused: str | None
    failure: str | None
    """The failure of the last request, if it failed."""
    silent: str | None
    """The server that did not answer anything since the close began, if it was asked."""
    rest: Rest


def close_line(close: Close, lost: Losses) -> str:
    """The line about calls that a close had to drop: why, and the ways out."""
    what = f"{lost.calls} of {counted(close.accepted)} dropped on close"
    keeps = "use an outbox, which keeps calls for the next start"
    if lost.merged:
        keeps += f"; {lost.merged} more had been merged into {'it' if lost.calls == 1 else 'them'}"
    if close.ended is not None:
        return f"{what}: {close.ended}; {keeps}"
    if close.paused is not None:
        return f"{what}: nothing could be sent: {close.paused}; correct that, or {keeps}"
    if not close.ran_out:
        return f"{what}: the close was cancelled after {close.took:.1f} s, {time_text(close.rest)}; {keeps}"
    if close.failure is not None:
        return f"{what}: {close.limit} was over, and the last request failed: {close.failure}; {keeps}"
    if close.silent is not None:
        why = f"{close.limit} was too short, {close.silent} has not answered since the close began"
        return f"{what}: {why}; raise close_timeout, or {keeps}"
    short = f"{close.limit} was too short, {time_text(close.rest)}"
    return f"{what}: {short}; flush first, raise close_timeout (None: until all is sent), or {keeps}"


def closing_line(left: int, close: Close) -> str:
    """The line every ten seconds of a close without a time limit."""
    why = close.paused or close.failure
    words = f"{counted(left)} left to send, {time_text(close.rest)}"
    trouble = f"; {'nothing is sent' if close.paused else 'the last request failed'}: {why}" if why else ""
    return f"closing: {words}{trouble}; {close.limit} waits until all is sent, Ctrl-C ends that"


def lost_calls_line(place: str, under_way: int | None, remedy: str, lost: Losses) -> str:
    """The line about calls that were held at this place and are gone there, without a trace and in no account.

    So many more were ``under_way``, and may have arrived; ``None`` where the lost ones may be among those.
    """
    waited = "waited there" if under_way is not None else "waited there, or were just being sent"
    if lost.in_all > lost.calls:
        what = f"has lost more calls: {lost.calls} that {waited}, {lost.in_all} in all"
    else:
        what = f"has lost calls: {lost.calls} that {waited}"
    if under_way:
        what += f"; {under_way} more that {'was' if under_way == 1 else 'were'} just being sent may have arrived"
    happened = "it came back with older data, or was emptied; statistics().outbox_resets counts how often"
    return f"{place} {what}: {happened}; {remedy}"


def unknown_budget_words(waits: Mapping[str, float], place: str) -> str | None:
    """The line about budgets that may be spent; ``waits`` are seconds until the next request, by budget.

    ``None`` where none has to wait.
    """
    seconds = {name: math.ceil(wait - 1e-6) for name, wait in waits.items() if wait < math.inf}
    waiting = {name: wait for name, wait in seconds.items() if wait > 0}
    if not waiting:
        return None
    each = ", ".join(f"{wait} s for {name}" for name, wait in waiting.items())
    if len(waiting) < len(seconds):
        how_long = f"some requests wait: {each}"
    elif len(set(waiting.values())) > 1:
        how_long = f"nothing is sent for {min(waiting.values())} s ({each})"
    else:
        how_long = f"nothing is sent for {min(waiting.values())} s"
    why = "requests may have been made of which it knows nothing, and they count as made a moment ago"
    return f"{how_long}: {place} was started again, emptied, or set back; {why}"

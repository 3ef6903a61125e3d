"""The contents of a durable outbox: as text, as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .._calls.ndjson import line_of
from .._errors.tree import InvalidCall
from .._userpilot import destination
from ..parcelvoy import _destination as parcelvoy
from ._console import cell
from ._text import account_counts, account_text, calls_text

if TYPE_CHECKING:
    from .._outbox.admin import Call, DeadLetter, Holder, Inspection, PurgeReport

CALL_OF: Mapping[str, Callable[..., Any]] = {"userpilot": destination.call_of, "parcelvoy": parcelvoy.call_of}
"""By kind of server, as outboxes have it."""

_CALL_NAMES = {"user": "identify", "company": "identify_company", "device": "register_device"}
"""Calls by what outboxes have for them, where that differs."""

REDIS_FILES = "files of Redis (AOF, snapshots) have it until it writes them anew"
SWEPT: Mapping[tuple[str, bool], Sequence[str]] = {
    ("sqlite", True): ["free pages and the log: cleared"],
    ("redis", True): [f"the memory of Redis: cleared; {REDIS_FILES}"],
    ("redis", False): [
        "the memory of Redis: not cleared, because too much is kept there; run purge again when fewer calls wait; it "
        "is also cleared when the calls beside it are",
        REDIS_FILES,
    ],
    ("postgres", False): [
        "dead rows are cleared when PostgreSQL vacuums the tables; its log, replicas and backups have them until those "
        "are replaced"
    ],
}
"""Traces that an erased call leaves, by kind of outbox and by whether its memory was cleared."""


def as_text(seen: Inspection) -> Iterator[str]:
    """The report, one line for each question."""
    account = seen.account
    yield f"outbox       {seen.place} ({_size(seen)}schema {seen.version})"
    yield f"destination  {seen.destination or 'none yet'}"
    yield f"sender       {sender_text(seen.sender)}" + _under_way(seen)
    oldest = f"; the oldest for {_age(seen.now - seen.oldest)}" if seen.oldest is not None else ""
    yield f"waiting      {calls_text(account.waiting)}, {account.bytes:,} bytes{oldest}"
    if seen.inbox:
        yield f"inbox        {calls_text(seen.inbox)}, {seen.inbox_bytes:,} bytes, which a sender has still to accept"
    yield f"account      {account_text(account_counts(seen.account))}"
    reasons = ", ".join(f"{count:,} {name}" for name, count in sorted(_reasons(seen).items())) or "none"
    place = "URL" if seen.bytes_on_disk is None else seen.place  # which may have a password, and is not all of it
    kept = f"; {calls_text(seen.lost)} kept: userpilot-async outbox dead {place}" if seen.lost else ""
    merged = f" (and {account.merged_lost:,} merged into them)" if account.merged_lost else ""
    yield f"lost         {reasons}{merged}{kept}"
    if account.resets:
        times = "once" if account.resets == 1 else f"{account.resets:,} times"
        yield f"resets       {times}: the outbox came back without calls that it had held; their number is unknown"
    if seen.damaged:
        yield f"damaged      {seen.damaged:,} rows set aside"
    if seen.quarantined:
        yield f"quarantined  {', '.join(seen.quarantined)}"


def _size(seen: Inspection) -> str:
    if seen.bytes_on_disk is not None:
        return f"{seen.bytes_on_disk:,} bytes, "
    return "" if seen.bytes_in_memory is None else f"some {seen.bytes_in_memory:,} bytes of memory, "


def as_dict(seen: Inspection) -> dict[str, Any]:
    """The report as a JSON object; fields of the other kinds of outbox are null."""
    sender = seen.sender
    return {
        "outbox": seen.place,
        "file": None if seen.bytes_on_disk is None else seen.place,
        "bytes_on_disk": seen.bytes_on_disk,
        "bytes_in_memory": seen.bytes_in_memory,
        "schema_version": seen.version,
        "destination": seen.destination,
        "sender": None if sender is None else {"pid": sender.pid, "host": sender.host, "since": sender.since},
        "requests_under_way": seen.under_way,
        "waiting": {
            "calls": seen.account.waiting,
            "bytes": seen.account.bytes,
            "oldest_accepted_at": None if seen.oldest is None else _moment(seen.oldest),
            "oldest_age": None if seen.oldest is None else round(max(0.0, seen.now - seen.oldest), 3),
        },
        "inbox": {"calls": seen.inbox, "bytes": seen.inbox_bytes},
        "account": account_counts(seen.account),
        "lost_by_reason": {"dead": seen.account.dead, "dropped": seen.account.dropped},
        "merged_lost": seen.account.merged_lost,
        "lost_kept": seen.lost,
        "outbox_resets": seen.account.resets,
        "damaged_rows": seen.damaged,
        "quarantined": list(seen.quarantined),
    }


def _reasons(seen: Inspection) -> dict[str, int]:
    dead, dropped = seen.account.dead, seen.account.dropped
    return {name: dead.get(name, 0) + dropped.get(name, 0) for name in {*dead, *dropped}}


def sender_text(sender: Holder | None) -> str:
    """The process that sends, and since when it does."""
    if sender is None:
        return "none: no process sends at present"
    since, seconds = sender.since, sender.seconds
    known = f", since {_moment(since)} ({_age(seconds)})" if since is not None and seconds is not None else ""
    return f"{sender}{known}"


def _under_way(seen: Inspection) -> str:
    if not seen.under_way:
        return ""
    requests = "1 request" if seen.under_way == 1 else f"{seen.under_way:,} requests"
    return f"; {requests} under way" + (" when the last one ended" if seen.sender is None else "")


def line_of_call(server: str, call: Call | None) -> str | None:
    """The call as one line of an NDJSON file; ``None`` if it cannot be read."""
    call_of = CALL_OF.get(server)
    if call_of is None or call is None:
        return None
    try:
        return line_of(call_of(*call)).decode()
    except (InvalidCall, TypeError, ValueError, KeyError):  # its checksum is right, but it is none of this version's
        return None


def call_name(kind: str) -> str:
    """The name of a call as people write it: in Python, and, but for a device, in a file for `send`."""
    return _CALL_NAMES.get(kind, kind)


def table(lost: Sequence[DeadLetter]) -> Table:
    """Oldest first; calls that went together (an identify, and those merged into it) in one line."""
    shown = Table(box=None, pad_edge=False)
    for name in ("id", "calls", "accepted", "lost", "kind", "whose", "status", "reason", "detail"):
        right = name in ("id", "calls")
        shown.add_column(name, no_wrap=name != "detail", justify="right" if right else "left", overflow="fold")
    for _, group in groupby(lost, lambda one: (one.kind, one.key, one.lost_at, one.status, one.reason, one.detail)):
        first, *others = group
        last = others[-1] if others else first
        ids = f"{first.id}" if last is first else f"{first.id}…{last.id}"
        whose, when = first.key, (_moment(last.at), _moment(last.lost_at))
        cells = (ids, f"{1 + len(others)}", *when, call_name(last.kind), whose, last.status, last.reason, last.detail)
        shown.add_row(*map(cell, cells))
    return shown


def erased_text(erased: PurgeReport, kind: str) -> Iterator[str]:
    """The report of a purge, or of one that was only counted."""
    done = erased.done
    waits = "that waited" if done else "that waits" if erased.waiting == 1 else "that wait"
    what = f"{calls_text(erased.waiting)} {waits}, {erased.lost:,} lost, {erased.damaged:,} damaged"
    yield f"{'erased' if done else 'to be erased'}: {what}"
    if erased.changed:
        yield f"{calls_text(erased.changed)} of users named the company: they stay, without it"
    if erased.unchanged:
        stay = "they are sent, expire or are deleted with its id in them"
        yield f"{calls_text(erased.unchanged)} of users named the company, and cannot be changed in Redis: {stay}"
    if erased.done:
        yield from SWEPT[kind, erased.swept]
    if erased.unclear:
        rows = "1 damaged row is" if erased.unclear == 1 else f"{erased.unclear:,} damaged rows are"
        yield f"{rows} left, whose owner is unknown"
    if erased.known_as:
        also = ", ".join(key.partition(":")[2] for key in sorted(erased.known_as))
        yield f"the same calls name {also}: purge each other id of the same person separately"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError, TypeError):  # of a damaged row
        return "unknown"


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"

"""What is in an outbox on disk: for people, and for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby
from typing import TYPE_CHECKING, Any

import attrs
from rich.table import Table
from rich.text import Text

from .. import _userpilot, parcelvoy
from .._errors import InvalidCall
from .._ndjson import line_of
from ._jobs import printable
from ._report import account_counts, account_text, calls_text

if TYPE_CHECKING:
    from ..sqlite._inspect import Holder, Lost, Seen
    from ..sqlite._purge import Erased

CALL_OF: Mapping[str, Callable[..., Any]] = {"userpilot": _userpilot.call_of, "parcelvoy": parcelvoy._call_of}
"""By kind of server, as files have it."""


def as_text(seen: Seen, now: float) -> Iterator[str]:
    """One line for each question."""
    account = seen.account
    yield f"outbox       {seen.path} ({seen.size:,} bytes, schema {seen.version})"
    yield f"destination  {printable(seen.destination) if seen.destination else 'none yet'}"
    yield f"sender       {sender_text(seen.sender, now)}" + _under_way(seen)
    oldest = f"; the oldest for {_age(now - seen.oldest)}" if seen.oldest is not None else ""
    yield f"waiting      {calls_text(account.waiting)}, {account.bytes:,} bytes{oldest}"
    yield f"account      {account_text(account_counts(seen.account))}"
    reasons = ", ".join(f"{count:,} {printable(name)}" for name, count in sorted(_reasons(seen).items())) or "none"
    kept = f"; {calls_text(seen.lost)} kept: userpilot-async outbox dead {seen.path}" if seen.lost else ""
    merged = f" (and {account.merged_lost:,} merged into them)" if account.merged_lost else ""
    yield f"lost         {reasons}{merged}{kept}"
    if seen.damaged:
        yield f"damaged      {seen.damaged:,} rows set aside"
    if seen.quarantined:
        yield f"quarantined  {', '.join(map(printable, seen.quarantined))}"


def as_dict(seen: Seen, now: float) -> dict[str, Any]:
    """For JSON."""
    return {
        "file": str(seen.path),
        "bytes_on_disk": seen.size,
        "schema_version": seen.version,
        "destination": seen.destination,
        "sender": None if seen.sender is None else attrs.asdict(seen.sender),
        "requests_under_way": seen.under_way,
        "waiting": {
            "calls": seen.account.waiting,
            "bytes": seen.account.bytes,
            "oldest_accepted_at": None if seen.oldest is None else _moment(seen.oldest),
            "oldest_age": None if seen.oldest is None else round(max(0.0, now - seen.oldest), 3),
        },
        "account": account_counts(seen.account),
        "reasons": {"dead": seen.account.dead, "dropped": seen.account.dropped},
        "merged_lost": seen.account.merged_lost,
        "lost_kept": seen.lost,
        "damaged_rows": seen.damaged,
        "quarantined": list(seen.quarantined),
    }


def _reasons(seen: Seen) -> dict[str, int]:
    dead, dropped = seen.account.dead, seen.account.dropped
    return {name: dead.get(name, 0) + dropped.get(name, 0) for name in {*dead, *dropped}}


def sender_text(sender: Holder | None, now: float) -> str:
    """Who sends, and since when."""
    if sender is None:
        return "none: nobody sends at present"
    since = f", since {_moment(sender.since)} ({_age(now - sender.since)})" if sender.since is not None else ""
    return printable(f"{sender}{since}")


def _under_way(seen: Seen) -> str:
    if not seen.under_way:
        return ""
    requests = "1 request" if seen.under_way == 1 else f"{seen.under_way:,} requests"
    return f"; {requests} under way" + (" when the last one ended" if seen.sender is None else "")


def line_of_call(server: str, lost: Lost) -> str | None:
    """The call as one line of an NDJSON file; ``None`` if nobody can say what it was."""
    call_of = CALL_OF.get(server)
    if call_of is None or lost.call is None:
        return None
    try:
        return line_of(call_of(*lost.call)).decode()
    except (InvalidCall, TypeError, ValueError, KeyError):  # its checksum is right, but it is none of this version's
        return None


def table(lost: Sequence[Lost]) -> Table:
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
        cells = (ids, f"{1 + len(others)}", *when, last.kind, whose, last.status, last.reason, last.detail)
        shown.add_row(*(Text(printable(str(cell))) for cell in cells))
    return shown


def erased_text(erased: Erased) -> Iterator[str]:
    """What has been erased, or would be."""
    done = erased.swept
    waits = "that waited" if done else "that waits" if erased.waiting == 1 else "that wait"
    what = f"{calls_text(erased.waiting)} {waits}, {erased.lost:,} lost, {erased.damaged:,} damaged"
    yield f"{'erased' if done else 'to be erased'}: {what}"
    if erased.changed:
        yield f"{calls_text(erased.changed)} of users named the company: they stay, without it"
    if done:
        yield "free pages and the log: cleared"
    if erased.unclear:
        rows = "1 damaged row is" if erased.unclear == 1 else f"{erased.unclear:,} damaged rows are"
        yield f"{rows} left, of which nobody can say whose they are"
    if erased.known_as:
        also = ", ".join(printable(key.partition(":")[2]) for key in sorted(erased.known_as))
        yield f"the same calls name {also}: another id of the same person is to be erased by itself"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, timezone.utc).isoformat(" ", "seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError, TypeError):  # of a damaged row
        return "unknown"


def _age(seconds: float) -> str:
    seconds = max(0.0, seconds)
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"

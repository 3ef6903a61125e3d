"""Requests in a few words, what each was about and why it was refused: for the page, and for a line of the terminal.

Pure. Whatever a request said is text of others: `plain` makes it fit for a line.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import attrs

from userpilot_async.emulator._traffic import SHOWN, Exchange, Outcome

WIDEST = 48  # characters of an id, or of what was done, in a line
LONGEST = 240  # characters of a reason in a line

COLOURS: dict[Outcome, str] = {"accepted": "32", "limited": "33", "refused": "31", "failed": "35"}
"""SGR codes: green, yellow, red, magenta; ECMA-48, 8.3.117."""
FAINT = "2"


@attrs.frozen
class Summary:
    """A request in words, each "" if there is nothing to say."""

    who: str  # the id of the user or the company
    what: str  # the event's name; or how many rows, users or companies
    why: str  # the reason of a refusal, with the fault's name if it was one


def summarize(exchange: Exchange) -> Summary:
    """Read an exchange's bodies, as far as they are kept. Never raises, whatever is in them."""
    who, what = _subject(exchange)
    return Summary(who, what, _reason(exchange))


def request_line(exchange: Exchange, *, colours: bool = False) -> str:
    """A line without its end: local time, status, method and path, who, what, and why it was refused."""
    summary = summarize(exchange)
    time = datetime.fromtimestamp(exchange.stamp).strftime("%H:%M:%S")
    status = "cut" if exchange.status is None else str(exchange.status)
    called = f"{exchange.method:<6} {exchange.path}"
    words = [plain(word, WIDEST) for word in (summary.who, summary.what) if word]
    if summary.why:
        words.append(
            f"({plain(summary.why, LONGEST)})" if exchange.outcome == "accepted" else plain(summary.why, LONGEST)
        )
    if colours:
        time, status = _coloured(time, FAINT), _coloured(status, COLOURS[exchange.outcome])
    return "  ".join([time, status, f"{plain(called, 4 * WIDEST):<22}", *words]).rstrip()


def plain(text: str, most: int = LONGEST) -> str:
    """A text on one line, of at most so many characters, without anything that a terminal would obey."""
    cut = text if len(text) <= most else f"{text[: most - 1]}…"
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in cut)


def _coloured(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _subject(exchange: Exchange) -> tuple[str, str]:
    """Find who and what in the JSON of a call; of a file, or of rows, how many."""
    content = _json(exchange.body, exchange.size)
    if isinstance(content, dict):
        for several in ("users", "companies"):
            if isinstance(content.get(several), list):
                return "", f"{several}: {len(content[several]):,}"
        who = _first_text(content, ("user_id", "external_id", "anonymous_id", "company_id"))
        return who, _first_text(content, ("event_name", "name", "device_id"))
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        return _first_text(content[0], ("external_id", "anonymous_id")), _first_text(content[0], ("name",))
    rows = len(content) if isinstance(content, list) else exchange.rows
    parts = [f"{rows:,} row{'s' if rows != 1 else ''}"] if rows > 1 or exchange.filename else []
    return "", " in ".join([*parts, *([exchange.filename] if exchange.filename else [])])


def _reason(exchange: Exchange) -> str:
    fault = f"fault {exchange.fault}" if exchange.fault else ""
    if exchange.status is None:
        return f"{fault}: the connection was cut".removeprefix(": ")
    if exchange.outcome == "accepted":
        return fault
    answer = _json(exchange.answer, exchange.answer_size)
    complaint = _complaint(answer) if isinstance(answer, dict) else ""
    return complaint if fault in complaint else f"{complaint} ({fault})" if complaint else fault


def _complaint(answer: dict[str, Any]) -> str:
    """The first error of an answer of either API, and how many more there are."""
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        said = [str(errors[0][name]) for name in ("message", "details") if errors[0].get(name)]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return ": ".join(said) + more
    return str(answer.get("error", ""))


def _first_text(content: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((content[name] for name in names if isinstance(content.get(name), str) and content[name]), "")


def _json(body: bytes, size: int) -> Any:
    """The JSON of a body that is kept whole; None for any other. `Any`: whatever JSON holds."""
    if not body or size > SHOWN:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None

"""The report of a live check: one object for JSON, and the same as Markdown or as lines for a terminal.

Made to be shown to others. It is built from sentences and shapes without ids and values, and the key is taken out of
all texts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ..._errors.secret import Secret
from ..._runtime.version import __version__
from ._conversation import Conversation, Result
from ._shapes import answer_text, content_type, header_names
from ._terms import ANSWERED, EVENT, Answered, Ask, Cost, Look, Question

WIDTH = 80  # columns of a terminal
NOT_LOOKED = "not looked at"


def report(
    talk: Conversation, region: str, looked: Mapping[str, str], key: Secret, *, interrupted: bool
) -> dict[str, Any]:
    """The report as a JSON object; ``looked`` has what a person saw in the dashboard, by `Look.name`."""
    made: dict[str, Any] = {
        "userpilot_async": __version__,
        "region": region,
        "asked_at": talk.session.date,
        "interrupted": interrupted,
        "questions": [_question(result) for result in talk.results],
        "dashboard": [_look(look, looked) for look in talk.session.looks],
        "test_ids": {"made": talk.made, "left": len(talk.remains.ids)},
    }
    cleaned: dict[str, Any] = key.clean_json(made)
    return cleaned


def _question(result: Result) -> dict[str, Any]:
    asked, stopped = result.question, result.stopped_by
    return {
        "name": asked.name,
        "question": asked.text,
        "outcome": result.outcome,
        "stopped_by": None if stopped is None else stopped.detail if stopped.status is None else answer_text(stopped),
        "findings": list(result.findings),
        "cost": {"announced": attrs.asdict(asked.cost), "requests": len(result.exchanges)},
        "requests": [_exchange(ask, seen) for ask, seen in result.exchanges],
    }


def _exchange(ask: Ask, seen: Answered) -> dict[str, Any]:
    return {
        "request": f"{ask.method} {ask.shown or ask.path}" + ("" if ask.versioned else " without X-API-Version"),
        "answer": answer_text(seen),
        "status": seen.status,
        "content_type": content_type(seen.headers),
        "headers": header_names(seen.headers),
    }


def _look(look: Look, looked: Mapping[str, str]) -> dict[str, str]:
    return {"name": look.name, "question": look.question, "seen": looked.get(look.name, NOT_LOOKED)}


def as_markdown(made: Mapping[str, Any]) -> str:
    """The report as a page of Markdown."""
    return "\n".join(_markdown(made)) + "\n"


def _markdown(made: Mapping[str, Any]) -> Iterator[str]:
    yield "# What a Userpilot server answers\n"
    yield f"Asked by `userpilot-async check --live`, version {made['userpilot_async']}, at {made['asked_at']} UTC,"
    yield f"region: {made['region']}. Bodies are shown as names and types; there are no ids, values or keys in here."
    if made["interrupted"]:
        yield "\n**The run was interrupted.**"
    for asked in made["questions"]:
        yield f"\n## {asked['question']}\n"
        if asked["outcome"] != ANSWERED:
            stopped = f" ({_inline(asked['stopped_by'])})" if asked["stopped_by"] else ""
            yield f"- **{asked['outcome']}**{stopped}"
        yield from (f"- {_inline(finding)}" for finding in asked["findings"])
        if asked["requests"]:
            yield "\n| request | answer |\n|---|---|"
        for one in asked["requests"]:
            cells = (one["request"], one["answer"])
            yield "| " + " | ".join(_inline(cell).replace("|", "\\|") for cell in cells) + " |"
    if made["dashboard"]:
        yield "\n## Seen in the dashboard\n"
        yield from (f"- {one['question']} **{one['seen']}**" for one in made["dashboard"])
    seen = [one for asked in made["questions"] for one in asked["requests"] if one["status"] is not None]
    yield f"\n## Headers of {len(seen)} answers\n"
    for name in sorted({name for one in seen for name in one["headers"]}):
        yield f"- {_inline(name)}: {sum(name in one['headers'] for one in seen)}"
    yield f"\nTest ids made: {made['test_ids']['made']}, not deleted: {made['test_ids']['left']}."


def _inline(text: str) -> str:
    """A text that Markdown leaves as it is, with the parts that are code marked as such."""
    for sign in "\\`*_<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text


def as_lines(made: Mapping[str, Any]) -> Iterator[str]:
    """The report's findings as lines for a terminal."""
    for asked in made["questions"]:
        yield ""
        yield from _wrapped(asked["question"], "", "")
        if asked["outcome"] != ANSWERED:
            stopped = f" ({asked['stopped_by']})" if asked["stopped_by"] else ""
            yield from _wrapped(f"{asked['outcome']}{stopped}", "  ! ", "    ")
        for finding in asked["findings"]:
            yield from _wrapped(finding, "  - ", "    ")
    if made["dashboard"]:
        yield from ("", "Seen in the dashboard")
        for one in made["dashboard"]:
            yield from _wrapped(f"{one['question']} {one['seen']}", "  - ", "    ")


def announcement(questions: Sequence[Question], deletion: Cost, base_url: str, prefix: str) -> Iterator[str]:
    """The lines that say what a run will cost, before it makes a request; ``deletion`` comes at its end."""
    costs = [(asked.text, asked.cost) for asked in questions]
    costs.append(("At the end: deleting the users and companies again.", deletion))
    total = sum((cost for _, cost in costs[1:]), costs[0][1])
    yield from _wrapped(f"These questions go to {base_url}, with a real key:", "", "")
    yield ""
    yield "requests  jobs  users  companies"
    for text, cost in (*costs, ("at most", total)):
        numbers = f"{cost.requests:8}{cost.jobs:6}{cost.users:7}{cost.companies:11}  "
        yield from _wrapped(text, numbers, " " * len(numbers))
    yield ""
    yield from _wrapped(
        f"All ids begin with {prefix}. They are deleted at the end, also after an interrupt; the names of the event"
        f" {EVENT} and of the properties check_* may stay in the account's lists. One request is under way at a time;"
        " one that is answered 429 is made once more. It takes up to ten minutes.", "", "",
    )  # fmt: skip


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )

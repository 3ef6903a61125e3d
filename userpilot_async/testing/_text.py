"""Words for calls, and for their losses, in the messages of assertions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ._matching import Wanted, event_of, ids_of, properties_of

MOST = 5  # calls shown in one message; more are counted
LONGEST = 300  # characters of a call

WHY = {
    "queue_full": "there was no room in the queue (Settings.when_full)",
    "closed": "the client was closed before the server took it",
    "disabled": "the client is switched off, by disabled=True or a variable: leave that out of tests",
    "expired": "it waited longer than Settings.max_age, in the client's time: the server never took it",
    "ambiguous": 'its answer got lost, and the settings say on_ambiguous="drop"',
    "outbox": "the outbox did not take it",
    "not_closed": "the client was not closed: leave it by `async with`, or await its aclose()",
    "pending": "it still waits: await .flush() before the test ends, or close the client",
}


@attrs.frozen
class Lost:
    """A call that the server does not have, or several of which no more than their number is known."""

    reason: str
    """The reason as in `Statistics.lost_by_reason`; or ``invalid``, ``not_closed``, ``pending``."""
    call: object = None
    """The call, if there is one."""
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    """The arguments of an invalid call."""
    detail: str = ""
    """The words of the error, or of the server."""
    count: int = 1

    def __str__(self) -> str:
        """Give the reason and the call, as one line."""
        what = "a call" if self.count == 1 else f"{self.count} calls"
        if self.call is not None:
            what = short(self.call)
        elif self.arguments:
            given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items() if value is not None)
            what = _cut(f"a call with {given}")
        why = self.detail or WHY.get(self.reason, "")
        return f"{self.reason}: {what}{f': {why}' if why else ''}"


def short(call: object) -> str:
    """The call as one line: its class, whose it is, the event, the properties."""
    parts = [*map(repr, ids_of(call))]
    if type(call).__name__ == "Track":
        parts.append(repr(event_of(call)))
    if properties := dict(properties_of(call)):
        parts.append(repr(properties))
    if company := getattr(call, "company", None):
        parts.append(f"company={dict(company)!r}")
    return _cut(f"{type(call).__name__}({', '.join(parts)})")


def meant(wanted: Wanted) -> str:
    """The calls that are meant, as one line."""
    parts = ["…" if wanted.id is None else repr(wanted.id)]
    if wanted.kind == "Track":
        parts.append("…" if wanted.event is None else repr(wanted.event))
    if wanted.properties:
        parts.append(repr(dict(wanted.properties)))
    if wanted.company is not None:
        parts.append(f"company={dict(wanted.company)!r}")
    return _cut(f"{wanted.kind}({', '.join(parts)})")


def missing(wanted: Wanted, calls: Sequence[object], lost: Sequence[Lost], clients: int) -> str:
    """The message where none of the ``calls`` is meant: what there was in its place, the nearest first."""
    lines = [f"there was no {meant(wanted)}"]
    near = wanted.nearest(calls)
    if near:
        lines.append("but, nearest first:")
        lines += [f"  {short(call)}: {'; '.join(wanted.differences(call))}" for call in near[:MOST]]
        lines += [f"  and {len(near) - MOST} more"] if len(near) > MOST else []
    elif calls:
        lines.append(f"nor any other {wanted.kind}; of other kinds:")
        lines += _listed(map(short, calls), len(calls))
    elif clients:
        lines.append("nor any other call")
    else:
        lines.append(
            "nor any client: none was opened meanwhile. One that was open before is not seen; open it in the test, or "
            "in a fixture that takes `userpilot`, or in a wider one that takes `userpilot_session`"
        )
    if lost:
        lines += ["lost:", *_listed(map(str, lost), len(lost))]
    return "\n".join(lines)


def unwanted(wanted: Wanted, found: Sequence[object]) -> str:
    """The message where calls were ``found`` that are not to be."""
    return "\n".join([f"there should be no {meant(wanted)}, but:", *_listed(map(short, found), len(found))])


def losses(lost: Sequence[Lost]) -> str:
    """The message at the end of a test in which calls were lost."""
    number = sum(one.count for one in lost)
    reasons = ", ".join(repr(reason) for reason in sorted({one.reason for one in lost}))
    way_out = f"if that is meant: .allow_lost({reasons})"
    if number == 1:
        return f"1 call was lost, {lost[0]}\n{way_out}"
    by_reason: Counter[str] = Counter()
    for one in lost:
        by_reason[one.reason] += one.count
    counts = ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items()))
    return "\n".join([f"{number} calls were lost ({counts}):", *_listed(map(str, lost), len(lost)), way_out])


def _listed(lines: Iterable[str], number: int) -> list[str]:
    shown = [f"  {line}" for line, _ in zip(lines, range(MOST), strict=False)]
    return shown + ([f"  and {number - MOST} more"] if number > MOST else [])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

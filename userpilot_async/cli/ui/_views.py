"""Findings in an outbox as JSON for the page: here is decided which ids and values leave the server."""

from __future__ import annotations

from typing import Any

import attrs

from ..._outbox.admin import Call, DeadLetter, Holder, Inspection, PurgeReport, Retried, server_of
from ..._outbox.pages import Page, WaitingCall
from ..._settings import Settings
from .._outbox_text import as_dict, call_name, erased_text, line_of_call
from ._aliases import Aliases

MOST_SHOWN = 4_000  # characters of one call's JSON: more of it is in the export
DEFAULT_LIMITS = {"userpilot": {"track": Settings().track_per_minute, "identify": Settings().identify_per_minute}}
"""Requests a minute of a sender that is not told otherwise, by kind of server and budget; elsewhere there is no limit
that holds for all. The sender's own are in its settings, and not in the outbox.
"""


@attrs.frozen
class Views:
    """The JSON of one console. Without ``shows_data``, it has aliases instead of ids, and no values.

    A server's words about a call may quote its values: they count as such.
    """

    aliases: Aliases
    shows_data: bool

    # ── the outbox ──

    def state(self, seen: Inspection, kind: str, traffic: list[dict[str, Any]]) -> dict[str, Any]:
        """The numbers of an outbox, as `userpilot-async outbox --json` has them, and what is under way."""
        return {
            **as_dict(seen),
            "kind": kind,
            "shows_data": self.shows_data,
            "now": seen.now,
            "sender": None if seen.sender is None else _sender(seen.sender),
            "budgets": _budgets(seen),
            "uploads": [attrs.asdict(one) for one in seen.uploads],
            "quarantined": len(seen.quarantined),
            "traffic": traffic,
        }

    # ── calls ──

    def waiting(self, page: Page[WaitingCall], destination: str | None) -> dict[str, Any]:
        """A page of the calls that wait."""
        calls = [{**self._call(one, one.call, destination), "bytes": one.size} for one in page.entries]
        return {"calls": calls, "reached": page.reached}

    def people(self, page: Page[WaitingCall]) -> dict[str, Any]:
        """The people and companies of the calls of a page, in the order of their first calls in it."""
        found: dict[str, dict[str, Any]] = {}
        for one in page.entries:
            alias = self._alias(one, one.call)
            theirs = found.setdefault(
                alias,
                {"id": one.id, "at": one.at, "alias": alias, "whose": self._whose(one), "calls": 0, "bytes": 0},
            )
            theirs["calls"] += 1
            theirs["bytes"] += one.size
        return {"calls": list(found.values()), "looked_at": len(page.entries), "reached": page.reached}

    def lost(self, page: Page[DeadLetter], destination: str | None) -> dict[str, Any]:
        """A page of the dead letters; ``detail``, the server's words, is null where it is hidden."""
        calls = [
            {
                **self._call(one, one.call, destination),
                "lost_at": one.lost_at,
                "status": one.status,
                "reason": one.reason,
                "detail": one.detail if self.shows_data else None,
                "has_detail": bool(one.detail),
            }
            for one in page.entries
        ]
        return {"calls": calls, "reached": page.reached}

    def _call(self, one: WaitingCall | DeadLetter, call: Call | None, destination: str | None) -> dict[str, Any]:
        line = line_of_call(server_of(destination or ""), call) if self.shows_data else None
        return {
            "id": one.id,
            "at": one.at,
            "kind": call_name(one.kind),
            "alias": self._alias(one, call),
            "whose": self._whose(one),
            "is_damaged": call is None,
            "data": line if line is None or len(line) <= MOST_SHOWN else f"{line[:MOST_SHOWN]} …",
        }

    def _alias(self, one: WaitingCall | DeadLetter, call: Call | None) -> str:
        return self.aliases.alias(ids_of(call) or (one.key,))

    def _whose(self, one: WaitingCall | DeadLetter) -> str | None:
        return one.key if self.shows_data else None

    # ── what was done ──

    def retried(self, done: Retried) -> dict[str, Any]:
        """How many dead letters wait again, and how many could not."""
        return {"retried": done.calls, "damaged": done.damaged, "missing": len(done.missing)}

    def purged(self, report: PurgeReport, kind: str, sender: Holder | None) -> dict[str, Any]:
        """The report of a purge, or of one that was only counted, in sentences."""
        others = len(report.known_as)
        text = list(erased_text(report if self.shows_data else attrs.evolve(report, known_as=set()), kind))
        if others and not self.shows_data:
            name = "1 other id" if others == 1 else f"{others:,} other ids"
            text.append(f"the same calls name {name} (hidden): purge each other id of the same person separately")
        if report.done and sender is not None:
            text.append(f"{sender} sends: calls that it has in memory may still be sent")
        if report.done and report.quarantined:
            text.append(f"quarantined files are not touched: {', '.join(report.quarantined)}")
        return {"done": report.done, "calls": report.waiting + report.lost + report.damaged, "text": text}


def ids_of(call: Call | None) -> tuple[str, ...]:
    """All ids in the key of a call; none of a damaged one."""
    if call is None:
        return ()
    _, key, _ = call
    return (key,) if isinstance(key, str) else key


def _sender(holder: Holder) -> dict[str, Any]:
    return {"name": str(holder), "seconds": holder.seconds}


def _budgets(seen: Inspection) -> list[dict[str, Any]]:
    """Tokens that are spent, and how many are left at the default limit; null where no limit is known."""
    limits = DEFAULT_LIMITS.get(server_of(seen.destination or ""), {})
    names = [*limits, *sorted(set(seen.spent) - set(limits))]
    return [
        {
            "name": name,
            "spent": (spent := seen.spent.get(name, 0)),
            "limit": (limit := limits.get(name)),
            "left": None if limit is None else max(0, limit - spent),
        }
        for name in names
    ]

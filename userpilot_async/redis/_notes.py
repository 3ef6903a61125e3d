"""The sender's notes, in steps that are small enough: a script that takes long stops everybody's Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import attrs

from .._calls.outcome import Outcome
from .._calls.payload import Payload
from .._calls.stored import runs
from .._outbox.batch import Batch, Landed, Settled
from .._outbox.receipt import Receipt

MOST_IDS = 2_000  # settled in one step: about 10 ms
MOST_ROWS = 2_000  # parts, requests and what else there is


@attrs.define
class SenderNotes:
    """The notes of one step."""

    refused: list[tuple[Outcome, Receipt]] = attrs.field(factory=list)
    parts: list[Any] = attrs.field(factory=list)
    settled: list[Any] = attrs.field(factory=list)
    begun: list[Any] = attrs.field(factory=list)
    landed: list[Any] = attrs.field(factory=list)
    forgotten: list[str] = attrs.field(factory=list)
    again: int = 0
    """Of the calls that are put with this, so many may have been put, and sent, before."""
    pairs: list[str] = attrs.field(factory=list)
    """Of keys that the calls name together which are put with this, as they are kept."""
    keys: list[tuple[int, str, int]] = attrs.field(factory=list)
    """Of ``dedupe=``: the place of the call that is put with this, a hash, and for how many ms it counts."""

    @property
    def needs_lease(self) -> bool:
        """Only the sender may note this."""
        return bool(self.parts or self.settled or self.begun or self.landed or self.forgotten)

    def as_json(self) -> str:
        """The notes as the script reads them."""
        fields = attrs.asdict(self, recurse=False)
        alike = groupby((outcome.status, outcome.reason or "unknown") for outcome, _ in self.refused)
        fields["refused"] = [(*outcome, len(list(calls))) for outcome, calls in alike]
        return json.dumps(fields, separators=(",", ":"))


def notes_of(batch: Batch) -> list[SenderNotes]:
    """All of a batch that is no call, in the order in which it is to be noted."""
    first = SenderNotes(refused=list(batch.refused))
    steps = [first]
    for call_id, kind, key in batch.parts:
        _at(steps, "parts").append((call_id, json.dumps((call_id, kind, key))))
    for settled in (*batch.delivered.values(), *batch.lost):
        detail = settled.detail.encode("utf-8", "replace").decode()  # Lua's JSON takes no lone surrogate
        for carriers, merged in _slices(settled):
            label = settled.outcome.by or settled.outcome.reason
            if settled.outcome.status != "delivered":
                label = label or "unknown"
            _at(steps, "settled", len(carriers) + len(merged)).append(
                (settled.outcome.status, label, runs(carriers), runs(merged), detail)
            )
    for request in batch.requests:
        _at(steps, "begun").append((request.number, request.budget, runs(request.ids), request.filename, request.kind,
                                    list(request.last_calls), runs(request.filed)))  # fmt: skip
    for landed in batch.landed:
        if landed.request.number is not None:  # or it was never noted
            _at(steps, "landed").append(_landed(landed))
    for filename in batch.forgotten:
        _at(steps, "forgotten").append(filename)
    return [step for step in steps if step.refused or step.needs_lease]


def may_be_twice(payload: Payload) -> bool:
    """A call, if it is sent twice: an identify twice is the same identify."""
    return isinstance(payload, bytes) or len(payload) == 2


def calls_in(notes: SenderNotes) -> list[tuple[int, int]]:
    """The calls in requests that are noted with these, as stretches."""
    return [stretch for _, _, carried, _, _, _, filed in notes.begun for stretch in (*carried, *filed)]


def refusals_of(batch: Batch) -> list[SenderNotes]:
    """The notes of a batch that any client may write: calls that found no room."""
    return [SenderNotes(refused=list(batch.refused))] if batch.refused else []


def _at(steps: list[SenderNotes], name: str, count: int = 1) -> list[Any]:
    """The last step's list of this name; a new step's if there are many in it already."""
    last = steps[-1]
    held = sum(_count(one) for one in last.settled) if name == "settled" else len(getattr(last, name))
    if held and held + count > (MOST_IDS if name == "settled" else MOST_ROWS):
        last = SenderNotes()
        steps.append(last)
    listed: list[Any] = getattr(last, name)
    return listed


def _count(settled: Any) -> int:
    return sum(last - first + 1 for stretches in settled[2:4] for first, last in stretches)


def _slices(settled: Settled) -> Iterator[tuple[list[int], list[int]]]:
    """Merged calls first: what they went into says all of it, as long as it is there."""
    for start in range(0, len(settled.merged), MOST_IDS):
        yield [], list(settled.merged[start : start + MOST_IDS])
    for start in range(0, len(settled.carriers), MOST_IDS):
        yield list(settled.carriers[start : start + MOST_IDS]), []


def _landed(landed: Landed) -> tuple[Any, ...]:
    request = landed.request
    lost = runs(request.ids) if landed.lost else []
    return request.number, request.budget, landed.answered, len(request.ids), lost

"""A second opinion on what a server should hold after a file of calls.

It reads the file plainly, from the documented rules and line by line, and shares no code with the client: it is
allowed to be right when the client is wrong.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

FIELDS = {
    "identify": {"type", "user_id", "metadata", "company"},
    "identify_company": {"type", "company_id", "metadata"},
    "track": {"type", "user_id", "event_name", "metadata", "occurred_at"},
}
NEEDED = ("user_id", "company_id", "event_name")
LONGEST_NAME = 255  # characters; docs.userpilot.com, "Identify users", read 2026-10
LARGEST_INTEGER = 2**53 - 1  # what every JSON reader holds exactly; RFC 8259, section 6

Properties = dict[str, Any]
Happened = tuple[str, str, int]
"""An event of the sample: user, name, and the serial number in its metadata."""


@attrs.define
class World:
    """Users, companies and events; either as they should be, or as a server shows them."""

    users: dict[str, Properties] = attrs.field(factory=dict)
    membership: dict[str, str] = attrs.field(factory=dict)
    companies: dict[str, Properties] = attrs.field(factory=dict)
    events: Counter[Happened] = attrs.field(factory=Counter)
    booked: dict[Happened, str | None] = attrs.field(factory=dict)
    """The company that each event is booked on: its user's, at that moment."""
    refused: list[int] = attrs.field(factory=list)
    """Numbers of lines that are no calls."""


def expected(lines: Iterable[bytes]) -> World:
    """The world after these lines, one after the other."""
    world = World()
    for number, line in enumerate(lines, 1):
        if (call := _call_on(line)) is None:
            world.refused.append(number)
        else:
            _happen(world, call)
    return world


def _call_on(line: bytes) -> Properties | None:
    try:
        call: Properties = json.loads(line, parse_constant=_no_number)
        _check(call)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return call


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check(call: Properties) -> None:
    """Raises some error for what is no call."""
    company = call.get("company", {"id": "none"})
    ids = [call[name] for name in NEEDED if name in FIELDS[call["type"]]] + [company["id"]]
    properties = [*call.get("metadata", {}).items(), *company.items()]
    moment = call.get("occurred_at", "1970-01-01T00:00:00Z").replace("Z", "+00:00")
    if (
        not call.keys() <= FIELDS[call["type"]]
        or not all(isinstance(one, str) and one.strip() for one in ids)
        or len(call.get("event_name", "")) > LONGEST_NAME
        or not all(0 < len(name) <= LONGEST_NAME and _is_value(value) for name, value in properties)
        or datetime.fromisoformat(moment).tzinfo is None
    ):
        raise ValueError("no call")


def _is_value(value: object) -> bool:
    if isinstance(value, int):
        return abs(value) <= LARGEST_INTEGER
    return value is None or isinstance(value, (str, float))


def _happen(world: World, call: Properties) -> None:
    properties = call.get("metadata", {})
    if call["type"] == "identify_company":
        _merge(world.companies.setdefault(call["company_id"], {}), properties)
        return
    user = call["user_id"]
    if call["type"] == "track":
        event = (user, call["event_name"], properties["serial"])
        world.events[event] += 1
        world.booked[event] = world.membership.get(user)
        return
    _merge(world.users.setdefault(user, {}), properties)
    if company := dict(call.get("company", {})):
        world.membership[user] = company.pop("id")
        _merge(world.companies.setdefault(world.membership[user], {}), company)


def _merge(known: Properties, changes: Properties) -> None:
    """Key by key; null removes."""
    known.update(changes)
    for name in [name for name, value in known.items() if value is None]:
        del known[name]


def shown(
    users: Iterable[Mapping[str, Any]], companies: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]]
) -> World:
    """The world as an emulator's control routes show it."""
    world = World()
    for user in users:
        world.users[user["user_id"]] = user["properties"]
        if user["company_id"] is not None:
            world.membership[user["user_id"]] = user["company_id"]
    for company in companies:
        world.companies[company["company_id"]] = company["properties"]
    for event in events:
        happened = (event["user_id"], event["event_name"], event["metadata"]["serial"])
        world.events[happened] += 1
        world.booked[happened] = event["company_id"]
    return world


@attrs.frozen
class Judgement:
    """How a server differs from what it should hold."""

    users: int
    companies: int
    events: int
    missing: int
    """Users, companies and events that are not there."""
    twice: int
    """Events that are there more often than they happened."""
    wrong: tuple[str, ...]
    """Sentences, one for each kind of difference in properties or companies, and for what should not be there."""

    @property
    def fine(self) -> bool:
        """Everything is there, once, and right."""
        return not (self.missing or self.twice or self.wrong)

    def fine_but_for(self, possible_duplicates: int) -> bool:
        """Everything is there, and right; so many events at most are there twice."""
        return not self.missing and not self.wrong and self.twice <= possible_duplicates

    def __str__(self) -> str:
        counts = f"{self.users:,} users, {self.companies:,} companies, {self.events:,} events"
        verdict = f"emulator: {counts}, {self.missing:,} missing, {self.twice:,} twice"
        return "\n".join([verdict, *(f"emulator: {sentence}" for sentence in self.wrong)])


def judge(should: World, found: World) -> Judgement:
    """Compare a server with what it should hold."""
    differences = {
        "users have other properties": _differing(should.users, found.users),
        "users are in another company": _differing(should.membership, found.membership),
        "companies have other properties": _differing(should.companies, found.companies),
        "events are booked on another company": _differing(should.booked, found.booked),
        "users, companies or events are there that were never sent": len(found.users.keys() - should.users.keys())
        + len(found.companies.keys() - should.companies.keys()) + len(found.events.keys() - should.events.keys()),
    }  # fmt: skip
    return Judgement(
        users=len(found.users),
        companies=len(found.companies),
        events=sum(found.events.values()),
        missing=len(should.users.keys() - found.users.keys())
        + len(should.companies.keys() - found.companies.keys())
        + sum((should.events - found.events).values()),
        twice=sum(count for event, count in (found.events - should.events).items() if event in should.events),
        wrong=tuple(f"{count:,} {what}" for what, count in differences.items() if count),
    )


def _differing(should: Mapping[Any, Any], found: Mapping[Any, Any]) -> int:
    """The number of keys on both sides whose values differ."""
    return sum(1 for key in should.keys() & found.keys() if should[key] != found[key])

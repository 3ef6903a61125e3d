"""What the server must hold in the end (I5): calls applied one after the other, as plainly as can be.

Deliberately naive, and it shares no code with the client or the emulator: it is what they are compared to.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

Properties = Mapping[str, Any]


@attrs.frozen
class Event:
    """A tracked event and the company it is booked on: the user's, at the moment it was applied."""

    user_id: str
    event_name: str
    metadata: Properties = attrs.field(factory=dict)
    company_id: str | None = None


@attrs.define
class Model:
    """The state after the calls made on it, in their order."""

    users: dict[str, dict[str, Any]] = attrs.field(factory=dict)  # properties by user
    companies: dict[str, dict[str, Any]] = attrs.field(factory=dict)  # properties by company
    company_of: dict[str, str] = attrs.field(factory=dict)  # users without a company are not in it
    events: list[Event] = attrs.field(factory=list)

    def identify(self, user_id: str, metadata: Properties | None = None, *, company: Properties | None = None) -> None:
        """Merge; None removes a property. A company, by `id` or `company_id`, moves the user there."""
        _merge(self.users.setdefault(user_id, {}), metadata)
        if company is not None:
            properties = dict(company)
            by_id, by_company_id = properties.pop("id", None), properties.pop("company_id", None)
            company_id = by_id if by_id is not None else by_company_id
            assert isinstance(company_id, str), "a company needs its id"
            self.company_of[user_id] = company_id
            self.identify_company(company_id, properties)

    def identify_company(self, company_id: str, metadata: Properties | None = None) -> None:
        _merge(self.companies.setdefault(company_id, {}), metadata)

    def track(
        self, user_id: str, event_name: str, metadata: Properties | None = None, *, company_id: str | None = None
    ) -> None:
        """Booked on the company that an import row names, else on the user's company of this moment.

        A user whom nobody identified stays unknown.
        """
        booked = company_id or self.company_of.get(user_id)
        self.events.append(Event(user_id, event_name, dict(metadata or {}), booked))

    def import_user(self, user_id: str, metadata: Properties | None = None, company_id: str | None = None) -> None:
        """Take an import's row, which blanks the properties that it leaves out."""
        self.users[user_id] = {}
        self.identify(user_id, metadata, company={"id": company_id} if company_id else None)

    def import_company(self, company_id: str, metadata: Properties | None = None) -> None:
        self.companies[company_id] = {}
        self.identify_company(company_id, metadata)

    def forget_users(self, user_ids: Iterable[str]) -> None:
        """Remove the profiles, and the events with them."""
        gone = set(user_ids)
        for user_id in gone:
            self.users.pop(user_id, None)
            self.company_of.pop(user_id, None)
        self.events = [event for event in self.events if event.user_id not in gone]

    def forget_companies(self, company_ids: Iterable[str]) -> None:
        """Remove the companies; their users stay, in none. What events were booked on stays, too."""
        gone = set(company_ids)
        for company_id in gone:
            self.companies.pop(company_id, None)
        self.company_of = {user: company for user, company in self.company_of.items() if company not in gone}

    def delete_user(self, user_id: str) -> None:
        """All that is known of a user goes, and what they did."""
        self.users.pop(user_id, None)
        self.company_of.pop(user_id, None)
        self.events = [event for event in self.events if event.user_id != user_id]

    def delete_company(self, company_id: str) -> None:
        """A company goes; its users are in none then."""
        self.companies.pop(company_id, None)
        self.company_of = {user: company for user, company in self.company_of.items() if company != company_id}


def same_state(
    model: Model,
    users: Mapping[str, Properties],
    companies: Mapping[str, Properties] | None = None,
    company_of: Mapping[str, str | None] | None = None,
) -> int:
    """I5: the server's properties by user (and company, and whose users are whose) equal the model's.

    Values are compared as JSON: 1, 1.0 and true are three. Returns how many records were compared.
    """
    compared = _same_records("user", model.users, users)
    if companies is not None:
        compared += _same_records("company", model.companies, companies)
    if company_of is not None:
        stored = {user: company for user, company in company_of.items() if company is not None}
        compared += _same_records("company of user", model.company_of, stored)
    return compared


def same_events(model: Model, events: Iterable[Event], ambiguous_attempts: int = 0) -> int:
    """I5: every event of the model is there, on the same company; repeats ≤ `ambiguous_attempts`.

    A repeat may be booked on a company the user has moved to meanwhile. Returns the number of repeats.
    """
    wanted = Counter(_frozen(event) for event in model.events)
    stored = Counter(_frozen(event) for event in events)
    missing = wanted - stored
    assert not missing, f"{sum(missing.values())} events are missing: {_shown(missing)}"
    surplus = stored - wanted
    known = {key[:3] for key in wanted}
    invented = {key: count for key, count in surplus.items() if key[:3] not in known}
    assert not invented, f"{sum(invented.values())} events that nobody tracked: {_shown(invented)}"
    repeats = sum(surplus.values())
    assert repeats <= ambiguous_attempts, (
        f"{repeats} repeated events, but only {ambiguous_attempts} answers were lost: {_shown(surplus)}"
    )
    return repeats


def _merge(properties: dict[str, Any], changes: Properties | None) -> None:
    for name, value in (changes or {}).items():
        if value is None:
            properties.pop(name, None)
        else:
            properties[name] = value


def _same_records(kind: str, wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> int:
    differences = []
    for name in sorted({*wanted, *stored}):
        if name not in stored:
            differences.append(f"{kind} {name!r} is missing")
        elif name not in wanted:
            differences.append(f"{kind} {name!r} was never asked for: {stored[name]!r}")
        elif _json(wanted[name]) != _json(stored[name]):
            differences.append(f"{kind} {name!r} is {stored[name]!r}, not {wanted[name]!r}")
    assert not differences, f"{len(differences)} differences: " + "; ".join(differences[:5])
    return len(wanted)


def _frozen(event: Event) -> tuple[str, str, str, str | None]:
    return event.user_id, event.event_name, _json(event.metadata), event.company_id


def _json(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, sort_keys=True)


def _shown(counted: Mapping[Any, int]) -> str:
    return "; ".join(f"{key} ×{count}" for key, count in list(counted.items())[:5])

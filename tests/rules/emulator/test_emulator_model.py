"""Merging, null and company moves against a model of ten lines, with bulk rows falling due in between."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async.emulator import Store
from userpilot_async.emulator._jobs import JobScript

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([None, 0, 1.5, "", "x", True])
METADATA = st.dictionaries(NAMES, VALUES, max_size=3)
USERS = st.sampled_from(["u1", "u2"])
COMPANIES = st.sampled_from(["c1", "c2"])

IDENTIFY = st.fixed_dictionaries(
    {"user_id": USERS},
    optional={"metadata": METADATA, "company": st.builds(lambda id, rest: {"id": id, **rest}, COMPANIES, METADATA)},
)
ROW = st.fixed_dictionaries({"user_id": USERS}, optional={"metadata": METADATA, "company_id": COMPANIES})
TRACK = st.fixed_dictionaries({"user_id": USERS, "event_name": st.just("opened")})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("identify"), IDENTIFY),
        st.tuples(st.just("track"), TRACK),
        st.tuples(st.just("bulk"), st.lists(ROW, min_size=1, max_size=10)),
    ),
    max_size=20,
)


@attrs.define
class Model:
    """What the documents promise, done at once and in order."""

    users: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    companies: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    homes: dict[str, str] = attrs.field(factory=dict)
    booked: list[str | None] = attrs.field(factory=list)

    def apply(self, kind: str, payload: dict[str, Any]) -> None:
        if kind == "track":
            self.booked.append(self.homes.get(payload["user_id"]))
            return
        company = payload.get("company", {"id": payload["company_id"]} if "company_id" in payload else None)
        self.users[payload["user_id"]] = merged(self.users.get(payload["user_id"], {}), payload.get("metadata", {}))
        if company is not None:
            properties = {name: value for name, value in company.items() if name != "id"}
            self.companies[company["id"]] = merged(self.companies.get(company["id"], {}), properties)
            self.homes[payload["user_id"]] = company["id"]


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**old, **new}.items() if value is not None}


@given(STEPS)
def test_the_store_holds_what_the_sequential_model_holds(steps):
    """A step takes a second; a row falls due 2 s and some thirtieths after its submit, never together with a step."""
    store, model = Store(), Model()
    due: list[tuple[float, str, dict[str, Any]]] = []
    for number, (kind, payload) in enumerate(steps):
        now = number + 0.5
        store.advance(now)
        if kind == "bulk":
            submit(store, payload, now)
            due += [(now + 2 + (index + 1) / 30, "row", row) for index, row in enumerate(payload)]
        else:
            due.append((now, kind, payload))
            write = store.identify if kind == "identify" else store.track
            write(payload, now)
    store.advance(1000.0)
    for _, kind, payload in sorted(due, key=lambda entry: entry[0]):
        model.apply(kind, payload)

    assert model.users == {user_id: user.properties for user_id, user in store.users.items()}
    assert model.companies == {company_id: company.properties for company_id, company in store.companies.items()}
    assert model.homes == {user.user_id: user.company_id for user in store.users.values() if user.company_id}
    assert model.booked == [event.company_id for event in store.events]
    assert list(range(1, len(due) + 1)) == [entry.sequence for entry in store.applied]
    assert sorted(entry.stamp for entry in store.applied) == [entry.stamp for entry in store.applied]


def submit(store: Store, rows: list[dict[str, Any]], now: float) -> None:
    """Straight to the store, without the slot: several jobs at once make the harder order."""
    store.jobs.submit(
        "bulk_users",
        rows,
        total_rows=len(rows),
        account="test",
        filename="rows.ndjson",
        file_size=0,
        now=now,
        script=JobScript(),
        writes=None,
    )

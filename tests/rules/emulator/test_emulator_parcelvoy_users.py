"""Who is who at Parcelvoy: which person a call finds, and devices, by example and against a model."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async.emulator import Store
from userpilot_async.emulator import parcelvoy as records

DEVICE = {"device_id": "d1", "os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}
BOTH = {"anonymous_id": "A", "external_id": "E"}


@pytest.fixture
def store() -> records.Store:
    return Store().parcelvoy


def numbers(store: records.Store, *ids: str) -> list[int | None]:
    """Which user each id finds."""
    return [user.number if user else None for user in map(store.find, ids)]


def reasons(store: records.Store) -> list[str]:
    return [one.reason for one in store.lost]


def take(store: records.Store, kind: str, payload: dict[str, Any], stamp: float) -> None:
    {"identify": store.identify, "alias": store.alias, "event": store.post}[kind](payload, stamp)


# ── what is said of a person ──


def test_fields_merge_and_data_merges_key_by_key_and_null_is_kept_there(store):
    store.identify({"external_id": "E", "email": "a@b.c", "locale": "en", "data": {"a": 1, "b": {"x": 1}}}, 1.0)
    store.identify({"external_id": "E", "email": None, "data": {"b": {"y": 2}, "c": None}}, 2.0)
    store.identify({"external_id": "E", "data": None}, 3.0)

    user = store.find("E")
    assert {"locale": "en"} == user.fields
    assert {"a": 1, "b": {"y": 2}, "c": None} == user.data
    assert (1.0, 3.0) == (user.first_seen, user.last_seen)


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ({"phone": "+49 (151) 1234-5678"}, {}),
        ({"phone": "+4915112345678", "data": None}, {}),
        ({"phone": "+4915112345678", "data": {"b": 2}}, {"a": 1, "b": 2}),
        ({"phone": "+4915112345678", "data": {}}, {"a": 1}),
        ({"phone": "0151 12345678"}, {"a": 1}),
        ({"phone": "call me"}, {"a": 1}),
        ({"phone": ""}, {"a": 1}),
        ({"phone": None}, {"a": 1}),
        ({"email": "+4915112345678"}, {"a": 1}),
    ],
)
@pytest.mark.parametrize("kind", ["identify", "event"])
def test_a_phone_number_with_a_countrys_code_wipes_all_data_unless_some_is_given(store, kind, said, data):
    store.identify({"external_id": "E", "data": {"a": 1}}, 1.0)
    calls = {"identify": {"external_id": "E", **said}, "event": {"external_id": "E", "name": "x", "user": said}}
    take(store, kind, calls[kind], 2.0)

    assert data == store.find("E").data


def test_an_event_creates_the_user_it_needs_and_says_so(store):
    for name in ("one", "two"):
        store.post({"anonymous_id": "A", "name": name, "created_at": "2026-10-01"}, 1.0)

    one = records.Event(1, 1.0, 1, "A", None, "one", {}, "2026-10-01", user_known=False)
    two = attrs.evolve(one, sequence=2, name="two", user_known=True)
    assert [one, two] == store.events


def test_the_user_nested_in_an_event_is_an_identify_whose_ids_are_the_events(store):
    about = {"external_id": "F", "email": "a@b.c", "data": {"a": 1}}
    store.post({"external_id": "E", "name": "x", "user": about}, 1.0)

    assert [1, None] == numbers(store, "E", "F")
    assert ({"email": "a@b.c"}, {"a": 1}) == (store.users[1].fields, store.users[1].data)


# ── whom a call finds ──


@pytest.mark.parametrize("kind", ["identify", "event"])
def test_a_known_anonymous_person_gets_no_external_id_but_from_an_alias(store, kind):
    store.identify({"anonymous_id": "A"}, 1.0)
    take(store, kind, {**BOTH, "name": "opened"} if kind == "event" else BOTH, 2.0)
    before = numbers(store, "A", "E")
    store.alias(BOTH, 3.0)

    assert ([1, None], [1, 1]) == (before, numbers(store, "A", "E"))


@pytest.mark.parametrize(
    ("kind", "more", "found"),
    [
        ("identify", {}, [1, 1]),
        ("event", {"name": "x", "user": {}}, [1, 1]),
        ("event", {"name": "x", "user": None}, [None, 1]),
        ("event", {"name": "x"}, [None, 1]),
    ],
)
def test_a_known_external_person_gets_a_free_anonymous_id_from_what_is_said_of_a_user(store, kind, more, found):
    """By `UserPatchJob.ts` of 2.3.3, `...!anonymous ? { anonymous_id } : {}`: an update with the anonymous id."""
    store.identify({"external_id": "E"}, 1.0)
    take(store, kind, {**BOTH, **more}, 2.0)

    assert found == numbers(store, "A", "E")


def test_a_person_has_one_anonymous_id_and_the_one_before_is_free_again(store):
    store.identify({"anonymous_id": "A1", "external_id": "E"}, 1.0)
    store.identify({"anonymous_id": "A2", "external_id": "E"}, 2.0)
    store.identify({"anonymous_id": "A1"}, 3.0)

    assert [2, 1, 1] == numbers(store, "A1", "A2", "E")
    assert ["A2"] == store.users[1].anonymous_ids


def test_an_explicit_null_takes_the_anonymous_id_away(store):
    store.identify(BOTH, 1.0)
    store.identify({"anonymous_id": None, "external_id": "E"}, 2.0)

    assert [None, 1] == numbers(store, "A", "E")
    assert [] == store.users[1].anonymous_ids


def test_the_external_id_decides_when_both_ids_are_known_apart(store):
    store.identify({"anonymous_id": "A"}, 1.0)
    store.identify({"external_id": "E"}, 1.0)
    store.identify({**BOTH, "data": {"a": 1}}, 2.0)

    assert [1, 2] == numbers(store, "A", "E")
    assert ({}, {"a": 1}) == (store.users[1].data, store.users[2].data)


def test_an_alias_renames_whoever_has_the_anonymous_id(store):
    store.identify(BOTH, 1.0)
    store.alias({"anonymous_id": "A", "external_id": "F"}, 2.0)
    store.identify({"external_id": "E"}, 3.0)

    assert [1, 1, 2] == numbers(store, "A", "F", "E")
    assert {"A": "F"} == store.aliases
    assert [] == store.lost


def test_an_alias_renames_whoever_has_the_previous_id_and_then_the_anonymous_one(store):
    for external_id in ("P", "Q"):
        store.identify({"external_id": external_id}, 1.0)
    store.identify({"anonymous_id": "A"}, 1.0)
    store.alias({**BOTH, "previous_id": "P"}, 2.0)
    store.alias({"anonymous_id": "A", "external_id": "F", "previous_id": "nobody"}, 2.0)

    assert [None, 1, 2, 3, 3] == numbers(store, "P", "E", "Q", "A", "F")


@pytest.mark.parametrize(
    ("known", "alias", "reason"),
    [
        ([], BOTH, "the server does not know this person"),
        ([{"external_id": "E"}], BOTH, "the server does not know this person"),
        ([{"anonymous_id": "A"}, {"external_id": "E"}], BOTH, "another person has this external_id"),
        ([{"anonymous_id": "A"}, {"external_id": "É"}], BOTH, "differs only in case, accents or invisible characters"),
        ([{"anonymous_id": "A"}], {**BOTH, "external_id": ""}, "the external_id is empty"),
        ([{"anonymous_id": "A"}], {**BOTH, "external_id": "x" * 256}, "external_id has 256 characters"),
        ([{"anonymous_id": "A"}], {**BOTH, "external_id": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_an_alias_that_cannot_be_applied_changes_nothing(store, known, alias, reason):
    for ids in known:
        store.identify(ids, 1.0)
    before = {number: attrs.evolve(user) for number, user in store.users.items()}
    store.alias(alias, 2.0)

    (lost,) = store.lost
    assert (2.0, "alias", alias) == (lost.stamp, lost.kind, lost.payload)
    assert reason in lost.reason
    assert (before, {}) == (store.users, store.aliases)


# ── devices ──


def test_a_device_is_updated_by_its_id_and_keeps_what_is_not_given(store):
    store.identify({"external_id": "E"}, 0.0)
    store.register({"external_id": "E", **DEVICE, "token": "t1", "os_version": "16"}, 1.0)
    store.register({"external_id": "E", **DEVICE, "app_build": "466"}, 2.0)

    device = records.Device("d1", 1, 1.0, 2.0, "iOS", "iPhone15,2", "466", "1.2.4", os_version="16", token="t1")
    assert {(1, "d1"): device} == store.devices
    assert ["d1"] == store.users[1].devices


def test_a_device_with_the_token_of_another_of_the_same_user_takes_its_place(store):
    for external_id in ("E", "F"):
        store.identify({"external_id": external_id}, 0.0)
        store.register({"external_id": external_id, **DEVICE, "token": "t", "os_version": "16"}, 1.0)
        store.register({"external_id": external_id, **DEVICE, "device_id": "d2", "token": None}, 1.0)
    store.register({"external_id": "E", **DEVICE, "device_id": "d3", "token": "t"}, 2.0)

    assert (["d3", "d2"], ["d1", "d2"]) == (store.find("E").devices, store.find("F").devices)
    assert [(1, "d2"), (1, "d3"), (2, "d1"), (2, "d2")] == sorted(store.devices)
    assert ("16", 1.0, 2.0) == (store.devices[1, "d3"].os_version, *seen(store.devices[1, "d3"]))


def seen(device: records.Device) -> tuple[float, float]:
    return device.first_seen, device.last_seen


def test_a_device_whose_id_another_one_has_and_whose_token_a_third_is_one_device(store):
    store.identify({"external_id": "E"}, 0.0)
    for device_id, token in [("d1", "t1"), ("d2", "t2"), ("d2", "t1")]:
        store.register({"external_id": "E", **DEVICE, "device_id": device_id, "token": token}, 1.0)

    assert (["d2"], [(1, "d2")]) == (store.find("E").devices, list(store.devices))


def test_a_device_of_a_stranger_is_lost(store):
    store.register({"external_id": "E", **DEVICE}, 1.0)
    store.identify({"external_id": "E"}, 2.0)

    assert ["the server does not know this person: an identify or an event has to come first"] == reasons(store)
    assert ({}, []) == (store.devices, store.find("E").devices)


# ── the model ──

ANONYMOUS, EXTERNAL = st.sampled_from(["a1", "a2", "A1"]), st.sampled_from(["e1", "e2", "É1"])
IDS = st.one_of(
    st.fixed_dictionaries({"anonymous_id": ANONYMOUS}, optional={"external_id": st.none()}),
    st.fixed_dictionaries({"external_id": EXTERNAL}, optional={"anonymous_id": st.none() | ANONYMOUS}),
)
DATA = st.dictionaries(st.sampled_from("xyz"), st.sampled_from([None, 0, "v", {"n": 1}]), max_size=2)
TRAITS = st.fixed_dictionaries({}, optional={"email": st.sampled_from([None, "a@b", "c@d"]), "data": DATA})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("identify"), st.builds(lambda ids, traits: {**ids, **traits}, IDS, TRAITS)),
        st.tuples(st.just("event"), st.builds(lambda ids: {**ids, "name": "x"}, IDS)),
        st.tuples(st.just("event"), st.builds(lambda ids, traits: {**ids, "name": "x", "user": traits}, IDS, TRAITS)),
        st.tuples(
            st.just("alias"),
            st.fixed_dictionaries(
                {"anonymous_id": ANONYMOUS, "external_id": EXTERNAL}, optional={"previous_id": EXTERNAL}
            ),
        ),
    ),
    max_size=15,
)


@attrs.define(eq=False)
class Person:
    external: str | None = None
    anonymous: str | None = None
    email: str | None = None
    data: dict[str, Any] = attrs.field(factory=dict)
    events: list[int] = attrs.field(factory=list)


@attrs.define
class Model:
    """The server's own code, line by line, over a list of people that is searched: the rows of its table."""

    people: list[Person] = attrs.field(factory=list)

    def apply(self, number: int, kind: str, payload: dict[str, Any]) -> bool:
        """Whether the call was not lost."""
        if kind == "alias":
            return self.alias(payload)
        person = self.who(payload)
        if kind == "identify" or person is None or payload.get("user") is not None:
            traits = payload if kind == "identify" else payload.get("user") or {}
            person = self.patch({**traits, **{name: payload[name] for name in BOTH if name in payload}})
        if person is not None and kind == "event":
            person.events.append(number)
        return person is not None

    def patch(self, user: dict[str, Any]) -> Person | None:
        person = self.who(user) or Person()
        anonymous = self.having("anonymous", user.get("anonymous_id"))
        changes = {"anonymous": user["anonymous_id"]} if "anonymous_id" in user and not anonymous else {}
        if person not in self.people:
            changes |= {"external": user.get("external_id")}
        if not self.write(person, changes):
            return None
        person.email = user.get("email", person.email)
        person.data |= user.get("data", {})
        return person

    def alias(self, alias: dict[str, Any]) -> bool:
        previous = self.who({"external_id": alias.get("previous_id"), "anonymous_id": alias["anonymous_id"]})
        current = self.having("external", alias["external_id"])
        if previous is None or current not in (None, previous):
            return False
        return self.write(previous, {"external": alias["external_id"]})

    def write(self, person: Person, changes: dict[str, Any]) -> bool:
        """What a unique index does: nothing is written if an id is another's, as the database compares them."""
        for kind, id in changes.items():
            others = [getattr(other, kind) for other in self.people if other is not person]
            if id is not None and id.translate(FOLDED) in [other.translate(FOLDED) for other in others if other]:
                return False
        for kind, id in changes.items():
            setattr(person, kind, id)
        if person not in self.people:
            self.people.append(person)
        return True

    def who(self, ids: dict[str, Any]) -> Person | None:
        external = self.having("external", ids.get("external_id"))
        return external or self.having("anonymous", ids.get("anonymous_id"))

    def having(self, kind: str, id: str | None) -> Person | None:
        return next((one for one in self.people if id is not None and getattr(one, kind) == id), None)


FOLDED = str.maketrans("AÉ", "ae")


@given(STEPS)
def test_the_store_holds_the_people_that_the_servers_own_code_holds(steps):
    everything, model = Store(), Model()
    store = everything.parcelvoy
    for number, (kind, payload) in enumerate(steps, start=1):
        would_be_refused = bool(store.refusals(kind, [payload]))
        take(store, kind, payload, float(number))

        assert would_be_refused != model.apply(number, kind, payload)
        assert would_be_refused == (store.lost[-1:] != [] and store.lost[-1].stamp == number)

    expected = [(p.external, [p.anonymous] if p.anonymous else [], p.email, p.data, p.events) for p in model.people]
    assert expected == [
        (
            user.external_id,
            user.anonymous_ids,
            user.fields.get("email"),
            user.data,
            [int(event.stamp) for event in store.events if event.user == user.number],
        )
        for user in store.users.values()
    ]
    assert all(
        store.find(id) is not None
        for user in store.users.values()
        for id in (*user.anonymous_ids, user.external_id or "")
        if id
    )
    assert len(steps) - len(store.lost) == len(everything.applied)
    assert list(range(1, len(everything.applied) + 1)) == [entry.sequence for entry in everything.applied]

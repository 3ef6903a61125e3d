"""Users at Parcelvoy: merging, aliases, devices and whose an event is, by example and against a model."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async.emulator import Store
from userpilot_async.emulator import parcelvoy as records

DEVICE = {"device_id": "d1", "os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}


@pytest.fixture
def store() -> records.Store:
    return Store().parcelvoy


def numbers(store: records.Store, *ids: str) -> list[int | None]:
    """Which user each id finds."""
    return [user.number if user else None for user in map(store.find, ids)]


def test_fields_merge_and_data_merges_key_by_key_and_null_is_kept(store):
    store.identify({"external_id": "E", "email": "a@b.c", "locale": "en", "data": {"a": 1, "b": {"x": 1}}}, 1.0)
    store.identify({"external_id": "E", "email": None, "data": {"b": {"y": 2}, "c": None}}, 2.0)
    store.identify({"external_id": "E", "data": None}, 3.0)

    user = store.find("E")
    assert {"email": None, "locale": "en"} == user.fields
    assert {"a": 1, "b": {"y": 2}, "c": None} == user.data
    assert (1.0, 3.0) == (user.first_seen, user.last_seen)


@pytest.mark.parametrize("known", ["A", "E"])
def test_a_call_with_both_ids_adds_the_one_that_was_missing(store, known):
    store.identify({"anonymous_id" if known == "A" else "external_id": known}, 1.0)
    store.post({"anonymous_id": "A", "external_id": "E", "name": "opened"}, 2.0)

    assert [1, 1] == numbers(store, "A", "E")
    assert ("E", ["A"]) == (store.users[1].external_id, store.users[1].anonymous_ids)


def test_the_external_id_decides_when_both_ids_are_known_apart(store):
    store.identify({"anonymous_id": "A"}, 1.0)
    store.identify({"external_id": "E"}, 1.0)
    store.identify({"anonymous_id": "A", "external_id": "E", "data": {"a": 1}}, 2.0)

    assert [1, 2] == numbers(store, "A", "E")
    assert ({}, {"a": 1}) == (store.users[1].data, store.users[2].data)


def test_a_user_keeps_the_anonymous_id_of_the_browser_before(store):
    store.identify({"anonymous_id": "A1", "external_id": "E"}, 1.0)
    store.identify({"anonymous_id": "A2", "external_id": "E"}, 2.0)

    assert [1, 1, 1] == numbers(store, "A1", "A2", "E")


def test_a_second_external_id_is_not_taken_on(store):
    """As on the server: the anonymous id finds the user, who has an external id already."""
    store.identify({"anonymous_id": "A", "external_id": "E1"}, 1.0)
    store.post({"anonymous_id": "A", "external_id": "E2", "name": "opened"}, 2.0)

    assert [1, None] == numbers(store, "E1", "E2")
    assert [1] == [event.user for event in store.events]


def test_an_event_creates_the_user_it_needs_and_says_so(store):
    for name in ("one", "two"):
        store.post({"anonymous_id": "A", "name": name, "created_at": "2026-10-01"}, 1.0)

    one = records.Event(1, 1.0, 1, "A", None, "one", {}, "2026-10-01", user_known=False)
    two = attrs.evolve(one, sequence=2, name="two", user_known=True)
    assert [one, two] == store.events


def test_the_user_nested_in_an_event_is_an_identify_whose_ids_are_the_events(store):
    store.post({"external_id": "E", "name": "x", "user": {"external_id": "F", "email": "a@b.c", "data": {"a": 1}}}, 1.0)

    assert [1, None] == numbers(store, "E", "F")
    assert ({"email": "a@b.c"}, {"a": 1}) == (store.users[1].fields, store.users[1].data)


@pytest.mark.parametrize("known", [[], ["anonymous_id"], ["external_id"], ["anonymous_id", "external_id"]])
def test_after_an_alias_both_ids_are_one_user_whatever_was_known_before(store, known):
    alias = {"anonymous_id": "A", "external_id": "E"}
    for name in known:
        store.identify({name: alias[name]}, 1.0)
    store.alias(alias, 2.0)

    (user,) = store.users.values()
    assert ("E", ["A"]) == (user.external_id, user.anonymous_ids)
    assert [user.number] * 2 == numbers(store, "A", "E")


def test_an_alias_of_two_users_joins_all_they_have_and_the_external_ones_values_win(store):
    store.identify({"anonymous_id": "A", "email": "a@old", "phone": "1", "data": {"plan": "free", "seen": 3}}, 1.0)
    store.post({"anonymous_id": "A", "name": "before"}, 1.0)
    store.register({"anonymous_id": "A", **DEVICE}, 1.0)
    store.identify({"external_id": "E", "email": "e@new", "data": {"plan": "pro"}}, 2.0)
    store.alias({"anonymous_id": "A", "external_id": "E"}, 3.0)
    store.post({"anonymous_id": "A", "name": "after"}, 4.0)

    (user,) = store.users.values()
    assert {"email": "e@new", "phone": "1"} == user.fields
    assert {"plan": "pro", "seen": 3} == user.data
    assert (["d1"], 1.0, 4.0) == (user.devices, user.first_seen, user.last_seen)
    assert [("before", user.number), ("after", user.number)] == [(event.name, event.user) for event in store.events]
    assert user.number == store.devices["d1"].user


def test_an_alias_is_done_once_and_the_same_again_is_no_other(store):
    store.alias({"anonymous_id": "A", "external_id": "E"}, 1.0)

    assert [] == store.alias_errors({"anonymous_id": "A", "external_id": "E"})
    (error,) = store.alias_errors({"anonymous_id": "A", "external_id": "F"})
    assert (422, "anonymous_id has an alias already") == (error.status, error.message)


def test_an_alias_may_confirm_what_an_identify_joined_but_not_take_it_away(store):
    store.identify({"anonymous_id": "A", "external_id": "E"}, 1.0)

    assert [] == store.alias_errors({"anonymous_id": "A", "external_id": "E"})
    (error,) = store.alias_errors({"anonymous_id": "A", "external_id": "F"})
    assert (422, "anonymous_id belongs to another external_id") == (error.status, error.message)


def test_several_anonymous_ids_may_become_one_user(store):
    for name in ("A", "B"):
        store.post({"anonymous_id": name, "name": "opened"}, 1.0)
        store.alias({"anonymous_id": name, "external_id": "E"}, 2.0)

    assert [1, 1, 1] == numbers(store, "A", "B", "E")
    assert [1, 1] == [event.user for event in store.events]


def test_a_device_is_updated_by_its_id_and_keeps_what_is_not_given(store):
    store.register({"external_id": "E", **DEVICE, "token": "t1", "os_version": "16"}, 1.0)
    store.register({"external_id": "E", **DEVICE, "app_build": "466", "os_version": None}, 2.0)

    device = records.Device("d1", 1, 1.0, 2.0, "iOS", "iPhone15,2", "466", "1.2.4", os_version=None, token="t1")
    assert {"d1": device} == store.devices
    assert ["d1"] == store.users[1].devices


def test_a_device_belongs_to_the_user_it_was_last_registered_for(store):
    for external_id in ("E", "F"):
        store.register({"external_id": external_id, **DEVICE}, 1.0)

    assert ([], ["d1"]) == (store.find("E").devices, store.find("F").devices)
    assert store.find("F").number == store.devices["d1"].user


ANONYMOUS, EXTERNAL = st.sampled_from(["a1", "a2", "a3"]), st.sampled_from(["e1", "e2"])
IDS = st.one_of(
    st.fixed_dictionaries({"anonymous_id": ANONYMOUS}, optional={"external_id": st.none()}),
    st.fixed_dictionaries({"external_id": EXTERNAL}, optional={"anonymous_id": ANONYMOUS}),
)
DATA = st.dictionaries(st.sampled_from("xyz"), st.sampled_from([None, 0, "v", {"n": 1}]), max_size=2)
TRAITS = st.fixed_dictionaries({}, optional={"email": st.sampled_from([None, "a@b", "c@d"]), "data": DATA})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("identify"), st.builds(lambda ids, traits: {**ids, **traits}, IDS, TRAITS)),
        st.tuples(st.just("event"), st.builds(lambda ids, traits: {**ids, "name": "x", "user": traits}, IDS, TRAITS)),
        st.tuples(st.just("alias"), st.fixed_dictionaries({"anonymous_id": ANONYMOUS, "external_id": EXTERNAL})),
    ),
    max_size=15,
)


@attrs.define(eq=False)
class Person:
    external: set[str] = attrs.field(factory=set)
    anonymous: set[str] = attrs.field(factory=set)
    email: list[Any] = attrs.field(factory=list)  # the last is the one that counts
    data: dict[str, Any] = attrs.field(factory=dict)
    events: set[int] = attrs.field(factory=set)

    def seen(self) -> tuple[Any, ...]:
        return sorted(self.external), sorted(self.anonymous), self.email[-1:], self.data, sorted(self.events)


@attrs.define
class Model:
    """A list of people that is searched, with nothing remembered but what they are."""

    people: list[Person] = attrs.field(factory=list)
    aliased: dict[str, str] = attrs.field(factory=dict)

    def apply(self, number: int, kind: str, payload: dict[str, Any]) -> None:
        anonymous, external = self.who("anonymous", payload), self.who("external", payload)
        if kind == "alias":
            self.aliased[payload["anonymous_id"]] = payload["external_id"]
            if anonymous and external and anonymous is not external:
                self.people.remove(anonymous)
                external.anonymous |= anonymous.anonymous
                external.email = anonymous.email + external.email
                external.data = anonymous.data | external.data
                external.events |= anonymous.events
        person = external or anonymous or Person()
        if person not in self.people:
            self.people.append(person)
        if payload.get("external_id") and not person.external:
            person.external.add(payload["external_id"])
        if payload.get("anonymous_id") and not anonymous:
            person.anonymous.add(payload["anonymous_id"])
        traits = payload.get("user", payload)
        person.email += [traits["email"]] if "email" in traits else []
        person.data |= traits.get("data", {})
        person.events |= {number} if kind == "event" else set()

    def refuses(self, alias: dict[str, Any]) -> bool:
        anonymous = self.who("anonymous", alias)
        others = anonymous.external - {alias["external_id"]} if anonymous else set()
        return self.aliased.get(alias["anonymous_id"], alias["external_id"]) != alias["external_id"] or bool(others)

    def who(self, kind: str, payload: dict[str, Any]) -> Person | None:
        return next((person for person in self.people if payload.get(f"{kind}_id") in getattr(person, kind)), None)


@given(STEPS)
def test_the_store_holds_the_people_that_the_sequential_model_holds(steps):
    everything, model = Store(), Model()
    store = everything.parcelvoy
    applied = 0
    for kind, payload in steps:
        if kind == "alias":
            assert model.refuses(payload) == bool(store.alias_errors(payload))
            if model.refuses(payload):
                continue
        applied += 1
        model.apply(applied, kind, payload)
        write = {"identify": store.identify, "event": store.post, "alias": store.alias}[kind]
        write(payload, float(applied))

    held = [
        (
            [user.external_id] if user.external_id else [],
            sorted(user.anonymous_ids),
            [user.fields["email"]] if "email" in user.fields else [],
            user.data,
            [event.sequence for event in store.events if event.user == user.number],
        )
        for user in store.users.values()
    ]
    assert sorted(map(repr, (person.seen() for person in model.people))) == sorted(map(repr, held))
    assert all(
        store.find(id) is user
        for user in store.users.values()
        for id in (*user.anonymous_ids, user.external_id)
        if id is not None
    )
    assert list(range(1, applied + 1)) == [entry.sequence for entry in everything.applied]

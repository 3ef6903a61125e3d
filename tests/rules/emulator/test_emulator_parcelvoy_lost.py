"""Calls that Parcelvoy answers with 204 and loses: why, and what is left of them."""

from __future__ import annotations

from typing import Any

import pytest

from userpilot_async.emulator import Store
from userpilot_async.emulator import parcelvoy as records
from userpilot_async.emulator.parcelvoy._collation import fold

BOTH = {"anonymous_id": "A", "external_id": "E"}


@pytest.fixture
def store() -> records.Store:
    return Store().parcelvoy


def reasons(store: records.Store) -> list[str]:
    return [one.reason for one in store.lost]


def numbers(store: records.Store, *ids: str) -> list[int | None]:
    """Which user each id finds."""
    return [user.number if user else None for user in map(store.find, ids)]


def take(store: records.Store, kind: str, payload: dict[str, Any], stamp: float) -> None:
    {"identify": store.identify, "event": store.post}[kind](payload, stamp)


def nested(levels: int) -> Any:
    """A list of lists, so many in all."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"email": "e" * 255, "phone": "1" * 64, "locale": "l" * 255, "data": {"a": nested(99)}}, None),
        ({"email": "e" * 256}, "email has 256 characters, and the database holds 255"),
        ({"phone": "1" * 65}, "phone has 65 characters, and the database holds 64"),
        ({"locale": "l" * 256}, "locale has 256 characters, and the database holds 255"),
        ({"data": {"a": nested(100)}}, "data is nested deeper than 100 levels"),
        ({"data": {"a": [{"\udfff": 1}]}}, "data has half of a surrogate pair, which is no character"),
        ({"data": {"a": ["x\ud83d"]}}, "data has half of a surrogate pair, which is no character"),
        ({"email": "\ud83d"}, "email has half of a surrogate pair, which is no character"),
    ],
)
def test_what_the_database_cannot_hold_of_a_user_loses_the_call_and_the_event_around_it(store, said, reason):
    store.identify({"external_id": "E", **said}, 1.0)
    store.post({"external_id": "F", "name": "x", "user": said}, 1.0)

    assert [reason] * 2 == reasons(store) if reason else [] == reasons(store)
    assert (0 if reason else 2) == len(store.users)
    assert (0 if reason else 1) == len(store.events)


@pytest.mark.parametrize(("key", "lost"), [("first_name", True), ("firstName", False), ("created_at", False)])
def test_a_key_without_a_column_loses_the_event_around_it(store, key, lost):
    store.post({"external_id": "E", "name": "x", "user": {key: "John"}}, 1.0)

    assert ([f"the database has no column for the key '{key}'"] if lost else []) == reasons(store)
    assert (0 if lost else 1) == len(store.users)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"name": "n" * 255, "data": {"a": nested(99)}, "more": nested(300), "created_at": "\ud800"}, None),
        ({"name": "n" * 256}, "name has 256 characters, and the database holds 255"),
        ({"name": "\ud800"}, "name has half of a surrogate pair, which is no character"),
        ({"name": "x", "data": {"a": nested(100)}}, "data is nested deeper than 100 levels"),
        ({"name": "x", "data": {"\ud800": 1}}, "data has half of a surrogate pair, which is no character"),
    ],
)
def test_an_event_that_the_database_cannot_hold_still_makes_its_user(store, said, reason):
    store.post({"external_id": "E", "user": {"email": "a@b.c"}, **said}, 1.0)

    assert ([reason] if reason else []) == reasons(store)
    assert {"email": "a@b.c"} == store.find("E").fields
    assert (0 if reason else 1) == len(store.events)


@pytest.mark.parametrize("kind", ["identify", "event"])
@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ({"external_id": None}, "the ids are null or empty"),
        ({"external_id": "", "anonymous_id": None}, "the ids are null or empty"),
        ({"external_id": "x" * 256}, "external_id has 256 characters"),
        ({"external_id": "F", "anonymous_id": "x" * 256}, "anonymous_id has 256 characters"),
        ({"external_id": "\udc00"}, "half of a surrogate pair"),
        ({"external_id": "é"}, "differs only in case, accents or invisible characters"),
        ({"external_id": "F", "anonymous_id": "a\u200b"}, "differs only in case, accents or invisible characters"),
    ],
)
def test_ids_that_the_database_does_not_take_make_nobody(store, kind, ids, reason):
    store.identify(BOTH, 1.0)
    take(store, kind, {**ids, "name": "x"} if kind == "event" else ids, 2.0)

    assert [True] == [reason in why for why in reasons(store)]
    assert ([1], []) == (list(store.users), store.events)


def test_ids_of_255_characters_are_taken_also_outside_the_basic_plane(store):
    store.identify({"external_id": "😀" * 255, "anonymous_id": "x" * 255}, 1.0)

    assert [] == store.lost


def test_an_id_that_is_not_written_may_be_anything(store):
    """A person who is found by one id is not given the other, so the database never sees that one."""
    store.identify(BOTH, 1.0)
    store.identify({"anonymous_id": "A", "external_id": "x" * 256, "data": {"a": 1}}, 2.0)
    store.post({"external_id": "E", "anonymous_id": "\ud800", "name": "x"}, 3.0)

    assert ([], {"a": 1}, 1) == (store.lost, store.find("E").data, len(store.events))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("abc", "ABC", True),
        ("jose", "José", True),
        ("straße", "STRASSE", True),
        ("a\u00adb", "ab", True),
        ("a\x00b", "ab", True),
        ("ハ", "ば", True),
        ("１", "1", True),
        ("a ", "a", False),
        ("a\tb", "ab", False),
        ("क", "कु", False),
        ("क", "क्", False),
        ("😀", "😁", False),
        ("user-1", "user_1", False),
    ],
)
def test_ids_are_compared_without_case_accents_and_invisible_characters(one, other, same):
    assert same == (fold(one) == fold(other))


# ── strict ──


def test_a_strict_store_names_the_calls_that_would_be_lost_one_after_the_other(store):
    store.identify(BOTH, 1.0)
    events = [{"external_id": id, "name": "x"} for id in ("E", "F", "f", "G", "é")]
    errors = store.refusals("event", events)

    assert [(422, "row 3"), (422, "row 5")] == [(error.status, error.details) for error in errors]
    assert [None, 1] == numbers(store, "F", "E")
    assert [] == store.refusals("event", [{"external_id": "f", "name": "x"}])
    assert [] == store.refusals("alias", [{"anonymous_id": "A", "external_id": "G"}])
    assert [1, 1, None] == numbers(store, "A", "E", "G")
    assert ([], ["E"]) == (store.lost, [user.external_id for user in store.users.values()])

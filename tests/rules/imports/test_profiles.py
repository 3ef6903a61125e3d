"""Every identify row gets what is known of its user or company by then, so that an import blanks nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scenes.imports.conftest import company, track, user
from userpilot_async import InvalidCall
from userpilot_async.imports import _profiles
from userpilot_async.imports._journal import Journal
from userpilot_async.imports._profiles import Profiles
from userpilot_async.imports._schema import About


@pytest.fixture
def journal() -> Iterator[Journal]:
    one = Journal(None)
    one.begin(About(name="n", source="s"), 1_000)
    yield one
    one.close()


def carried(journal: Journal, *chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as they go into the upload, each chunk in a transaction of its own."""
    profiles = Profiles(journal.connection)
    out = []
    for chunk in chunks:
        with journal.change():
            out += [profiles.carry(row) for row in chunk]
            profiles.write()
    return out


def test_a_later_row_has_what_an_earlier_one_said(journal):
    rows = carried(journal, [user("u1", {"plan": "free", "city": "Köln"}), user("u1", {"plan": "pro"})])

    assert {"plan": "pro", "city": "Köln"} == rows[1]["metadata"]


def test_it_is_known_in_the_next_transaction_too(journal):
    rows = carried(journal, [user("u1", {"plan": "free"})], [user("u2", {})], [user("u1", {"seats": 3})])

    assert {"plan": "free", "seats": 3} == rows[2]["metadata"]


def test_a_null_stays_a_null_until_a_value_comes(journal):
    rows = carried(journal, [user("u1", {"a": 1})], [user("u1", {"a": None})], [user("u1", {})], [user("u1", {"a": 2})])

    assert [{"a": 1}, {"a": None}, {"a": None}, {"a": 2}] == [row["metadata"] for row in rows]


def test_a_users_company_is_carried_until_another_comes(journal):
    rows = carried(
        journal,
        [user("u1", {}), user("u1", {}, company_id="a"), user("u1", {"x": 1})],
        [user("u1", {}, company_id="b"), user("u1", {})],
    )

    assert [None, "a", "a", "b", "b"] == [row.get("company_id") for row in rows]


def test_users_and_companies_of_one_name_are_different(journal):
    rows = carried(journal, [user("x", {"a": 1}), company("x", {"b": 2}), company("x", {"c": 3}), user("x", {})])

    assert [{"a": 1}, {"b": 2}, {"b": 2, "c": 3}, {"a": 1}] == [row["metadata"] for row in rows]
    assert "x" == rows[2]["company_id"]


def test_other_rows_stay_as_they_are_and_teach_nothing(journal):
    rows = carried(journal, [user("u0", {"a": 1}), track(0), user("u0", {})])

    assert track(0) == rows[1]
    assert {"a": 1} == rows[2]["metadata"]


def test_the_rows_given_are_not_changed(journal):
    first, second = user("u1", {"a": 1}), user("u1", {"b": 2})

    carried(journal, [first, second])

    assert ({"a": 1}, {"b": 2}) == (first["metadata"], second["metadata"])


def test_too_many_properties_together_are_refused_and_leave_the_profile_as_it_was(journal):
    profiles = Profiles(journal.connection)
    with journal.change():
        profiles.carry(user("u1", {f"a{n}": n for n in range(400)}))
        with pytest.raises(InvalidCall, match=r"metadata makes 501 properties with those of earlier rows; .* 500"):
            profiles.carry(user("u1", {f"b{n}": n for n in range(101)}))
        row = profiles.carry(user("u1", {f"b{n}": n for n in range(100)}))

    assert 500 == len(row["metadata"])


def test_nulls_of_earlier_rows_make_room_where_there_are_too_many(journal):
    rows = carried(
        journal,
        [user("u1", {f"a{n}": n for n in range(400)})],
        [user("u1", {f"a{n}": None for n in range(200)})],
        [user("u1", {"new": None, **{f"b{n}": n for n in range(150)}})],
    )

    assert {*(f"a{n}" for n in range(200, 400)), *(f"b{n}" for n in range(150)), "new"} == set(rows[2]["metadata"])


def test_what_a_transaction_that_failed_has_taught_is_forgotten(journal):
    profiles = Profiles(journal.connection)
    with pytest.raises(ZeroDivisionError), journal.change():
        profiles.carry(user("u1", {"a": 1}))
        profiles.write()
        profiles.carry(user("u1", {"b": 1}))
        raise ZeroDivisionError
    profiles.forget()

    assert [{"c": 1}] == [row["metadata"] for row in carried(journal, [user("u1", {"c": 1})])]


def test_what_is_held_in_memory_is_bounded(journal, monkeypatch):
    monkeypatch.setattr(_profiles, "MAX_HELD", 10_000)
    profiles = Profiles(journal.connection)
    most = 0
    with journal.change():
        for n in range(2_000):
            profiles.carry(user(f"u{n}", {"text": "x" * 100}))
            most = max(most, len(profiles._known))
        profiles.write()
        row = profiles.carry(user("u0", {"more": 1}))

    assert 100 > most
    assert {"text": "x" * 100, "more": 1} == row["metadata"]


IDS = st.sampled_from(["a", "b", "ä", "\0", "a\0b"])
PROPERTIES = st.dictionaries(st.sampled_from("pqrs"), st.none() | st.integers(0, 3) | st.just("ü"), max_size=3)
ROWS = st.one_of(
    st.builds(user, IDS, PROPERTIES),
    st.builds(lambda one, said, its: user(one, said, company_id=its), IDS, PROPERTIES, IDS),
    st.builds(company, IDS, PROPERTIES),
)


@given(st.lists(st.lists(ROWS, max_size=5), max_size=6))
def test_it_is_what_merging_all_rows_in_memory_gives(chunks):
    known: dict[Any, tuple[Any, dict[str, Any]]] = {}
    expected = []
    for row in [row for chunk in chunks for row in chunk]:
        is_user = row["event_type"] == "identify_user"
        place = (row["event_type"], row["user_id"] if is_user else row["company_id"])
        its, said = known.get(place, (None, {}))
        known[place] = its, said = row.get("company_id") or its, {**said, **row["metadata"]}
        expected.append((its, said))

    journal = Journal(None)
    journal.begin(About(name="n", source="s"), 1_000)
    rows = carried(journal, *chunks)
    journal.close()

    assert expected == [(row.get("company_id"), row["metadata"]) for row in rows]

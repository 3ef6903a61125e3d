"""Every identify row gets what is known of its user or company by then, so that an import blanks nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scenes.imports.conftest import company, track, user
from userpilot_async import InvalidCall
from userpilot_async.imports import _profiles
from userpilot_async.imports._conversion import Conversion
from userpilot_async.imports._cutting import Cutter
from userpilot_async.imports._files import Start
from userpilot_async.imports._journal import Journal
from userpilot_async.imports._profiles import Profiles
from userpilot_async.imports._reading import Line
from userpilot_async.imports._rejected import RejectedFile
from userpilot_async.imports._report import InvalidRow
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


def test_a_transaction_of_the_cutter_that_failed_has_taught_nothing(journal):
    cutter = Cutter(journal, RejectedFile(None), Conversion(), strict=True, max_rows=10)
    good, again = (Line(n, user("u1", {f"a{n}": n}), None, "") for n in (1, 2))
    bad, starts = Line(2, {"event_type": "none"}, None, ""), [Start(0, "a", 0), Start(1, "b", 1)]
    with pytest.raises(InvalidRow) as caught:
        cutter.take([good, bad], all_read=False, starts=starts)
    cutter.take([again], all_read=True)

    assert ("b", 1) == (caught.value.file, caught.value.line)

    part = journal.first_part()
    assert part is not None
    assert {"a2": 2} == json.loads(journal.content(part))["metadata"]


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


@pytest.mark.parametrize("most", [-1, _profiles.MAX_HELD], ids=["read anew for each row", "held"])
@given(st.lists(st.lists(ROWS, max_size=5), max_size=6))
def test_it_is_what_merging_all_rows_in_memory_gives(most, chunks):
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_profiles, "MAX_HELD", most)
        rows = carried(journal, *chunks)
    journal.close()

    assert expected == [(row.get("company_id"), row["metadata"]) for row in rows]


# ── rows that come behind younger ones ──


def all_carried(rows, profiles=None):
    """The rows as they go into the upload, where one may become several."""
    journal = Journal(None)
    journal.begin(About(name="n", source="s"), 1_000)
    profiles = Profiles(journal.connection)
    with journal.change():
        out = [one for row in rows for one in profiles.carried({"source": "backend-http-import", **row})]
        late = profiles.late, profiles.late_by
    journal.close()
    return out, late


def at(day, user_id, metadata, **fields):
    return user(user_id, metadata, **{**fields, "inserted_at": f"2024-01-{day:02}T00:00:00Z"})


def test_the_youngest_by_its_own_time_has_the_last_word_and_nothing_comes_from_the_future():
    rows, late = all_carried(
        [at(20, "u1", {"plan": "pro", "seats": 5}), at(10, "u1", {"plan": "free", "city": "Köln"})]
    )

    assert [
        ("2024-01-20T00:00:00Z", {"plan": "pro", "seats": 5}),
        ("2024-01-10T00:00:00Z", {"plan": "free", "city": "Köln"}),
        ("2024-01-20T00:00:00Z", {"plan": "pro", "seats": 5, "city": "Köln"}),
    ] == [(row["inserted_at"], row["metadata"]) for row in rows]
    assert (1, 10 * 86_400) == late


def test_a_late_row_between_two_others_overrules_what_is_older_than_it():
    rows, _ = all_carried([at(1, "u", {"a": 1, "b": 1}), at(20, "u", {"b": 2}), at(10, "u", {"a": 3, "b": 3, "c": 3})])

    assert {"a": 3, "b": 3, "c": 3} == rows[-2]["metadata"]
    assert {"a": 3, "b": 2, "c": 3} == rows[-1]["metadata"]


def test_times_are_compared_as_times_whatever_their_spelling():
    texts = ["2024-01-01 08:00:00.5", "2024-01-01T08:00:00.500000Z", "2024-01-01T08:00:00.50", "2024-01-01T08:00:00.51"]
    rows, late = all_carried([user("u", {"n": n}, inserted_at=text) for n, text in enumerate(texts)])

    assert ([0, 1, 2, 3], (0, 0.0)) == ([row["metadata"]["n"] for row in rows], late)


def test_a_row_of_a_browser_is_stood_in_for_by_one_that_needs_no_page():
    browser = {"source": "web-client", "url": "http://a/", "user_agent": "x"}
    rows, _ = all_carried([at(20, "u", {"a": 1}), at(10, "u", {"b": 1}, **browser)])

    assert ("web-client", "backend-http-import") == (rows[1]["source"], rows[2]["source"])
    assert "url" not in rows[2]


DATED = st.builds(
    lambda one, day, said, its: at(day, one, said, **({"company_id": its} if its else {})),
    st.sampled_from("ab"),
    st.integers(1, 5),
    st.dictionaries(st.sampled_from("pqr"), st.integers(0, 3), max_size=3),
    st.none() | st.sampled_from("xy"),
)


@given(st.lists(DATED, max_size=10))
def test_whatever_the_order_the_last_row_is_what_the_rows_give_in_the_order_of_their_times(given):
    rows, (late, _) = all_carried(given)

    assert late == sum(
        any(before["user_id"] == row["user_id"] and before["inserted_at"] > row["inserted_at"] for before in given[:n])
        for n, row in enumerate(given)
    )
    for one in {row["user_id"] for row in given}:
        its, known, said = None, {}, {}
        for row in sorted((row for row in given if row["user_id"] == one), key=lambda row: row["inserted_at"]):
            its, known = row.get("company_id") or its, {**known, **row["metadata"]}
            for item in row["metadata"].items():
                said.setdefault(item, row["inserted_at"])
        mine = [row for row in rows if row["user_id"] == one]
        assert (its, known) == (mine[-1].get("company_id"), mine[-1]["metadata"])
        assert all(said[item] <= row["inserted_at"] for row in mine for item in row["metadata"].items())

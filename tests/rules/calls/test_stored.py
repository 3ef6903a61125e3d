"""Calls as they are held on disk: unchanged when they come back, and a changed one is noticed."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.contract.puts import PUTS
from tests.harness.examples import strategies
from userpilot_async import Identify, InvalidCall, Track, parcelvoy
from userpilot_async._calls.stored import Concluded, Stored, runs, sealed, unsealed
from userpilot_async._calls.values import size_of
from userpilot_async._delivery.client import Checked
from userpilot_async._userpilot.calls import Call, track_body
from userpilot_async._userpilot.destination import facts_of
from userpilot_async.parcelvoy._destination import checked_call

DESCRIBES = PUTS["userpilot identify that describes a company"]
FACTS: Any = DESCRIBES[2]

ids = st.sets(st.integers(0, 60))
stored_calls = st.sampled_from(sorted(PUTS)).map(lambda name: Stored.of(*PUTS[name][:3]))


def ids_of(stretches):
    """What `runs` was made of."""
    return [one for first, last in stretches for one in range(first, last + 1)]


def held(call: Checked) -> Stored:
    """As it is written, and read."""
    stored = Stored.of(*copy.deepcopy(call[:3]))
    assert json.loads(stored.body) is not None
    return Stored(stored.kind, stored.key, bytes(stored.body), stored.moment)


def as_put(call: Call) -> Checked:
    """As the client puts it."""
    if isinstance(call, Track):
        body = track_body(call.user_id, call.event_name, call.metadata)
        said = body if call.occurred_at is None else (body, call.occurred_at)
        return "track", call.user_id, said, len(body)
    size = size_of(call.metadata)
    if isinstance(call, Identify):
        company = dict(call.company) if call.company is not None else None
        facts = facts_of(dict(call.metadata), company, size)
        return "user", call.user_id, facts, facts[2]
    return "company", call.company_id, (dict(call.metadata), None, size, None), size


# ── calls ──


def test_nothing_is_left_of_a_call_whose_person_and_company_have_been_told_of() -> None:
    call = Stored.of("user", "u1", facts_of({"plan": "pro"}, {"id": "acme", "name": "Acme"}, 20))

    kind, key, said = call.call([("company", "acme"), ("user", "u1")])

    assert ("user", "u1", {}, None, None) == (kind, key, *said[:2], said[3])


@pytest.mark.parametrize("name", PUTS)
def test_a_call_of_each_kind_comes_back_as_it_was_put(name: str) -> None:
    call = PUTS[name]
    back = held(call).call()

    assert call[:3] == back
    assert [type(one) for one in call[:3]] == [type(one) for one in back]


@given(strategies.calls)
def test_whatever_is_said_to_userpilot_comes_back_as_it_was_put(call: Call) -> None:
    put = as_put(call)
    back = held(put).call()

    assert put[:3] == back
    assert repr(put[1]) == repr(back[1])
    if put[0] != "track":
        assert repr(put[2]) == repr(back[2])  # 1, 1.0 and True are equal, and different to a server


@given(
    strategies.ids,
    st.none() | strategies.ids,
    st.dictionaries(strategies.names, strategies.plain_values | st.lists(strategies.plain_values), max_size=4),
)
def test_whatever_is_said_to_parcelvoy_comes_back_as_it_was_put(
    external_id: str, anonymous_id: str | None, data: dict[str, Any]
) -> None:
    try:
        said = parcelvoy.Identify(external_id, anonymous_id=anonymous_id, data=data)
    except InvalidCall:  # ids that are too long, say
        assume(False)
    put = checked_call(said)
    back = held(put).call()

    assert repr(put[:3]) == repr(back)


def test_a_call_is_what_it_was_when_its_moment_is_of_another_zone() -> None:
    moment = datetime(2026, 11, 21, 9, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))

    assert ("track", "u1", (b"{}", moment)) == held(("track", "u1", (b"{}", moment), 2)).call()


# ── parts ──


OTHERS = [("company", "beta"), ("user", "u2"), ("company", "u1"), ("user", "acme")]


@given(st.sets(st.sampled_from(OTHERS)))
def test_what_others_have_been_told_of_changes_nothing(done: set[tuple[str, str]]) -> None:
    assert DESCRIBES[:3] == held(DESCRIBES).call(done)


@given(st.sets(st.sampled_from(OTHERS)))
def test_what_the_server_knows_of_the_company_is_left_out(done: set[tuple[str, str]]) -> None:
    metadata, fields, size, companion = FACTS

    expected = ("user", "u1", (metadata, fields, size - companion[3], None))
    assert expected == held(DESCRIBES).call({*done, ("company", "acme")})


@given(st.sets(st.sampled_from(OTHERS)))
def test_what_the_server_knows_of_the_user_is_left_out_and_the_company_remains(done: set[tuple[str, str]]) -> None:
    kind, key, properties, size = FACTS[3]

    assert (kind, key, (properties, None, size, None)) == held(DESCRIBES).call({*done, ("user", "u1")})


@pytest.mark.parametrize("name", sorted(set(PUTS) - {"userpilot identify that describes a company"}))
def test_parts_change_nothing_of_a_call_that_has_none(name: str) -> None:
    assert PUTS[name][:3] == held(PUTS[name]).call(OTHERS)


# ── checksums ──


def other(stored: Stored, field: str, chance: int) -> Stored:
    """With one field changed by one character."""
    value: Any = getattr(stored, field)
    changed: Any
    if value is None:
        changed = {field: "2026-11-21T09:30:15+00:00"}
        return attrs.evolve(stored, **changed)
    at = chance % len(value)
    changed = bytes([value[at] ^ 1]) if isinstance(value, bytes) else chr(ord(value[at]) ^ 1)
    return attrs.evolve(stored, **{field: value[:at] + changed + value[at + 1 :]})


@given(
    stored_calls,
    st.sampled_from(["kind", "key", "body", "moment"]),
    st.integers(0, 10_000),
    st.integers(0, 2**53),
    st.floats(0, 1e10),
)
def test_the_checksum_notices_a_changed_field(stored: Stored, field: str, chance: int, call_id: int, at: float) -> None:
    changed = other(stored, field, chance)

    assert stored != changed
    assert stored.checksum(call_id, at, 7) != changed.checksum(call_id, at, 7)


@given(stored_calls, st.integers(0, 2**53), st.floats(0, 1e10), st.integers(0, 10**9))
def test_the_checksum_notices_another_id_time_or_size(stored: Stored, call_id: int, at: float, size: int) -> None:
    right = stored.checksum(call_id, at, size)

    assert right == stored.checksum(call_id, at, size)
    assert right != stored.checksum(call_id + 1, at, size)
    assert right != stored.checksum(call_id, at + 1.0, size)
    assert right != stored.checksum(call_id, at, size + 1)


@given(stored_calls, stored_calls, st.integers(0, 100))
def test_calls_that_are_equal_have_the_same_checksum_and_others_do_not(one: Stored, two: Stored, call_id: int) -> None:
    assert (one == two) == (one.checksum(call_id, 0.0, 1) == two.checksum(call_id, 0.0, 1))


@given(strategies.properties.map(lambda given: {name: str(value) for name, value in given.items()}))
def test_what_was_sealed_is_unsealed(said: dict[str, str]) -> None:
    assert said == unsealed(sealed(said))


@given(st.dictionaries(strategies.names, strategies.plain_values, max_size=4), st.integers(0, 10_000))
def test_a_changed_character_breaks_the_seal(said: dict[str, Any], chance: int) -> None:
    text = sealed(said)
    at = chance % len(text)

    assert unsealed(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]) is None


@pytest.mark.parametrize("text", [None, 7, b"{}#00000000", "", "#", "{}", "{}#", "{}#0000000", "no JSON#00000000"])
def test_what_was_never_sealed_is_taken_for_damaged(text: object) -> None:
    assert unsealed(text) is None


# ── stretches of ids ──


@given(ids, st.randoms())
def test_runs_are_the_ids_and_nothing_else_in_any_order_of_them(some: set[int], chance: Random) -> None:
    shuffled = sorted(some)
    chance.shuffle(shuffled)
    stretches = runs(shuffled)

    assert sorted(some) == ids_of(stretches)
    assert all(first <= last for first, last in stretches)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(stretches))


@given(ids)
def test_runs_survive_json(some: set[int]) -> None:
    assert sorted(some) == ids_of(json.loads(json.dumps(runs(some))))


@pytest.mark.parametrize(
    ("some", "stretches"),
    [([], []), ([7], [(7, 7)]), ([1, 2, 3], [(1, 3)]), ([5, 1, 2, 9], [(1, 2), (5, 5), (9, 9)])],
)
def test_runs_of(some: list[int], stretches: list[tuple[int, int]]) -> None:
    assert stretches == runs(some)


@given(ids, ids, st.none() | strategies.text)
def test_news_survives_json(carriers: set[int], merged: set[int], reason: str | None) -> None:
    news = Concluded("dead", reason, runs(carriers), runs(merged))
    back = Concluded(*json.loads(json.dumps(news.as_list())))

    assert (news.status, news.label) == (back.status, back.label)
    assert (sorted(carriers), sorted(merged)) == (ids_of(back.carriers), ids_of(back.merged))

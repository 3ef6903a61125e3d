"""Nested data: a deep copy in JSON's own values, or a refusal that names the way to what is wrong, and never it."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from datetime import datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import SENT_AS, Count, Plan, Share, Shouted, anything, plain_values, text, values
from userpilot_async import InvalidCall
from userpilot_async.parcelvoy._data import MAX_DEPTH, TAKEN, checked_data, encoded_data

LARGEST = 2**53 - 1


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)


def nested_more_freely(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return nested(inner) | st.lists(inner, max_size=3).map(tuple) | nested(inner).map(frozen)


def frozen(value: Any) -> Any:
    return MappingProxyType(value) if isinstance(value, dict) else tuple(value)


json_objects = st.dictionaries(text, st.recursive(plain_values, nested, max_leaves=12), max_size=4)
convertible_objects = st.dictionaries(text, st.recursive(values, nested_more_freely, max_leaves=12), max_size=4)
careless = st.recursive(
    anything,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.binary(), inner, max_size=3)
    ),
    max_leaves=8,
)


def refusal(data: object) -> InvalidCall:
    """The error that both ways of reading this data end in."""
    with pytest.raises(InvalidCall) as caught:
        checked_data(data)  # type: ignore[arg-type]
    assert (caught.value.field, caught.value.reason) == refusal_when_encoded(data)
    return caught.value


def refusal_when_encoded(data: object) -> tuple[str, str]:
    """A lone surrogate is found when the text is encoded; who does that asks `checked_data` where it is."""
    try:
        encoded_data(data).encode()  # type: ignore[arg-type]
    except UnicodeEncodeError:
        with pytest.raises(InvalidCall) as caught:
            checked_data(data)  # type: ignore[arg-type]
        return caught.value.field, caught.value.reason
    except InvalidCall as error:
        return error.field, error.reason
    raise AssertionError("it was taken")


def deep(levels: int, bottom: object = "bottom") -> dict[str, Any]:
    """So many objects and arrays in one another."""
    value: Any = bottom
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


def containers(value: object) -> Iterator[object]:
    if isinstance(value, (dict, list)):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from containers(item)


# ── what is taken ──


@given(json_objects)
def test_plain_json_comes_out_as_json_itself_would_bring_it_back(data):
    """Compared as text, which tells 1 from 1.0 and True, and 0.0 from -0.0."""
    assert repr(json.loads(json.dumps(data))) == repr(checked_data(data))


@given(json_objects)
def test_nothing_that_could_be_changed_is_shared_with_the_caller(data):
    theirs, ours = map(id, containers(data)), map(id, containers(checked_data(data)))

    assert not set(theirs) & set(ours)


@given(json_objects | convertible_objects)
def test_encoded_data_says_the_same(data):
    assert repr(checked_data(data)) == repr(json.loads(encoded_data(data)))


@given(convertible_objects)
def test_what_was_converted_once_stays_as_it_is(data):
    once = checked_data(data)

    assert repr(once) == repr(checked_data(once))


@pytest.mark.parametrize(
    "take", [checked_data, lambda data: json.loads(encoded_data(data))], ids=["checked", "encoded"]
)
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05Z"),
        *SENT_AS,
        ((1, (2,)), [1, [2]]),
        (Enum("Plans", {"ALL": ["free", Plan.LIMIT]}).ALL, ["free", 10]),
        (Enum("Plans", {"ALL": {"free": (1,)}}).ALL, {"free": [1]}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (LARGEST, LARGEST),
        (-LARGEST, -LARGEST),
        ("\x00", "\x00"),
        ("\U0001f600 \u202e", "\U0001f600 \u202e"),
    ],
    ids=repr,
)
def test_what_has_one_obvious_form_is_converted_however_deep_it_lies(take, given, sent):
    taken = take({"a": [0, {"b": given}]})["a"][1]["b"]

    assert (type(sent), sent) == (type(taken), taken)


def test_every_value_of_a_converted_copy_is_of_a_plain_type():
    """A subclass of str or float may have an encoder of its own."""
    taken = checked_data({Shouted("a"): [Shouted("b"), Count(1), Share(0.5), OrderedDict(c=True)]})

    assert {"a": ["b", 1, 0.5, {"c": True}]} == taken
    assert [str, str, int, float, dict] == [type(one) for one in (*taken, *taken["a"])]


@pytest.mark.parametrize("given", [None, {}, MappingProxyType({}), OrderedDict()], ids=repr)
def test_no_data_is_an_empty_object(given):
    assert ({}, "{}") == (checked_data(given), encoded_data(given))


def test_minus_zero_keeps_its_sign():
    assert '{"n":[-0.0]}' == encoded_data({"n": [-0.0]})


def test_text_is_not_escaped_beyond_what_json_asks_for():
    assert '{"ключ":"é\\n\\u0000"}' == encoded_data({"ключ": "é\n\x00"})


def test_a_name_may_be_empty_and_long_and_there_may_be_many():
    """Unlike Userpilot's: no limit is documented."""
    data = {"": 1, "x" * 10_000: 2, **dict.fromkeys(map(str, range(1_000)))}

    assert data == checked_data(data)


def test_the_keys_of_an_object_are_told_apart_by_case_and_form():
    data = {"a": 1, "A": 2, "\u00e9": 3, "e\u0301": 4, "1": 5, "1.0": 6, "None": 7}

    assert data == json.loads(encoded_data(data))


@pytest.mark.parametrize("bottom", ["bottom", 1, None])
def test_100_levels_are_taken_and_101_are_not(bottom):
    assert deep(100, bottom) == checked_data(deep(100, bottom)) == json.loads(encoded_data(deep(100, bottom)))
    error = refusal(deep(101, bottom))

    assert 100 == MAX_DEPTH
    assert "is nested deeper than 100 levels, or holds itself" == error.reason


# ── what is refused ──


def everywhere(value: object) -> list[Any]:
    """The value where it is hard to find: its way is ``data['a'][3]['b']``."""
    return [{"a": [1, "canary", None, {"x": 1, "b": value}], "z": 1}, {"a": (1, 2, 3, MappingProxyType({"b": value}))}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "is a float that is not finite; JSON has no NaN or Infinity"),
        (float("inf"), "is a float that is not finite; JSON has no NaN or Infinity"),
        (Share("-inf"), "is a float that is not finite; JSON has no NaN or Infinity"),
        (Decimal("NaN"), "is a Decimal that is not finite"),
        (Decimal("sNaN"), "is a Decimal that is not finite"),
        (LARGEST + 1, "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str"),
        (-LARGEST - 1, "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str"),
        (Count(2**70), "is an int beyond ±(2**53 - 1), which JSON readers round; send it as str"),
        (datetime(2026, 1, 2), "is a naive datetime: give it a time zone"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "is a datetime outside the years 1 to 9999 in UTC"),
        ("canary\ud800", "has a lone surrogate, which UTF-8 cannot carry"),
        (Shouted("\udfffcanary"), "has a lone surrogate, which UTF-8 cannot carry"),
        (Enum("Outer", {"INNER": Plan.FREE}).INNER, "is an Enum of an Enum"),
        ({7: "canary"}, "has a name of type int; names must be str"),
        ({None: "canary"}, "has a name of type NoneType; names must be str"),
        ({b"canary": 1}, "has a name of type bytes; names must be str"),
        ({("canary",): 1}, "has a name of type tuple; names must be str"),
    ],
    ids=ascii,
)
def test_a_value_that_json_cannot_carry_is_refused_with_the_way_to_it(value, reason):
    for data in everywhere(value):
        error = refusal(data)

        assert ("data['a'][3]['b']", reason) == (error.field, error.reason)


@pytest.mark.parametrize(
    "value",
    [
        b"canary", bytearray(b"canary"), memoryview(b"canary"), {"canary"}, frozenset({"canary"}), object(), range(7),
        iter(["canary"]), 1j, time(3, 4), timedelta(days=1), Plan, ValueError("canary"), {"canary": 1}.keys(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_of_a_type_that_json_does_not_know_is_refused_with_the_way_to_it(value):
    for data in everywhere(value):
        error = refusal(data)

        what = f"must be {TAKEN}, not {type(value).__name__}"
        assert ("data['a'][3]['b']", what) == (error.field, error.reason)


def test_a_name_with_a_lone_surrogate_is_refused_with_the_way_to_its_object():
    for data in everywhere({"canary\ud800": 1}):
        assert "a name in data['a'][3]['b'] has a lone surrogate, which UTF-8 cannot carry" == str(refusal(data))


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("l\nog", r"data['l\nog'][0]"),
        ("\u202eplan", r"data['\u202eplan'][0]"),
        ("it's", 'data["it\'s"][0]'),
        ("n" * 41, f"data['{'n' * 37}...'][0]"),
    ],
)
def test_the_way_is_short_and_printable(name, way):
    assert way == refusal({name: [b""]}).field


@pytest.mark.parametrize(
    "given",
    [
        *(1, "plan", b"plan", object(), {"plan"}, ("plan",), ["plan"], [object()], Plan.FREE),
        *(0, "", b"", [], (), False, 0.0, set()),
    ],
    ids=lambda given: f"{type(given).__name__}-{bool(given)}",
)
def test_data_that_is_no_mapping_is_refused_even_if_it_is_empty(given):
    error = refusal(given)

    assert ("data", f"must be a mapping, not {type(given).__name__}") == (error.field, error.reason)


class Ambiguous:
    """An array of numpy's, or a data frame of pandas': neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


@pytest.mark.parametrize("take", [checked_data, encoded_data])
def test_data_that_is_neither_true_nor_false_is_refused_like_any_other(take):
    with pytest.raises(InvalidCall, match="data must be a mapping, not Ambiguous"):
        take(Ambiguous())


def test_an_item_that_is_neither_true_nor_false_is_refused_like_any_other():
    assert "data['a']" == refusal({"a": Ambiguous()}).field


# ── cycles and depth ──


def a_dict_in_itself() -> Any:
    value: dict[str, Any] = {}
    value["canary"] = value
    return value


def a_list_in_itself() -> Any:
    value: list[Any] = []
    value += [value, value]
    return {"a": value}


def two_in_each_other() -> Any:
    one: dict[str, Any] = {}
    one["a"] = [(one, MappingProxyType(one))]
    return one


@pytest.mark.parametrize(
    "make",
    [a_dict_in_itself, a_list_in_itself, two_in_each_other, lambda: deep(100_000), lambda: {"a": (deep(100_000),)}],
    ids=["a dict in itself", "a list in itself", "two in each other", "100,000 levels", "100,000 more"],
)
def test_what_never_ends_or_seems_to_is_refused(make):
    error = refusal(make())

    assert "is nested deeper than 100 levels, or holds itself" == error.reason
    assert error.field.startswith("data['")
    assert 80 >= len(error.field)


def test_a_way_that_is_cut_short_ends_with_a_whole_step_and_says_so():
    assert "data['a']" + "[0]" * 17 + "..." == refusal(deep(101)).field


def test_the_same_list_twice_is_no_cycle():
    shared = [1]

    assert {"a": [1], "b": {"c": [1]}} == checked_data({"a": shared, "b": {"c": shared}})


# ── and nothing else ever happens ──


@given(careless)
def test_whatever_is_given_it_becomes_json_or_is_refused(data):
    try:
        taken = checked_data(data)
    except InvalidCall as error:
        assert error.field.startswith(("data", "a name in data"))
        assert (error.field, error.reason) == refusal_when_encoded(data)
    else:
        assert repr(taken) == repr(json.loads(json.dumps(taken, allow_nan=False)))
        assert repr(taken) == repr(json.loads(encoded_data(data).encode()))


@given(st.dictionaries(st.just("key"), careless, min_size=1, max_size=1))
def test_a_refusal_is_the_same_for_another_value_of_the_same_kind(data):
    """So it cannot hold the value: what differs is the type, the way and the limit."""
    marked = json_like_marks(data)
    try:
        checked_data(marked)
    except InvalidCall as error:
        assert "canary" not in f"{error} {error!r} {error.args} {error.__cause__}"


def json_like_marks(value: Any) -> Any:
    """The same with every text and bytes that is a value marked; names are allowed in messages."""
    if isinstance(value, dict):
        return {name: json_like_marks(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_like_marks(item) for item in value]
    if type(value) is str:
        return "canary" + value
    return b"canary" + value if isinstance(value, bytes) else value


def test_what_the_caller_changes_afterwards_changes_nothing():
    inner: list[Any] = [1, {"x": [2]}]
    data: dict[str, Any] = {"a": inner, "b": {"c": inner}}
    taken, said = checked_data(data), encoded_data(data)
    inner[1]["x"].append(object())
    inner.clear()
    data["b"]["c"] = float("nan")
    data.clear()

    assert {"a": [1, {"x": [2]}], "b": {"c": [1, {"x": [2]}]}} == taken == json.loads(said)

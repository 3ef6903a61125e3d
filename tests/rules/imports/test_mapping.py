"""Maps of rows: what each rule does, to rows of any tool and of one's own, and what is no map."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async.imports import Conversion, InvalidMapping, RowMapping, mapping_from, mapping_of
from userpilot_async.imports._carrying import sort
from userpilot_async.imports._mapping import KINDS
from userpilot_async.imports._reading import Line
from userpilot_async.imports.converters._rows import Converted, Rows

AT = "2024-12-01T08:55:43Z"


def mapped(toml: str, *rows: dict[str, Any]) -> Rows:
    found = Rows()
    found.extend(rows)
    return mapping_from(tomllib.loads(toml)).applied(found)


def row(kind: str, /, **properties: Any) -> dict[str, Any]:
    return {"event_type": KINDS[kind], "metadata": properties}


def test_events_are_renamed_and_left_out():
    toml = '[events]\ndrop = ["beat"]\n[events.rename]\n"Signed Up" = "signed_up"'
    rows = mapped(toml, *({"event_type": "track", "event_name": name} for name in ("beat", "Signed Up", "other")))

    assert ["signed_up", "other"] == [one["event_name"] for one in rows]
    assert "`beat`: dropped by the map" == rows.skipped


def test_properties_are_renamed_left_out_and_added_for_all_kinds_and_for_one():
    toml = """
    [properties]
    drop = ["ip"]
    [properties.rename]
    Plan = "plan"
    [properties.constant]
    origin = "amplitude"
    [properties.users]
    drop = ["email"]
    [properties.events.constant]
    origin = "events"
    """
    rows = mapped(toml, *(row(kind, ip=1, Plan="pro", email="x", seats=3) for kind in KINDS))
    by_kind = {one["event_type"]: one["metadata"] for one in rows}

    assert {"plan": "pro", "seats": 3, "origin": "amplitude"} == by_kind["identify_user"]
    assert {"plan": "pro", "seats": 3, "email": "x", "origin": "events"} == by_kind["track"]
    assert {"plan": "pro", "seats": 3, "email": "x", "origin": "amplitude"} == by_kind["page_view"]
    assert by_kind["page_view"] == by_kind["identify_company"]
    assert ["the property `ip`: dropped by the map", "the property `email`: dropped by the map"] == rows.notes


def test_names_are_exchanged_at_once():
    (one,) = mapped('[properties.rename]\na = "b"\nb = "a"', row("events", a=1, b=2))

    assert {"b": 1, "a": 2} == one["metadata"]


def test_a_name_that_another_property_gets_gives_way_and_is_said():
    rows = mapped('[properties.rename]\na = "b"', row("events", a=1, b=2))

    assert {"b": 1} == rows[0]["metadata"]
    assert ["the property `b`: replaced by `a`, which the map gives its name"] == rows.notes


@pytest.mark.parametrize(("value", "company"), [("acme", "acme"), (7, "7"), (None, "old"), ("", "old")])
def test_the_company_key_names_the_company(value, company):
    rows = [{**row(kind, org=value), "company_id": "old"} for kind in ("users", "events", "pages", "companies")]
    found = mapped('company_key = "org"', *rows)

    assert [company] * 3 + ["old"] == [one["company_id"] for one in found]
    assert [{}] * 3 + [{"org": value}] == [one["metadata"] for one in found]


def test_a_company_key_that_is_no_id_is_a_refused_row():
    conversion = Conversion(mapping=mapping_from({"company_key": "org"}))
    fields = {**row("events", org=True), "user_id": "u", "event_name": "e", "inserted_at": AT}
    (taken,) = sort([Line(1, fields, None, "")], conversion, strict=False)

    assert [("company_id", [])] == [(one.field, taken.rows) for one in taken.refusals]


def test_a_property_that_gives_way_still_does_under_its_new_name():
    (one,) = mapped('[properties.rename]\na = "b"', Converted(row("users", a=1), ["a"], implied=True))

    assert isinstance(one, Converted)
    assert (frozenset({"b"}), True) == (one.once, one.implied)


def test_a_large_property_can_be_left_out_before_the_row_is_checked():
    conversion = Conversion(mapping=mapping_from({"properties": {"drop": ["blob"]}}))
    fields = {**row("events", blob="x" * 20_000, a=1), "user_id": "u", "event_name": "e", "inserted_at": AT}
    (taken,) = sort([Line(1, fields, None, "")], conversion, strict=False)

    assert [{"a": 1}] == [one["metadata"] for one, *_ in taken.rows]


def test_a_line_of_which_all_is_dropped_is_skipped_by_its_name():
    conversion = Conversion("segment", mapping=mapping_from({"events": {"drop": ["beat"]}}))
    call = {"type": "track", "event": "beat", "userId": "u", "timestamp": AT}
    (taken,) = sort([Line(1, call, None, "")], conversion, strict=False)

    assert ([], [], "`beat`: dropped by the map") == (taken.rows, taken.refusals, taken.skipped)


@pytest.mark.parametrize("metadata", [None, "", 3, "text", [1]])
def test_what_is_no_metadata_is_left_to_the_check(metadata):
    (one,) = mapped('[properties.rename]\na = "b"', {"event_type": "track", "metadata": metadata})

    assert one["metadata"] == (metadata or {})


WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=3)
PROPERTIES = st.dictionaries(WORDS, st.integers() | st.text() | st.none(), max_size=6)


@given(PROPERTIES, st.sets(WORDS, max_size=4), st.lists(WORDS, unique=True, max_size=3))
def test_every_value_is_kept_renamed_or_said(properties, dropped, renamed):
    new = {name: f"new-{name}" for name in renamed if name not in dropped}
    mapping = mapping_from({"properties": {"drop": sorted(dropped), "rename": new}})
    rows = Rows()
    rows.append(row("events", **{}) | {"metadata": dict(properties)})
    found = mapping.applied(rows)

    assert {new.get(name, name): value for name, value in properties.items() if name not in dropped} == found[0][
        "metadata"
    ]
    assert {f"the property `{name}`: dropped by the map" for name in dropped & properties.keys()} == set(found.notes)
    assert dict(properties) == rows[0]["metadata"], "the row that was given stays as it was"


@given(PROPERTIES)
def test_an_empty_map_changes_nothing(properties):
    rows = Rows()
    rows.append({"event_type": "track", "metadata": properties})

    assert rows == RowMapping().applied(rows)


def test_the_digest_is_of_what_is_said_and_not_of_how():
    one = mapping_from(tomllib.loads('[properties]\ndrop = ["a", "b"]\n[properties.constant]\nx = 1\ny = 2'))
    same = mapping_from(tomllib.loads('[properties.constant]\ny = 2\nx = 1\n[properties]\ndrop = ["b", "a"]\n# x'))
    other = mapping_from(tomllib.loads('[properties]\ndrop = ["a"]\n[properties.constant]\nx = 1\ny = 2'))

    assert one.digest == same.digest != other.digest
    assert f"segment, mapped by {one.digest}" == Conversion("segment", mapping=one).words
    assert f"import rows, mapped by {one.digest}" == Conversion(mapping=one).words


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[propertys]", "the map has a key 'propertys'; allowed are company_key, events, properties"),
        ("[events]\nconstant = {}", "events has a key 'constant'; allowed are rename, drop"),
        ("[properties.pages2]", "properties has a key 'pages2'; allowed are rename, drop, constant, users, companies"),
        ("[properties.users.users]", "properties.users has a key 'users'; allowed are rename, drop, constant"),
        ("events = 3", "events must be a table, not a number"),
        ("[properties]\nrename = ['a']", "properties.rename must be a table, not a list"),
        ("[properties]\ndrop = 'a'", "properties.drop must be a list of names, not a text"),
        ("[properties]\ndrop = [1]", "each name in properties.drop must be a name, not a number"),
        ("[properties.rename]\na = 1", "properties.rename.a must be a name, not a number"),
        ("[properties.rename]\na = ''", "properties.rename.a must be a name, not an empty text"),
        ("company_key = []", "company_key must be a name, not a list"),
        ("[properties.constant]\na = 1979-05-27", "properties.constant.a must be a text, a number, true or false"),
        ("[properties.constant]\na = nan", "properties.constant.a is no value of a property"),
        ("[properties.constant]\nlast_seen_at = 'x'", "properties.constant: 'last_seen_at' is reserved"),
        ("[properties.users.rename]\na = 'first_seen_at'", "properties.users.rename.a: 'first_seen_at' is reserved"),
        ("[properties.rename]\na = 'x'\nb = 'x'", "properties: 'a' and 'b' are both renamed to 'x': one is allowed"),
        ("[events.rename]\na = 'x'\nb = 'x'", "events: 'a' and 'b' are both renamed to 'x'"),
        ("[properties.rename]\na='x'\n[properties.users.rename]\nb='x'", "properties.users: 'a' and 'b' are both"),
        ("[properties.rename]\na='x'\n[properties.constant]\nx=1", "'a' is renamed to 'x', which is a constant"),
        ("[properties]\ndrop=['a']\n[properties.rename]\na='x'", "'a' is renamed and dropped: one of the two"),
        ("[properties]\ndrop=['a']\n[properties.users]\ndrop=['a']", "properties.users and properties both have"),
        ("company_key='o'\n[properties]\ndrop=['o']", "company_key is 'o', and properties.users has another rule"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_said_with_its_key_and_what_is_allowed(tmp_path, toml, words):
    path = tmp_path / "map.toml"
    path.write_text(toml)
    with pytest.raises(InvalidMapping) as error:
        mapping_of(path)

    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_toml_is_said(tmp_path):
    path = tmp_path / "map.toml"
    for content in (b"[events", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InvalidMapping, match="is not TOML"):
            mapping_of(path)

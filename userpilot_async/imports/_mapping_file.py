"""The file of a map: TOML, checked as a whole before any row is read."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from .._calls.values import MAX_NAME, checked_event_name, converted_value
from .._errors.tree import InvalidCall, UserpilotError
from .._userpilot.reserved import KEPT
from ._mapping import KINDS, PropertyRules, RowMapping

_TOP = ("company_key", "events", "properties")
_OF_EVENTS = ("rename", "drop")
_OF_PROPERTIES = ("rename", "drop", "constant")


class InvalidMapping(UserpilotError):
    """A map that cannot be used: the text says where it is wrong, and what is allowed there."""


def mapping_of(path: str | PathLike[str]) -> RowMapping:
    """The map in a TOML file; raises `InvalidMapping` for what is no map, and `OSError`."""
    place = Path(path)
    try:
        return mapping_from(tomllib.loads(place.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidMapping(f"{place} is not TOML: {error}") from error
    except InvalidMapping as error:
        raise InvalidMapping(f"{place}: {error}") from error


def mapping_from(said: Mapping[str, Any]) -> RowMapping:
    """The map that a TOML document says; raises `InvalidMapping` for the first fault in it."""
    _only(said, _TOP, "the map")
    key = said.get("company_key")
    if key is not None:
        _name(key, "company_key")
    events = _table(said, "events", "events")
    _only(events, _OF_EVENTS, "events")
    rename, drop = _renames(events, "events", event=True), _names(events, "events")
    _no_clash(rename, drop, {}, "events")
    properties = _table(said, "properties", "properties")
    _only(properties, (*_OF_PROPERTIES, *KINDS), "properties")
    general = _rules(properties, "properties")
    of_kind: dict[str, PropertyRules] = {}
    for kind in KINDS:
        table = _table(properties, kind, f"properties.{kind}")
        where = f"properties.{kind}"
        _only(table, _OF_PROPERTIES, where)
        own = _rules(table, where)
        for name in (*own.rename, *own.drop):
            if name in general.rename or name in general.drop:
                raise InvalidMapping(f"{where} and properties both have a rule for {name!r}: one is allowed")
        both = general.with_more(own)
        if kind != "companies" and key is not None and (key in both.rename or key in both.drop):
            raise InvalidMapping(f"company_key is {key!r}, and {where} has another rule for it: one is allowed")
        _no_clash(both.rename, both.drop, both.constant, where)
        of_kind[kind] = own
    return RowMapping(company_key=key, rename_events=rename, drop_events=drop, properties=general, of_kind=of_kind)


def _rules(table: Mapping[str, Any], where: str) -> PropertyRules:
    constant = _table(table, "constant", f"{where}.constant")
    for name, value in constant.items():
        _property(name, f"{where}.constant")
        if not isinstance(value, (str, int, float)):
            raise InvalidMapping(
                f"{where}.constant.{name} must be a text, a number, true or false, not {_kind_of(value)}"
            )
        try:
            converted_value(value, name)
        except InvalidCall as error:
            raise InvalidMapping(f"{where}.constant.{name} is no value of a property: it {error.reason}") from error
    rename, drop = _renames(table, where), _names(table, where)
    _no_clash(rename, drop, constant, where)
    return PropertyRules(rename=rename, drop=drop, constant=constant)


def _renames(table: Mapping[str, Any], where: str, *, event: bool = False) -> dict[str, str]:
    where = f"{where}.rename"
    found = _table(table, "rename", where)
    for name, new in found.items():
        _name(new, f"{where}.{name}")
        if event:
            try:
                checked_event_name(new)
            except InvalidCall as error:
                raise InvalidMapping(f"{where}.{name} is no name of an event: it {error.reason}") from error
        else:
            _property(new, f"{where}.{name}")
    return dict(found)


def _names(table: Mapping[str, Any], where: str) -> frozenset[str]:
    found = table.get("drop", [])
    if not isinstance(found, list):
        raise InvalidMapping(f"{where}.drop must be a list of names, not {_kind_of(found)}")
    for name in found:
        _name(name, f"each name in {where}.drop")
    return frozenset(found)


def _no_clash(
    rename: Mapping[str, str], drop: frozenset[str], constant: Mapping[str, Any], where: str
) -> None:  # fmt: skip
    both = sorted(drop & rename.keys())
    if both:
        raise InvalidMapping(f"{where}: {both[0]!r} is renamed and dropped: one of the two is allowed")
    there: dict[str, str] = {}
    for name, new in rename.items():
        if new in there:
            raise InvalidMapping(f"{where}: {there[new]!r} and {name!r} are both renamed to {new!r}: one is allowed")
        if new in constant:
            raise InvalidMapping(f"{where}: {name!r} is renamed to {new!r}, which is a constant: one is allowed")
        there[new] = name


def _property(name: str, where: str) -> None:
    """Raise for a name that no property can have."""
    if name in KEPT:
        raise InvalidMapping(f"{where}: {name!r} is reserved, because Userpilot sets it itself: any other is allowed")
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidMapping(f"{where}: a property's name has {len(name):,} characters; 1 to {MAX_NAME} are allowed")


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise InvalidMapping(f"{where} must be a table, not {_kind_of(found)}")
    return found


def _only(table: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise InvalidMapping(f"{where} has a key {key!r}; allowed are {', '.join(allowed)}")


def _name(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value:
        said = "an empty text" if value == "" else _kind_of(value)
        raise InvalidMapping(f"{where} must be a name, not {said}")


def _kind_of(value: object) -> str:
    """The type of a value as TOML calls it."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or a time")

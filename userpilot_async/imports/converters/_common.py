"""Readers for what all tools' exports share: nested properties, ids that are numbers, fields that are absent.

Rows made here are unchecked: `checked` is what refuses them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from ..._calls.ndjson import object_on
from ..._calls.values import MAX_INTEGER, MAX_NAME, encode_json
from ..._errors.tree import InvalidCall
from ._rows import Converted, Rows

Exported = dict[str, Any]
"""A JSON object of an export file. `Any`: what is in it is checked before it is used."""

Converter = Callable[[Exported], Rows]

SEGMENTS_GROUP = "[segment] group"  # the type under which Segment's destination for Amplitude puts a group call
COMPANY_GROUPS = ("company", "organization", "organisation", "org", "account", "customer", "tenant", SEGMENTS_GROUP)
"""Where a tool has several types of groups: those that are companies, the likeliest first."""

COLLECTED = "properties that the tool itself collects, and for which rows have no field"
NO_EVENT = "no page, not an event of a person"
JOINS_NOBODY = "Userpilot joins no users"

_PLAIN = frozenset({str, float, bool, type(None)})  # not int: one may be too large
_LONGEST_TYPE = 64  # characters of a type of groups
_DEEPEST = 20  # levels; beyond it a property is JSON text, and an object that is nested 1,000 times over no crash


def row(event_type: str, once: Collection[str] = (), *, implied: bool = False, **fields: Any) -> Converted:
    """An unchecked row; a field that is ``None`` is none. ``once`` and ``implied``: as in `Converted`."""
    fields["event_type"] = event_type
    return Converted(fields, once, implied=implied)


def attempt(make: Callable[[], dict[str, Any]]) -> dict[str, Any] | InvalidCall:
    """The metadata of a row, or why it has none: that is raised when the row is checked, and other rows stay good."""
    try:
        return make()
    except InvalidCall as error:
        return error


def members(exported: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object of that name, also where it is JSON in a text; empty if there is none; raises `InvalidCall`."""
    value = exported.get(name)
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            return object_on(value)
        except InvalidCall:
            raise InvalidCall(name, "must be a JSON object") from None
    if not isinstance(value, dict):
        raise InvalidCall(name, f"must be an object, not {type(value).__name__}")
    return value


def inner(exported: Mapping[str, Any], name: str) -> dict[str, Any]:
    """As `members` where nothing hangs on it: empty if it is anything else."""
    value = exported.get(name)
    return value if isinstance(value, dict) else {}


def named(exported: Mapping[str, Any], field: str) -> str:
    """The text that says which event this is; raises `InvalidCall`."""
    value = exported.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidCall(field, "is missing" if value is None or value == "" else "must be str")
    return value


def identity(*candidates: object) -> str | None:
    """The first that is an id; a number is one, too."""
    for value in candidates:
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def is_device(user_id: str) -> bool:
    """Whether it is an id that Mixpanel has given to a device, of which nobody is known yet."""
    return user_id.startswith("$device:")


def one_of(value: object) -> str | None:
    """An id, or the first of several: a user belongs to one company."""
    return identity(*value) if isinstance(value, list) else identity(value)


def first(exported: Mapping[str, Any], *names: str) -> Any:
    """The first of these members that is there, as it is."""
    for name in names:
        value = exported.get(name)
        if value is not None:
            return value
    return None


def text(*candidates: object) -> str | None:
    """The first that is a text with something in it."""
    for value in candidates:
        if isinstance(value, str) and value:
            return value
    return None


def country(value: object) -> str | None:
    """A code of two letters; a country's name is none."""
    return value if isinstance(value, str) and len(value) == 2 and value.isalpha() else None


def country_name(value: object) -> dict[str, str]:
    """The property for a country that is named in words, for which rows have no field; none for a code."""
    return {"country": value} if isinstance(value, str) and value and country(value) is None else {}


def pixels(value: object) -> int | None:
    """A size of a screen; tools that know fractions of a pixel are rounded."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_INTEGER:
        return None
    return round(value)


def page(url: object, hostname: object = None, pathname: object = None) -> dict[str, str]:
    """Where it happened: `url` if it is a whole one, else `hostname` and `pathname` if both are there."""
    if isinstance(url, str) and "://" in url:
        return {"url": url}
    if isinstance(hostname, str) and hostname and isinstance(pathname, str) and pathname:
        return {"hostname": hostname, "pathname": pathname}
    return {}


def screen(name: object, *apps: object) -> dict[str, str]:
    """A screen of an app as a page: the app's id for a host, the screen's name for a path."""
    return {"hostname": text(*apps) or "app", "pathname": f"/{text(name) or ''}"}


def company_in(groups: Mapping[str, Any], named: str | None, rows: Rows) -> tuple[str | None, str | None]:
    """The type and the id of the group that is a company: of ``{"company": "acme"}`` or ``{"org id": ["acme"]}``.

    ``named``: the type that the caller calls so; else it is guessed. What it took, and did not, is noted in ``rows``.
    """
    if not groups:
        return None, None
    if named is not None:
        taken = next((name for name in groups if is_named(name, named)), None)
    else:
        kinds = {name: kind for name in groups if (kind := company_type(name))}
        taken = min(kinds, key=lambda name: COMPANY_GROUPS.index(kinds[name]), default=None)
    for name in groups:
        if name != taken:
            rows.note(other_group(name))
    if taken is None:
        return None, None
    rows.note(f"the group `{short(taken)}` is taken for the company")
    ids = groups[taken]
    if isinstance(ids, list) and len(ids) > 1:
        rows.note(f"further ids of the group `{short(taken)}`: a user belongs to one company")
    return taken, one_of(ids)


def is_company(kind: str, named: str | None) -> bool:
    """Whether groups of this type are companies: the type ``named`` so by the caller, else one of `COMPANY_GROUPS`."""
    return company_type(kind) is not None if named is None else is_named(kind, named)


def is_named(kind: str, named: str) -> bool:
    """Whether two names of a group type differ in their case only."""
    return kind == named or kind.lower() == named.lower()


def other_group(kind: str) -> str:
    """The words for a group that is left out."""
    return f"the group `{short(kind)}`: not the company (--company-group names the one that is)"


def short(name: str) -> str:
    """A name of the tool's for a message, however long it is."""
    return name if len(name) <= _LONGEST_TYPE else f"{name[:_LONGEST_TYPE]}…"


def company_type(name: str) -> str | None:
    """The one of `COMPANY_GROUPS` that a group type is, in any spelling: ``Company``, ``org id``, ``account_name``."""
    return _company_type(name) if len(name) <= _LONGEST_TYPE else None


@lru_cache(maxsize=256)  # types of groups are few, and asked for with every event
def _company_type(name: str) -> str | None:
    plain = name.lower().removesuffix("id").removesuffix("name").rstrip(" _-").removesuffix("s")
    return plain if plain in COMPANY_GROUPS else None


def flat(
    properties: Mapping[str, Any],
    without: Collection[str] = (),
    own: tuple[str, ...] = (),
    notes: Rows | None = None,
) -> dict[str, Any]:
    """Properties as Userpilot takes them: a nested one as ``a.b``, an array as JSON text, a huge integer as text.

    ``without``: names that went elsewhere. ``own``: how names begin that the tool itself gives; that there are some is
    said in ``notes``.
    """
    result: dict[str, Any] = {}
    collected = False
    for name, value in properties.items():
        if name in without:
            continue
        if name.startswith(own):
            collected = True
        elif type(value) in _PLAIN:
            result[name] = value
        else:
            _flatten(name, value, result, _DEEPEST)
    if collected and notes is not None:
        notes.note(COLLECTED)
    return result


def _flatten(name: str, value: object, result: dict[str, Any], levels: int) -> None:
    if isinstance(value, dict) and levels:
        if len(name) > MAX_NAME:  # before each of its members gets it
            raise InvalidCall("metadata", f"has a name of {len(name):,} characters; the limit is {MAX_NAME}")
        for inner_name, inner_value in value.items():
            _flatten(f"{name}.{inner_name}", inner_value, result, levels - 1)
    elif isinstance(value, (dict, list)):
        try:
            result[name] = encode_json(value)
        except ValueError:  # NaN or Infinity, which Python's reader takes
            raise InvalidCall("metadata", "has a number that is not finite; JSON has no NaN or Infinity") from None
        except RecursionError:  # the reader goes deeper than the writer
            raise InvalidCall("metadata", "is nested too deeply") from None
    elif isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        result[name] = str(value)
    else:
        result[name] = value

"""Lines of other tools' exports in the shapes that they have, also spoilt at random, and what an import makes of them.

The shapes are those of the vendors' own samples and of public repositories; the values are made up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import attrs
from hypothesis import strategies as st

from tests.harness.examples.strategies import json_values
from userpilot_async.imports._carrying import carry, sort
from userpilot_async.imports._conversion import Conversion
from userpilot_async.imports._identity_store import IdentityStore
from userpilot_async.imports._journal import Journal
from userpilot_async.imports._profiles import Profiles
from userpilot_async.imports._reading import Line
from userpilot_async.imports._schema import About, Progress
from userpilot_async.imports.converters._identities import IDENTITIES

AT = "2021-01-03T17:02:53.193Z"
CREATED = "2019-10-17T08:00:00.000Z"


@attrs.frozen
class Outcome:
    """The rows of some lines as they are uploaded, and what was counted and refused."""

    rows: list[dict[str, Any]]
    counts: Progress
    refused: list[tuple[int, str, str]]
    lines: list[int]
    """The number of the line that each row is of."""

    def of(self, *fields: str, kind: str | None = None) -> list[tuple[Any, ...]]:
        return [tuple(row.get(name) for name in fields) for row in self.rows if kind in (None, row["event_type"])]

    def users(self) -> list[Any]:
        return [row["metadata"] for row in self.rows if row["event_type"] == "identify_user"]

    def companies(self) -> list[tuple[Any, Any]]:
        return [(row["company_id"], row["metadata"]) for row in self.rows if row["event_type"] == "identify_company"]

    def events(self) -> list[Any]:
        return [row["metadata"] for row in self.rows if row["event_type"] in ("track", "page_view")]


def imported(tool: str | None, *lines: Mapping[str, Any], **options: Any) -> Outcome:
    """What an import of these lines sends and reports; ``options`` are those of the `Conversion`."""
    journal, store = Journal(None), IdentityStore()
    journal.begin(About(name="n", source="s"), 1_000)
    conversion = Conversion(tool, **options)
    if conversion.anonymous == "join":
        assert tool is not None
        for line in lines:
            store.learn(IDENTITIES[tool](deepcopy(dict(line))).links)
        conversion = conversion.joined(store)
    numbered = [Line(number, deepcopy(dict(line)), None, json.dumps(line)) for number, line in enumerate(lines, 1)]
    counts, refusals = Progress(max_bytes=0), []  # type: ignore[var-annotated]
    with journal.change():
        these = sort(numbered, conversion, strict=False)
        found = list(carry(counts, these, Profiles(journal.connection), refusals, strict=False))
    journal.close()
    store.close()
    refused = [(one.line, one.field, one.reason) for one in refusals]
    return Outcome([row for _, row in found], counts, refused, [line.number for line, _ in found])


def segment(kind: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "userId": "u1", "timestamp": AT, **fields}


def posthog(event: str, /, person: Any = None, **properties: Any) -> dict[str, Any]:
    return {
        "uuid": "018f", "event": event, "distinct_id": "u1", "person_id": "p-1", "elements_chain": "",
        "timestamp": "2024-12-01T08:55:43.220000+00:00", "_inserted_at": "2024-12-01T10:00:00+00:00",
        "person_properties": person or {}, "properties": properties,
    }  # fmt: skip


def amplitude(event: str, /, at: str = "2022-01-11 10:02:23.085000", **fields: Any) -> dict[str, Any]:
    return {
        "$insert_id": "i", "amplitude_id": 1, "event_type": event, "event_time": at, "user_id": "3762",
        "device_id": "d-1", "platform": "Web", "os_name": "Chrome", "device_family": None, "device_type": None,
        "country": None, "language": None, "event_properties": {}, "user_properties": {}, "group_properties": {},
        "groups": {}, **fields,
    }  # fmt: skip


def mixpanel(event: str, /, **properties: Any) -> dict[str, Any]:
    return {"event": event, "properties": {"time": 1602611311, "distinct_id": "u1", "mp_lib": "web", **properties}}


_BOTH = {"anonymousId": "a1"}
_NOBODY = {"userId": None, "anonymousId": "a1"}
SHAPES: dict[str, list[dict[str, Any]]] = {
    "segment": [
        segment(
            "identify", traits={"createdAt": CREATED, "company": {"id": "c", "n": 1}}, context={"traits": {"a": 1}}
        ),
        segment("group", groupId="g", traits={"name": "G", "createdAt": CREATED}),
        segment("track", event="e", properties={"a": {"b": [1]}}),
        segment("alias", previousId="a"),
        segment("page", properties={"url": "https://example.com/"}),
        segment("identify", **_BOTH, traits={"plan": "pro"}),
        segment("track", **_NOBODY, event="e"),
        segment("group", **_NOBODY, groupId="g", traits={"name": "G"}),
    ],
    "rudderstack": [
        {"payload": segment("track", event="e"), "createdAt": AT, "messageId": "m", "userId": "u1"},
        {"payload": segment("track", **_NOBODY, event="e"), "createdAt": AT},
        {"payload": segment("identify", **_BOTH), "createdAt": AT},
        segment("screen", name="Home"),
    ],
    "posthog": [
        posthog("$pageview", {"email": "a"}, **{"$current_url": "https://example.com/", "$is_identified": False}),
        posthog("$groupidentify", **{"$group_type": "company", "$group_key": "w", "$group_set": {"n": 1}}),
        posthog("survey sent", **{"$survey_response": "x", "$set": {"a": 1}, "$groups": {"org": "x"}}),
        posthog("$rageclick"),
        posthog("$identify", **{"$anon_distinct_id": "a1", "$set": {"plan": "pro"}}),
        posthog("$create_alias", alias="u1"),
        posthog("$merge_dangerously", alias="a1"),
        {**posthog("e", **{"$device_id": "a1"}), "distinct_id": "a1"},
        {"distinct_id": "u1", "properties": {"a": 1}, "created_at": AT, "is_deleted": False},
    ],
    "amplitude": [
        amplitude("a", groups={"org": ["x"]}, group_properties={"org": {"x": {"a": 1}}}, user_properties={"p": 1}),
        amplitude("$identify", user_properties={"$setOnce": {"a": 1}, "$add": {"b": 1}}),
        amplitude("session_start", user_creation_time=AT),
        amplitude("[Amplitude] Page Viewed", event_properties={"[Amplitude] Page URL": "https://example.com/"}),
        amplitude("a", user_id=None, user_properties={"[Segment] Group": "g", "role": "x"}),
        amplitude("a", user_id=None, amplitude_id=2, device_family="Windows", device_type="Windows"),
    ],
    "mixpanel": [
        mixpanel("e", **{"$email": "a@example.com", "company_id": "c"}),
        mixpanel("$mp_web_page_view", current_domain="example.com", current_url_path="/"),
        mixpanel("$identify", **{"$identified_id": "u1", "$anon_id": "d"}),
        mixpanel("$create_alias", alias="u1", distinct_id="$device:d"),
        mixpanel("$merge", **{"$distinct_ids": ["u1", "$device:d"]}),
        mixpanel("e", distinct_id="$device:d", **{"$device_id": "d"}),
        mixpanel("e", **{"$device_id": "d", "$user_id": "u1"}),
        mixpanel("e", distinct_id="$device:d", **{"$distinct_id_before_identity": "u77"}),
        {"page": 0, "results": [{"$distinct_id": "u", "$properties": {"$email": "a", "$last_seen": AT}}]},
        {"$distinct_id": "u7", "$properties": {"$email": "e@example.com"}},
        {"$group_key": "company", "$group_id": "red", "$properties": {"n": 1}},
    ],
}
"""Samples of the lines that each tool writes."""

_deep: Any = "x"
for _ in range(60):
    _deep = {"a": _deep}
AWKWARD: list[Any] = [
    None, "", " ", 0, -1, 10**400, 1.5e308, True, "$identify", "$x", "identify", AT, ["a"], {"a": None}, [], {}, _deep,
    "x" * 11_000, {"n" * 300: 1}, [[[1]] * 3], "\u0000", "\u202e\U0001f9a4", "e\u0301" * 5, "\ud83e",
    "a1", "u1", "$device:d", "9999-12-31T23:59:59Z", "0001-01-01", "{\"a\": 1}", "{", 1e20, 1602611311000,
]  # fmt: skip
"""Values that take the place of members: of other types, huge, nested, in strange characters, or another's."""


@st.composite
def mutated(draw: Any, tool: str) -> dict[str, Any]:
    """A line in a real shape, in which some members, at any depth, are something else, gone, or in another order."""
    line: dict[str, Any] = deepcopy(draw(st.sampled_from(SHAPES[tool])))
    for _ in range(draw(st.integers(0, 3))):
        place = line
        while inner := [value for value in place.values() if isinstance(value, dict) and value]:
            if not draw(st.booleans()):
                break
            place = draw(st.sampled_from(inner))
        if not place:
            continue
        name = draw(st.sampled_from(sorted(place)))
        what = draw(st.sampled_from(["drop", "replace", "replace", "swap", "add"]))
        if what == "drop":
            del place[name]
        elif what == "swap":
            place[name] = place.pop(name)
        else:
            value = deepcopy(draw(json_values | st.sampled_from(AWKWARD)))
            place[draw(st.text(max_size=5)) if what == "add" else name] = value
    return line


@st.composite
def files(draw: Any, tool: str) -> list[dict[str, Any]]:
    """Some such lines, of which some are there twice, in any order."""
    lines = draw(st.lists(mutated(tool), max_size=6))
    if lines and draw(st.booleans()):
        lines += [deepcopy(line) for line in draw(st.lists(st.sampled_from(lines), max_size=2))]
    return list(draw(st.permutations(lines)))

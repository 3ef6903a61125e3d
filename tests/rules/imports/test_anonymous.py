"""People who were not known yet: kept, left out, or joined with whom they became, by each tool's word for it."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.exports import amplitude, imported, mixpanel, posthog, segment
from userpilot_async.imports import Conversion, Series, check_file
from userpilot_async.imports._anonymous import DROPPED, JOINED, JOINED_ONE_OF, LEARNT, STAYED, Learning
from userpilot_async.imports._explaining import explanations_of
from userpilot_async.imports._identity_store import Became, IdentityStore
from userpilot_async.imports._physical_lines import UnreadableFile
from userpilot_async.imports.converters._identities import Link


def at(minute):
    return f"2024-12-01T08:{minute:02}:00"


def call(minute, /, anonymous="a1", user=None, **fields):
    ids = {"anonymousId": anonymous, "userId": user}
    return {**segment("track", **ids, event=f"e{minute}"), "timestamp": at(minute), **fields}


def capture(minute, distinct_id, event="e", /, **properties):
    return {**posthog(event, **properties), "distinct_id": distinct_id, "timestamp": at(minute)}


def logged(minute, /, **fields):
    return amplitude(f"e{minute}", at(minute).replace("T", " "), **{"user_id": None, "device_id": "d-1", **fields})


def event(minute, name="e", /, **properties):
    return mixpanel(name, **{"time": 1733040000 + 60 * minute, **properties})


JOINS = {
    "segment, both ids on one line": ("segment", [call(1), call(2, user="u1")]),
    "segment, an alias": ("segment", [call(1), segment("alias", userId="u1", previousId="a1")]),
    "segment, an alias of a known id": (
        "segment", [call(1, user="u0"), segment("alias", userId="u1", previousId="u0")]
    ),
    "segment, through two ids": (
        "segment", [call(1), call(2, user="u0"), segment("alias", userId="u1", previousId="u0")]
    ),
    "segment, a number": ("segment", [call(1, 7), call(2, 7, user="u1")]),
    "rudderstack, in envelopes": ("rudderstack", [{"payload": call(1)}, {"payload": call(2, user="u1")}]),
    "posthog, an identify": (
        "posthog", [capture(1, "a1"), capture(2, "u1", "$identify", **{"$anon_distinct_id": "a1"})]
    ),
    "posthog, an alias": ("posthog", [capture(1, "a1"), capture(2, "u1", "$create_alias", alias="a1")]),
    "posthog, a merge": ("posthog", [capture(1, "a1"), capture(2, "u1", "$merge_dangerously", alias="a1")]),
    "amplitude, a device": ("amplitude", [logged(1), logged(2, user_id="u1", amplitude_id=2)]),
    "amplitude, its own id": ("amplitude", [logged(1), logged(2, user_id="u1", device_id="d-2")]),
    "mixpanel, simplified": (
        "mixpanel",
        [
            event(1, distinct_id="$device:d", **{"$device_id": "d"}),
            event(2, distinct_id="u1", **{"$device_id": "d", "$user_id": "u1"}),
        ],
    ),
    "mixpanel, before identity": (
        "mixpanel",
        [event(1, distinct_id="x"), event(2, distinct_id="u1", **{"$distinct_id_before_identity": "x"})],
    ),
    "mixpanel, an identify": (
        "mixpanel",
        [event(1, distinct_id="d"), event(2, "$identify", **{"$identified_id": "u1", "$anon_id": "d"})],
    ),
    "mixpanel, an alias": (
        "mixpanel", [event(1, distinct_id="d"), event(2, "$create_alias", distinct_id="d", alias="u1")]
    ),
    "mixpanel, a merge": (
        "mixpanel",
        [event(1, distinct_id="$device:d"), event(2, "$merge", **{"$distinct_ids": ["$device:d", "u1"]})],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tool", "lines"), JOINS.values(), ids=JOINS)
def test_what_was_done_before_goes_to_the_person_wherever_the_naming_line_is(tool, lines):
    for order in (lines, lines[::-1]):
        found = imported(tool, *order, anonymous="join")

        assert {("u1",)} == set(found.of("user_id"))
        assert found.counts.notes[JOINED]
        assert not any("joins no users" in kind for kind in found.counts.skipped_by_kind)


@pytest.mark.parametrize(("tool", "lines"), JOINS.values(), ids=JOINS)
def test_without_being_asked_nobody_is_joined(tool, lines):
    first, *_ = imported(tool, *lines).of("user_id")

    assert ("u1",) != first


UNKNOWN = {
    "segment": call(1),
    "rudderstack": {"payload": call(1)},
    "posthog": capture(1, "a1", **{"$is_identified": False}),
    "amplitude": logged(1),
    "mixpanel": event(1, distinct_id="$device:d"),
}


@pytest.mark.parametrize("tool", UNKNOWN)
def test_whoever_became_nobody_is_kept_and_that_is_said(tool):
    found = imported(tool, UNKNOWN[tool], anonymous="join")

    assert imported(tool, UNKNOWN[tool]).rows == found.rows
    assert 1 == found.counts.notes[STAYED]


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        *UNKNOWN.items(),
        ("posthog", capture(1, "a1", **{"$device_id": "a1"})),
        ("mixpanel", event(1, distinct_id="d", **{"$device_id": "d"})),
        ("mixpanel", {"$distinct_id": "$device:d", "$properties": {"$last_seen": at(1)}}),
    ],
)
def test_people_who_were_not_known_can_be_left_out_and_are_counted_by_kind(tool, line):
    found = imported(tool, line, line, anonymous="drop")
    (kind,) = found.counts.skipped_by_kind

    assert [] == found.rows
    assert (kind.startswith("anonymous: `"), kind.endswith(DROPPED), 2) == (True, True, found.counts.skipped)


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("segment", call(1, user="u1")),
        ("posthog", capture(1, "u1", **{"$is_identified": True, "$device_id": "u1"})),
        ("posthog", capture(1, "u1", "$identify", **{"$anon_distinct_id": "a1", "$device_id": "u1"})),
        ("posthog", capture(1, "u1", **{"$process_person_profile": False})),
        ("amplitude", logged(1, user_id="u1")),
        ("mixpanel", event(1, distinct_id="d", **{"$device_id": "d", "$user_id": "u1"})),
    ],
)
def test_people_who_were_known_are_never_left_out(tool, line):
    assert imported(tool, line).rows == imported(tool, line, anonymous="drop").rows


def test_what_an_anonymous_line_says_of_a_company_stays():
    line = segment("group", userId=None, anonymousId="a1", groupId="g", traits={"name": "G"})
    found = imported("segment", line, anonymous="drop")

    assert [("identify_company", "g")] == found.of("event_type", "company_id")
    assert {f"anonymous: `identify_user`, {DROPPED}": 1} == found.counts.notes


def test_on_a_shared_device_what_was_done_goes_to_the_one_who_was_named_next():
    found = imported("amplitude", *(
        logged(minute, user_id={2: "u1", 3: "u1", 6: "u2"}.get(minute), amplitude_id=None) for minute in range(1, 9)
    ), anonymous="join")  # fmt: skip

    assert ["u1", "u1", "u1", "u2", "u2", "u2", "u2", "u2"] == [user for (user,) in found.of("user_id")]
    assert {JOINED_ONE_OF: 5} == found.counts.notes


def test_amplitudes_own_id_of_the_person_is_more_certain_than_the_device():
    lines = [logged(1), logged(2, user_id="u2", amplitude_id=2), logged(3, user_id="u1", amplitude_id=1)]

    assert ["u1", "u2", "u1"] == [user for (user,) in imported("amplitude", *lines, anonymous="join").of("user_id")]


def test_a_device_that_is_called_as_a_user_is_another_thing():
    lines = [
        logged(1, user_id="7", device_id="x", amplitude_id=1),
        logged(2, user_id="9", device_id="7", amplitude_id=2),
    ]

    assert [("7",), ("9",)] == imported("amplitude", *lines, anonymous="join").of("user_id")


def test_posthog_whoever_is_identified_is_not_moved_by_the_next_identify_on_his_browser():
    lines = [
        capture(1, "u1", **{"$is_identified": True}), capture(2, "u2", "$identify", **{"$anon_distinct_id": "u1"}),
    ]  # fmt: skip

    assert ("u1",) == imported("posthog", *lines, anonymous="join").of("user_id")[0]


def test_what_was_known_of_the_anonymous_id_is_known_of_the_person():
    lines = [
        call(1, type="identify", traits={"color": "red"}),
        call(2, user="u1", type="identify", traits={"plan": "pro"}),
    ]

    assert {"color": "red", "plan": "pro"} == imported("segment", *lines, anonymous="join").users()[-1]


def test_a_line_that_only_names_somebody_says_that_it_was_used():
    found = imported("segment", segment("alias", userId="u1", previousId="a"), anonymous="join")

    assert {f"`alias`: {LEARNT}": 1} == found.counts.skipped_by_kind


def naming(tool, anonymous, known):
    """A line of the anonymous id, and one that names it."""
    return {
        "segment": [call(1, anonymous), call(2, anonymous, user=known)],
        "posthog": [capture(1, anonymous), capture(2, known, "$identify", **{"$anon_distinct_id": anonymous})],
        "amplitude": [logged(1, device_id=anonymous), logged(2, device_id=anonymous, user_id=known)],
        "mixpanel": [
            event(1, distinct_id=f"$device:{anonymous}"),
            event(2, distinct_id=known, **{"$device_id": anonymous}),
        ],
    }[tool]


@pytest.mark.parametrize("tool", ["segment", "posthog", "amplitude", "mixpanel"])
@pytest.mark.parametrize("spoilt", ["\ud83e", "x" * 70_000])
def test_an_id_that_no_row_can_have_joins_nobody(tool, spoilt):
    """Not as an anonymous one, for which SQLite could not even be asked, and not as a person's."""
    for ids in ((spoilt, "u1"), ("a1", spoilt)):
        lines = naming(tool, *ids)
        if tool == "amplitude":
            lines = [{**line, "amplitude_id": spoilt} for line in lines]

        assert imported(tool, *lines).rows == imported(tool, *lines, anonymous="join").rows


# ── the store ──

KEYS, PEOPLE = ("device:1", "device:2"), ("u1", "u2", "u3")
moments = st.integers(0, 30).map(at)


@pytest.fixture(scope="module")
def stores():
    made = []

    def store(links, size=3):
        made.append(IdentityStore())
        for first in range(0, len(links), size):
            made[-1].learn(links[first : first + size])
        return made[-1]

    yield store
    for one in made:
        one.close()


def by_all(links, key, moment):
    """The person by each moment that there is: the next one's, or else the last one's."""
    named = {}
    for link in links:
        if link.key == key:
            named.setdefault(link.at, link.known)
    following = [when for when in sorted(named) if when >= moment]
    known = named[following[0] if following else max(named)] if named else None
    return known and Became(known, len(set(named.values())) > 1)


@given(st.lists(st.builds(Link, st.sampled_from(KEYS), st.sampled_from(PEOPLE), moments)), st.integers(1, 9))
def test_of_lines_in_order_the_moments_that_are_kept_decide_as_all_of_them_would(stores, links, size):
    links = sorted(links, key=lambda link: link.at)
    store = stores(links, size)
    for key in KEYS:
        for moment in map(at, range(31)):
            assert by_all(links, key, moment) == store.became("somebody", [key], moment)


@given(st.lists(st.builds(Link, st.sampled_from(KEYS), st.sampled_from(PEOPLE), moments), min_size=1), st.data())
def test_in_any_order_an_id_of_one_person_is_that_persons_and_of_several_one_of_theirs(stores, links, data):
    store = stores(data.draw(st.permutations(links)))
    for key in KEYS:
        people = {link.known for link in links if link.key == key}
        found = store.became("somebody", [key], data.draw(moments))

        assert (not people) if found is None else found.known in people


@given(st.permutations([("a", "b"), ("b", "c"), ("c", "a"), ("x", "a")]))
def test_ids_that_became_each_other_are_one_person(stores, pairs):
    store = stores([Link(f"id:{one}", other, at(1)) for one, other in pairs])

    assert [None, *[Became("a", several=False)] * 3] == [
        store.became(one, [f"id:{one}"], at(0)) for one in ("a", "b", "c", "x")
    ]


def test_a_device_of_everybody_needs_no_more_room_than_its_changes(stores):
    store = stores([Link("device:1", "u1", at(minute)) for minute in range(30)])

    assert [(2,)] == store._connection.execute("SELECT count(*) FROM named").fetchall()


# ── files ──


@pytest.fixture
def written(tmp_path):
    def written(name, *lines):
        path = tmp_path / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return path

    return written


def test_a_later_file_names_the_people_of_an_earlier_one(written):
    paths = [written("day1", call(1)), written("day2", call(2, user="u1"))]
    conversion = Conversion("segment", anonymous="join")

    async def checked(series):
        try:
            reports = [await check_file(path, converted_from=conversion, series=series) for path in paths]
        finally:
            series.close()
        return [dict(report.notes) for report in reports]

    assert [{JOINED: 1}, {}] == anyio.run(checked, Series(*paths))
    assert [{STAYED: 1}, {}] == anyio.run(checked, Series()), "of the files so far only"
    first, _ = explanations_of(paths, conversion)
    assert ["u1"] == [row["user_id"] for row in first.examples[0].rows]


def test_the_first_pass_tells_how_far_it_is_and_names_the_file_that_it_cannot_read(written, tmp_path):
    paths = [written("day1", call(1)), tmp_path / "none.gz"]
    paths[1].write_bytes(b"\x1f\x8b\x08\x00")
    store = IdentityStore()
    learning = Learning(paths, "segment", store)
    size = paths[0].stat().st_size

    assert (False, size, size + 4) == (learning.step(), learning.bytes_read, learning.bytes_total)
    with pytest.raises(UnreadableFile, match=r"none\.gz: the file breaks off"):
        learning.step()
    learning.close()
    store.close()


def test_a_way_that_there_is_not_is_named():
    with pytest.raises(ValueError, match="anonymous must be one of keep, drop, join"):
        Conversion("segment", anonymous="forget")
    with pytest.raises(ValueError, match="name the tool, too"):
        Conversion(anonymous="join")
    assert ["segment", "segment, without anonymous people", "segment, with anonymous people joined"] == [
        Conversion("segment", anonymous=one).words for one in ("keep", "drop", "join")
    ]

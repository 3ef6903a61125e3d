"""Exports in the shapes that they have: what each line gives, and that no line, and no part of one, is lost unsaid.

The shapes are those of the vendors' own samples and of public repositories; the values are made up.
"""

from __future__ import annotations

import pytest

from tests.harness.examples.exports import AT, CREATED, amplitude, imported, mixpanel, posthog, segment
from userpilot_async._errors.tree import InvalidCall
from userpilot_async.emulator._import_rows import import_row_errors
from userpilot_async.imports._carrying import MOST_KINDS, OTHERS, SHORTENED
from userpilot_async.imports._conversion import Conversion
from userpilot_async.imports.converters._convert import CONVERTERS

# ── reserved properties ──


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"createdAt": CREATED}, {"created_at": CREATED}),
        ({"createdAt": CREATED, "created_at": "2018-01-01"}, {"created_at": "2018-01-01"}),
        ({"createdAt": 1571299200}, {"created_at": "2019-10-17T08:00:00Z"}),
        ({"createdAt": 1571299200000}, {"created_at": "2019-10-17T08:00:00Z"}),
        ({"createdAt": True}, {"created_at": True}),
        ({"createdAt": None}, {"created_at": None}),
        ({"firstName": "Jo", "lastName": "Roe"}, {"firstName": "Jo", "lastName": "Roe", "name": "Jo Roe"}),
        ({"first_name": "Jo"}, {"first_name": "Jo", "name": "Jo"}),
        ({"firstName": "Jo", "name": "J."}, {"firstName": "Jo", "name": "J."}),
        ({"firstName": 1, "lastName": ""}, {"firstName": 1, "lastName": ""}),
    ],
)
def test_reserved_properties_have_userpilots_names_from_every_tool(given, sent):
    for tool, line in {
        "segment": segment("identify", traits=given),
        "rudderstack": segment("identify", context={"traits": given}),
        "posthog": posthog("report", person=given),
        "amplitude": amplitude("a", user_properties=given),
        "mixpanel": {"$distinct_id": "u1", "$properties": {"$last_seen": AT, **given}},
    }.items():
        assert [sent] == imported(tool, line).users(), tool


def test_half_a_name_does_not_overrule_a_whole_one():
    found = imported(
        "segment", segment("identify", traits={"name": "Jo Roe"}), segment("identify", traits={"firstName": "Joan"})
    )

    assert {"name": "Jo Roe", "firstName": "Joan"} == found.users()[-1]


def test_a_companys_created_at_too():
    found = imported(
        "segment",
        segment("group", groupId="g1", traits={"name": "Apfel", "createdAt": CREATED}),
        segment("identify", traits={"company": {"id": "g2", "createdAt": CREATED}}),
    )

    assert [("g1", {"name": "Apfel", "created_at": CREATED}), ("g2", {"created_at": CREATED})] == found.companies()


def test_traits_in_both_places_merge_and_their_own_place_wins():
    call = segment("identify", traits={"name": "Jo"}, context={"traits": {"rating": "Hot", "name": "J."}})

    assert [{"rating": "Hot", "name": "Jo"}] == imported("segment", call).users()


# ── PostHog ──


def test_posthog_the_person_of_an_event_arrives_once():
    person = {"email": "a@example.com", "plan": "pro", "$initial_os": "Linux"}
    found = imported("posthog", posthog("report", person), posthog("report", person), posthog("$autocapture", person))

    assert [("identify_user",), ("track",), ("track",)] == found.of("event_type")
    assert [{"email": "a@example.com", "plan": "pro"}] == found.users()
    assert (2, 1) == (found.counts.with_rows, found.counts.skipped), "the third says nothing new"


def test_posthog_sets_and_unsets_count_in_their_order():
    found = imported(
        "posthog",
        posthog("a", {"plan": "free"}, **{"$set_once": {"first": 1, "plan": "x"}}),
        posthog("b", {"plan": "free", "first": 1}, **{"$set": {"plan": "pro"}, "$set_once": {"first": 2}}),
        posthog("c", {"plan": "pro", "first": 1}, **{"$unset": ["plan"]}),
    )

    assert [{"plan": "free", "first": 1}, {"plan": "pro", "first": 1}, {"plan": None, "first": 1}] == found.users()


def test_posthog_what_a_survey_was_answered_stays():
    answers = {"$survey_id": "s1", "$survey_response": "good", "$survey_response_q2": 4, "amount": 2}

    assert [answers] == imported("posthog", posthog("survey sent", **answers, **{"$lib": "web"})).events()


def test_posthog_a_person_of_its_own_export():
    person = {
        "team_id": 1, "distinct_id": "u1", "person_id": "p", "properties": {"email": "a@example.com"},
        "created_at": "2024-11-01T00:00:00.000000+00:00", "is_deleted": False,
    }  # fmt: skip
    found = imported("posthog", person, {**person, "is_deleted": True})

    assert [("identify_user", "u1", "2024-11-01T00:00:00.000000Z")] == found.of("event_type", "user_id", "inserted_at")
    assert {"`is_deleted`: a person that was deleted there": 1} == found.counts.skipped_by_kind


# ── Amplitude ──


def test_amplitude_segments_group_is_the_company_and_that_is_said():
    found = imported(
        "amplitude",
        amplitude(
            "load",
            user_properties={"[Segment] Group": "org-9", "role": "Member"},
            group_properties={"[Segment] Group": {"org-9": {"plan": "FREE"}}},
            groups={"[Segment] Group": ["org-9"], "team": ["red", "blue"]},
        ),
    )

    assert [("org-9", {"plan": "FREE"})] == found.companies()
    assert [("org-9",)] * 3 == found.of("company_id")
    assert [{"role": "Member"}] == found.users()
    assert {
        "the group `[Segment] Group` is taken for the company": 1,
        "the group `team`: not the company (--company-group names the one that is)": 1,
    } == found.counts.notes


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ("amplitude", amplitude("a", groups={"Team": "red", "company": "acme"})),
        ("posthog", posthog("a", **{"$groups": {"company": "acme", "Team": "red"}})),
        ("posthog", posthog("$groupidentify", **{"$group_type": "Team", "$group_key": "red", "$group_set": {"n": 1}})),
        ("mixpanel", mixpanel("a", company_id="acme", team="red")),
        ("mixpanel", {"$group_key": "team", "$group_id": "red", "$properties": {"n": 1}}),
    ],
)
def test_the_company_group_can_be_named(tool, line):
    assert {("red",)} == set(imported(tool, line, company_group="team").of("company_id"))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"device_family": "Windows", "device_type": "Windows"}, ("Chrome", "Windows", None, None)),
        ({"os_name": "Safari", "device_family": "Mac OS"}, ("Safari", "Mac OS X", None, None)),
        ({"device_family": "iOS", "device_type": "Apple iPhone"}, ("Chrome", "iOS", "Apple iPhone", None)),
        ({"language": "de-AT"}, ("Chrome", None, None, "de-AT")),
        ({"language": "EMPTY", "device_type": "EMPTY", "os_name": "EMPTY"}, (None, None, None, None)),
        ({"platform": "iOS", "os_name": "ios", "device_type": "Apple iPhone"}, (None, "ios", "Apple iPhone", None)),
    ],
)
def test_amplitude_the_columns_of_a_browser(given, sent):
    found = imported("amplitude", amplitude("a", **given))

    assert [sent] == found.of("browser", "operating_system", "device_type", "browser_language")


def test_amplitude_words_go_into_properties_and_empty_is_none():
    event = amplitude(
        "a",
        country="United States",
        language="English",
        event_properties={"x": "EMPTY", "y": 1},
        user_properties={"initial_utm_source": "EMPTY", "plan": "pro"},
    )
    found = imported("amplitude", event)
    words = {"country": "United States", "language": "English"}

    assert [{"y": 1, **words}] == found.events()
    assert [{"plan": "pro", **words}] == found.users()
    assert {"properties with the value EMPTY, Amplitude's word for none": 1} == found.counts.notes


@pytest.mark.parametrize("tool", ["segment", "posthog", "mixpanel"])
def test_a_country_in_words_is_a_property_of_any_tool(tool):
    line = {
        "segment": segment("track", event="e", context={"location": {"country": "Ireland"}}),
        "posthog": posthog("e", **{"$geoip_country_name": "Ireland"}),
        "mixpanel": mixpanel("e", mp_country_code="Ireland"),
    }[tool]

    assert [{"country": "Ireland"}] == imported(tool, line).events()


def test_amplitude_the_first_set_once_wins_and_a_set_wins_over_it():
    def identify(day, **operations):
        return amplitude("$identify", f"2022-01-{day} 10:00:00", user_properties=operations)

    found = imported(
        "amplitude",
        identify(11, **{"$setOnce": {"first": "a"}}),
        identify(12, **{"$setOnce": {"first": "b", "other": 1}}),
        identify(13, **{"$unset": {"first": "-"}}),
        identify(14, **{"$setOnce": {"first": "c"}}),
        identify(15, **{"$set": {"first": "d"}, "$add": {"logins": 1}}),
        identify("01", **{"$setOnce": {"other": 0}}),
    )

    assert ["a", "a", None, "c", "d"] == [user["first"] for user in found.users()[:5]]
    assert {"first": "d", "other": 0} == found.users()[-1], "the first by its own time"
    assert {"the operation `$add`: it adds to a value that the export has not": 1} == found.counts.notes


def test_amplitude_sessions_are_no_events_and_creation_is_said_once():
    created = "2022-01-05 10:00:06.904000"
    names = ("session_start", "a", "b", "session_end", "[Amplitude] Element Clicked")
    found = imported("amplitude", *(amplitude(name, user_creation_time=created) for name in names))

    assert [("a",), ("b",)] == found.of("event_name", kind="track")
    assert [{"created_at": "2022-01-05T10:00:06.904Z"}] == found.users()
    assert (2, 3) == (found.counts.with_rows, found.counts.skipped)


# ── Mixpanel ──


def test_mixpanel_the_address_of_an_event_is_its_users():
    found = imported("mixpanel", mixpanel("Signed up", **{"$email": "a@example.com", "$name": "Ann"}))

    assert [{"name": "Ann", "email": "a@example.com"}] == found.users()
    assert [{}] == found.events()


@pytest.mark.parametrize(
    ("ids", "user_id"),
    [
        ({"distinct_id": "$device:abc", "$distinct_id_before_identity": "u77"}, "u77"),
        ({"distinct_id": "u77", "$distinct_id_before_identity": "$device:abc"}, "u77"),
        ({"distinct_id": "$device:a", "$distinct_id_before_identity": "$device:b"}, "$device:a"),
        ({"distinct_id": "$device:a", "$user_id": "u7", "$distinct_id_before_identity": "u8"}, "u7"),
    ],
)
def test_mixpanel_a_merged_person_has_the_id_that_the_application_knows(ids, user_id):
    assert [(user_id,)] == imported("mixpanel", mixpanel("e", **ids)).of("user_id")


def test_mixpanel_a_page_without_its_url():
    page = mixpanel("$mp_web_page_view", current_domain="example.com", current_url_path="/home")

    assert [("page_view", "example.com", "/home")] == imported("mixpanel", page).of(
        "event_type", "hostname", "pathname"
    )


def test_mixpanel_a_page_of_profiles_and_one_without_a_time():
    dated = {"$distinct_id": "u8", "$properties": {"$last_seen": "2024-06-09T23:08:40", "$email": "x@example.com"}}
    undated = {"$distinct_id": "u7", "$properties": {"$email": "e@example.com"}}
    found = imported("mixpanel", {"page": 0, "results": [dated, undated], "status": "ok"}, {"results": []})

    assert [("u8",), ("u7",)] == found.of("user_id")
    assert "profiles without `$last_seen` and `$created`: dated with the time of this conversion" in found.counts.notes
    assert 1 == found.counts.skipped


def test_mixpanel_a_profile_of_a_group_is_no_user():
    def profile(key):
        return {"$distinct_id": "acme", "$properties": {"$group_key": key, "$name": "Acme", "$last_seen": AT}}

    found = imported("mixpanel", profile("company"), profile("team"))

    assert [("acme", {"name": "Acme"})] == found.companies()
    assert (1, 1, 0) == (found.counts.with_rows, found.counts.skipped, len(found.users()))


# ── RudderStack ──


def test_rudderstack_a_call_in_an_envelope():
    call = {"type": "track", "userId": "u1", "event": "e", "properties": {"a": 1}}
    envelope = {"userId": "u1", "payload": call, "createdAt": AT, "messageId": "m"}

    assert [("u1", "e", AT)] == imported("rudderstack", envelope).of("user_id", "event_name", "inserted_at")


# ── a line, and what becomes of it ──

TOO_LARGE = {"x": "y" * 11_000, "small": 1}


@pytest.mark.parametrize(
    ("tool", "line", "field"),
    [
        ("amplitude", amplitude("Big", user_properties={"p": 1}, event_properties=TOO_LARGE), "metadata"),
        ("amplitude", amplitude("[Amplitude] Page Viewed", user_properties={"p": 1}), "hostname"),
        ("amplitude", amplitude("a", user_properties={"p": 1}, event_properties={"n" * 300: {"a": 1}}), "metadata"),
        ("posthog", posthog("Big", {"p": 1}, **TOO_LARGE), "metadata"),
        ("posthog", posthog("$pageview", {"p": 1}), "hostname"),
        ("mixpanel", mixpanel("$mp_web_page_view", **{"$email": "a@example.com"}), "hostname"),
    ],
)
def test_a_bad_row_leaves_the_other_rows_of_its_line(tool, line, field):
    found = imported(tool, line)

    assert [("identify_user",)] == found.of("event_type")
    assert [(1, field)] == [refusal[:2] for refusal in found.refused]
    assert (1, 0, 0) == (found.counts.with_rows, found.counts.skipped, found.counts.lines_refused)


def test_a_bad_user_leaves_the_event():
    line = amplitude("a", user_properties={"n" * 300: {"a": 1}})

    assert [("track",)] == imported("amplitude", line).of("event_type")


def test_a_fault_of_all_rows_is_one_refusal():
    found = imported("segment", {"type": "group", "userId": "u", "groupId": "g"})

    assert [(1, "inserted_at", "is missing")] == found.refused
    assert (0, 0, 1) == (found.counts.with_rows, found.counts.skipped, found.counts.lines_refused)


def test_a_line_with_several_faults_is_one_line():
    found = imported("amplitude", amplitude("a", user_properties={"n" * 300: {"a": 1}}, event_properties=TOO_LARGE))

    assert (2, 1) == (len(found.refused), found.counts.lines_refused)


@pytest.mark.parametrize("tool", [None, "amplitude"])
def test_an_event_can_be_shortened_by_its_largest_properties(tool):
    properties = {"large": "x" * 9_000, "middle": "y" * 8_000, "small": 1}
    row = {"event_type": "track", "user_id": "u", "event_name": "a", "inserted_at": AT, "metadata": properties}
    found = imported(tool, amplitude("a", event_properties=properties) if tool else row, shorten=True)

    assert [{"middle": "y" * 8_000, "small": 1}] == found.events()
    assert {SHORTENED: 1} == found.counts.notes
    assert [] == found.refused


@pytest.mark.parametrize(
    "metadata",
    [{"x": "y" * 70_000}, {f"p{n}": "é" * 30 for n in range(400)}, {"a": "y" * 10_227}, {"a": "y" * 10_229, "b": None}],
)
def test_what_is_shortened_is_within_the_limit_and_no_shorter_than_needed(metadata):
    row = {"event_type": "page_view", "user_id": "u", "url": "http://a/", "inserted_at": AT, "metadata": metadata}
    found = imported(None, row, shorten=True)
    (kept,) = found.events()

    assert [] == import_row_errors(found.rows[0])
    missing = metadata.keys() - kept.keys()
    assert not missing or max(len(str(metadata[name])) for name in missing) >= max(
        (len(str(value)) for value in kept.values()), default=0
    )


def test_shortening_is_of_events_only():
    row = {"event_type": "identify_user", "user_id": "u", "inserted_at": AT, "metadata": {"x": "y" * 70_000}}

    assert [(1, "metadata['x']")] == [one[:2] for one in imported(None, row, shorten=True).refused]


def test_lines_without_a_row_are_counted_by_kind():
    names = ["$autocapture", "$rageclick", "$autocapture", "$create_alias"]
    group = posthog("$groupidentify", **{"$group_type": "workspace", "$group_key": "w", "$group_set": {"n": 1}})
    found = imported("posthog", *map(posthog, names), group, posthog("real", a=1))

    assert (6, 1, 5, 0) == (
        found.counts.read, found.counts.with_rows, found.counts.skipped, found.counts.lines_refused,
    )  # fmt: skip
    assert {
        "`$autocapture`: no page, not an event of a person": 2,
        "`$rageclick`: no page, not an event of a person": 1,
        "`$create_alias`: Userpilot joins no users": 1,
        "`$groupidentify`: the group `workspace`: not the company (--company-group names the one that is)": 1,
    } == found.counts.skipped_by_kind


def test_kinds_are_not_without_end():
    found = imported("posthog", *(posthog(f"${number}") for number in range(MOST_KINDS + 5)))

    assert 5 == found.counts.skipped_by_kind[OTHERS]
    assert MOST_KINDS + 1 == len(found.counts.skipped_by_kind)


def test_a_tool_that_is_not_known_is_named():
    with pytest.raises(ValueError, match="must be one of amplitude, mixpanel, posthog, rudderstack, segment"):
        Conversion("heap")
    with pytest.raises(ValueError, match="name the tool, too"):
        Conversion(company_group="team")


def test_a_row_whose_metadata_could_not_be_made_says_why():
    (row,) = CONVERTERS["segment"](segment("track", event="e", properties={"n" * 300: {"a": 1}}))

    assert isinstance(row["metadata"], InvalidCall)

"""Other tools' exports: the documented shapes become rows that can be sent, and nothing of them is lost unsaid."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import json_values
from userpilot_async._calls.values import encode_json
from userpilot_async._errors.tree import InvalidCall
from userpilot_async.emulator._import_rows import import_row_errors
from userpilot_async.imports._rows import checked
from userpilot_async.imports.converters._convert import CONVERTERS

AT = "2024-12-01T08:55:43.220Z"
TOOLS = list(CONVERTERS)


def converted(tool, exported):
    """The rows that are sent for one exported object."""
    return [checked(row) for row in CONVERTERS[tool](exported)]


def kinds(rows):
    return [row["event_type"] for row in rows]


def refusal(tool, exported):
    """The field and the reason for which one exported object is refused."""
    with pytest.raises(InvalidCall) as caught:
        converted(tool, exported)
    return caught.value.field, caught.value.reason


def test_the_five_tools_are_known():
    assert {"segment", "rudderstack", "posthog", "amplitude", "mixpanel"} == {*CONVERTERS}


# ── Segment and RudderStack ──

CONTEXT = {
    "app": {"name": "InitechGlobal", "version": "545", "namespace": "com.production.segment"},
    "device": {"id": "B5372DB0", "type": "ios"},
    "ip": "8.8.8.8",
    "locale": "en-US",
    "location": {"city": "San Francisco", "country": "United States"},
    "os": {"name": "iPhone OS", "version": "8.1.3"},
    "page": {"path": "/academy/", "title": "Academy", "url": "https://segment.com/academy/"},
    "screen": {"width": 320, "height": 568.4, "density": 2},
    "groupId": "12345",
    "userAgent": "Mozilla/5.0 (iPhone)",
}
SURROUNDINGS = {
    "url": "https://segment.com/academy/",
    "screen_width": 320,
    "screen_height": 568,
    "operating_system": "iPhone OS",
    "browser_language": "en-US",
    "user_agent": "Mozilla/5.0 (iPhone)",
    "device_type": "ios",
    "company_id": "12345",
}
CALL = {
    "anonymousId": "507f191e",
    "integrations": {"All": True},
    "messageId": "022bb90c",
    "receivedAt": "2024-12-01T09:00:00.000Z",
    "sentAt": "2024-12-01T08:59:00.000Z",
    "timestamp": AT,
    "userId": "97980cfea0067",
    "version": 2,
}
SOURCE = {"segment": "backend-segment", "rudderstack": "backend-http-import"}
BOTH = pytest.mark.parametrize("tool", ["segment", "rudderstack"])


def common(tool):
    return {"user_id": "97980cfea0067", "inserted_at": AT, "source": SOURCE[tool]}


@BOTH
def test_a_track_call_is_an_event_with_its_surroundings(tool):
    call = {**CALL, "type": "track", "context": CONTEXT, "event": "Registered", "properties": {"plan": "Pro", "n": 7}}

    assert [
        {
            "event_type": "track",
            "event_name": "Registered",
            "metadata": {"country": "United States", "plan": "Pro", "n": 7},
            **common(tool),
            **SURROUNDINGS,
        }
    ] == converted(tool, call)


@BOTH
def test_an_identify_call_is_a_user(tool):
    traits = {"name": "Peter", "email": "peter@example.com", "logins": 5, "address": {"city": "Reno", "zip": None}}

    assert [
        {
            "event_type": "identify_user",
            "metadata": {
                "name": "Peter",
                "email": "peter@example.com",
                "logins": 5,
                "address.city": "Reno",
                "address.zip": None,
            },
            **common(tool),
        }
    ] == converted(tool, {**CALL, "type": "identify", "traits": traits})


@BOTH
def test_traits_may_stand_in_the_context(tool):
    """As RudderStack's SDKs send them."""
    call = {**CALL, "type": "identify", "context": {"traits": {"name": "Peter"}}}

    assert [{"name": "Peter"}] == [row["metadata"] for row in converted(tool, call)]


@BOTH
def test_a_company_among_the_traits_is_a_company_row(tool):
    company = {"id": 123, "name": "Initech", "industry": "Technology", "plan": {"name": "basic"}}
    rows = converted(tool, {**CALL, "type": "identify", "traits": {"name": "Peter", "company": company}})

    assert ["identify_company", "identify_user"] == kinds(rows)
    assert ["123", "123"] == [row["company_id"] for row in rows]
    assert [{"name": "Initech", "industry": "Technology", "plan.name": "basic"}, {"name": "Peter"}] == [
        row["metadata"] for row in rows
    ]


@BOTH
def test_a_company_that_is_only_an_id_needs_no_row(tool):
    rows = converted(tool, {**CALL, "type": "identify", "traits": {"company": {"id": "c1"}}})

    assert [("identify_user", "c1")] == [(row["event_type"], row["company_id"]) for row in rows]


@BOTH
def test_a_company_without_an_id_stays_with_the_user(tool):
    rows = converted(tool, {**CALL, "type": "identify", "traits": {"company": {"name": "Initech"}}})

    assert [{"company.name": "Initech"}] == [row["metadata"] for row in rows]


@BOTH
def test_a_group_call_is_a_company_and_its_member(tool):
    call = {**CALL, "type": "group", "groupId": "0e8c78ea", "traits": {"name": "Initech", "employees": 329}}

    assert [
        {
            "event_type": "identify_company",
            "company_id": "0e8c78ea",
            "metadata": {"name": "Initech", "employees": 329},
            "source": SOURCE[tool],
            "inserted_at": AT,
        },
        {"event_type": "identify_user", "company_id": "0e8c78ea", "metadata": {}, **common(tool)},
    ] == converted(tool, call)


@BOTH
def test_a_group_call_repeats_the_traits_that_it_knows_of_its_member(tool):
    """Without, it could blank them."""
    call = {**CALL, "type": "group", "groupId": "g", "context": {"traits": {"plan": "pro", "company": {"id": 1}}}}

    assert {"plan": "pro"} == converted(tool, call)[1]["metadata"]


@BOTH
def test_a_page_call_is_a_page_view_of_its_own_url(tool):
    properties = {"title": "Welcome | Initech", "url": "http://www.example.com", "path": "/", "keywords": ["a", "b"]}
    call = {**CALL, "type": "page", "context": CONTEXT, "name": "Home", "category": "Docs", "properties": properties}

    assert [
        {
            "event_type": "page_view",
            **SURROUNDINGS,
            **common(tool),
            "url": "http://www.example.com",
            "metadata": {
                "country": "United States",
                "name": "Home",
                "category": "Docs",
                "title": "Welcome | Initech",
                "keywords": '["a","b"]',
            },
        }
    ] == converted(tool, call)


@BOTH
def test_a_page_call_without_a_whole_url_takes_the_contexts(tool):
    call = {**CALL, "type": "page", "context": CONTEXT, "properties": {"path": "/academy/"}}

    assert ["https://segment.com/academy/"] == [row["url"] for row in converted(tool, call)]


@BOTH
def test_a_page_call_from_nowhere_is_refused(tool):
    assert "hostname" == refusal(tool, {**CALL, "type": "page", "properties": {"path": "/academy/"}})[0]


@BOTH
def test_a_screen_call_is_a_page_view_of_the_app(tool):
    call = {**CALL, "type": "screen", "context": CONTEXT, "name": "Home", "properties": {"feed": "private"}}
    (row,) = converted(tool, call)

    assert ("page_view", "com.production.segment", "/Home") == (row["event_type"], row["hostname"], row["pathname"])
    assert {"country": "United States", "name": "Home", "feed": "private"} == row["metadata"]
    assert "url" not in row


@BOTH
def test_a_screen_of_an_app_without_a_name_is_a_screen_all_the_same(tool):
    (row,) = converted(tool, {**CALL, "type": "screen", "properties": {"name": "Home"}})

    assert ("app", "/Home") == (row["hostname"], row["pathname"])


@BOTH
def test_who_has_no_user_id_is_anonymous(tool):
    for nobody in ({"userId": None}, {"userId": ""}, {"userId": "  "}):
        (row,) = converted(tool, {**CALL, **nobody, "type": "track", "event": "x"})

        assert "507f191e" == row["user_id"]


@BOTH
def test_a_number_is_an_id_too(tool):
    assert "42" == converted(tool, {**CALL, "userId": 42, "type": "track", "event": "x"})[0]["user_id"]


@BOTH
def test_a_missing_clock_is_stood_in_for(tool):
    call = {**CALL, "type": "track", "event": "x", "originalTimestamp": "2024-12-01T08:00:00.000Z"}
    times = []
    for name in ("timestamp", "originalTimestamp", "sentAt", "receivedAt"):
        times.append(converted(tool, call)[0]["inserted_at"][11:16])
        del call[name]

    assert ["08:55", "08:00", "08:59", "09:00"] == times
    assert ("inserted_at", "is missing") == refusal(tool, call)


@BOTH
def test_an_alias_call_has_no_row(tool):
    assert [] == converted(tool, {**CALL, "type": "alias", "previousId": "507f191e"})


@BOTH
@pytest.mark.parametrize(
    ("call", "field", "reason"),
    [
        ({}, "type", "is missing"),
        ({"type": 7}, "type", "must be str"),
        ({"type": "trak"}, "type", "must be one of identify, group, page, screen, track, alias"),
        ({"type": "track"}, "event", "is missing"),
        ({"type": "group"}, "groupId", "is missing"),
        ({"type": "identify", "traits": ["a"]}, "traits", "must be an object, not list"),
        ({"type": "track", "event": "x", "properties": "a"}, "properties", "must be a JSON object"),
        ({"type": "track", "event": "x", "userId": None, "anonymousId": None}, "user_id", "is missing"),
        ({"type": "track", "event": "x", "timestamp": "now"}, "inserted_at", None),
        ({"type": "track", "event": "x" * 256}, "event_name", "has 256 characters; the limit is 255"),
    ],
)
def test_what_is_no_such_call_is_refused(tool, call, field, reason):
    found = refusal(tool, {**CALL, **call} if call else {})

    assert (field, reason or found[1]) == found


# ── PostHog ──

EVENT = {
    "uuid": "018f-1",
    "event": "report exported",
    "distinct_id": "u1",
    "person_id": "p-1",
    "timestamp": "2024-12-01T08:55:43.220000+00:00",
    "created_at": "2024-12-01T09:00:00.000000+00:00",
    "_inserted_at": "2024-12-01T10:00:00.000000+00:00",
    "elements_chain": "",
    "person_properties": {"email": "ann@example.com", "first": "seen", "$initial_os": "Linux"},
    "properties": {
        "format": "csv",
        "filter": {"from": 1, "tags": ["a"]},
        "token": "phc_1",
        "distinct_id": "u1",
        "$groups": {"project": "p9", "company": "acme"},
        "$lib": "web",
        "$current_url": "https://example.com/reports?a=1",
        "$host": "example.com",
        "$pathname": "/reports",
        "$os": "Mac OS X",
        "$browser": "Chrome",
        "$browser_language": "en-US",
        "$raw_user_agent": "Mozilla/5.0 (Macintosh)",
        "$device_type": "Desktop",
        "$screen_width": 1920,
        "$screen_height": 1080,
        "$geoip_country_code": "IE",
    },
}
PERSON = {
    "user_id": "u1",
    "company_id": "acme",
    "inserted_at": "2024-12-01T08:55:43.220000Z",
    "source": "backend-http-import",
    "url": "https://example.com/reports?a=1",
    "country_code": "IE",
    "screen_width": 1920,
    "screen_height": 1080,
    "operating_system": "Mac OS X",
    "browser": "Chrome",
    "browser_language": "en-US",
    "user_agent": "Mozilla/5.0 (Macintosh)",
    "device_type": "Desktop",
}


def posthog(event="report exported", /, **properties):
    """An event with other properties."""
    return {**EVENT, "event": event, "properties": {**EVENT["properties"], **properties}}


KNOWN = {"email": "ann@example.com", "first": "seen"}


def test_posthog_an_event_is_a_user_and_a_track_without_what_posthog_collects():
    metadata = {"format": "csv", "filter.from": 1, "filter.tags": '["a"]'}

    assert [
        {"event_type": "identify_user", "metadata": KNOWN, **PERSON},
        {"event_type": "track", "event_name": "report exported", "metadata": metadata, **PERSON},
    ] == converted("posthog", EVENT)


def test_posthog_properties_may_be_json_in_a_text():
    """As in files that were Parquet."""
    event = {**EVENT, "properties": encode_json(EVENT["properties"])}

    assert converted("posthog", EVENT) == converted("posthog", event)


def test_posthog_identify_is_a_user_with_all_that_is_known():
    event = posthog("$identify", **{"$set": {"plan": "pro", "$os": "Linux"}, "$anon_distinct_id": "a1"})

    assert [
        {
            "event_type": "identify_user",
            "metadata": {"email": "ann@example.com", "first": "seen", "plan": "pro"},
            **PERSON,
        }
    ] == converted("posthog", event)


def test_posthog_set_and_unset_of_any_event_come_before_it():
    event = posthog(**{"$set": {"plan": "pro"}, "$unset": ["trial", 7]})
    user, track = converted("posthog", event)

    known = {"email": "ann@example.com", "first": "seen", "plan": "pro", "trial": None}
    assert ("identify_user", known) == (user["event_type"], user["metadata"]), "less could blank what is known"
    assert "track" == track["event_type"]
    assert track == converted("posthog", EVENT)[-1]


def test_posthog_set_once_does_not_overrule_what_was_first():
    event = posthog(**{"$set_once": {"first": "again", "fresh": 1, "$initial_os": "Mac"}})

    known = {"email": "ann@example.com", "first": "seen", "fresh": 1}
    assert known == converted("posthog", event)[0]["metadata"]


def test_posthog_groupidentify_is_a_company():
    event = posthog("$groupidentify", **{"$group_type": "Organization", "$group_key": 7, "$group_set": {"seats": 3}})

    assert [
        {
            "event_type": "identify_company",
            "company_id": "7",
            "metadata": {"seats": 3},
            "inserted_at": "2024-12-01T08:55:43.220000Z",
            "source": "backend-http-import",
        }
    ] == converted("posthog", event)


def test_posthog_a_group_that_is_no_company_is_no_row():
    assert [] == converted("posthog", posthog("$groupidentify", **{"$group_type": "project", "$group_key": "p9"}))


def test_posthog_pageview_and_screen_are_page_views():
    (_, view) = converted("posthog", posthog("$pageview", title="Reports"))
    (_, screen) = converted("posthog", posthog("$screen", **{"$screen_name": "Home", "$app_namespace": "com.example"}))

    assert ("page_view", PERSON["url"]) == (view["event_type"], view["url"])
    assert "Reports" == view["metadata"]["title"]
    assert ("page_view", "com.example", "/Home") == (screen["event_type"], screen["hostname"], screen["pathname"])


def test_posthog_a_page_without_its_url_has_host_and_path():
    (_, view) = converted("posthog", posthog("$pageview", **{"$current_url": None}))

    assert ("example.com", "/reports") == (view["hostname"], view["pathname"])


@pytest.mark.parametrize("name", ["$autocapture", "$create_alias", "$feature_flag_called", "$pageleave"])
def test_posthog_other_events_of_its_own_have_no_row_but_the_persons(name):
    rows = CONVERTERS["posthog"](posthog(name))

    assert [("identify_user", True)] == [(row["event_type"], row.implied) for row in rows]
    assert rows.skipped.startswith(f"`{name}`: ")
    assert [] == converted("posthog", {**posthog(name), "person_properties": {}})


def test_posthog_a_time_as_clickhouse_writes_it():
    assert (
        "2024-12-01 08:55:43.220000"
        == converted("posthog", {**EVENT, "timestamp": "2024-12-01 08:55:43.220000"})[0]["inserted_at"]
    )


# ── Amplitude ──

AMPLITUDE = {
    "server_received_time": "2024-12-01 09:00:00.000000",
    "app": 123,
    "device_carrier": None,
    "city": "Dublin",
    "country": "Ireland",
    "user_id": "u1",
    "device_id": "d-1",
    "uuid": "abc",
    "event_time": "2024-12-01 08:55:43.220000",
    "event_type": "report exported",
    "platform": "Web",
    "os_name": "Chrome",
    "os_version": "129",
    "device_type": "Mac",
    "device_family": "Mac OS X",
    "language": "English",
    "amplitude_id": 99,
    "event_properties": {"format": "csv", "[Amplitude] Session Replay ID": "x"},
    "user_properties": {},
    "groups": {"org id": ["acme"], "plan": ["pro"]},
    "group_properties": {},
    "data": {"path": "/batch"},
}
AMPLITUDE_PERSON = {
    "user_id": "u1",
    "company_id": "acme",
    "inserted_at": "2024-12-01 08:55:43.220000",
    "source": "backend-http-import",
    "browser": "Chrome",
    "operating_system": "Mac OS X",
    "device_type": "Mac",
}
IN_WORDS = {"country": "Ireland", "language": "English"}


def test_amplitude_an_event_is_a_track():
    assert [
        {
            "event_type": "track",
            "event_name": "report exported",
            "metadata": {"format": "csv", **IN_WORDS},
            **AMPLITUDE_PERSON,
        }
    ] == converted("amplitude", AMPLITUDE)


def test_amplitude_an_app_has_an_operating_system():
    (row,) = converted("amplitude", {**AMPLITUDE, "platform": "iOS", "os_name": "ios", "country": "IE"})

    assert ("ios", "IE") == (row["operating_system"], row["country_code"])
    assert "browser" not in row


def test_amplitude_what_an_event_knows_of_user_and_company_comes_before_it():
    event = {
        **AMPLITUDE,
        "user_properties": {"plan": "pro", "[Amplitude] x": 1, "tags": ["a"], "utm": {"source": "s"}},
        "group_properties": {"org id": {"acme": {"seats": 3}}, "plan": {"pro": {"price": 1}}},
    }
    company, user, track = converted("amplitude", event)

    assert ("identify_company", "acme", {"seats": 3}) == (
        company["event_type"],
        company["company_id"],
        company["metadata"],
    )
    assert {
        "event_type": "identify_user",
        "metadata": {"plan": "pro", "tags": '["a"]', "utm.source": "s", **IN_WORDS},
        **AMPLITUDE_PERSON,
    } == user
    assert "track" == track["event_type"]


def test_amplitude_identify_carries_operations():
    operations = {
        "$set": {"plan": "pro", "n": 1},
        "$setOnce": {"first": "x", "plan": "free"},
        "$unset": {"trial": "-"},
        "$add": {"logins": 1},
    }
    (user,) = converted("amplitude", {**AMPLITUDE, "event_type": "$identify", "user_properties": operations})

    assert "identify_user" == user["event_type"]
    assert {"plan": "pro", "n": 1, "first": "x", "trial": None, **IN_WORDS} == user["metadata"]


@pytest.mark.parametrize("group", ["Company", "company_name", "account id", "Organizations"])
@pytest.mark.parametrize("by_type", [True, False])
def test_amplitude_groupidentify_is_a_company(group, by_type):
    operations = {"$set": {"seats": 3}}
    event = {
        **AMPLITUDE,
        "event_type": "$groupidentify",
        "groups": {"team": "red", group: "acme"},
        "group_properties": {group: operations} if by_type else operations,
    }

    assert [("identify_company", "acme", {"seats": 3})] == [
        (row["event_type"], row["company_id"], row["metadata"]) for row in converted("amplitude", event)
    ]


@pytest.mark.parametrize(
    ("name", "prefix"), [("[Amplitude] Page Viewed", "[Amplitude] "), ("Page viewed", ""), ("Page Viewed", "")]
)
def test_amplitude_a_page_view_by_either_name(name, prefix):
    properties = {
        f"{prefix}Page Domain": "example.com",
        f"{prefix}Page Location": "https://example.com/reports?a=1",
        f"{prefix}Page Path": "/reports",
        f"{prefix}Page URL": "https://example.com/reports",
        "tab": 1,
    }
    (row,) = converted("amplitude", {**AMPLITUDE, "event_type": name, "event_properties": properties})

    assert ("page_view", "https://example.com/reports?a=1", {"tab": 1, **IN_WORDS}) == (
        row["event_type"],
        row["url"],
        row["metadata"],
    )


def test_amplitude_who_has_no_user_id_is_a_device():
    assert "d-1" == converted("amplitude", {**AMPLITUDE, "user_id": None})[0]["user_id"]


def test_amplitude_other_events_of_its_own_have_no_row():
    assert [] == converted("amplitude", {**AMPLITUDE, "event_type": "[Amplitude] Element Clicked"})


# ── Mixpanel ──

MIXPANEL = {
    "event": "report exported",
    "properties": {
        "time": 1733043343,
        "distinct_id": "u1",
        "$insert_id": "hpuDqcvpltpCjBsebtxwadtEBDnFAdycabFb",
        "$browser": "Chrome",
        "$os": "Mac OS X",
        "$screen_width": 1680,
        "$screen_height": 1050,
        "$current_url": "https://example.com/reports",
        "mp_country_code": "FR",
        "mp_lib": "web",
        "mp_processing_time_ms": 1602625711874,
        "company_id": ["acme", "other"],
        "format": "csv",
    },
}


def mixpanel(event="report exported", /, **properties):
    """An event with other properties."""
    return {"event": event, "properties": {**MIXPANEL["properties"], **properties}}


def test_mixpanel_an_event_is_a_track():
    assert [
        {
            "event_type": "track",
            "event_name": "report exported",
            "user_id": "u1",
            "company_id": "acme",
            "inserted_at": "2024-12-01T08:55:43Z",
            "source": "backend-http-import",
            "url": "https://example.com/reports",
            "browser": "Chrome",
            "operating_system": "Mac OS X",
            "screen_width": 1680,
            "screen_height": 1050,
            "country_code": "FR",
            "metadata": {"format": "csv"},
        }
    ] == converted("mixpanel", MIXPANEL)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1733043343.25, "2024-12-01T08:55:43.250000Z"),
        (1733043343250, "2024-12-01T08:55:43.250000Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ],
)
def test_mixpanel_times_are_seconds_or_milliseconds(time, text):
    assert text == converted("mixpanel", mixpanel(time=time))[0]["inserted_at"]


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2024-12-01", "must be seconds since 1970, not str"),
        (True, "must be seconds since 1970, not bool"),
        pytest.param(10**400, "lies outside the years 1 to 9999 in UTC", id="huge"),
        (-(10**18), "lies outside the years 1 to 9999 in UTC"),
        (float("nan"), "lies outside the years 1 to 9999 in UTC"),
        (float("inf"), "lies outside the years 1 to 9999 in UTC"),
        (None, "is missing"),
    ],
)
def test_mixpanel_what_is_no_time_is_refused(time, reason):
    assert ("inserted_at", reason) == refusal("mixpanel", mixpanel(time=time))


def test_mixpanel_the_user_comes_before_the_device():
    ids = {"distinct_id": "$device:d1", "$device_id": "d1"}

    assert "u7" == converted("mixpanel", mixpanel(**ids, **{"$user_id": "u7"}))[0]["user_id"]
    assert "$device:d1" == converted("mixpanel", mixpanel(**ids))[0]["user_id"]
    assert "d1" == converted("mixpanel", mixpanel(**{**ids, "distinct_id": ""}))[0]["user_id"]


def test_mixpanel_a_page_view():
    (row,) = converted("mixpanel", mixpanel("$mp_web_page_view", current_page_title="Reports"))

    assert ("page_view", "https://example.com/reports") == (row["event_type"], row["url"])
    assert {"format": "csv", "current_page_title": "Reports"} == row["metadata"]


@pytest.mark.parametrize("name", ["$identify", "$create_alias", "$merge", "$mp_click", "mp_page_view"])
def test_mixpanel_other_events_of_its_own_have_no_row(name):
    assert [] == converted("mixpanel", mixpanel(name))


def test_mixpanel_a_profile_is_a_user():
    profile = {
        "$distinct_id": "u1",
        "$properties": {
            "$email": "ann@example.com",
            "$name": "Ann",
            "$created": "2020-01-01T00:00:00",
            "$last_seen": "2024-12-01T08:55:43",
            "$city": "Dublin",
            "$country_code": "IE",
            "$os": "Linux",
            "plan": "pro",
            "company_id": "acme",
        },
    }

    assert [
        {
            "event_type": "identify_user",
            "user_id": "u1",
            "company_id": "acme",
            "inserted_at": "2024-12-01T08:55:43",
            "source": "backend-http-import",
            "country_code": "IE",
            "operating_system": "Linux",
            "metadata": {
                "email": "ann@example.com",
                "name": "Ann",
                "created_at": "2020-01-01T00:00:00",
                "plan": "pro",
            },
        }
    ] == converted("mixpanel", profile)


# ── all of them ──

EXAMPLES = {
    "segment": {**CALL, "type": "track", "context": CONTEXT, "event": "x", "properties": {}},
    "rudderstack": {**CALL, "type": "track", "context": CONTEXT, "event": "x", "properties": {}},
    "posthog": EVENT,
    "amplitude": AMPLITUDE,
    "mixpanel": MIXPANEL,
}
PROPERTIES = {
    "segment": "properties",
    "rudderstack": "properties",
    "posthog": "properties",
    "amplitude": "event_properties",
    "mixpanel": "properties",
}


def with_properties(tool, properties):
    example, name = EXAMPLES[tool], PROPERTIES[tool]
    return {**example, name: {**example[name], **properties}}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"a": {"b": {"c": 1}, "d": None}}, {"a.b.c": 1, "a.d": None}),
        ({"a": [1, {"b": "ü"}]}, {"a": '[1,{"b":"ü"}]'}),
        ({"a": {}}, {}),
        ({"a": []}, {"a": "[]"}),
        ({"a": 2**63}, {"a": "9223372036854775808"}),
        ({"a": -(2**53)}, {"a": "-9007199254740992"}),
        ({"a": True, "b": 0.5, "c": ""}, {"a": True, "b": 0.5, "c": ""}),
    ],
)
def test_properties_become_what_userpilot_takes(tool, given, sent):
    before, after = converted(tool, with_properties(tool, {}))[-1], converted(tool, with_properties(tool, given))[-1]

    assert {**before["metadata"], **sent} == after["metadata"]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("levels", [100, 5_000])
def test_a_property_nested_without_end_is_json_or_refused(tool, levels):
    """How deep Python's reader and writer go depends on its version."""
    nested = "deep"
    for _ in range(levels):
        nested = {"a": [nested]}
    try:
        rows = converted(tool, with_properties(tool, {"z": nested}))
    except InvalidCall as error:
        assert ("metadata", "is nested too deeply") == (error.field, error.reason)
        assert levels == 5_000
    else:
        assert rows[-1]["metadata"]["z.a"].startswith('[{"a":[')


@pytest.mark.parametrize("tool", TOOLS)
def test_a_number_that_json_has_not_is_refused_within_an_array_too(tool):
    assert ("metadata", "has a number that is not finite; JSON has no NaN or Infinity") == refusal(
        tool, with_properties(tool, {"a": [float("nan")]})
    )


WORDS = st.sampled_from(
    sorted(
        {name for example in EXAMPLES.values() for name in example}
        | {*CONTEXT, *EVENT["properties"], *MIXPANEL["properties"], "$distinct_id", "$properties"}
        | {
            "$set",
            "$set_once",
            "$unset",
            "$group_type",
            "$group_key",
            "$group_set",
            "traits",
            "groupId",
            "company",
            "id",
        }
    )
)
NAMES = st.sampled_from(
    ["identify", "group", "page", "screen", "track", "$identify", "$set", "$groupidentify", "$pageview", "$screen", "x"]
)
objects = st.recursive(
    json_values | NAMES | st.just(AT),
    lambda inner: st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("tool", TOOLS)
@given(st.dictionaries(WORDS, objects, max_size=6), NAMES)
def test_whatever_an_object_holds_it_becomes_rows_or_is_refused(tool, strange, name):
    example = {**EXAMPLES[tool], "type": name, "event": name, "event_type": name, **strange}
    try:
        rows = converted(tool, example)
    except InvalidCall as error:
        assert error.field
    else:
        for row in rows:
            assert [] == import_row_errors(json.loads(encode_json(row).encode()))


@pytest.mark.parametrize("tool", TOOLS)
@given(st.dictionaries(st.text(max_size=3), json_values, max_size=4))
def test_an_object_of_another_kind_is_refused(tool, strange):
    with pytest.raises(InvalidCall):
        converted(tool, strange)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_conversion_leaves_its_object_as_it_was(tool):
    before = encode_json(EXAMPLES[tool])
    converted(tool, EXAMPLES[tool])

    assert before == encode_json(EXAMPLES[tool])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_long_name_is_not_given_to_each_member_below_it(tool):
    """A line of 1 MiB would make gigabytes: a name of 500 kB before each of 50,000 others."""
    nested = {"x" * 500_000: {str(number): 1 for number in range(50_000)}}
    exported = {
        "segment": {"type": "track", "event": "e", "userId": "u", "timestamp": AT, "properties": nested},
        "rudderstack": {"type": "track", "event": "e", "userId": "u", "timestamp": AT, "properties": nested},
        "posthog": {"event": "e", "distinct_id": "u", "timestamp": AT, "properties": nested},
        "amplitude": {"event_type": "e", "user_id": "u", "event_time": AT, "event_properties": nested},
        "mixpanel": {"event": "e", "properties": {"distinct_id": "u", "time": 1_733_043_343, **nested}},
    }[tool]

    assert ("metadata", "has a name of 500,000 characters; the limit is 255") == refusal(tool, exported)

"""What goes to Parcelvoy, byte for byte, and how calls are told apart and merged, as the destination says it."""

from __future__ import annotations

import json
from array import array
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import Shouted, UserId, anything, moments
from userpilot_async import InvalidCall, __version__
from userpilot_async._calls.rows import Row
from userpilot_async._protocol.verdict import Meaning, of_answer
from userpilot_async.parcelvoy import (
    Alias,
    DeadCall,
    Device,
    Identify,
    ParcelvoyClient,
    ParcelvoySettings,
    Track,
)
from userpilot_async.parcelvoy._calls import Call
from userpilot_async.parcelvoy._destination import checked_call, checked_event, keys_of, parcelvoy

REQUIRED = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}
NOBODYS = ("external_id", "is missing, and so is anonymous_id: one of them must say whose this is")
AT = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))

SENT = [
    (
        lambda client: client.identify("e"),
        "/api/client/identify",
        '{"external_id":"e","data":{}}',
    ),
    (
        lambda client: client.identify(
            "e", anonymous_id="a", email="ann@example.com", phone="+1", timezone="Europe/Berlin", locale="de-DE",
            data={"plan": "pro", "teams": [{"id": 1, "role": None}], "share": 0.5, "ok": True, "name": "Zoë"},
        ),
        "/api/client/identify",
        '{"external_id":"e","anonymous_id":"a","email":"ann@example.com","phone":"+1","timezone":"Europe/Berlin",'
        '"locale":"de-DE","data":{"plan":"pro","teams":[{"id":1,"role":null}],"share":0.5,"ok":true,"name":"Zoë"}}',
    ),
    (
        lambda client: client.identify(anonymous_id="a", data={"a": None}),
        "/api/client/identify",
        '{"anonymous_id":"a","data":{"a":null}}',
    ),
    (
        lambda client: client.alias("a", "e"),
        "/api/client/alias",
        '{"anonymous_id":"a","external_id":"e"}',
    ),
    (
        lambda client: client.register_device("d", external_id="e", **REQUIRED),
        "/api/client/devices",
        '{"device_id":"d","external_id":"e","os":"iOS","model":"iPhone15,2","app_build":"465","app_version":"1.2.4"}',
    ),
    (
        lambda client: client.register_device("d", anonymous_id="a", token="t", os_version="16.3", **REQUIRED),
        "/api/client/devices",
        '{"device_id":"d","anonymous_id":"a","os":"iOS","model":"iPhone15,2","app_build":"465","app_version":"1.2.4",'
        '"token":"t","os_version":"16.3"}',
    ),
    (
        lambda client: client.track("opened", external_id="e"),
        "/api/client/events",
        '[{"name":"opened","external_id":"e"}]',
    ),
    (
        lambda client: client.track(
            "ord\ner", external_id="e", anonymous_id="a", data={"lines": [{"sku": "Ä\u2028"}]}, occurred_at=AT
        ),
        "/api/client/events",
        '[{"name":"ord\\ner","external_id":"e","anonymous_id":"a","data":{"lines":[{"sku":"Ä\u2028"}]},'
        '"created_at":"2026-01-02T03:04:05Z"}]',
    ),
]  # fmt: skip


ALIAS = ("/api/client/alias", '{"anonymous_id":"a","external_id":"e"}')
BEFORE = {1: [ALIAS], 4: [("/api/client/identify", '{"external_id":"e","data":{}}')],
          5: [("/api/client/identify", '{"anonymous_id":"a","data":{}}')], 7: [ALIAS]}  # fmt: skip
"""What goes before some of those calls, by their place: an alias of two ids, the person whose device it is."""


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("place", range(len(SENT)))
async def test_a_call_is_sent_like_this(cable, place):
    call, path, body = SENT[place]
    async with ParcelvoyClient("pk_KEY", "https://emulator", transport=cable) as client:
        receipt = await call(client)

    assert [("POST", f"https://emulator{path}", body) for path, body in [*BEFORE.get(place, ()), (path, body)]] == [
        (request.method, str(request.url), request.content.decode()) for request in cable.requests
    ]
    assert "delivered" == receipt.status


@pytest.mark.anyio
@pytest.mark.virtual
async def test_a_device_of_two_ids_is_sent_behind_their_alias_and_the_person_with_both(cable):
    async with ParcelvoyClient("pk_KEY", "https://emulator", transport=cable) as client:
        await client.register_device("d", external_id="e", anonymous_id="a", **REQUIRED)

    alias, person, device = cable.requests
    assert ALIAS == (alias.url.path, alias.content.decode())
    assert ("/api/client/identify", {"external_id": "e", "anonymous_id": "a", "data": {}}) == (
        person.url.path, json.loads(person.content)
    )  # fmt: skip
    assert "/api/client/devices" == device.url.path


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize(
    ("call", "body"),
    [
        (Identify("e", email="m@x", data={"a": [1]}), '{"external_id":"e","email":"m@x","data":{"a":[1]}}'),
        (Alias("a", "e"), SENT[3][2]),
        (Device("d", external_id="e", **REQUIRED), SENT[4][2]),
        (Track("opened", external_id="e"), '[{"name":"opened","external_id":"e","data":{}}]'),
        (
            Track("ord\ner", external_id="e", anonymous_id="a", data={"lines": [{"sku": "Ä\u2028"}]}, occurred_at=AT),
            SENT[7][2],
        ),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_a_call_that_exists_as_a_value_is_sent_like_this(cable, call, body):
    async with ParcelvoyClient("pk_KEY", "https://emulator", transport=cable) as client:
        await client.enqueue(call)

    assert body == cable.requests[-1].content.decode()


@pytest.mark.anyio
@pytest.mark.virtual
async def test_the_headers_are_parcelvoys_and_nothing_is_left_of_userpilots(cable):
    async with ParcelvoyClient("pk_KEY", "https://emulator", transport=cable) as client:
        for call, _, _ in SENT:
            await call(client)

    assert cable.requests
    for request in cable.requests:
        headers = dict(request.headers)
        assert "Bearer pk_KEY" == headers["authorization"]
        assert "application/json" == headers["content-type"] == headers["accept"]
        assert f"userpilot-async/{__version__}" == headers.pop("user-agent")
        assert "x-api-version" not in headers
        assert "userpilot" not in f"{headers} {request.url} {request.content!r}".lower()


@pytest.mark.anyio
@pytest.mark.virtual
async def test_a_key_from_a_callable_is_asked_for_each_request(cable):
    keys = iter(["first", "second", "third"])
    async with ParcelvoyClient(lambda: next(keys), "https://emulator", transport=cable) as client:
        for number in range(3):
            await client.track("n", external_id=f"e{number}")
            await client.flush()

    shown = [request.headers["authorization"] for request in cable.requests]
    assert ["Bearer first", "Bearer second", "Bearer third"] == shown


# ── the destination as a value ──


@pytest.mark.parametrize(
    ("status", "meaning", "doubtful"),
    [
        (204, Meaning.ACCEPTED, False),
        (422, Meaning.INVALID, False),
        (400, Meaning.LOST, True),
        (415, Meaning.MISCONFIGURED, False),
        (413, Meaning.TOO_LARGE, False),
        (401, Meaning.DENIED, False),
        (429, Meaning.LIMITED, False),
        (503, Meaning.AGAIN, False),
    ],
)
def test_only_a_422_is_a_no(status, meaning, doubtful):
    """400 is what that server says of its own troubles, too."""
    read = parcelvoy(ParcelvoySettings()).reads(of_answer(status, {}, b""))

    assert (meaning, doubtful) == (read.meaning, read.doubtful)


def test_the_limits_are_the_settings():
    to = parcelvoy(ParcelvoySettings(requests_per_minute=60, burst=7, max_events=20, max_bytes=1_000))

    assert {"requests": 60} == to.budgets
    assert (7, 20, 1_000) == (to.burst, to.events.most, to.events.max_bytes)
    assert {"requests": None} == parcelvoy(ParcelvoySettings()).budgets


def test_everything_goes_by_one_budget():
    to = parcelvoy(ParcelvoySettings())

    assert {"requests"} == {route.budget for route in (to.events.endpoint, *to.rows.values(), *to.posts.values())}


@pytest.mark.parametrize(
    ("ids", "key"),
    [
        ({"external_id": "u"}, "e:u"),
        ({"anonymous_id": "u"}, "a:u"),
        ({"external_id": "u", "anonymous_id": "u"}, ("e:u", "a:u")),
        ({"external_id": "a:u"}, "e:a:u"),
        ({"external_id": "u", "email": "m"}, "e:u"),
    ],
)
def test_the_two_kinds_of_ids_are_told_apart_even_if_they_look_alike(ids, key):
    assert key == keys_of(ids)


@pytest.mark.parametrize("given", [UserId.FIRST, Shouted("u1")], ids=["an enum of texts", "a subclass of str"])
@pytest.mark.parametrize("names", [("external_id",), ("anonymous_id",), ("external_id", "anonymous_id")], ids=" ".join)
def test_a_text_that_is_more_than_that_has_the_key_and_body_of_its_text(names, given):
    ids, texts = dict.fromkeys(names, given), dict.fromkeys(names, "u1")
    whose = [ids.get("external_id"), ids.get("anonymous_id")]
    said = checked_call(Track("u1", **texts, data={"u1": "u1"}))

    assert repr(keys_of(texts)) == repr(keys_of(ids))
    assert said == ("track", *checked_event(given, *whose, {given: given}, None), said[3])
    assert said == checked_call(Track(given, **ids, data={given: given}))
    assert checked_call(Device("u1", **texts, **REQUIRED)) == checked_call(Device(given, **ids, **REQUIRED))
    assert checked_call(Identify(**texts, email="u1"))[:2] == checked_call(Identify(**ids, email=given))[:2]


@pytest.mark.parametrize(
    "call",
    [
        Identify("e", email="m@x", data={"a": [1]}),
        Identify("e", anonymous_id="a"),
        Identify(anonymous_id="a", timezone="UTC"),
        Alias("a", "e"),
        Device("d", external_id="e", anonymous_id="a", token="t", **REQUIRED),
        Device("d", anonymous_id="a", os_version="16", **REQUIRED),
        Track("n", external_id="e"),
        Track("n", external_id="e", anonymous_id="a", data={"a": {"b": None}}, occurred_at=AT),
        Track("n", anonymous_id="a"),
    ],
    ids=repr,
)
def test_what_was_put_can_be_called_by_its_value_again(call):
    kind, key, said, size = checked_call(call)

    assert call == parcelvoy(ParcelvoySettings()).call_of(kind, key, said)
    assert size > 0


@given(
    name=st.text(max_size=5) | anything,
    ids=st.tuples(st.none() | st.text(max_size=5), st.none() | st.text(min_size=1, max_size=5) | anything),
    data=st.none() | st.dictionaries(st.text(max_size=3), anything, max_size=3) | st.just(7),
    occurred_at=st.none() | moments | anything,
)
def test_the_quick_way_to_an_event_says_what_the_slow_one_says(name, ids, data, occurred_at):
    """With several mistakes, either may tell of any of them."""
    fields = {"name": name, "external_id": ids[0], "anonymous_id": ids[1], "data": data, "occurred_at": occurred_at}
    right = {"name": "n", "external_id": "e", "anonymous_id": "a"}
    each = [slowly(**{**right, field: value}) for field, value in fields.items()]
    mistakes = [one for one in each if not isinstance(one, Track)] + [NOBODYS] * (ids == (None, None))
    slow, quick = slowly(**fields), quickly(**fields)

    assert slow == quick if not mistakes else {slow, quick} <= {*mistakes}


def slowly(**fields: Any) -> Any:
    """The event, or what is wrong with it."""
    try:
        return Track(**fields)
    except InvalidCall as error:
        return error.field, error.reason


def quickly(**fields: Any) -> Any:
    """The same by way of the wire."""
    try:
        return parcelvoy(ParcelvoySettings()).call_of("track", *checked_event(**fields))
    except InvalidCall as error:
        return error.field, error.reason


# ── merging ──


def row(data: dict[str, Any] | None = None, **fields: Any) -> Row:
    return Row("user", "key", data or {}, fields, array("Q"), accepted_at=0.0, size=100)


def merges(waiting: Row, size: int = 100, max_bytes: int = 1_000, **fields: Any) -> bool:
    return parcelvoy(ParcelvoySettings(max_bytes=max_bytes)).merges(waiting, ({}, fields, size, None), True)


@pytest.mark.parametrize(
    "ids", [{"external_id": "e"}, {"anonymous_id": "a"}, {"external_id": "e", "anonymous_id": "a"}]
)
def test_identifies_with_the_same_ids_merge(ids):
    assert merges(row(**ids, email="old"), **ids, email="new")


@pytest.mark.parametrize("name", ["external_id", "anonymous_id"])
def test_identifies_with_another_id_of_the_same_kind_do_not_merge(name):
    """An alias made them one person's; the server need not have heard of it."""
    ids = {"external_id": "e", "anonymous_id": "a"}
    assert not merges(row(**ids), **{**ids, name: "other"})
    assert not merges(row(**{name: "one"}), **{name: "other"})


def test_a_row_does_not_grow_beyond_what_one_request_takes():
    assert merges(row(external_id="e"), size=900, external_id="e")
    assert not merges(row(external_id="e"), size=901, external_id="e")


@pytest.mark.parametrize("ids", [{"external_id": "e"}, {"anonymous_id": "a"}], ids=["external", "anonymous"])
def test_identifies_that_do_not_name_exactly_the_same_ids_do_not_merge(ids):
    """The ids may be two people's to the server."""
    both = {"external_id": "e", "anonymous_id": "a"}
    (other,) = both.keys() - ids.keys()

    assert not merges(row(**ids), **{other: both[other]})
    assert not merges(row(**ids), **both)
    assert not merges(row(**both), **ids)


def test_ids_are_the_same_if_their_texts_are():
    assert merges(row(external_id="u1"), external_id=UserId.FIRST)


def test_a_merged_row_is_one_call_that_says_it_all():
    to = parcelvoy(ParcelvoySettings())
    waiting = row({"a": 1, "b": 1}, external_id="e", email="old", locale="de")
    waiting.take_in(2, {"b": None, "c": {"d": 1}}, {"external_id": "e", "email": "new"}, 10)

    data = {"a": 1, "b": None, "c": {"d": 1}}
    said = {"external_id": "e", "email": "new", "locale": "de", "data": data}
    assert said == json.loads(to.row_body(waiting))
    assert Identify(**said) == to.row_call(waiting)


# ── what the server refused may be said again ──

REFUSED = [
    Identify("e", anonymous_id="a", email="m@x", phone="+1", timezone="UTC", locale="en", data={"x": [{"y": None}]}),
    Identify(anonymous_id="a"),
    Alias("a", "e"),
    Device("d", external_id="e", token="t", **REQUIRED),
    Track("n", external_id="e", anonymous_id="a", data={"x": [1, {"y": 2}]}, occurred_at=AT),
    Track("n", anonymous_id="a"),
]


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("call", REFUSED, ids=lambda call: type(call).__name__)
async def test_a_dead_call_is_the_one_that_was_made(call):
    letters: list[DeadCall] = []
    refuse = httpx.MockTransport(lambda request: httpx.Response(422))
    async with ParcelvoyClient("KEY", "https://emulator", transport=refuse, on_dead=letters.append) as client:
        receipt = await client.enqueue(call)

    (letter,) = letters
    assert ("dead", "invalid", call, None) == (letter.status, letter.reason, letter.call, letter.error)
    assert ("dead", "invalid") == (receipt.status, receipt.reason)
    assert DeadCall is type(letter)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("call", REFUSED, ids=lambda call: type(call).__name__)
async def test_a_dead_call_that_is_made_again_dies_the_same_death(call):
    """So nothing is lost or added on the way from the letter back into the queue."""
    bodies: list[bytes] = []
    letters: list[DeadCall] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        return httpx.Response(422)

    before = len(prefaces_of(call))
    transport = httpx.MockTransport(refuse)
    async with ParcelvoyClient("KEY", "https://emulator", transport=transport, on_dead=letters.append) as client:
        await client.enqueue(call)
        await anyio.sleep(5)
        await client.enqueue(letters[0].call)

    first, second = bodies[: before + 1], bodies[before + 1 :]
    assert first == second  # with what goes before it, which was refused, too
    assert before + 1 == len(first)
    assert [call, call] == [letter.call for letter in letters]


def prefaces_of(call: Call) -> Any:
    """What goes before this call."""
    kind, key, _, _ = checked_call(call)
    prefaces = parcelvoy(ParcelvoySettings()).prefaces
    assert prefaces is not None
    return prefaces(kind, key)


@pytest.mark.parametrize(
    ("call", "before"),
    [
        (Identify("e"), []),
        (Identify("e", anonymous_id="a"), ["alias"]),
        (Alias("a", "e"), []),
        (Device("d", external_id="e", **REQUIRED), ["person"]),
        (Device("d", external_id="e", anonymous_id="a", **REQUIRED), ["alias", "person"]),
        (Track("n", anonymous_id="a"), []),
        (Track("n", external_id="e", anonymous_id="a"), ["alias"]),
    ],
    ids=repr,
)
def test_what_the_server_has_to_have_before_a_call_is_of_a_kind_that_is_sent_once(call, before):
    to = parcelvoy(ParcelvoySettings())

    assert before == [kind for kind, _ in prefaces_of(call)]
    assert {*before} <= to.once <= {*to.posts}


@pytest.mark.anyio
@pytest.mark.virtual
async def test_of_merged_identifies_the_letter_has_all_that_they_said():
    letters: list[DeadCall] = []
    refuse = httpx.MockTransport(lambda request: httpx.Response(422))
    async with ParcelvoyClient("KEY", "https://emulator", transport=refuse, on_dead=letters.append) as client:
        await client.identify("e", email="old@x", data={"a": 1, "b": 1})
        await client.identify("e", email="new@x", locale="en", data={"b": 2})

    (letter,) = letters
    assert Identify("e", email="new@x", locale="en", data={"a": 1, "b": 2}) == letter.call
    assert 1 == letter.merged


@pytest.mark.parametrize(
    ("kind", "body", "meaning"),
    [
        ("text/html; charset=utf-8", b"<html>please log in</html>", Meaning.MISCONFIGURED),
        ("TEXT/HTML", b"<html>", Meaning.MISCONFIGURED),
        ("text/html", b"", Meaning.ACCEPTED),
        ("application/json", b"{}", Meaning.ACCEPTED),
        ("text/plain", b"ok", Meaning.ACCEPTED),
    ],
)
def test_a_web_page_is_no_yes(kind, body, meaning):
    """A website says 200 to everything, and would swallow every call."""
    read = parcelvoy(ParcelvoySettings()).reads(of_answer(200, {"content-type": kind}, body))

    assert meaning is read.meaning

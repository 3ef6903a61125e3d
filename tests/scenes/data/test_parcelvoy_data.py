"""Rows 67 to 77 for Parcelvoy, from the call to what the server stored: as it was meant, or refused at the call."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import judge, length, run_virtual
from tests.harness.examples.strategies import SENT_AS, UserId
from tests.harness.stage.loops import KEY, InProcess, running, virtual_emulator
from tests.scenes.data.test_data_values import numbers
from tests.scenes.data.test_data_values import texts as strange_texts
from userpilot_async import InvalidCall
from userpilot_async.emulator import Emulator
from userpilot_async.parcelvoy import CLEAR, DeadCall, ParcelvoyClient, ParcelvoySettings

CANARY = "canary-canary"
REQUIRED = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}


def parcelvoy_of(emulator: Emulator, *, on_dead: Any = None, **settings: Any) -> ParcelvoyClient:
    """A client, not yet open, that talks to an emulator in the same loop."""
    options = ParcelvoySettings(**settings)
    return ParcelvoyClient(KEY, "https://emulator", transport=InProcess(emulator), on_dead=on_dead, settings=options)


async def stored_of(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the server has of a person, and of an event, that were given this data."""
    emulator = virtual_emulator()
    async with running(parcelvoy_of(emulator)) as parcelvoy:
        await parcelvoy.identify("u", data=data)
        await parcelvoy.track("clicked", external_id="u", data=data)
    store = emulator.store.parcelvoy
    return store.users[1].data, store.events[0].data


def deep(levels: int, bottom: Any = "bottom") -> Any:
    value = bottom
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def as_javascript(value: Any) -> Any:
    """The value as the server has it, in whose language a whole number is one however it was written, and -0.0 is 0."""
    if isinstance(value, dict):
        return {name: as_javascript(one) for name, one in value.items()}
    if isinstance(value, list):
        return [as_javascript(one) for one in value]
    return int(value) if isinstance(value, float) and abs(value) < 1e21 and value.is_integer() else value


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


# ── 67, 68, 71, 73, 74: what is refused ──

REFUSED = [
    pytest.param(float("nan"), id="NaN"),
    pytest.param(float("inf"), id="Infinity"),
    pytest.param(float("-inf"), id="-Infinity"),
    pytest.param(Decimal("NaN"), id="Decimal NaN"),
    pytest.param(CANARY.encode(), id="bytes"),
    pytest.param(bytearray(CANARY.encode()), id="bytearray"),
    pytest.param({CANARY}, id="set"),
    pytest.param(object(), id="object"),
    pytest.param((one for one in CANARY), id="generator"),
    pytest.param(cycle(), id="cycle"),
    pytest.param(deep(100_000), id="depth 100,000"),
    pytest.param(deep(100), id="depth 102"),
    pytest.param(f"{CANARY}\ud800", id="lone surrogate"),
    pytest.param({"\udfff": CANARY}, id="lone surrogate in a name"),
    pytest.param({1: CANARY}, id="a name that is an int"),
    pytest.param({1: CANARY, "1": CANARY}, id="names that collide as strings"),
    pytest.param({None: CANARY, "null": CANARY}, id="None and null"),
    pytest.param({True: CANARY, "true": CANARY}, id="True and true"),
    pytest.param(2**70, id="2**70"),
    pytest.param(2**53, id="2**53"),
    pytest.param(datetime(2026, 10, 1), id="naive datetime"),
]


def calls_with(bad: object) -> list[Callable[[ParcelvoyClient], Any]]:
    """Every call that takes data, with this in it, at the top and further down."""
    return [
        lambda parcelvoy: parcelvoy.track("clicked", external_id="u", data={"bad": bad}),
        lambda parcelvoy: parcelvoy.track("clicked", anonymous_id="u", data={"a": [1, {"bad": [bad]}]}),
        lambda parcelvoy: parcelvoy.identify("u", data={"bad": bad}),
        lambda parcelvoy: parcelvoy.identify(anonymous_id="u", data={"a": [1, {"bad": (bad,)}]}),
    ]


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("value", REFUSED)
async def test_rows_67_to_74_what_json_cannot_carry_is_refused_at_the_call_and_costs_nothing(value: object) -> None:
    emulator = virtual_emulator()
    refusals = []
    async with running(parcelvoy_of(emulator)) as parcelvoy:
        for call in calls_with(value):
            with pytest.raises(InvalidCall) as refused:
                await call(parcelvoy)
            refusals.append(str(refused.value))
        await parcelvoy.track("clicked", external_id="u", data={"good": 1})
        report = await parcelvoy.flush(10)

    assert all("bad" in refusal for refusal in refusals)
    judge.no_canary(dict(enumerate(refusals)), [CANARY])
    assert 1 == judge.conservation(report.statistics) == report.statistics.delivered
    assert [{"good": 1}] == [event.data for event in emulator.store.parcelvoy.events]


@pytest.mark.anyio
@pytest.mark.virtual
async def test_rows_67_to_74_production_settings_raise_into_no_request_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    letters: list[DeadCall] = []
    values = [param.values[0] for param in REFUSED]
    client = parcelvoy_of(virtual_emulator(), on_dead=letters.append, on_invalid="dead")
    async with running(client) as parcelvoy:
        for value in values:
            for call in calls_with(value):
                await call(parcelvoy)
        await anyio.sleep(1)

        assert {"invalid": 4 * len(values)} == parcelvoy.statistics().lost_by_reason
    assert ["invalid"] * 4 * len(values) == [letter.reason for letter in letters]
    assert 4 * len(values) == judge.conservation(client.statistics())
    judge.no_canary({"letters": repr(letters), "log": caplog.text}, [CANARY])


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_70_data_that_is_a_list_is_refused_at_the_call() -> None:
    async with running(parcelvoy_of(virtual_emulator())) as parcelvoy:
        with pytest.raises(InvalidCall):
            await parcelvoy.track("clicked", external_id="u", data=["a"])  # type: ignore[arg-type]  # the mistake


# ── 69 to 74: what arrives ──

texts = strange_texts | st.just('{"external_id": "somebody else"}],[')
leaves = texts | numbers | st.booleans() | st.none()
nested = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=10
)
ids = texts.filter(lambda one: one.strip() != "")


@given(data=st.dictionaries(texts, nested, max_size=6))
@settings(max_examples=length.of(100), deadline=None)
def test_rows_70_to_74_every_nested_value_arrives_exactly(data: dict[str, Any]) -> None:
    of_person, of_event = run_virtual(stored_of, "asyncio", data)

    expected = json.dumps(as_javascript(data), sort_keys=True)
    assert expected == json.dumps(of_person, sort_keys=True) == json.dumps(of_event, sort_keys=True)


@given(external_id=ids, anonymous_id=ids, name=ids)
@settings(max_examples=length.of(50), deadline=None)
def test_row_71_whoever_has_any_text_for_an_id_is_that_person_at_the_server(
    external_id: str, anonymous_id: str, name: str
) -> None:
    async def scene() -> Emulator:
        emulator = virtual_emulator()
        async with running(parcelvoy_of(emulator)) as parcelvoy:
            await parcelvoy.identify(external_id, email=name, data={"kind": "external"})
            await parcelvoy.identify(anonymous_id=anonymous_id, data={"kind": "anonymous"})
            await parcelvoy.track(name, external_id=external_id)
            await parcelvoy.track(name, anonymous_id=anonymous_id)
            await parcelvoy.register_device(name, external_id=external_id, token=name, **REQUIRED)
        return emulator

    store = run_virtual(scene).store.parcelvoy
    people = {(user.external_id, tuple(user.anonymous_ids)): user.data["kind"] for user in store.users.values()}
    assert {(external_id, ()): "external", (None, (anonymous_id,)): "anonymous"} == people
    assert {(name, external_id, None), (name, None, anonymous_id)} == {
        (event.name, event.external_id, event.anonymous_id) for event in store.events
    }
    assert {(store.find(external_id).number, name): name} == {
        key: device.token for key, device in store.devices.items()
    }
    assert [] == store.lost


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_69_dates_decimals_uuids_and_enums_arrive_as_their_text_however_deep() -> None:
    said = {
        "at": datetime(2026, 10, 1, 14, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
        "both": (1, UserId.FIRST),
        UserId.FIRST: True,
        **{ascii(given): given for given, _ in SENT_AS},
    }
    of_person, of_event = await stored_of({"top": said, "list": [said]})

    assert of_person == of_event == {"top": of_person["top"], "list": [of_person["top"]]}
    assert {
        "at": "2026-10-01T12:00:00.250000Z",
        "both": [1, "u1"],
        "u1": True,
        **{ascii(given): sent for given, sent in SENT_AS},
    } == of_person["top"]


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 1_000_000, id="a megabyte"),
        pytest.param("😀" * 250_000, id="a megabyte of emoji"),
        pytest.param(["x" * 1_000] * 900, id="a megabyte in a list"),
        pytest.param({f"n{number}": number for number in range(10_000)}, id="10,000 names"),
        pytest.param(deep(98), id="depth 100"),
        pytest.param(-0.0, id="-0.0"),
        pytest.param(5e-324, id="the smallest float"),
        pytest.param(1.7976931348623157e308, id="the largest float"),
        pytest.param(2**53 - 1, id="the largest int"),
        pytest.param(10.0**22, id="an int that is a float"),
    ],
)
async def test_rows_70_to_74_what_is_long_or_deep_or_small_arrives_exactly(value: object) -> None:
    data = {"top": value, "list": [value]} if not isinstance(value, (str, list)) else {"top": value}
    of_person, of_event = await stored_of(data)

    assert repr(as_javascript(data)) == repr(of_person) == repr(of_event)


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_71_what_the_server_finds_too_large_dies_alone_and_is_accounted_for() -> None:
    """What is over the server's own limit is refused at the call; a gateway before it may have a smaller one."""
    from userpilot_async.emulator import Fault

    emulator = virtual_emulator()
    emulator.faults.add(Fault(path="/api/client/*", body_over=1_000_000, status=413, times=None))
    letters: list[DeadCall] = []
    async with running(parcelvoy_of(emulator, on_dead=letters.append)) as parcelvoy:
        await parcelvoy.track("clicked", external_id="u", data={"text": "x" * 1_000_000})
        await parcelvoy.identify("u", data={"text": "x" * 1_000_000})
        await parcelvoy.track("clicked", external_id="u", data={"n": 1})
        await parcelvoy.identify("v", data={"n": 1})

    assert {"too_large": 2} == parcelvoy.statistics().lost_by_reason
    assert [1_000_000, 1_000_000] == [len(letter.call.data["text"]) for letter in letters if letter.call]
    assert [{"n": 1}] == [event.data for event in emulator.store.parcelvoy.events]


# ── 72: ids ──


ID_TAKERS: dict[str, Callable[[ParcelvoyClient, Any], Any]] = {
    "track by external id": lambda parcelvoy, bad: parcelvoy.track("clicked", external_id=bad),
    "track by anonymous id": lambda parcelvoy, bad: parcelvoy.track("clicked", anonymous_id=bad),
    "track by both": lambda parcelvoy, bad: parcelvoy.track("clicked", external_id="u", anonymous_id=bad),
    "name of an event": lambda parcelvoy, bad: parcelvoy.track(bad, external_id="u"),
    "identify by external id": lambda parcelvoy, bad: parcelvoy.identify(bad),
    "identify by anonymous id": lambda parcelvoy, bad: parcelvoy.identify(anonymous_id=bad),
    "identify by both": lambda parcelvoy, bad: parcelvoy.identify("u", anonymous_id=bad),
    "time zone": lambda parcelvoy, bad: parcelvoy.identify("u", timezone=bad),
    "alias of": lambda parcelvoy, bad: parcelvoy.alias(bad, "u"),
    "alias for": lambda parcelvoy, bad: parcelvoy.alias("a", bad),
    "device": lambda parcelvoy, bad: parcelvoy.register_device(bad, external_id="u", **REQUIRED),
    "whose device": lambda parcelvoy, bad: parcelvoy.register_device("d", external_id=bad, **REQUIRED),
    "os": lambda parcelvoy, bad: parcelvoy.register_device("d", external_id="u", **{**REQUIRED, "os": bad}),
}


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("take", ID_TAKERS.values(), ids=ID_TAKERS)
async def test_row_72_ids_that_are_none_at_all_are_refused_by_every_call(take: Callable[..., Any]) -> None:
    emulator = virtual_emulator()
    async with running(parcelvoy_of(emulator)) as parcelvoy:
        for bad in ("", "   ", "\t\n", 7, 0, b"u", "x" * 10_240, "x" * 256, "u\ud800", UUID(int=1)):
            with pytest.raises(InvalidCall):
                await take(parcelvoy, bad)

        assert 0 == parcelvoy.statistics().accepted
    assert [] == emulator.store.requests


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_72_what_is_known_of_a_person_or_device_can_be_taken_back() -> None:
    emulator = virtual_emulator()
    async with running(parcelvoy_of(emulator)) as parcelvoy:
        await parcelvoy.identify("u", email="ann@example.com", phone="+1", locale="en", timezone="UTC")
        await parcelvoy.register_device("d", external_id="u", token="t", os_version="16", **REQUIRED)
        await parcelvoy.flush(10)
        await parcelvoy.identify("u", email=CLEAR, phone=CLEAR, locale=CLEAR, timezone=CLEAR)
        await parcelvoy.register_device("d", external_id="u", token="", os_version="", **REQUIRED)

    (user,) = emulator.store.parcelvoy.users.values()
    (device,) = emulator.store.parcelvoy.devices.values()
    assert {} == {name: value for name, value in user.fields.items() if value is not None}
    assert "" == device.token
    last = [one.payload for one in emulator.store.applied if one.kind == "identify"][-1]
    assert {"external_id": "u", **dict.fromkeys(("email", "phone", "locale", "timezone")), "data": {}} == last


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_72_a_call_of_nobodys_says_that_an_id_is_missing() -> None:
    async with running(parcelvoy_of(virtual_emulator())) as parcelvoy:
        for call in (
            lambda: parcelvoy.track("clicked"),
            lambda: parcelvoy.track("clicked", external_id=None, anonymous_id=None, data={"a": 1}),
            lambda: parcelvoy.identify(),
            lambda: parcelvoy.identify(None, email="ann@example.com"),
            lambda: parcelvoy.register_device("d", **REQUIRED),
        ):
            with pytest.raises(InvalidCall, match="external_id is missing, and so is anonymous_id"):
                await call()


# ── 76, 77 ──


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_76_what_the_caller_changes_after_the_call_is_not_sent() -> None:
    emulator = virtual_emulator()
    inner: list[Any] = [1, {"x": 1}]
    data: dict[str, Any] = {"a": inner}
    async with running(parcelvoy_of(emulator, max_queue_calls=100)) as parcelvoy:
        await parcelvoy.identify("u", data=data)
        await parcelvoy.track("clicked", external_id="u", data=data)
        parcelvoy.identify_nowait(anonymous_id="a", data=data)
        parcelvoy.track_nowait("clicked", anonymous_id="a", data=data)
        inner[1]["x"] = object()
        inner.clear()
        data["b"] = float("nan")

    store = emulator.store.parcelvoy
    assert [{"a": [1, {"x": 1}]}] * 2 == [user.data for user in store.users.values()]
    assert [{"a": [1, {"x": 1}]}] * 2 == [event.data for event in store.events]


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_76_one_dict_for_many_calls_is_many_events() -> None:
    emulator = virtual_emulator()
    data: dict[str, Any] = {"n": 0, "seen": []}
    async with running(parcelvoy_of(emulator)) as parcelvoy:
        for number in range(5):
            data["n"] = number
            data["seen"].append(number)
            await parcelvoy.track("clicked", external_id="u", data=data)

    expected = [{"n": number, "seen": list(range(number + 1))} for number in range(5)]
    assert expected == [event.data for event in emulator.store.parcelvoy.events]


@pytest.mark.parametrize("end", ["\r\nX-Evil: 1", "\n", "\r", "\x00", "\u2028"], ids=ascii)
def test_row_77_a_key_with_a_line_break_is_refused_without_showing_it(end: str) -> None:
    with pytest.raises(ValueError, match="white space, control characters or non-ASCII") as refused:
        ParcelvoyClient(KEY + end, "https://emulator")

    judge.no_canary({"error": f"{refused.value!r}"}, [KEY])


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_77_a_key_with_a_line_break_from_a_callable_sends_nothing_and_loses_nothing() -> None:
    emulator = virtual_emulator()
    keys = iter([KEY + "\r\nX-Evil: 1"])
    client = ParcelvoyClient(lambda: next(keys, KEY), "https://emulator", transport=InProcess(emulator))
    async with running(client) as parcelvoy:
        await parcelvoy.track("clicked", external_id="u")
        await parcelvoy.flush(5)
        paused = parcelvoy.statistics().paused
        assert [] == emulator.store.requests
        report = await parcelvoy.flush(120)

    assert 1 == report.statistics.delivered
    judge.no_canary({"paused": str(paused)}, [KEY])

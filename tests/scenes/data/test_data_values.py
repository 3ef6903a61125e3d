"""Rows 67 to 74, from the call to what the server stored: every value arrives as it was meant, or is refused."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import judge, length, run_virtual
from tests.harness.stage.loops import client_of, running, virtual_emulator
from userpilot_async import InvalidCall


class Plan(Enum):
    PRO = "pro"


def _deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def _cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


STRANGE_TEXTS = [
    "",
    "\x00",
    "😀 👩‍👩‍👧",
    "مرحبا \u202e reversed",
    "two\u2028lines\u2029and\x85more\x0b\x0c\x1c\x1d\x1e",
    "\r\n--boundary--\r\n",
    '{"user_id": "somebody else"}\n{"user_id": "x"}',
    "\\u0000 \\ \" / ' \t",
    "x" * 65_535,
]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(STRANGE_TEXTS[:-1])
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = texts | numbers | st.booleans()
names = texts.filter(lambda name: name.strip() != "")
metadata = st.dictionaries(names, values, max_size=8)


async def stored_of(properties: dict[str, Any], bulk_threshold: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the server has of a user, and of an event, that were given these properties."""
    emulator = virtual_emulator(speed=100.0)
    async with running(client_of(emulator, bulk_threshold=bulk_threshold, close_timeout=600.0)) as userpilot:
        await userpilot.identify("u", properties)
        await userpilot.flush(600)
        await userpilot.track("u", "clicked", properties)
    emulator.advance()
    return emulator.store.users["u"].properties, emulator.store.events[0].metadata


@pytest.mark.parametrize("bulk_threshold", [0, 50], ids=["in a bulk file", "in realtime"])
@given(properties=metadata)
@settings(max_examples=length.of(60), deadline=None)
def test_rows_71_to_74_every_text_and_number_arrives_exactly(bulk_threshold: int, properties: dict[str, Any]) -> None:
    of_user, of_event = run_virtual(stored_of, "asyncio", properties, bulk_threshold)

    assert json.dumps(properties, sort_keys=True) == json.dumps(of_user, sort_keys=True)
    assert json.dumps(properties, sort_keys=True) == json.dumps(of_event, sort_keys=True)


@pytest.mark.parametrize("bulk_threshold", [0, 50], ids=["in a bulk file", "in realtime"])
@given(user_id=names.filter(lambda name: len(name) < 1_000))
@settings(max_examples=length.of(40), deadline=None)
def test_row_71_a_user_whose_id_is_any_text_is_that_user_at_the_server(bulk_threshold: int, user_id: str) -> None:
    async def scene() -> set[str]:
        emulator = virtual_emulator(speed=100.0)
        async with running(client_of(emulator, bulk_threshold=bulk_threshold, close_timeout=600.0)) as userpilot:
            await userpilot.identify(user_id, {"n": 1})
            await userpilot.track(user_id, "clicked")
        emulator.advance()
        return {*emulator.store.users} | {event.user_id for event in emulator.store.events}

    assert {user_id} == run_virtual(scene)


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_69_dates_decimals_uuids_and_enums_arrive_as_their_text() -> None:
    properties = {
        "at": datetime(2026, 10, 1, 14, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
        "on": date(2026, 10, 1),
        "price": Decimal("19.90"),
        "id": UUID("12345678-1234-5678-1234-567812345678"),
        "plan": Plan.PRO,
    }
    of_user, of_event = await stored_of(properties, 50)

    assert of_user == of_event
    assert "12:00:00.25" in of_user.pop("at")
    assert {
        "on": "2026-10-01",
        "price": "19.90",
        "id": "12345678-1234-5678-1234-567812345678",
        "plan": "pro",
    } == of_user


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="NaN"),
        pytest.param(float("-inf"), id="-Infinity"),
        pytest.param(b"canary-canary", id="bytes"),
        pytest.param({"canary-canary"}, id="set"),
        pytest.param(object(), id="object"),
        pytest.param(_cycle(), id="cycle"),
        pytest.param(_deep(100_000), id="depth 100,000"),
        pytest.param(["canary-canary"], id="list"),
        pytest.param({"canary-canary": 1}, id="dict"),
        pytest.param("canary-canary\ud800", id="lone surrogate"),
        pytest.param("canary-canary" * 90_000, id="a megabyte"),
        pytest.param(2**70, id="2**70"),
        pytest.param(datetime(2026, 10, 1), id="naive datetime"),
    ],
)
async def test_rows_67_to_74_what_the_server_would_not_take_is_refused_at_the_call_and_costs_nothing(
    value: object,
) -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        refusals = []
        for call in (
            lambda: userpilot.track("u", "clicked", {"bad": value}),
            lambda: userpilot.identify("u", {"bad": value}),
            lambda: userpilot.identify("u", company={"id": "acme", "bad": value}),
            lambda: userpilot.identify_company("acme", {"bad": value}),
        ):
            with pytest.raises(InvalidCall) as refused:
                await call()
            refusals.append(str(refused.value))
        await userpilot.track("u", "clicked", {"good": 1})
        report = await userpilot.flush(10)

    assert all("bad" in refusal for refusal in refusals)
    judge.no_canary(dict(enumerate(refusals)), ["canary-canary"])
    assert 1 == judge.conservation(report.statistics) == report.statistics.delivered
    assert [{"good": 1}] == [event.metadata for event in emulator.store.events]
    assert {} == emulator.store.users


@pytest.mark.anyio
@pytest.mark.virtual
async def test_row_72_ids_that_are_none_at_all_are_refused_by_every_call() -> None:
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        for bad in ("", "   ", "\t\n", 7, None, b"u", "x" * 70_000):
            for call in (
                lambda bad=bad: userpilot.track(bad, "clicked"),
                lambda bad=bad: userpilot.track("u", bad),
                lambda bad=bad: userpilot.identify(bad),
                lambda bad=bad: userpilot.identify_company(bad),
                lambda bad=bad: userpilot.identify("u", company={"id": bad}),
            ):
                with pytest.raises(InvalidCall):
                    await call()
        await anyio.sleep(10)

        assert 0 == userpilot.statistics().accepted
    assert [] == emulator.store.requests


@pytest.mark.anyio
@pytest.mark.virtual
async def test_production_settings_hand_invalid_calls_to_on_dead_and_raise_into_no_request_handler() -> None:
    letters: list[Any] = []
    client = client_of(virtual_emulator(), on_dead=letters.append, on_invalid="dead")
    async with running(client) as userpilot:
        for value in (float("nan"), b"", _cycle(), _deep(100_000), "\ud800"):
            await userpilot.track("u", "clicked", {"bad": value})
            await userpilot.identify("u", {"bad": value})
        await anyio.sleep(1)

        assert {"invalid": 10} == userpilot.statistics().lost_by_reason
        assert ["invalid"] * 10 == [letter.reason for letter in letters]
        assert 10 == judge.conservation(userpilot.statistics())

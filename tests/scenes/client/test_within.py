"""What `within` refuses, and what it does where the database is not used: with no server of PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.stage.loops import client_of
from userpilot_async import (
    ClientClosed,
    ClientNotOpen,
    ConfigurationError,
    InvalidCall,
    Track,
    UserpilotClient,
    blocking,
)
from userpilot_async.emulator import Emulator
from userpilot_async.testing import capture

pytestmark = pytest.mark.anyio

CONNECTION = object()
"""A connection that is not to be used: it is none."""


async def test_a_client_that_is_not_open_or_is_closed_refuses() -> None:
    client = client_of(Emulator())
    with pytest.raises(ClientNotOpen, match="is not open yet"):
        client.within(CONNECTION)
    async with client:
        pass
    with pytest.raises(ClientClosed, match="is closed"):
        client.within(CONNECTION)


async def test_another_outbox_than_one_in_postgres_is_refused() -> None:
    words = r"within\(\) needs an outbox in the application's own PostgreSQL, and calls wait in this process: "
    async with client_of(Emulator()) as client:
        with pytest.raises(ConfigurationError, match=words):
            client.within(CONNECTION)


async def test_a_client_that_is_switched_off_checks_calls_and_uses_no_connection() -> None:
    async with UserpilotClient(disabled=True) as client:
        calls = client.within(CONNECTION)
        receipts = [
            await calls.track("u1", "paid", {"amount": 49}, dedupe="stripe:evt_1"),
            calls.identify_nowait("u1", {"plan": "pro"}),
            await calls.identify_company("acme"),
        ]
        with pytest.raises(InvalidCall, match="user_id"):
            await calls.track("", "paid")
        with pytest.raises(InvalidCall, match="dedupe"):
            calls.track_nowait("u1", "paid", dedupe=" ")

    assert {("dropped", "disabled")} == {(receipt.status, receipt.reason) for receipt in receipts}
    assert 3 == client.statistics().dropped


async def test_in_a_capture_calls_are_captured_at_once_where_there_is_no_postgres() -> None:
    with capture() as userpilot:
        async with UserpilotClient() as client:
            calls = client.within(CONNECTION)
            await calls.track("u1", "paid", {"amount": 49})
            calls.identify_nowait("u1", {"plan": "pro"}, company={"id": "acme"})
            calls.identify_company_nowait("acme", {"size": 3})
            first, again = [calls.track_nowait("u2", "paid", dedupe="stripe:evt_1") for _ in range(2)]

            assert Track("u1", "paid", {"amount": 49}) == userpilot.assert_tracked("u1", "paid", amount=49)
            userpilot.assert_identified("u1", plan="pro", company="acme")
            userpilot.assert_company_identified("acme", size=3)
            await userpilot.flush()

            assert first.id == again.id
            assert ["paid", "paid"] == [event.event_name for event in userpilot.events]


def test_a_blocking_client_has_the_same() -> None:
    with capture() as userpilot, blocking(UserpilotClient()) as client:
        client.within(CONNECTION).track_nowait("u1", "paid")

        userpilot.assert_tracked("u1", "paid")


async def test_what_is_wrong_with_a_call_goes_to_on_dead_if_the_settings_say_so() -> None:
    lost: list[Any] = []
    client = client_of(Emulator(), on_dead=lost.append, on_invalid="dead")
    with capture() as userpilot:
        userpilot.allow_lost("invalid")
        async with client:
            calls = client.within(CONNECTION)
            first = await calls.track("", "paid")
            second = calls.track_nowait("u1", "paid", dedupe=" ")

    assert [("dead", "invalid")] * 2 == [(one.status, one.reason) for one in (first, second)]
    assert [" "] == [one.arguments["dedupe"] for one in lost[1:]]

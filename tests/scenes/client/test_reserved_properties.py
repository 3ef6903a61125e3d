"""Properties that Userpilot keeps itself are warned of, whichever way the call is made, and sent all the same."""

from __future__ import annotations

import pytest

from tests.harness.stage.loops import client_of, running, virtual_emulator

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


async def test_every_way_to_identify_a_user_shares_one_warning_of_each(caplog):
    emulator = virtual_emulator()
    async with running(client_of(emulator)) as userpilot:
        await userpilot.identify("u1", {"last_seen_at": "MARKED-1"})
        userpilot.identify_nowait("u2", {"last_seen_at": "MARKED-2", "first_seen_at": "MARKED-3"})
        await userpilot.api.identify("u3", {"first_seen_at": "MARKED-4"})
        await userpilot.api.bulk_identify_users([{"user_id": "u4", "metadata": {"signed_up_at": "MARKED-5"}}])

    warned = [record.getMessage() for record in caplog.records if "user property" in record.getMessage()]
    assert ["last_seen_at", "first_seen_at", "signed_up_at"] == [line.split("'")[1] for line in warned]
    assert "MARKED" not in caplog.text
    assert {"last_seen_at": "MARKED-1"} == emulator.store.users["u1"].properties


async def test_a_company_has_no_such_properties(caplog):
    async with running(client_of(virtual_emulator())) as userpilot:
        await userpilot.identify_company("acme", {"last_seen_at": "x"})
        await userpilot.identify("u1", company={"id": "acme", "signed_up_at": "x"})
        await userpilot.api.identify_company("acme", {"first_seen_at": "x"})

    assert "user property" not in caplog.text

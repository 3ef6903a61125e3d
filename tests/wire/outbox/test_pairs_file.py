"""A person's browser is known after a restart: the client that opens the file next refuses a second person in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.stage.loops import InProcess
from tests.harness.stage.outbox_files import an_emulator
from userpilot_async import InvalidCall
from userpilot_async.emulator import Emulator
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings
from userpilot_async.sqlite import SQLiteOutbox

pytestmark = pytest.mark.anyio


def client_of(path: Path, emulator: Emulator) -> ParcelvoyClient:
    outbox = SQLiteOutbox(path, durability="process")
    settings = ParcelvoySettings(flush_interval=0.0)
    return ParcelvoyClient("KEY", "https://emulator", transport=InProcess(emulator), outbox=outbox, settings=settings)


async def test_a_second_person_in_a_browser_is_refused_after_a_restart(tmp_path: Path) -> None:
    emulator = an_emulator()
    async with client_of(tmp_path / "events.db", emulator) as client:
        await client.track("page viewed", anonymous_id="a1")
        await client.alias("a1", "ann")
        await client.flush(10)
    async with client_of(tmp_path / "events.db", emulator) as client:
        with pytest.raises(InvalidCall, match="anonymous_id belongs to another external_id already"):
            await client.alias("a1", "bob")
        await client.track("page viewed", anonymous_id="a1", external_id="ann")
        report = await client.flush(10)

    assert report.complete
    assert ["ann"] == [user.external_id for user in emulator.store.parcelvoy.users.values()]

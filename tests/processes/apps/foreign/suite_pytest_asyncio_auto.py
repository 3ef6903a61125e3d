"""What users of pytest-asyncio write in auto mode: nothing is decorated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from emulated import KINDS, Scene


@pytest.fixture(params=KINDS)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    scene = Scene(request.param)
    async with scene.client:
        yield scene
    scene.check()


@pytest.fixture(params=KINDS)
async def started(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    scene = Scene(request.param)
    await scene.client.start()
    yield scene
    await scene.client.aclose()
    scene.check()


async def test_calls_are_delivered(scene: Scene) -> None:
    await scene.tell(3)

    await scene.flush()


async def test_what_nobody_waits_for_is_delivered_by_the_tear_down(scene: Scene) -> None:
    await scene.tell(20)


async def test_two_clients_in_two_fixtures_deliver_what_each_was_told(scene: Scene, started: Scene) -> None:
    await asyncio.gather(scene.tell(5), started.tell(7))

    await asyncio.gather(scene.flush(), started.flush())


async def test_a_started_client_is_closed_by_the_tear_down(started: Scene) -> None:
    await asyncio.create_task(started.tell(20))

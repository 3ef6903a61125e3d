"""What users of `unittest` write: set-up, test and tear-down of an `IsolatedAsyncioTestCase` are tasks of their own."""

from __future__ import annotations

import asyncio
import tempfile
import unittest
from pathlib import Path
from typing import Any

from emulated import KINDS, Scene


class Cases:
    """The cases; a subclass says how the client is opened and closed."""

    kind: str
    scene: Scene
    assertRaises: Any  # unittest's

    async def test_calls_are_delivered(self) -> None:
        await self.scene.tell(3)

        await self.scene.flush()

    async def test_what_nobody_waits_for_is_delivered_by_the_tear_down(self) -> None:
        await self.scene.tell(30)

    async def test_calls_from_many_tasks_are_delivered(self) -> None:
        for _ in range(5):
            await asyncio.create_task(self.scene.tell(3))

        await self.scene.flush()

    async def test_a_test_that_is_cancelled_inside_leaves_the_client_whole(self) -> None:
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.01):
                await self.scene.tell()
                await asyncio.Event().wait()
        await self.scene.tell()

        await self.scene.flush()

    async def test_calls_from_a_task_group_that_breaks_are_delivered(self) -> None:
        with self.assertRaises(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.scene.tell(3))
                tasks.create_task(self._break())
        await self.scene.tell()

        await self.scene.flush()

    async def _break(self) -> None:
        await asyncio.sleep(0)
        while len(self.scene.emulator.store.applied) < 3:
            await asyncio.sleep(0.001)
        raise LookupError("of the application")


class EntersTheContext(Cases):
    async def asyncSetUp(self) -> None:
        self.scene = Scene(self.kind)
        self.addCleanup(self.scene.check)
        await self.enterAsyncContext(self.scene.client)  # type: ignore[attr-defined]  # unittest's


class EntersTheContextInTheTest(Cases):
    async def asyncSetUp(self) -> None:
        self.scene = Scene(self.kind)
        self.addCleanup(self.scene.check)
        await asyncio.create_task(self._open())

    async def _open(self) -> None:
        await self.enterAsyncContext(self.scene.client)  # type: ignore[attr-defined]  # unittest's


class StartsAndCloses(Cases):
    async def asyncSetUp(self) -> None:
        self.scene = Scene(self.kind)
        await self.scene.client.start()

    async def asyncTearDown(self) -> None:
        await self.scene.client.aclose()
        self.scene.check()


class StartsAndClosesByCleanup(Cases):
    async def asyncSetUp(self) -> None:
        self.scene = Scene(self.kind)
        await self.scene.client.start()
        self.addCleanup(self.scene.check)
        self.addAsyncCleanup(self.scene.client.aclose)  # type: ignore[attr-defined]  # unittest's


class EntersByHand(Cases):
    async def asyncSetUp(self) -> None:
        self.scene = Scene(self.kind)
        await self.scene.client.__aenter__()

    async def asyncTearDown(self) -> None:
        await self.scene.client.__aexit__(None, None, None)
        self.scene.check()


class WithAFile(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.scene = Scene("UserpilotClient", outbox=f"sqlite:///{folder}/events.db")
        self.addCleanup(self.scene.check)
        await self.enterAsyncContext(self.scene.client)

    async def test_calls_that_wait_in_a_file_are_delivered(self) -> None:
        await self.scene.tell(10)
        await self.scene.flush()
        await self.scene.tell(10)


for _kind in KINDS:
    for _way in (EntersTheContext, EntersTheContextInTheTest, StartsAndCloses, StartsAndClosesByCleanup, EntersByHand):
        _name = f"{_kind}{_way.__name__}"
        globals()[_name] = type(_name, (_way, unittest.IsolatedAsyncioTestCase), {"kind": _kind})

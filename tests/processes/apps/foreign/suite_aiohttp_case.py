"""What users of aiohttp's `AioHTTPTestCase` write: the guide's own application, and hooks that start and stop."""

from __future__ import annotations

import os
import runpy
import unittest
import unittest.mock
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import AioHTTPTestCase
from emulated import KINDS, Scene, emulator_process, reports_at

GUIDE_APP = Path(__file__).parents[1] / "aiohttp_app.py"


class TheReadmesApplication(AioHTTPTestCase):
    async def get_application(self) -> web.Application:
        self.url = self.enterContext(emulator_process())
        self.enterContext(unittest.mock.patch.dict(os.environ, USERPILOT_BASE_URL=self.url, USERPILOT_API_KEY="key"))
        self.addCleanup(self._check)
        application: web.Application = runpy.run_path(str(GUIDE_APP))["app"]
        return application

    async def test_events_of_its_requests_are_delivered(self) -> None:
        self.reports = [f"r{n}" for n in range(20)]
        for report in self.reports:
            answer = await self.client.post(f"/users/u1/reports/{report}")
            self.assertEqual(200, answer.status)

    async def test_a_second_application_works_as_well(self) -> None:
        self.reports = ["last"]
        self.assertEqual(200, (await self.client.post("/users/u1/reports/last")).status)

    def _check(self) -> None:
        self.assertEqual(self.reports, reports_at(self.url))


class Hooks:
    """An application whose hooks open and close the client; a subclass says how."""

    kind: str
    scene: Scene
    client: Any
    assertEqual: Any  # unittest's

    async def get_application(self) -> web.Application:
        self.scene = Scene(self.kind)
        self.addCleanup(self.scene.check)  # type: ignore[attr-defined]  # unittest's
        app = web.Application()
        app.router.add_post("/", self._serve)
        self.hook(app)
        return app

    def hook(self, app: web.Application) -> None:
        raise NotImplementedError

    async def _serve(self, request: web.Request) -> web.Response:
        await self.scene.tell()
        return web.Response()

    async def test_calls_of_its_requests_are_delivered(self) -> None:
        for _ in range(20):
            self.assertEqual(200, (await self.client.post("/")).status)


class CleanupContext(Hooks):
    def hook(self, app: web.Application) -> None:
        async def opened(app: web.Application) -> Any:
            async with self.scene.client:
                yield

        app.cleanup_ctx.append(opened)


class OnStartupAndOnCleanup(Hooks):
    def hook(self, app: web.Application) -> None:
        async def start(app: web.Application) -> None:
            await self.scene.client.start()

        async def stop(app: web.Application) -> None:
            await self.scene.client.aclose()

        app.on_startup.append(start)
        app.on_cleanup.append(stop)


for _kind in KINDS:
    for _way in (CleanupContext, OnStartupAndOnCleanup):
        _name = f"{_kind}{_way.__name__}"
        globals()[_name] = type(_name, (_way, AioHTTPTestCase), {"kind": _kind})

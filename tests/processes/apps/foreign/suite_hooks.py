"""What users of frameworks with start and stop hooks write: two functions, each called in a task of its own."""

from __future__ import annotations

import asyncio
import unittest
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from emulated import KINDS, Scene
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

with warnings.catch_warnings():  # it would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

Hook = Callable[[], Awaitable[object]]


class Listeners(unittest.IsolatedAsyncioTestCase):
    """As Sanic and Litestar do it: whoever runs the hooks starts a task for each of them."""

    async def serve(self, start: Hook, stop: Hook, scene: Scene) -> None:
        await asyncio.create_task(self._call(start))
        await asyncio.gather(*(asyncio.create_task(scene.tell()) for _ in range(20)))
        await asyncio.create_task(self._call(stop))
        scene.check()

    async def _call(self, hook: Hook) -> None:
        await hook()

    async def test_calls_between_start_and_aclose_are_delivered(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                scene = Scene(kind)
                await self.serve(scene.client.start, scene.client.aclose, scene)

    async def test_calls_in_a_block_on_an_exit_stack_are_delivered(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                scene, stack = Scene(kind), AsyncExitStack()
                await self.serve(lambda: stack.enter_async_context(scene.client), stack.aclose, scene)  # noqa: B023

    async def test_a_start_hook_under_a_timeout_of_the_frameworks_own_leaves_the_client_open(self) -> None:
        for kind in KINDS:
            with self.subTest(kind):
                scene = Scene(kind)

                async def start(scene: Scene = scene) -> None:
                    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._call(scene.client.start))

                await self.serve(start, scene.client.aclose, scene)


def starlette_app(scene: Scene) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with scene.client:
            yield

    async def serve(request: Request) -> PlainTextResponse:
        await scene.tell()
        return PlainTextResponse("told")

    return Starlette(routes=[Route("/", serve, methods=["POST"])], lifespan=lifespan)


def fastapi_app(scene: Scene) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with scene.client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    async def serve() -> str:
        await scene.tell()
        return "told"

    return app


class Lifespans(unittest.IsolatedAsyncioTestCase):
    async def test_a_lifespan_entered_in_one_task_and_left_in_another_delivers(self) -> None:
        for kind in KINDS:
            for application in (fastapi_app, starlette_app):
                with self.subTest(kind, application=application.__name__):
                    scene = Scene(kind)
                    app = application(scene)
                    lifespan = app.router.lifespan_context(app)
                    await asyncio.create_task(self._enter(lifespan))
                    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as visitor:
                        for _ in range(10):
                            (await visitor.post("/")).raise_for_status()
                    await asyncio.create_task(self._leave(lifespan))
                    scene.check()

    async def _enter(self, lifespan) -> None:
        await lifespan.__aenter__()

    async def _leave(self, lifespan) -> None:
        await lifespan.__aexit__(None, None, None)


class TestClients(unittest.TestCase):
    def test_starlettes_test_client_delivers(self) -> None:
        for kind in KINDS:
            for application in (fastapi_app, starlette_app):
                with self.subTest(kind, application=application.__name__):
                    scene = Scene(kind)
                    with TestClient(application(scene)) as visitor:
                        for _ in range(10):
                            visitor.post("/").raise_for_status()
                    scene.check()

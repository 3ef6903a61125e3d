"""What users of Quart write: hooks before and after serving, in an application that a fixture runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from emulated import KINDS, Scene
from quart import Quart
from quart import typing as quart


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def app_of(scene: Scene) -> Quart:
    app = Quart(__name__)

    @app.post("/")
    async def serve() -> str:
        await scene.tell()
        return "told"

    return app


def with_hooks(scene: Scene) -> Quart:
    app = app_of(scene)

    @app.before_serving
    async def start() -> None:
        await scene.client.start()

    @app.after_serving
    async def stop() -> None:
        await scene.client.aclose()

    return app


def while_serving(scene: Scene) -> Quart:
    app = app_of(scene)

    @app.while_serving
    async def opened() -> AsyncIterator[None]:
        async with scene.client:
            yield

    return app


@pytest.fixture(params=[with_hooks, while_serving])
async def visitor(request: pytest.FixtureRequest, scene: Scene) -> AsyncIterator[quart.TestClientProtocol]:
    async with request.param(scene).test_app() as app:
        yield app.test_client()
    scene.check()


async def test_an_application_in_a_fixture_delivers_what_its_requests_say(
    visitor: quart.TestClientProtocol, scene: Scene
) -> None:
    await visitor.post("/")
    await scene.flush()
    await visitor.post("/")


@pytest.mark.parametrize("hooked", [with_hooks, while_serving])
async def test_startup_and_shutdown_called_by_hand_deliver_what_was_said_between(hooked, scene: Scene) -> None:
    app = hooked(scene)
    await app.startup()
    for _ in range(10):
        await app.test_client().post("/")
    await app.shutdown()

    scene.check()

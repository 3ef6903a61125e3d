"""What users of pytest-aiohttp write: `aiohttp_client` around the guide's own application, and around theirs."""

from __future__ import annotations

import os
import runpy
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from emulated import KINDS, Scene, emulator_process, reports_at

GUIDE_APP = Path(__file__).parents[1] / "aiohttp_app.py"


@pytest.fixture(scope="module")
def emulator_url() -> Iterator[str]:
    with emulator_process() as url:
        yield url


@pytest.fixture
def readme_app(emulator_url: str, monkeypatch: pytest.MonkeyPatch) -> web.Application:
    monkeypatch.setenv("USERPILOT_BASE_URL", emulator_url)
    monkeypatch.setenv("USERPILOT_API_KEY", "key-of-the-readme")
    application: web.Application = runpy.run_path(os.fspath(GUIDE_APP))["app"]
    return application


@pytest.fixture
def expected(emulator_url: str) -> Iterator[list[str]]:
    """What the server has once the application has been left, which pytest-aiohttp does in its tear-down."""
    before = reports_at(emulator_url)
    expected: list[str] = []
    yield expected
    assert expected
    assert before + expected == reports_at(emulator_url)


@pytest.mark.parametrize("calls", [1, 30])
async def test_the_readmes_application_delivers_what_its_requests_say(
    calls: int, expected: list[str], readme_app: web.Application, aiohttp_client: Any
) -> None:
    client = await aiohttp_client(readme_app)
    for n in range(calls):
        expected.append(f"r{n}")
        assert 200 == (await client.post(f"/users/u1/reports/r{n}")).status


@pytest.fixture(params=KINDS)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(request.param)
    yield scene
    scene.check()


def app_of(scene: Scene) -> web.Application:
    async def serve(request: web.Request) -> web.Response:
        await scene.tell()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", serve)
    return app


def with_a_cleanup_context(scene: Scene) -> web.Application:
    async def opened(app: web.Application) -> AsyncIterator[None]:
        async with scene.client:
            yield

    app = app_of(scene)
    app.cleanup_ctx.append(opened)
    return app


def with_hooks(scene: Scene) -> web.Application:
    async def start(app: web.Application) -> None:
        await scene.client.start()

    async def stop(app: web.Application) -> None:
        await scene.client.aclose()

    app = app_of(scene)
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    return app


@pytest.mark.parametrize("application", [with_a_cleanup_context, with_hooks])
async def test_an_application_delivers_what_its_requests_say(
    application: Callable[[Scene], web.Application], scene: Scene, aiohttp_client: Any
) -> None:
    client = await aiohttp_client(application(scene))
    for _ in range(20):
        assert 200 == (await client.post("/")).status


@pytest.fixture
async def visitor(scene: Scene, aiohttp_client: Any) -> Any:
    """As most projects have it: the client of the application is a fixture, too."""
    return await aiohttp_client(with_a_cleanup_context(scene))


async def test_an_application_in_a_fixture_delivers_what_its_requests_say(visitor: Any, scene: Scene) -> None:
    await visitor.post("/")
    await scene.flush()
    await visitor.post("/")

"""What users of pytest-asyncio write in strict mode: a client in a fixture, of every scope and on every loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from emulated import KINDS, Scene
from fastapi import FastAPI


def client_of(scope: Any, loop_scope: Any) -> Any:
    """A fixture that opens a client of each kind, and gives it out together with what it was told."""

    @pytest_asyncio.fixture(scope=scope, loop_scope=loop_scope, params=KINDS)
    async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
        scene = Scene(request.param)
        async with scene.client:
            yield scene
        scene.check()

    return scene


of_a_function = client_of("function", "function")
of_a_function_on_the_classs_loop = client_of("function", "class")
of_a_function_on_the_modules_loop = client_of("function", "module")
of_a_function_on_the_sessions_loop = client_of("function", "session")
of_a_class = client_of("class", "class")
of_a_module = client_of("module", "module")
of_a_module_on_the_sessions_loop = client_of("module", "session")
of_the_session = client_of("session", "session")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def started_and_closed(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    scene = Scene(request.param)
    await scene.client.start()
    yield scene
    await scene.client.aclose()
    scene.check()


class Cases:
    """What is done with the client of the fixture, which may have been used before."""

    async def test_calls_are_delivered(self, scene: Scene) -> None:
        await scene.tell(3)

        await scene.flush()

    async def test_calls_from_many_tasks_are_delivered(self, scene: Scene) -> None:
        for _ in range(5):
            await asyncio.create_task(scene.tell(3))

        await scene.flush()

    async def test_a_block_that_times_out_leaves_the_client_whole(self, scene: Scene) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await scene.tell()
                await asyncio.Event().wait()
        await scene.tell()

        await scene.flush()

    async def test_what_nobody_waits_for_is_delivered_by_the_tear_down(self, scene: Scene) -> None:
        await scene.tell(20)


@pytest.mark.asyncio
class TestOfAFunction(Cases):
    @pytest.fixture
    def scene(self, of_a_function: Scene) -> Scene:
        return of_a_function


@pytest.mark.asyncio(loop_scope="class")
class TestOfAFunctionOnTheClasssLoop(Cases):
    @pytest.fixture
    def scene(self, of_a_function_on_the_classs_loop: Scene) -> Scene:
        return of_a_function_on_the_classs_loop


@pytest.mark.asyncio(loop_scope="module")
class TestOfAFunctionOnTheModulesLoop(Cases):
    @pytest.fixture
    def scene(self, of_a_function_on_the_modules_loop: Scene) -> Scene:
        return of_a_function_on_the_modules_loop


@pytest.mark.asyncio(loop_scope="session")
class TestOfAFunctionOnTheSessionsLoop(Cases):
    @pytest.fixture
    def scene(self, of_a_function_on_the_sessions_loop: Scene) -> Scene:
        return of_a_function_on_the_sessions_loop


@pytest.mark.asyncio(loop_scope="class")
class TestOfAClass(Cases):
    @pytest.fixture
    def scene(self, of_a_class: Scene) -> Scene:
        return of_a_class


@pytest.mark.asyncio(loop_scope="module")
class TestOfAModule(Cases):
    @pytest.fixture
    def scene(self, of_a_module: Scene) -> Scene:
        return of_a_module


@pytest.mark.asyncio(loop_scope="session")
class TestOfAModuleOnTheSessionsLoop(Cases):
    @pytest.fixture
    def scene(self, of_a_module_on_the_sessions_loop: Scene) -> Scene:
        return of_a_module_on_the_sessions_loop


@pytest.mark.asyncio(loop_scope="session")
class TestOfTheSession(Cases):
    @pytest.fixture
    def scene(self, of_the_session: Scene) -> Scene:
        return of_the_session


@pytest.mark.asyncio(loop_scope="module")
class TestStartedAndClosed(Cases):
    @pytest.fixture
    def scene(self, started_and_closed: Scene) -> Scene:
        return started_and_closed


@pytest.mark.asyncio
class TestOnAnExitStack(Cases):
    @pytest_asyncio.fixture
    async def stack(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest_asyncio.fixture(params=KINDS)
    async def scene(self, request: pytest.FixtureRequest, stack: AsyncExitStack) -> Scene:
        scene = Scene(request.param)
        stack.callback(scene.check)
        await stack.enter_async_context(scene.client)
        return scene


@pytest.mark.asyncio
class TestWithAFile(Cases):
    @pytest_asyncio.fixture
    async def scene(self, tmp_path: Any) -> AsyncIterator[Scene]:
        scene = Scene("UserpilotClient", outbox=f"sqlite:///{tmp_path}/events.db")
        async with scene.client:
            yield scene
        scene.check()


# ── an application whose lifespan has the client, and the fixture the lifespan ──

Post = Callable[[], Awaitable[None]]


@pytest.fixture(params=KINDS)
def told(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


@pytest_asyncio.fixture
async def post(told: Scene) -> AsyncIterator[Post]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with told.client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/")
    async def serve() -> str:
        await told.tell()
        return "told"

    async with lifespan(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as visitor:

        async def post() -> None:
            (await visitor.post("/")).raise_for_status()

        yield post
    told.check()


@pytest.mark.asyncio
async def test_an_application_in_a_fixture_delivers_what_its_requests_say(post: Post, told: Scene) -> None:
    for _ in range(10):
        await post()

    await told.flush()


@pytest.mark.asyncio
async def test_an_application_in_a_fixture_delivers_what_waits_in_its_tear_down(post: Post) -> None:
    for _ in range(10):
        await post()

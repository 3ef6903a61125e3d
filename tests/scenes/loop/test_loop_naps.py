"""How often the sender takes calls while they come one by one, on a clock that jumps."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import anyio
import anyio.lowlevel
import attrs
import httpx
import pytest

from tests.harness.stage.loops import KEY
from userpilot_async import ClientClosed, Settings, UserpilotClient
from userpilot_async._delivery.sender import NAP

pytestmark = pytest.mark.anyio
DEFAULTS = Settings()


@attrs.define
class Watched:
    """A client, how many calls its sender took in each pass that took some, and when requests were made."""

    settings: Settings = DEFAULTS
    answers_in: float = 0.0
    """Seconds until a request is answered."""
    takes: list[int] = attrs.field(factory=list)
    requests: list[float] = attrs.field(factory=list)
    client: UserpilotClient = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        async def answered(_: httpx.Request) -> httpx.Response:
            self.requests.append(anyio.current_time())
            if self.answers_in:
                await anyio.sleep(self.answers_in)
            return httpx.Response(202)

        self.client = UserpilotClient(KEY, transport=httpx.MockTransport(answered), settings=self.settings)

    def watch(self) -> None:
        """Begin to count; the client is open."""
        sender = self.client._sender
        take_in = sender.take_in

        def counted() -> int:
            taken = take_in()
            self.takes += [taken] if taken else []
            return taken

        sender.take_in = counted  # type: ignore[method-assign]


@pytest.mark.virtual
async def test_calls_that_come_one_by_one_are_taken_together_once_in_a_nap() -> None:
    watched = Watched(answers_in=0.5)  # an answer wakes the sender, too
    async with watched.client as userpilot:
        watched.watch()
        for _ in range(50):
            await userpilot.track("u1", "clicked")
            await anyio.sleep(NAP / 5)

    assert 50 == sum(watched.takes)
    assert len(watched.takes) <= 12, "one call at once, and the others by five"


@pytest.mark.virtual
async def test_calls_that_cannot_be_taken_yet_wake_the_sender_once_in_a_nap(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, passes = Watched(), 0
    async with watched.client as userpilot:
        monkeypatch.setattr(userpilot._outbox, "take", lambda limit: ())  # as many are in hand as may be
        take_in = userpilot._sender.take_in

        def counted() -> int:
            nonlocal passes
            passes += 1
            return take_in()

        monkeypatch.setattr(userpilot._sender, "take_in", counted)
        for _ in range(50):
            await userpilot.track("u1", "clicked")
            await anyio.sleep(NAP / 5)
        monkeypatch.undo()

    assert 10 <= passes <= 12
    assert 50 == userpilot.statistics().delivered, "the close takes them"


@pytest.mark.virtual
async def test_the_first_call_in_an_empty_queue_goes_at_once_also_after_a_nap() -> None:
    watched, made = Watched(), []
    async with watched.client as userpilot:
        for _ in range(3):
            made.append(anyio.current_time())
            await userpilot.track("u1", "clicked")
            await anyio.sleep(1)

    assert made == watched.requests


@pytest.mark.virtual
@pytest.mark.parametrize("how", ["flush", "close"])
async def test_who_waits_for_the_calls_cuts_the_nap_short(how: str) -> None:
    watched = Watched()
    async with watched.client as userpilot:
        began = anyio.current_time()
        await userpilot.track("u1", "clicked")
        while not watched.requests:
            await anyio.lowlevel.checkpoint()
        await userpilot.track("u2", "clicked")
        await (userpilot.flush() if how == "flush" else userpilot.aclose())

    assert [began, began] == watched.requests


@pytest.mark.virtual
async def test_what_is_due_within_a_nap_goes_when_it_is_due() -> None:
    watched = Watched(Settings(flush_interval=NAP / 2))
    async with watched.client as userpilot:
        began = anyio.current_time()
        await userpilot.identify("u1", {"plan": "pro"})
        await anyio.sleep(1)

    assert [pytest.approx(began + NAP / 2)] == watched.requests


@pytest.mark.virtual
async def test_more_calls_than_the_sender_takes_at_once_end_its_nap() -> None:
    watched = Watched(answers_in=0.5)
    async with watched.client as userpilot:
        watched.watch()
        began = anyio.current_time()
        for _ in range(2_000):
            await userpilot.track("u1", "clicked")
        taken, took = sum(watched.takes), anyio.current_time() - began
        await userpilot.aclose(0)

    assert 0.0 == took, "the clock has not jumped: nothing waited"
    assert taken >= 1_000


@pytest.mark.virtual
async def test_nothing_naps_while_somebody_flushes() -> None:
    watched = Watched(answers_in=0.5)
    async with watched.client as userpilot, anyio.create_task_group() as tasks:
        began = anyio.current_time()
        await userpilot.track("u1", "clicked")
        tasks.start_soon(userpilot.flush)
        for user in ("u2", "u3"):
            await userpilot.track(user, "clicked")
            for _ in range(50):  # steps of the loop, which the sender and its request may take; the clock takes none
                await anyio.lowlevel.checkpoint()

    assert [began] * 3 == watched.requests


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("call", [UserpilotClient.track_nowait, UserpilotClient.identify_nowait])
def test_a_loop_that_ends_in_a_nap_is_noticed_by_the_next_call(call: Callable[..., object]) -> None:
    watched = Watched(answers_in=60.0)

    async def main() -> None:
        await watched.client.start()
        await watched.client.track("u1", "clicked")
        while not watched.client._sender._naps:
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()

    with pytest.raises(ClientClosed):
        call(watched.client, "u1", "clicked" if call is UserpilotClient.track_nowait else {"plan": "pro"})
    gc.collect()

"""Which loop one is in, whatever else is installed."""

from __future__ import annotations

import sys
from types import ModuleType

import anyio
import pytest
import trio.lowlevel

from userpilot_async._runtime import event_loop

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def old_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application may have one that is older than 0.29, for something else: httpcore loads it for us."""
    monkeypatch.delattr(trio.lowlevel, "in_trio_run", raising=False)


async def test_an_old_trio_changes_nothing(anyio_backend_name: str) -> None:
    there = await anyio.to_thread.run_sync(event_loop.loop_here)

    assert (anyio_backend_name == "trio") is event_loop.on_trio()
    assert event_loop.loop_here() is event_loop.loop_here() is not None
    assert there is None
    assert callable(event_loop.soon_here())
    assert event_loop.clock_here()() > 0.0
    assert not event_loop.host_here()()


def test_a_trio_that_another_thread_is_loading_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))

    assert not event_loop.on_trio()
    assert event_loop.loop_here() is None

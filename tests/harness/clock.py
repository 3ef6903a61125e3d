"""Time that jumps: a whole day of waiting passes in milliseconds, on asyncio and on trio.

When every task waits, the clock leaps to the next timer instead of sleeping. Both clocks start at 0.

What a jumping clock cannot see is work outside its own loop: a worker thread, another process, a real
server. While such work is under way and any timer is pending, the clock jumps to that timer at once, so
`fail_after(5)` around a thread or a real request expires immediately. Without a pending timer the loop
waits for real. `jump_after` (real seconds of patience before each jump) is the way out where both must
be mixed; on trio it is `MockClock`'s `autojump_threshold`.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeVar

import anyio
import sniffio
import trio
import trio.testing

from tests.harness import loops

T = TypeVar("T")

# Real seconds. Far above what a thread or a loopback answer takes in a test, far below a person's patience.
DEADLOCK_AFTER = 10.0


class VirtualTimeDeadlock(RuntimeError):
    """Every task waits, no timer is pending, and nothing from outside came within the real-time cap."""


# What any WatchedLoop reported since the list was last cleared; `conftest.py` does that for every test.
unhandled: list[str] = []


def note_unhandled(context: Mapping[str, Any]) -> None:
    """Keep what a loop reports."""
    # As text: a report that kept its task or its traceback alive would disturb the counting of leaks.
    unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")


def watched_loop() -> asyncio.AbstractEventLoop:
    """A new loop for a test in real time: a `WatchedLoop`, or uvloop's, watched likewise."""
    if loops.CHOSEN != "uvloop":
        return WatchedLoop()
    import uvloop

    class WatchedUvloop(uvloop.Loop):
        def call_exception_handler(self, context: dict[str, Any]) -> None:
            note_unhandled(context)
            super().call_exception_handler(context)

    return WatchedUvloop()


class WatchedLoop(asyncio.SelectorEventLoop):
    """The ordinary loop, which also notes in `unhandled` every exception and every task that got lost."""

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        loops.hasten(self)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        note_unhandled(context)
        super().call_exception_handler(context)


class VirtualTimeLoop(WatchedLoop):
    """An asyncio loop whose `time()` starts at 0 and leaps to the next timer when nothing is ready.

    Sockets, pipes, signals and `call_soon_threadsafe` work as ever: each jump is preceded by a real poll.
    Worker threads are invisible (see the module). With no timer pending the loop blocks for real; after
    `deadlock_after` real seconds it raises `VirtualTimeDeadlock`, which says where each task waits.
    """

    def __init__(self, *, jump_after: float = 0.0, deadlock_after: float = DEADLOCK_AFTER) -> None:
        self._jumping = _JumpingSelector(jump_after, deadlock_after, self._describe_tasks)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    @property
    def _clock_resolution(self) -> float:
        # asyncio fires a timer once it is due before time() + resolution, and its resolution is 1 ns. After
        # 97 days floats are coarser than that: the sum is time() again, and a due timer never fires.
        return max(1e-9, math.ulp(self.time()))

    @_clock_resolution.setter
    def _clock_resolution(self, measured: float) -> None:
        """asyncio sets the real clock's resolution; this clock has its own."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Since 3.12 the runner gives the executor's threads 300 s to end, on this clock: they would get none.
        await super().shutdown_default_executor()

    def _describe_tasks(self) -> str:
        return _describe({task.get_name(): task.get_coro() for task in asyncio.all_tasks(self)})


class _JumpingSelector(selectors.BaseSelector):
    """A real selector that spends virtual seconds where it was asked to spend real ones."""

    def __init__(self, jump_after: float, deadlock_after: float, describe_tasks: Callable[[], str]) -> None:
        self.now = 0.0
        self._real = selectors.DefaultSelector()
        self._jump_after = jump_after
        self._deadlock_after = deadlock_after
        self._describe_tasks = describe_tasks

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = self._real.select(self._deadlock_after)
            if not ready:
                raise VirtualTimeDeadlock(_deadlock_message(self._deadlock_after, self._describe_tasks()))
            return ready

        ready = self._real.select(self._jump_after if timeout > 0 else 0)
        if not ready:
            self.now += max(0.0, timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


def virtual_backend(
    backend: str, *, jump_after: float = 0.0, deadlock_after: float = DEADLOCK_AFTER
) -> tuple[str, dict[str, Any]]:
    """The (name, options) pair that anyio takes for `backend` on a new virtual clock. Good for one run."""
    if backend == "asyncio":
        return backend, {"loop_factory": partial(VirtualTimeLoop, jump_after=jump_after, deadlock_after=deadlock_after)}
    if backend == "trio":
        return backend, {"clock": trio.testing.MockClock(autojump_threshold=jump_after)}
    raise ValueError(f"backend must be 'asyncio' or 'trio', not {backend!r}")


def run_virtual(
    async_fn: Callable[..., Awaitable[T]],
    backend: str = "asyncio",
    *args: object,
    jump_after: float = 0.0,
    deadlock_after: float = DEADLOCK_AFTER,
) -> T:
    """Run `async_fn(*args)` to its end on a new virtual clock and return its result.

    For Hypothesis tests, where every example needs a clock of its own, and for tests that are not async.
    """
    name, options = virtual_backend(backend, jump_after=jump_after, deadlock_after=deadlock_after)
    return anyio.run(ending_deadlocks(async_fn, deadlock_after), *args, backend=name, backend_options=options)


def ending_deadlocks(
    async_fn: Callable[..., Awaitable[T]], deadlock_after: float = DEADLOCK_AFTER
) -> Callable[..., Awaitable[T]]:
    """`async_fn`, which raises `VirtualTimeDeadlock` on trio too. The asyncio loop sees to that itself."""

    @wraps(async_fn)
    async def ended(*args: object, **kwargs: object) -> T:
        if sniffio.current_async_library() != "trio":
            return await async_fn(*args, **kwargs)
        with _ended_on_trio(deadlock_after):
            return await async_fn(*args, **kwargs)

    return ended


@contextmanager
def _ended_on_trio(deadlock_after: float) -> Iterator[None]:
    with trio.CancelScope() as scope:
        watch = _SpinWatch(scope, deadlock_after)
        trio.lowlevel.add_instrument(watch)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(watch)
    if scope.cancelled_caught and watch.message is not None:
        raise VirtualTimeDeadlock(watch.message)


class _SpinWatch(trio.abc.Instrument):
    """Cancels the scope when trio's loop spins without running a task for too long.

    A `MockClock` with nothing to jump to does not block: it polls again and again, at full speed. A scope
    that is shielded is out of this watch's reach.
    """

    def __init__(self, scope: trio.CancelScope, deadlock_after: float) -> None:
        self.message: str | None = None
        self._scope = scope
        self._deadlock_after = deadlock_after
        self._last_step = time.monotonic()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._last_step = time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        if self.message is None and time.monotonic() - self._last_step > self._deadlock_after:
            self.message = _deadlock_message(self._deadlock_after, _describe(_trio_tasks()))
            self._scope.cancel()


def _trio_tasks() -> dict[str, Any]:
    root = trio.lowlevel.current_root_task()
    waiting = [root] if root is not None else []
    found: dict[str, Any] = {}
    while waiting:
        task = waiting.pop()
        found[f"{task.name} ({len(found)})"] = task.coro
        waiting.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return found


def _deadlock_message(deadlock_after: float, tasks: str) -> str:
    return (
        f"deadlock in virtual time: every task waits, no timer is pending and nothing came from outside "
        f"within {deadlock_after:g} real seconds. Tasks:\n{tasks}"
    )


def _describe(coroutines: Mapping[str, Any]) -> str:
    return "\n".join(f"  {name}: {_where(coroutine)}" for name, coroutine in coroutines.items()) or "  (none)"


def _where(coroutine: Any) -> str:
    """'test_drain → flush → wait (events.py:213)': the coroutines a task is inside, and the innermost line."""
    chain: list[str] = []
    place = "not started, or already finished"
    while getattr(coroutine, "cr_frame", None) is not None:
        frame = coroutine.cr_frame
        chain.append(frame.f_code.co_name)
        place = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        coroutine = coroutine.cr_await
    return f"{' → '.join(chain)} ({place})"

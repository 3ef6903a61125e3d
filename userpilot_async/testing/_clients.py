"""Clients in a capture: the calls that each accepts, those it loses, and how it is flushed from any place."""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from functools import partial
from threading import get_ident
from typing import Any

import anyio

from .._delivery.client import DeliveryClient
from .._runtime.event_loop import in_thread
from ._text import Lost

LAST_LETTERS = 1.0  # seconds that are waited for the application's `on_dead`
GRACE = 5.0  # seconds more for a flush in another thread to say that its time is up


class WatchedClient:
    """The eyes on one client, from its opening on; a client that the application forgets is not kept alive.

    ``note`` takes each accepted call.
    """

    def __init__(self, client: DeliveryClient, note: Callable[[object], object]) -> None:
        self._client = weakref.ref(client)
        self._note = note
        self._call_of = client._destination.call_of
        self._ledger = client._outbox.ledger
        self._durable = client._outbox.durable
        self._home = client._admission.home
        self._invalid: list[tuple[Lost, weakref.ref[Exception]]] = []  # an error's traceback would keep the client
        self._letters: list[Lost] = []
        self._before: Mapping[str, int] = dict(self._ledger.losses())

    # ── what the client shows ──

    def accepted(self, kind: Any, key: Any, payload: Any) -> None:
        """Note a call that the client has accepted, in whatever thread."""
        self._note(self._call_of(kind, key, payload))

    def invalid(self, error: Exception, arguments: Any) -> None:
        """Note a call that was refused with this error."""
        self._invalid.append((Lost("invalid", arguments=dict(arguments), detail=str(error)), weakref.ref(error)))

    def on_dead(self, on_dead: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        """Give a callback that notes each lost call, and then calls the application's own."""

        def take(lost: Any) -> Any:
            detail = str(lost.error) if lost.error is not None else lost.detail
            self._letters.append(Lost(lost.reason, lost.call, lost.arguments, detail))
            return on_dead(lost) if on_dead is not None else None

        return take

    # ── what has become of it ──

    def begin_anew(self) -> None:
        """Forget the losses so far."""
        self._before = dict(self._ledger.losses())
        self._invalid.clear()
        self._letters.clear()

    def is_known(self, errors: Iterable[BaseException]) -> None:
        """Forget the invalid calls of these ``errors``, which the test has shown by itself."""
        known = {id(error) for error in errors}
        self._invalid = [(lost, error) for lost, error in self._invalid if id(error()) not in known]

    def lost(self, *, at_end: bool = False) -> list[Lost]:
        """Give the calls that are lost; ``at_end`` also those that wait still, and are not kept for later."""
        found = [*(lost for lost, _ in self._invalid), *self._letters]
        counted = Counter(self._ledger.losses()) - Counter(self._before) - Counter(one.reason for one in self._letters)
        found += [Lost(reason, count=number) for reason, number in counted.items()]
        if at_end and not self._durable and self._ledger.pending:
            found.append(Lost("pending" if self._open() else "not_closed", count=self._ledger.pending))
        return found

    def _open(self) -> DeliveryClient | None:
        """Give the client, if it is open, and its loop may run still."""
        client = self._client()
        is_open = client is not None and client._admission.is_open and not self._home.has_ended()
        return client if is_open else None

    # ── flushing ──

    async def flush(self, timeout: float) -> bool:
        """Have everything sent that was accepted, in whatever loop the client lives; false if the time is up."""
        client = self._open()
        if client is None:
            return True
        if self._home.runs_here():
            return await _flush(client, timeout)
        return await in_thread(partial(self.flush_blocking, timeout))

    def flush_blocking(self, timeout: float) -> bool:
        """Flush while this thread waits; false if the time is up, or the client's loop runs nowhere.

        Raises `RuntimeError` in the client's own loop, which this would stop.
        """
        client = self._open()
        if client is None:
            return True
        if self._home.runs_here():
            raise RuntimeError("this would stop the loop of the client: `await userpilot.flush()` here")
        loop, coroutine = self._home.loop, partial(_flush, client, timeout)
        if isinstance(loop, asyncio.AbstractEventLoop):
            return _in_asyncio(loop, coroutine, self._home.thread == get_ident(), timeout)
        return self._home.thread != get_ident() and _in_trio(loop, coroutine)

    def flush_if_elsewhere(self, timeout: float) -> None:
        """Flush where this is not the client's own loop, as far as it can be done in time."""
        if not self._home.runs_here():
            self.flush_blocking(timeout)


def all_in(error: BaseException) -> list[BaseException]:
    """Give an error and all that a traceback shows with it: causes, what it came up in, members of a group."""
    found: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is not None and not any(one is other for other in found):
            found.append(one)
            todo += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
    return found


async def _flush(client: DeliveryClient, timeout: float) -> bool:
    report = await client.flush(timeout)
    with anyio.move_on_after(LAST_LETTERS):
        await client._dead_letters.wait_delivered()
    return report.complete


def _in_asyncio(
    loop: asyncio.AbstractEventLoop, flush: Callable[[], Coroutine[Any, Any, bool]], here: bool, timeout: float
) -> bool:
    if loop.is_running():
        # In a context of its own: that of the caller may say that this is trio.
        return Context().run(asyncio.run_coroutine_threadsafe, flush(), loop).result(timeout + GRACE)
    if here and asyncio._get_running_loop() is None:  # between two tests, or after the last of its scope
        return loop.run_until_complete(flush())
    return False


def _in_trio(token: Any, flush: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
    import trio

    done: bool = trio.from_thread.run(flush, trio_token=token)
    return done

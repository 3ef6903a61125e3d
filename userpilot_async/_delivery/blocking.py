"""Clients for code without an event loop: a plain ``with``, and the same calls without ``await``, from any thread.

The client itself runs on a loop in a thread of its own. A call goes there through the inbox, which costs microseconds;
where there is something to wait for (room in the queue, a durable outbox, an answer), the caller's thread waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial, wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypeVar

import anyio

from .._account.statistics import Report, Statistics
from .._errors.foreign import must_be
from .._errors.tree import ClientClosed, ConfigurationError, WrongLoop
from .._outbox.receipt import Receipt
from .admission import DeliveryState
from .client import Checked, DeliveryClient

if TYPE_CHECKING:
    from concurrent.futures import Future

    from anyio.from_thread import BlockingPortal

POLL = 0.5  # seconds: a signal that comes just before a lock is waited for is seen by Python no sooner than after that
Backend = Literal["asyncio", "trio"]
C = TypeVar("C", bound=DeliveryClient)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
R = TypeVar("R")
P = ParamSpec("P")
B_co = TypeVar("B_co", covariant=True)
Self = TypeVar("Self", bound="Blocking[Any]")


class Runner(Generic[S_co]):
    """An object that has the methods of ``_subject`` without ``await``."""

    _subject: S_co

    def _run(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the coroutine function in the client's loop while this thread waits, and give its result."""
        raise NotImplementedError


def without_await(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Runner[S], P], R]:
    """Make the method of a `Runner` that does what ``method`` of its subject does, and waits for it."""

    @wraps(method)
    def call(self: Runner[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(partial(method, self._subject), *args, **kwargs)

    return call


def handed_in(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, Receipt]], check: Callable[..., Checked | Receipt]
) -> Callable[Concatenate[Blocking[C], P], Receipt]:
    """Make the method of a `Blocking` client that hands in a call as ``method`` does; ``check`` runs in its caller."""

    @wraps(method)
    def call(self: Blocking[C], /, *args: P.args, **kwargs: P.kwargs) -> Receipt:
        return self._hand_in(check, *args, **kwargs)

    return call


class Blocking(Runner[C]):
    """A client for code without an event loop; made by `blocking`.

    ``with blocking(UserpilotClient()) as userpilot:`` opens it and, on leaving, drains it; or `start` and `close` do.
    Every thread may call it. Exceptions are raised in the caller. ``on_dead`` is called in the client's own thread.
    """

    def __init__(self, client: C, backend: Backend) -> None:
        if backend not in ("asyncio", "trio"):
            raise ConfigurationError('backend must be "asyncio" or "trio"')
        self._subject = client
        self._backend = backend
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._began = threading.Event()
        self._closing = threading.Lock()
        self._unwanted = False
        """The start was interrupted, perhaps before there was a portal by which to stop."""
        self.report: Report | None = None
        """The report of `close`, or of leaving the ``with``; ``None`` until then."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._subject!r}>"

    # ── opening and closing ──

    def __enter__(self: Self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._subject._state is not DeliveryState.FORKED:  # a child leaves the parent's block: nothing is its own
            self.close()

    def start(self: Self) -> Self:
        """Open the client, in a thread of its own, and give this. Raises what opening it raises (`OutboxError`)."""
        if self._thread is not None:
            raise ClientClosed("a client is opened once: make another one")
        # Not in the context of its opener: the tasks of the client belong to no request.
        self._thread = threading.Thread(target=Context().run, args=(self._live,), name="userpilot-client", daemon=True)
        self._thread.start()
        try:
            self._began.wait()
        except BaseException:  # Ctrl-C
            self._unwanted = True
            self._stop(cancel=True)
            raise
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def close(self, timeout: float | None = None) -> Report:
        """Refuse new calls, drain for up to ``timeout`` seconds (default `Settings.close_timeout`), end the thread.

        The report is as of `UserpilotClient.aclose`. May be called again, and by several threads. Raises `ClientClosed`
        in a forked child. Interrupted (by a second Ctrl-C), it gives up what is left, accounts for it, and raises that.
        """
        client = self._subject
        if client._state is DeliveryState.FORKED:
            raise client._refusal()
        if threading.get_ident() == client._thread:
            raise self._would_stop()
        with self._closing:
            if self.report is None:
                if self._portal is not None and self._thread is not None and self._thread.is_alive():
                    self._close(self._portal, timeout)
                elif client._opened and client._state is not DeliveryState.OPEN:  # its thread closed it
                    self.report = client._snapshots.report(client._now())
                else:
                    self.report = _at_once(client.aclose(timeout))
            assert self.report is not None
            return self.report

    aclose = close

    def _close(self, portal: BlockingPortal, timeout: float | None) -> None:
        try:
            try:
                _result(portal.start_task_soon(self._drain, timeout))
            except BaseException:
                portal.call(self._give_up)
                raise
        finally:
            self._stop(cancel=False)
        if self._error is not None:
            raise self._error

    async def _drain(self, timeout: float | None) -> None:
        with self._draining:
            self.report = await self._subject.aclose(timeout)

    async def _give_up(self) -> None:
        self._draining.cancel()  # perhaps before it has begun: its beginning may have been interrupted
        self.report = await self._subject.aclose(0.0)

    def _stop(self, *, cancel: bool) -> None:
        if self._portal is not None:
            with suppress(RuntimeError):  # its loop has ended already
                self._portal.call(self._portal.stop, cancel)
        if self._thread is not None:
            self._thread.join()

    def _live(self) -> None:
        """Run the client's loop, in its own thread."""
        try:
            anyio.run(self._run_client, backend=self._backend)
        except Exception as error:
            self._error = self._error or error
        finally:
            self._began.set()

    async def _run_client(self) -> None:
        from anyio.from_thread import BlockingPortal  # 9 ms of import time that only those pay who use it

        self._draining = anyio.CancelScope()
        async with BlockingPortal() as self._portal:
            if self._unwanted:
                return
            try:
                async with self._subject:
                    self._began.set()
                    await self._portal.sleep_until_stopped()
            except Exception as error:  # of opening or of leaving: raised in the thread that did that
                self._error = error

    # ── calling ──

    flush = without_await(DeliveryClient.flush)

    def statistics(self) -> Statistics:
        """A frozen snapshot, in which ``accepted == delivered + dead + dropped + merged + pending``."""
        return self._subject.statistics()

    @property
    def rate_limits(self) -> Mapping[str, int | None]:
        """Requests a minute that may be made, by budget; ``None`` for no limit."""
        return self._subject.rate_limits

    def _hand_in(self, check: Callable[..., Checked | Receipt], *args: Any, **kwargs: Any) -> Receipt:
        client = self._subject
        if client._state is not DeliveryState.OPEN:
            raise client._refusal()
        checked = check(client, *args, **kwargs)
        if isinstance(checked, Receipt):
            return checked
        dedupe = kwargs.get("dedupe")
        receipt = client._threads.put_if_held(*checked, client._key_of(dedupe))
        if receipt is not None:
            return receipt
        if threading.get_ident() == client._thread:  # `on_dead` calls its client, and must not stop its loop
            return client._holding.put_nowait(*checked, client._key_of(dedupe))
        return self._run(client._hold_in_turn, checked, dedupe)

    def _run(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        client, portal = self._subject, self._portal
        if portal is None or client._state is not DeliveryState.OPEN:
            raise client._refusal()
        if threading.get_ident() == client._thread:
            raise self._would_stop()
        try:
            running = portal.start_task_soon(partial(function, *args, **kwargs))
        except RuntimeError:  # its loop has ended
            raise client._refusal() from None
        try:
            answer: R = _result(running)
        except BaseException:
            if running.cancelled():
                raise client._refusal() from None
            running.cancel()  # where this thread was interrupted, and waits no more
            raise
        return answer

    def _would_stop(self) -> WrongLoop:
        name = type(self._subject).__name__
        return WrongLoop(f"this would stop the thread that this {name} runs in: call it in another thread")


class HasBlocking(Protocol[B_co]):
    """A client with a `Blocking` of its own kind."""

    def _blocking(self, backend: Backend) -> B_co: ...


def blocking(client: HasBlocking[B_co], backend: Backend = "asyncio") -> B_co:
    """Make the client usable without an event loop: in scripts, Celery tasks, WSGI.

    ``client`` is a `UserpilotClient` or a `ParcelvoyClient` that has not been opened. It runs on a loop of ``backend``
    (``"asyncio"`` or ``"trio"``) in a thread of its own from ``with``, or `Blocking.start`, on. After a fork a child
    needs one of its own. Raises `ConfigurationError` for anything else.
    """
    if isinstance(client, type) or getattr(client, "_blocking", None) is None:
        raise ConfigurationError(f"client {must_be('a UserpilotClient or a ParcelvoyClient', client)}")
    return client._blocking(backend)


def _result(running: Future[R]) -> R:
    """Wait for what runs in the client's loop, and give its result, or raise its error, as soon as that is known."""
    while True:
        try:
            answer: R = running.result(POLL)
        except TimeoutError:
            if running.done():  # its own
                raise
        else:
            return answer


def _at_once(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that has nothing to wait for, and give its result."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: R = end.value
        return value
    raise RuntimeError("the client waits, and has no loop to wait in")

"""The receipt for an accepted call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import anyio

from .._account.duplicates import DuplicatePages
from .._account.pages import Pages
from .._calls.outcome import PENDING, DeliveryRoute, Outcome, Status, merged_into
from .._errors.tree import ClientClosed, WrongLoop
from .._runtime.event_loop import HomeLoop
from .._runtime.reentry import in_on_dead

POLL = 0.5  # seconds between two checks by a waiting thread whether the client's loop is still there


class Receipt:
    """Says what became of one call, whenever it is asked, in any thread. Costs nothing if it is not asked."""

    __slots__ = ("_listeners", "_outcome", "_page", "_pages", "from_on_dead", "id")

    def __init__(self, pages: Pages, call_id: int = -1) -> None:
        self._pages: Pages | DuplicatePages = pages
        self._page = pages.newest if call_id >= 0 else _NO_PAGE
        self._outcome: Outcome | None = None
        self._listeners: list[Callable[[], object]] | None = None
        self.from_on_dead: bool = call_id < 0 and in_on_dead.get()
        """The call was made by `on_dead`: where it is lost, no more than this is known."""
        self.id: int = call_id
        """The call's number in the order of acceptance, from 0; -1 until the client's loop has taken the call."""

    def __repr__(self) -> str:
        return f"<Receipt {self.id} {self.status}>"

    @property
    def status(self) -> Status:
        """``pending``, ``submitted``, ``delivered``, ``dead``, ``dropped`` or ``merged``."""
        return self._known().status

    @property
    def reason(self) -> str | None:
        """Why the call is dead or dropped."""
        return self._known().reason

    @property
    def route(self) -> DeliveryRoute | None:
        """By which way it was delivered: ``realtime``, or by a ``bulk`` or ``import`` job; ``None`` while it is not."""
        return self._known().route

    @property
    def is_duplicate(self) -> bool:
        """A call with the same ``dedupe`` was accepted before: this shows what became of that one, and its `id`."""
        return isinstance(self._pages, DuplicatePages)

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait for what became of the call in the end. Raises `TimeoutError` after ``timeout`` seconds.

        For a merged call this waits for the row that took it in, for a duplicate for the first call: ``outcome.row`` is
        what became of that. After the client was closed, or can send no more, it is what is known, perhaps ``pending``.
        In another event loop than the client's it raises `WrongLoop`, and `ClientClosed` if the client's loop has ended
        without a close: use `wait`.
        """
        home, known = self._home_elsewhere(), self._known()
        if home is not None:
            if not home.has_ended():
                raise WrongLoop("a receipt is awaited in the client's own event loop: elsewhere call receipt.wait()")
            if not _is_final(known):
                raise _never_settled(known)
        if _is_final(known):
            return known
        final: list[Outcome] = []
        arrived = anyio.Event()

        def notify(outcome: Outcome) -> None:
            final.append(outcome)
            arrived.set()

        forget = self._watch(notify)
        try:
            with anyio.fail_after(timeout):
                await arrived.wait()
        finally:
            forget()
        return final[0]

    def wait(self, timeout: float | None = None) -> Outcome:
        """As `outcome`, for a plain thread, which it blocks: what became of the call in the end.

        Raises `TimeoutError` after ``timeout`` seconds; `WrongLoop` in the client's own loop, which it would stop;
        `ClientClosed` if that loop has ended without a close, so that it will never be known.
        """
        home = self._pages.home if isinstance(self._pages.home, HomeLoop) else None
        if home is not None and home.runs_here():
            raise WrongLoop("receipt.wait() would stop the client's own event loop: there, await receipt.outcome()")
        known = self._known()
        if _is_final(known) or self._pages.released:
            return known
        if home is not None and home.has_ended():
            raise _never_settled(known)
        if home is not None and home.thread == threading.get_ident():
            raise WrongLoop("receipt.wait() would stop the thread of the client's own event loop: run that loop")
        final: list[Outcome] = []
        arrived = threading.Event()

        def notify(outcome: Outcome) -> None:
            final.append(outcome)
            arrived.set()

        forget = self._watch(notify)
        try:
            self._wait_for(arrived, timeout, home)
        finally:
            forget()
        return final[0]

    def _wait_for(self, arrived: threading.Event, timeout: float | None, home: HomeLoop | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL if deadline is None else deadline - time.monotonic()
            if arrived.wait(max(0.0, min(POLL, left))):
                return
            if left <= 0:
                raise TimeoutError(f"call {self.id} is still {self.status} after {timeout} s")
            if home is not None and home.has_ended() and not arrived.is_set():
                raise _never_settled(self._known())

    def _known(self) -> Outcome:
        if self._outcome is not None:
            return self._outcome
        return PENDING if self.id < 0 else self._pages.outcome(self.id, self._page)

    def _home_elsewhere(self) -> HomeLoop | None:
        """The loop that settles this call, if it is another than the one here."""
        home = self._pages.home
        if self._pages.released or not isinstance(home, HomeLoop) or home.runs_here():
            return None
        return home

    # ── before the call is held ──

    def held(self, call_id: int, page: bytearray) -> None:
        """Note that the call is held under this number; ``page`` is where the ledger writes what becomes of it."""
        self._page = page  # before the number, by which other threads see that there is one
        self.id = call_id
        self._notify()

    def repeats(self, call_id: int, page: bytearray, outcome: Outcome | None = None) -> None:
        """Note that the call is not held, as an earlier one has the same key: it is merged into that.

        ``outcome`` is what became of the earlier one, if that is known, and is not written to its ``page``.
        """
        if isinstance(self._pages, Pages):
            self._pages = DuplicatePages(self._pages)
        if outcome is not None:
            self._outcome = merged_into(outcome)
        self.held(call_id, page)

    def failed(self, outcome: Outcome) -> None:
        """Note that the call is not held, and what became of it."""
        self._outcome = outcome
        self._notify()

    def follow(self, other: Receipt) -> None:
        """Show what ``other`` shows, which is a later receipt for the same call."""
        self._pages = other._pages
        if other._outcome is not None:
            self.failed(other._outcome)
        if other.id < 0:
            other.when_known(lambda: self.follow(other))
            return
        self.held(other.id, other._page)

    def when_known(self, known: Callable[[], object]) -> None:
        """Have ``known`` called when this is held, and when it has failed; in the thread that knows it then."""
        with _registering:
            if self._listeners is None:
                self._listeners = []
            self._listeners.append(known)

    def _notify(self) -> None:
        for known in tuple(self._listeners or ()):
            known()

    # ── watching ──

    def _watch(self, notify: Callable[[Outcome], object]) -> Callable[[], None]:
        """Have ``notify`` called with the final outcome, at once if there is one; the returned function ends that.

        It may be called twice. In any thread.
        """
        forgets: list[Callable[[], object]] = []

        def known() -> None:
            if self._outcome is not None:
                notify(self._outcome)
            elif not forgets:
                forgets.append(self._watch_pages(notify))

        self.when_known(known)
        if self.id >= 0 or self._outcome is not None or self._pages.released:
            known()

        def forget() -> None:
            with _registering:
                if self._listeners is not None and known in self._listeners:
                    self._listeners.remove(known)
            for forget_it in forgets:
                forget_it()

        return forget

    def _watch_pages(self, notify: Callable[[Outcome], object]) -> Callable[[], None]:
        with _registering:
            forget = self._pages.watch(self.id, notify)
        known = self._known()
        if _is_final(known) or self._pages.released:  # it came while we were not watching yet
            notify(known)

        def forget_safely() -> None:
            with _registering:
                forget()

        return forget_safely


_NO_PAGE = bytearray()
_registering = threading.Lock()
"""Held for a moment to begin or end watching a call: threads of one client may do so at the same time."""


def _is_final(outcome: Outcome) -> bool:
    if outcome.status == "merged":
        return outcome.row is not None
    return outcome.status not in ("pending", "submitted")


def _never_settled(known: Outcome) -> ClientClosed:
    return ClientClosed(f"the client's event loop has ended, or is the parent process's: the call stays {known.status}")

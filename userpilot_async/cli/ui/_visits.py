"""The outbox, asked in a thread: a file is waited for, and Redis is spoken to with blocking calls.

One question at a time, however many pages are open: a console must not be what keeps a sender from its turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from ..._outbox.admin import DeadLetter, OutboxAdmin
from ..._outbox.pages import Page, WaitingCall

AT_ONCE = 500  # calls of one page of an export

T = TypeVar("T")
AnyCall = WaitingCall | DeadLetter


class Visits:
    """Questions to the outbox of an ``admin``, one after the other."""

    def __init__(self, admin: OutboxAdmin) -> None:
        self.admin = admin
        self._one = anyio.CapacityLimiter(1)

    async def ask(self, question: Callable[[OutboxAdmin], T]) -> T:
        """The answer to one question. Raises `OutboxError`, as the admin does."""
        return await anyio.to_thread.run_sync(question, self.admin, limiter=self._one)

    async def all_calls(self, page: Callable[[OutboxAdmin, str], Page[AnyCall]]) -> AsyncIterator[AnyCall]:
        """Every call, asked for by one ``page`` behind a place after the other. Raises as `ask` does."""
        after: str | None = ""
        while after is not None:
            place = after
            found = await self.ask(lambda admin, place=place: page(admin, place))  # type: ignore[misc]
            for one in found.entries:
                yield one
            after = found.reached

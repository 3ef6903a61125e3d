"""An open client as a test sees it. None of this is made outside of a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._outbox.protocol import Outbox
from .._outbox.receipt import Receipt
from .._runtime.stand_in import LoopTime, Watch
from .sender import Sender
from .threads import ThreadCalls


def show_to(watch: Watch, outbox: Outbox, threads: ThreadCalls, sender: Sender, time: LoopTime) -> Outbox:
    """Show ``watch`` each call that the client accepts from now on, and have its sender skip ``time`` it only waits in.

    Gives the outbox into which the client is to put its calls.
    """
    sender.skip_to = time.skip_to
    threads.noted = watch.accepted
    return cast("Outbox", NotedOutbox(outbox, watch.accepted))


class NotedOutbox:
    """The ``outbox`` itself in all but one thing: ``noted`` is called with each call that it comes to hold.

    Calls of other threads are not put here, but noted where those put them.
    """

    def __init__(self, outbox: Outbox, noted: Callable[[Kind, Key, Payload], object]) -> None:
        self._outbox = outbox
        self._noted = noted

    def __getattr__(self, name: str) -> Any:
        """Give what is not here and the outbox has: all but `put` and `hold`."""
        return getattr(self._outbox, name)

    def put(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, dedupe: DedupeKey | None = None
    ) -> Receipt:
        """Hold the call, as the outbox does, and note it; not a duplicate, as far as that is known at once."""
        receipt = self._outbox.put(kind, key, payload, size, now, dedupe)
        if not receipt.is_duplicate:
            self._noted(kind, key, payload)
        return receipt

    async def hold(
        self, kind: Kind, key: Key, payload: Payload, size: int, now: float, max_wait: float | None = None,
        dedupe: DedupeKey | None = None,
    ) -> Receipt | None:  # fmt: skip
        """Hold the call, as the outbox does, and note it if that has held it."""
        receipt = await self._outbox.hold(kind, key, payload, size, now, max_wait, dedupe)
        if receipt is not None and not receipt.is_duplicate:
            self._noted(kind, key, payload)
        return receipt

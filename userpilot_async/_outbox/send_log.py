"""A sender's notes of its requests in a durable outbox, and those of the sender before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .._schedule.takeover import RequestNote, Takeover
from .batch import Landed
from .write_queue import WriteQueue


class DurableSendLog:
    """The notes of one opening; ``wake`` wakes the thread, which writes them while this process ``sends``."""

    def __init__(self, queue: WriteQueue, wake: Callable[[], object], sends: Callable[[], bool]) -> None:
        self._queue = queue
        self._wake = wake
        self._sends = sends
        self._sent: set[int] = set()
        self._takeover: Takeover | None = None
        self._closed = False

    @property
    def term(self) -> int:
        """How often the lease was lost while the outbox was open."""
        return self._queue.term

    def was_sent(self, call_id: int) -> bool:
        """A request with this call was under way when an earlier sender ended."""
        if call_id not in self._sent:
            return False
        self._sent.discard(call_id)
        return True

    def inherited(self) -> Takeover | None:
        """Tokens and files that an earlier sender has left, once; ``None`` afterwards."""
        takeover, self._takeover = self._takeover, None
        return takeover

    async def sending(self, request: RequestNote) -> bool:
        """Note in the outbox that a request is about to be made; false if that failed, or another one sends."""
        if self._closed:
            return False
        batch = self._queue.note(lambda batch: batch.requests.append(request))
        self._wake()
        await batch.noted.wait()
        return request.number is not None and self._sends()

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """Note that a request has ended; see `SendLog`."""
        self._queue.note(lambda batch: batch.landed.append(Landed(request, answered, lost)))
        self._wake()

    def forget(self, filename: str) -> None:
        """Have a file not found again; written with what has been settled before, or after it."""
        self._queue.note(lambda batch: batch.forgotten.append(filename))
        self._wake()

    # ── for the outbox ──

    def begin(self, takeover: Takeover) -> None:
        """The lease is ours, and this is what an earlier sender has left."""
        self._takeover = takeover

    def end(self) -> None:
        """Another process may have the lease now, and what an earlier sender has left."""
        self._sent, self._takeover = set(), None

    def close(self) -> None:
        """Nothing is noted any more."""
        self._closed = True

    def read(self, call_ids: Iterable[int]) -> None:
        """Calls were read that were in a request under way when an earlier sender ended."""
        self._sent.update(call_ids)

"""The sender's notes across a network, which it may go on without: a lease ends, and data is set back, meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from .._schedule.takeover import RequestNote
from .send_log import DurableSendLog
from .write_queue import WriteQueue


class RemoteSendLog(DurableSendLog):
    """As any other, and remembers what is under way. ``is_valid``: no other process has the lease, for certain."""

    def __init__(
        self, queue: WriteQueue, wake: Callable[[], object], sends: Callable[[], bool], is_valid: Callable[[], bool]
    ) -> None:
        super().__init__(queue, wake, sends)
        self.under_way: set[RequestNote] = set()
        self._is_valid = is_valid

    async def sending(self, request: RequestNote) -> bool:
        """Note that a request is about to be made; false if that failed, or we may have lost the lease since."""
        term = self.term
        noted = await super().sending(request)
        if noted and term == self.term:
            self.under_way.add(request)
        return noted and self._is_valid() and term == self.term

    def landed(self, request: RequestNote, *, answered: bool | None, lost: bool) -> None:
        """Note that a request has ended."""
        self.under_way.discard(request)
        super().landed(request, answered=answered, lost=lost)

    def end_under_way(self) -> set[int]:
        """The calls that were under way, when what was noted of them is gone."""
        calls = {one for it in self.under_way for ids in (it.ids, it.filed, it.in_rows()) for one in ids}
        self.under_way.clear()
        return calls

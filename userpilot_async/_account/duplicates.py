"""The outcomes of calls as receipts of their duplicates show them: those of merged calls."""

from __future__ import annotations

from collections.abc import Callable

from .._calls.outcome import Outcome, merged_into
from .pages import Pages


class DuplicatePages:
    """The same `Pages`, for a receipt whose call repeats an earlier one: it is merged into that."""

    __slots__ = ("_pages",)

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    @property
    def newest(self) -> bytearray:
        """Where the newest calls are written."""
        return self._pages.newest

    @property
    def home(self) -> object:
        """The event loop in which calls are settled."""
        return self._pages.home

    @property
    def released(self) -> bool:
        """Nothing is settled any more."""
        return self._pages.released

    def outcome(self, call_id: int, page: bytearray) -> Outcome:
        """The outcome so far of what repeats this call."""
        return merged_into(self._pages.outcome(call_id, page))

    def watch(self, call_id: int, notify: Callable[[Outcome], object]) -> Callable[[], None]:
        """Call ``notify`` once the first call has its final outcome; the returned function takes that back."""
        return self._pages.watch(call_id, lambda outcome: notify(merged_into(outcome)))

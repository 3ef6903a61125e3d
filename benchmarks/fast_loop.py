"""A loop on which waiting takes less time than it says, with real sockets: for servers in other processes."""

from __future__ import annotations

import asyncio
import selectors
import time


class FastLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose clock runs `speed` times as fast as the real one; 1.0 until `speed_up`.

    A job is polled after ten seconds, and 100,000 rows are ten jobs. What is measured is CPU: a wait has none.
    """

    def __init__(self) -> None:
        self.speed = 1.0
        self._zero, self._real_zero = time.monotonic(), time.monotonic()
        super().__init__(_Fast(self))

    def time(self) -> float:
        return self._zero + (time.monotonic() - self._real_zero) * self.speed

    def speed_up(self, speed: float) -> None:
        """Run faster from now on."""
        self._zero, self._real_zero = self.time(), time.monotonic()
        self.speed = speed


class _Fast(selectors.DefaultSelector):  # type: ignore[misc, valid-type]  # which one it is depends on the system
    def __init__(self, loop: FastLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._loop.speed if timeout else timeout)  # type: ignore[no-any-return]

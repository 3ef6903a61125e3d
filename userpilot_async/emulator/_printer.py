"""Lines to stdout that nothing waits for: a reader that does not read holds up no request."""

from __future__ import annotations

import os
import queue
import threading

WAITING = 1_000  # lines; a terminal takes them faster than they come, a pipe that nobody reads takes none
FAREWELL = 0.5  # seconds to print what waits at the end


class LinePrinter:
    """Prints lines in a thread of its own. Those for which there is no room are counted, and the number is printed."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: where to write; it stays open."""
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(WAITING)
        self._left_out = 0
        # A daemon, which may be stuck in a write for ever; it uses no buffer of Python's, whose lock would be held.
        self._thread = threading.Thread(target=self._run, name="request lines", daemon=True)

    def print(self, line: str) -> None:
        """Have a line printed, or left out. Returns at once."""
        if not self._thread.ident:
            self._thread.start()
        if self._left_out and not self._lines.full():
            line, self._left_out = f"… {self._left_out:,} lines were left out\n{line}", 0
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        """Print what waits, if it can be done in a moment."""
        if not self._thread.ident:
            return
        try:
            self._lines.put(None, timeout=FAREWELL)
        except queue.Full:
            return  # there is no reader, and so nobody to miss the lines
        self._thread.join(FAREWELL)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            rest = f"{line}\n".encode("utf-8", "backslashreplace")
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except OSError:
                    return  # the reader has gone, as `head` does; the queue fills up, and lines are left out

"""Progress on stderr: a live table on a terminal, else a plain line now and then."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import anyio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar

from ._console import cell

FRAME = 0.2  # seconds between two pictures on a terminal
PLAIN = 3.0  # seconds between two plain lines; a log is read later
BAR = 30  # characters


class View(Protocol):
    """Work whose state can be shown at any moment: `ClientView`, `ImportView`."""

    def line(self) -> str:
        """The present state in one line."""
        ...

    def table(self, elapsed: float) -> RenderableType:
        """The present state for a terminal, ``elapsed`` seconds after the start."""
        ...


class Progress:
    """Shows a view until its task is cancelled, and prints lines that stay."""

    def __init__(self, console: Console, pause: float = PLAIN, *, only_news: bool = False) -> None:
        """``pause`` is in seconds, between two plain lines; ``only_news`` leaves out a line that repeats the last."""
        self._console = console
        self._pause = pause
        self._only_news = only_news
        # Not `is_terminal` alone: FORCE_COLOR, which CI sets, makes it true for a log file.
        self._live = console.is_terminal and console.file.isatty()

    def print(self, text: str) -> None:
        """Print a line that stays, above the live table; brackets and colons in it are no markup."""
        with suppress(OSError):  # the terminal is gone; that is no reason to lose calls
            self._console.print(cell(text), soft_wrap=True)

    async def watch(self, view: View) -> None:
        """Show the view again and again until the task is cancelled; a live table is drawn a last time then."""
        started = anyio.current_time()
        if self._live:
            with suppress(OSError):  # the terminal is gone: plain lines from here on
                await self._watch_live(view, started)
        last = ""
        while True:
            await anyio.sleep(self._pause)
            news = view.line()
            if news != last or not self._only_news:
                self.print(f"{anyio.current_time() - started:4.0f} s: {news}")
            last = news

    async def _watch_live(self, view: View, started: float) -> None:
        def picture() -> RenderableType:
            return view.table(anyio.current_time() - started)

        with Live(picture(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    await anyio.sleep(FRAME)
                    live.update(picture(), refresh=True)
            finally:
                live.update(picture(), refresh=True)


def bar(done: int, total: int) -> ProgressBar:
    """A bar that is filled to ``done`` of ``total``."""
    return ProgressBar(total=total, completed=done, width=BAR)

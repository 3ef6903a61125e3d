"""From a source to the server: streamed with backpressure, watched, and ended in good order."""

from __future__ import annotations

import math
import signal
import sys

import anyio
import attrs
from anyio.abc import TaskGroup

from .._errors import InvalidCall
from .._statistics import Report
from ._exits import Exit, Failed
from ._progress import Progress
from ._recipients import Recipient
from ._source import Rejections, Source, Unreadable

GRACE = 10.0  # seconds to deliver what was accepted before a Ctrl-C; a second one ends it at once
PATIENCE = 150.0  # seconds that a hold is waited out: two looks, a minute apart, have found it no better
LOOK = 1.0  # seconds between two looks whether the client is held
LAST_QUESTION = 5.0  # seconds to find out why calls are left; three attempts take about three


@attrs.define
class Delivery:
    """One run of a client over a source; `run` it once."""

    to: Recipient
    source: Source
    progress: Progress
    rejections: Rejections
    strict: bool = False
    """The first bad line ends the reading."""
    timeout: float | None = None
    """Seconds for all of it."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """Why it ended before everything was delivered, if that lies with the server or the source."""
    interrupted: bool = attrs.field(default=False, init=False)
    report: Report = attrs.field(init=False)
    elapsed: float = attrs.field(default=0.0, init=False)
    _phase: anyio.CancelScope = attrs.field(init=False)
    """What a signal cancels."""
    _finished: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Deliver everything, or find out why not; afterwards `report` says what became of each call."""
        started, self._phase = anyio.current_time(), anyio.CancelScope()
        async with self.to.client, anyio.create_task_group() as helpers:
            self._start_helpers(helpers)
            with self._in_phase(self.timeout):
                self.trouble = await self.to.knock()
                if self.trouble is None:
                    await self._feed()
                    await self.to.client.flush()
                    self._finished = True
            await self._wind_up()
            self.report = await self.to.client.aclose(0.0)
            helpers.cancel_scope.cancel()
        self.elapsed = anyio.current_time() - started

    @property
    def exit_code(self) -> Exit:
        """Of the command, if nothing else goes wrong."""
        if self.interrupted:
            return Exit.INTERRUPTED
        if self.trouble is not None:
            return Exit(self.trouble.exit_code)
        seen = self.report.statistics
        return Exit.LOST if self.rejections.count or seen.dead or seen.dropped or seen.pending else Exit.FINE

    async def _feed(self) -> None:
        try:
            async for number, line in self.source.lines():
                if not line or line.isspace():
                    continue
                try:
                    await self.to.enqueue(line)
                except InvalidCall as error:
                    self.rejections.add(number, error)
                    if self.strict:
                        return
        except Unreadable as exc:
            self.trouble = Failed(str(exc))  # what came before it is delivered all the same

    async def _wind_up(self) -> None:
        """After the time was up, or a hold did not end, or a signal."""
        if self.interrupted and self.to.client.statistics().pending:
            self.progress.say(f"interrupted: {GRACE:.0f} s to deliver what was accepted; again to stop at once")
            with self._in_phase(GRACE):
                await self.to.client.flush()
        elif not self._finished and not self.interrupted and self.trouble is None:
            with anyio.move_on_after(LAST_QUESTION):
                self.trouble = await self.to.knock()
            self.trouble = self.trouble or Failed("the time was up before everything was delivered")

    def _in_phase(self, seconds: float | None) -> anyio.CancelScope:
        self._phase = anyio.move_on_after(seconds)
        return self._phase

    # ── beside it ──

    def _start_helpers(self, helpers: TaskGroup) -> None:
        helpers.start_soon(self.progress.follow, self.to.client)
        helpers.start_soon(self._heed_hold)
        if sys.platform != "win32":  # asyncio has no signal handlers there: Ctrl-C ends it at once
            helpers.start_soon(self._heed_signals)

    async def _heed_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.interrupted = True
                self._phase.cancel()

    async def _heed_hold(self) -> None:
        """A key that is refused half-way may be a hiccup of a proxy's; after some minutes it is not."""
        since = math.inf
        while True:
            await anyio.sleep(LOOK)
            if self.to.client.statistics().held is None:
                since = math.inf
                continue
            since = min(since, anyio.current_time())
            if anyio.current_time() - since >= PATIENCE:
                self._phase.cancel()

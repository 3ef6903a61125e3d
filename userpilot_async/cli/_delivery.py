"""From a source to the server: streamed with backpressure, watched, and ended in good order."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Sequence

import anyio
import attrs
from anyio.abc import TaskGroup, TaskStatus

from .._account.statistics import Report, Statistics
from .._errors.tree import InvalidCall, OutboxError
from ._exits import Exit, Failed
from ._progress import Progress
from ._recipients import Recipient
from ._report import waiting_text
from ._source import Rejections, Source, Unreadable

GRACE = 10.0  # seconds to deliver what was accepted before a signal; a second one ends it at once
PATIENCE = 150.0  # seconds that a hold is waited out: two looks, a minute apart, have found it no better
LOOK = 1.0  # seconds between two looks whether the client is held, and who sends
REACH = 10.0  # seconds for an outbox in Redis to answer, before a command that is to end gives up
LAST_QUESTION = 5.0  # seconds to find out why calls are left; three attempts take about three
FRAME = 0.05  # seconds between two looks whether an outbox is there by now
AWAY = "it does not answer; this process goes on when it is back"
STANDS_BY = "another process sends; this one stands by"
NEWS = {
    ("away", "sends"): AWAY,
    ("away", "stands by"): AWAY,
    ("stands by", "sends"): STANDS_BY,
    ("stands by", "away"): f"it is back; {STANDS_BY}",
    ("sends", "stands by"): "the other one has ended: this process sends now",
    ("sends", "away"): "it is back: this process sends now",
}
"""By what is so now, and what was before: who sends."""


@attrs.define
class Delivery:
    """One run of a client over a source, or over what its outbox has anyway; `run` it once."""

    to: Recipient
    source: Source | None
    progress: Progress
    rejections: Rejections
    strict: bool = False
    """The first bad line ends the reading."""
    timeout: float | None = None
    """Seconds for all of it."""
    endless: bool = False
    """Go on until a signal, whatever the server does; that is no interruption then."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """Why it ended before everything was delivered, if that lies with the server or the source."""
    interrupted: bool = attrs.field(default=False, init=False)
    report: Report = attrs.field(init=False)
    """Of this run: calls that waited already when it began are as if they had been accepted in it."""
    found: int = attrs.field(default=0, init=False)
    """So many were those."""
    elapsed: float = attrs.field(default=0.0, init=False)
    _phase: anyio.CancelScope = attrs.field(init=False)
    """What a signal cancels."""
    _finished: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Deliver everything, or find out why not; afterwards `report` says what became of each call."""
        started, self._phase = anyio.current_time(), anyio.CancelScope()
        async with self.to.client, anyio.create_task_group() as helpers:
            before = self.to.client.statistics()
            await self._start_helpers(helpers)
            with self._in_phase(self.timeout):
                if self.durable:
                    await self._reach()
                    before = self.to.client.statistics()
                    self.found = before.pending
                if self.endless:
                    await anyio.sleep_forever()
                if self.durable and self.trouble is None:  # whatever the server does, they are kept
                    await self._feed()
                self.trouble = self.trouble or await self.to.knock()
                if self.trouble is None:
                    if not self.durable:
                        await self._feed()
                    await self._drain()
                    self._finished = True
            await self._wind_up()
            report = await self.to.client.aclose(0.0)
            self.report = attrs.evolve(report, statistics=since(before, report.statistics))
            helpers.cancel_scope.cancel()
        self.elapsed = anyio.current_time() - started

    @property
    def exit_code(self) -> Exit:
        """Of the command, if nothing else goes wrong."""
        if self.interrupted:
            return Exit.FINE if self.endless else Exit.INTERRUPTED
        if self.trouble is not None:
            return Exit(self.trouble.exit_code)
        seen = self.report.statistics
        left = seen.pending and not self.durable  # by others, meanwhile
        lost = seen.dead or seen.dropped or seen.outbox_resets
        return Exit.LOST if self.rejections.count or lost or left else Exit.FINE

    @property
    def durable(self) -> bool:
        """What is left waits for another run."""
        return self.to.client._outbox.durable

    async def _reach(self) -> None:
        """The account is the outbox's: nothing is known of it before that answers."""
        place = self.to.client._outbox.place
        with anyio.move_on_after(None if self.endless else REACH):
            while self._is_away():  # noqa: ASYNC110  # nobody calls when it has answered
                await anyio.sleep(FRAME)
        if self._is_away():
            self.trouble = Failed(f"{place} does not answer")
        else:
            self.progress.say(f"{place}: {waiting_text(self.to.client.statistics().pending)}")

    def _is_away(self) -> bool:
        """What an outbox in Redis says of itself; one on disk is always there."""
        return bool(getattr(self.to.client._outbox, "away", False))

    async def _feed(self) -> None:
        if self.source is None:
            return
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
        except (Unreadable, OutboxError) as exc:
            self.trouble = Failed(str(exc))  # what came before it is delivered all the same

    async def _drain(self) -> None:
        """Until everything that was accepted is delivered; without a source, until nothing is left."""
        report = await self.to.client.flush()
        while self.source is None and report.statistics.pending:
            report = await self.to.client.flush()

    async def _wind_up(self) -> None:
        """After the time was up, or a hold did not end, or a signal."""
        seen = self.to.client.statistics()
        if self.interrupted and seen.pending and seen.is_sender:
            self.progress.say(f"interrupted: {GRACE:.0f} s to deliver what was accepted; again to stop at once")
            with self._in_phase(GRACE):
                # A close does not wait for what cannot be sent within its time. In memory that would lose it: there
                # it is waited for all the same.
                await (self.to.client.aclose(GRACE) if self.durable else self.to.client.flush())
        elif not self._finished and not self.interrupted and self.trouble is None:
            with anyio.move_on_after(LAST_QUESTION):
                self.trouble = await self.to.knock()
            self.trouble = self.trouble or Failed("the time was up before everything was delivered")

    def _in_phase(self, seconds: float | None) -> anyio.CancelScope:
        self._phase = anyio.move_on_after(seconds)
        return self._phase

    # ── beside it ──

    async def _start_helpers(self, helpers: TaskGroup) -> None:
        helpers.start_soon(self.progress.follow, self.to.client)
        if not self.endless:
            helpers.start_soon(self._heed_hold)
        if self.durable:
            helpers.start_soon(self._tell_sender)
        if sys.platform != "win32":  # asyncio has no signal handlers there: Ctrl-C ends it at once
            await helpers.start(self._heed_signals)

    async def _heed_signals(self, *, task_status: TaskStatus[None]) -> None:
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup, which means that it goes on
            heeded.append(signal.SIGHUP)
        terminals = [number for number in (1, 2) if os.isatty(number)]
        with anyio.open_signal_receiver(*heeded) as signals:
            task_status.started()
            async for received in signals:
                if received == signal.SIGHUP:
                    _forsake(terminals)
                self.interrupted = True
                self._phase.cancel()

    async def _heed_hold(self) -> None:
        """A key that is refused half-way may be a hiccup of a proxy's; after some minutes it is not."""
        since = math.inf
        while True:
            await anyio.sleep(LOOK)
            if self.to.client.statistics().paused is None:
                since = math.inf
                continue
            since = min(since, anyio.current_time())
            if anyio.current_time() - since >= PATIENCE:
                self._phase.cancel()

    async def _tell_sender(self) -> None:
        """Say it when the outbox does not answer, when somebody else sends, and when that has changed."""
        place, before = self.to.client._outbox.place, "sends"
        while True:
            await anyio.sleep(LOOK)
            now = "away" if self._is_away() else "sends" if self.to.client.statistics().is_sender else "stands by"
            if now != before and now == "stands by" and getattr(self.to.client._outbox, "only_puts", False):
                self.progress.say(f"{place}: this process only puts; `userpilot-async outbox` shows who sends")
            elif now != before:
                self.progress.say(f"{place}: {NEWS[now, before]}")
            before = now


def _forsake(terminals: Sequence[int]) -> None:
    """Write no more to these: the terminal is gone, and whatever is written to it fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in terminals:
        os.dup2(nowhere, number)
    os.close(nowhere)


def since(before: Statistics, now: Statistics) -> Statistics:
    """What has happened in between, as an account of its own: what waited at its beginning was accepted in it.

    Where the outbox has lost calls meanwhile, its account has begun anew, and is all there is.
    """
    if now.outbox_resets != before.outbox_resets:
        return attrs.evolve(now, outbox_resets=now.outbox_resets - before.outbox_resets)
    counted = ("accepted", "delivered", "dead", "dropped", "merged", "merged_lost")
    changed = {name: getattr(now, name) - getattr(before, name) for name in counted}
    changed["accepted"] += before.pending
    reasons = {name: count - before.lost_by_reason.get(name, 0) for name, count in now.lost_by_reason.items()}
    reasons = {name: count for name, count in reasons.items() if count}
    return attrs.evolve(now, **changed, lost_by_reason=reasons, outbox_resets=0)

"""Delivery of a source to a server: streamed with back-pressure, watched, and ended in good order."""

from __future__ import annotations

import math

import anyio
import attrs
from anyio.abc import TaskGroup

from .._account.statistics import Report, Statistics
from .._errors.tree import InvalidCall, OutboxError
from ._client_text import ClientView
from ._exits import Exit, Failed
from ._progress import Progress
from ._recipients import Recipient
from ._run import Phases
from ._source import Rejections, Source, Unreadable
from ._text import waiting_text

GRACE = 10.0  # seconds to deliver what was accepted before a signal; a second one ends it at once
PATIENCE = 150.0  # seconds that a paused client is waited for: two probes, a minute apart, have found it no better
POLL = 1.0  # seconds between two checks whether the client is paused, and which process sends
REACH = 10.0  # seconds for an outbox in Redis to answer, before a command that is to end gives up
LAST_QUESTION = 5.0  # seconds to find out why calls are left; three attempts take about three
POLL_REACH = 0.05  # seconds between two checks whether an outbox answers by now
AWAY = "the outbox does not answer; this process goes on when it is back"
STANDS_BY = "another process sends; this one stands by"
NEWS = {
    ("away", "sends"): AWAY,
    ("away", "stands by"): AWAY,
    ("stands by", "sends"): STANDS_BY,
    ("stands by", "away"): f"the outbox is back; {STANDS_BY}",
    ("sends", "stands by"): "the other process has ended: this one sends now",
    ("sends", "away"): "the outbox is back: this process sends now",
}
"""Lines of the log, by the sender's present state and the one before."""


@attrs.define
class Delivery:
    """A client's run over a source, or over what its outbox has anyway; `run` is called once."""

    to: Recipient
    source: Source | None
    progress: Progress
    rejections: Rejections
    strict: bool = False
    """Stop reading at the first bad line."""
    timeout: float | None = None
    """Seconds for the whole run; ``None``: no limit."""
    endless: bool = False
    """Go on until a signal, whatever the server does; a signal counts as no interruption then."""
    trouble: Failed | None = attrs.field(default=None, init=False)
    """The reason for which not everything was delivered, if that lies with the server or the source."""
    report: Report = attrs.field(init=False)
    """Of this run: calls that waited already when it began are as if they had been accepted in it."""
    found: int = attrs.field(default=0, init=False)
    """Calls that waited already when the run began."""
    elapsed: float = attrs.field(default=0.0, init=False)
    _phases: Phases = attrs.field(factory=lambda: Phases(winds_up=True), init=False)
    _finished: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Deliver everything, or find out why not; afterwards `report` says what became of each call."""
        started = anyio.current_time()
        async with self.to.client, anyio.create_task_group() as helpers:
            before = self.to.client.statistics()
            await self._start_helpers(helpers)
            with self._phases.begin(self.timeout):
                if self.durable:
                    await self._reach()
                    before = self.to.client.statistics()
                    self.found = before.pending
                if self.endless:
                    await anyio.sleep_forever()
                if self.durable and self.trouble is None:  # whatever the server does, they are kept
                    await self._feed()
                self.trouble = self.trouble or await self.to.probe()
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
    def interrupted(self) -> bool:
        """A signal has ended the run."""
        return self._phases.interrupted

    @property
    def exit_code(self) -> Exit:
        """The command's exit code, if nothing else goes wrong."""
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
        """Calls that are left wait for another run."""
        return self.to.client._outbox.durable

    async def _reach(self) -> None:
        """Wait until the outbox answers: the account is kept there, and nothing is known of it before."""
        place = self.to.client._outbox.place
        with anyio.move_on_after(None if self.endless else REACH):
            while self._is_away():  # noqa: ASYNC110  # an outbox has no event for its first answer
                await anyio.sleep(POLL_REACH)
        if self._is_away():
            self.trouble = Failed(f"{place} does not answer")
        else:
            self.progress.print(f"{place}: {waiting_text(self.to.client.statistics().pending)}")

    def _is_away(self) -> bool:
        """Whether an outbox in Redis does not answer at present; one on disk is always there."""
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
        """Wait until everything that was accepted is delivered; without a source, until nothing is left."""
        report = await self.to.client.flush()
        while self.source is None and report.statistics.pending:
            report = await self.to.client.flush()

    async def _wind_up(self) -> None:
        """Deliver what was accepted, after a signal; after too long a time or a pause, find out what is wrong."""
        seen = self.to.client.statistics()
        if self.interrupted and seen.pending and seen.is_sender:
            self.progress.print(
                f"interrupted: {GRACE:.0f} s are left to deliver what was accepted; a second signal stops at once"
            )
            with self._phases.begin(GRACE):
                # A close does not wait for what cannot be sent within its time. In memory that would lose it: there
                # it is waited for all the same.
                await (self.to.client.aclose(GRACE) if self.durable else self.to.client.flush())
        elif not self._finished and not self.interrupted and self.trouble is None:
            with anyio.move_on_after(LAST_QUESTION):
                self.trouble = await self.to.probe()
            self.trouble = self.trouble or Failed("the time was up before everything was delivered")

    # ── beside it ──

    async def _start_helpers(self, helpers: TaskGroup) -> None:
        helpers.start_soon(self.progress.watch, ClientView(self.to.client))
        if not self.endless:
            helpers.start_soon(self._limit_pause)
        if self.durable:
            helpers.start_soon(self._log_sender)
        await self._phases.heed_signals(helpers)

    async def _limit_pause(self) -> None:
        """End the run when the client is paused for too long; at first, a refused key may be a proxy's hiccup."""
        since = math.inf
        while True:
            await anyio.sleep(POLL)
            if self.to.client.statistics().paused is None:
                since = math.inf
                continue
            since = min(since, anyio.current_time())
            if anyio.current_time() - since >= PATIENCE:
                self._phases.cut_short()

    async def _log_sender(self) -> None:
        """Print a line when the outbox stops answering, when another process sends, and when either ends."""
        place, before = self.to.client._outbox.place, "sends"
        while True:
            await anyio.sleep(POLL)
            now = "away" if self._is_away() else "sends" if self.to.client.statistics().is_sender else "stands by"
            if now != before and now == "stands by" and getattr(self.to.client._outbox, "only_puts", False):
                self.progress.print(f"{place}: this process only puts; `userpilot-async outbox` shows the sender")
            elif now != before:
                self.progress.print(f"{place}: {NEWS[now, before]}")
            before = now


def since(before: Statistics, now: Statistics) -> Statistics:
    """The account of the time in between; calls that waited at its beginning count as accepted in it.

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

"""Runs of `send`, `drain` and `import`: a signal ends them in good order, then they report, and set the exit code.

A run has phases, one after the other. A signal cancels the phase that is under way and sets `interrupted`; the run
goes on behind the phase, and decides there what can still be done.

    NEW ── begin ──▶ IN A PHASE ── its end, its time, a signal, `cut_short` ──▶ between phases ── begin ──▶ …

`Delivery` (of `send`, `drain` and `demo`) winds up after a signal, in one more phase. `Importing` ends at once, since
its journal has what is done.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Protocol

import anyio
import attrs
import click
from anyio.abc import TaskGroup, TaskStatus

from ._console import echo, echo_json
from ._exits import Exit, Failed


class Run(Protocol):
    """A command's work, and how it ended."""

    @property
    def trouble(self) -> Failed | None:
        """The reason for which the run ended early, if that lies with the server or the input."""
        ...

    @property
    def exit_code(self) -> Exit:
        """The command's exit code where there is no `trouble`."""
        ...

    async def run(self) -> None:
        """Do the work; called once."""
        ...


def run_command(
    run: Run,
    *,
    as_json: bool,
    text: Callable[[], Iterable[str]],
    fields: Callable[[], dict[str, Any]],
    farewell: Callable[[], str | None] = lambda: None,
) -> NoReturn:
    """Run it, print the report on stdout, and end the command with the exit code.

    ``text`` gives the lines of the report, ``fields`` the JSON object, ``farewell`` what an interrupted run prints on
    stderr in place of its `Run.trouble`. Raises that `Failed`, if there is one.
    """
    anyio.run(run.run)
    if as_json:
        echo_json(fields())
    elif lines := list(text()):
        echo(*lines)
    if (last := farewell()) is not None:
        echo(last, err=True)
    elif run.trouble is not None:
        raise run.trouble
    click.get_current_context().exit(run.exit_code)


@attrs.define
class Phases:
    """The phases of one run, and the signals that end them."""

    winds_up: bool = False
    """The run has a last phase after a signal, which a second one ends, and SIGHUP counts as a signal.

    Otherwise a second signal finds Python's own handler, so that a run that hangs can be ended.
    """
    interrupted: bool = attrs.field(default=False, init=False)
    """Whether a signal has ended a phase."""
    _phase: anyio.CancelScope | None = attrs.field(default=None, init=False)

    def begin(self, seconds: float | None = None) -> anyio.CancelScope:
        """The scope of the next phase, to be entered at once; it ends after so many seconds, if any are given."""
        scope = anyio.move_on_after(seconds)
        if self._phase is None and self.interrupted:  # a signal came first
            scope.cancel()
        self._phase = scope
        return scope

    def cut_short(self) -> None:
        """End the phase that is under way."""
        if self._phase is not None:
            self._phase.cancel()

    async def heed_signals(self, helpers: TaskGroup) -> None:
        """Listen for signals from now on, in a task of ``helpers``, until those are cancelled."""
        if sys.platform != "win32":  # asyncio has no signal handlers there: Ctrl-C ends the run at once
            await helpers.start(self._listen)

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        heeded = [signal.SIGINT, signal.SIGTERM]
        if self.winds_up and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup: it goes on
            heeded.append(signal.SIGHUP)
        terminals = [number for number in (1, 2) if os.isatty(number)]
        with anyio.open_signal_receiver(*heeded) as signals:
            task_status.started()
            async for received in signals:
                if received == signal.SIGHUP:
                    _mute(terminals)
                self.interrupted = True
                self.cut_short()
                if not self.winds_up:
                    break


def _mute(terminals: Sequence[int]) -> None:
    """Write no more to these file descriptors: the terminal is gone, and whatever is written to it fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in terminals:
        os.dup2(nowhere, number)
    os.close(nowhere)

"""Whether a client takes calls, and where: the states of a client, and the errors for a call at the wrong time."""

from __future__ import annotations

from enum import Enum
from threading import get_ident

from .._errors.tree import ClientClosed, ClientNotOpen, QueueFull, UserpilotError, WrongLoop
from .._outbox.protocol import Outbox
from .._runtime.event_loop import HomeLoop
from .inbox import Inbox


class DeliveryState(Enum):
    """Whether a client takes calls; the values are words for messages.

    NEW → OPEN → CLOSED, by `start` and `aclose`. OPEN → LOST where the loop ends before the close, and → FORKED in the
    child of a process that forks.
    """

    NEW = (
        "is not open yet: open it with `async with`, or `await client.start()`; without a loop, `with blocking(client)`"
    )
    OPEN = "is open"
    CLOSED = "is closed"
    LOST = "has lost its tasks: its loop was shut down, or they were cancelled"
    FORKED = (
        "was open in the parent process: open one of its own in this one, after the fork, e.g. in gunicorn's post_fork "
        "or Celery's worker_process_init"
    )


class Admission:
    """The state of a client, and why it does not take a call. ``owner`` is the name of the client's class."""

    home: HomeLoop
    """The loop in which the client was opened; there since then."""

    def __init__(self, owner: str, outbox: Outbox, inbox: Inbox) -> None:
        self.state = DeliveryState.NEW
        self._owner = owner
        self._outbox = outbox
        self._inbox = inbox

    @property
    def is_open(self) -> bool:
        """Whether the client takes calls, in its loop and by threads."""
        return self.state is DeliveryState.OPEN

    @property
    def is_here(self) -> bool:
        """Whether the client takes calls, and this is its loop and its thread."""
        return self.is_open and get_ident() == self.home.thread and self.home.runs_here()

    def refusal(self) -> UserpilotError:
        """Make the error for a call that the client does not take now, or not here."""
        pending, name = self._outbox.ledger.pending + self._inbox.on_its_way, self._owner
        if self.state is DeliveryState.NEW:
            return ClientNotOpen(f"this {name} {self.state.value}")
        if self.state is not DeliveryState.OPEN:
            return ClientClosed(f"this {name} {self.state.value} ({pending} calls pending)")
        if self.home.has_ended():
            return ClientClosed(f"this {name} was not closed before its event loop ended ({pending} calls pending)")
        return WrongLoop(
            f"this {name} belongs to another event loop or thread, where {pending} calls are pending: make the call by "
            "its `_nowait` twin, which any thread may use, or, in a worker thread of that loop, by "
            "`anyio.from_thread.run(client.track, ...)`; or open a client for this loop"
        )

    def full(self) -> QueueFull:
        """Make the error for a call that there is no room for."""
        waiting = self._outbox.ledger.pending + self._inbox.on_its_way
        return QueueFull(f"{self._outbox.place} has no room: {waiting:,} calls wait")

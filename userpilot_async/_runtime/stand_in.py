"""Stand-ins for the servers while tests run: clients ask here when they are made, and when they are opened.

`userpilot_async.testing` puts a `StandIn` here for the time of a test; its pytest plugin forbids to reach a server of
the vendor's without one. A client that is made meanwhile may have no key. Outside of tests there is nothing here, and
asking costs a look at two variables for each client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import anyio

KEY = "key-of-a-test"
"""The key with which a stand-in is asked, whatever key the application has: that one is not used, nor asked for."""


class LoopTime:
    """The time of the event loop one is in, in seconds: what `UserpilotAPI` and the importer pause by."""

    def now(self) -> float:
        """The time of the loop."""
        return anyio.current_time()

    def wait(self, seconds: float) -> float:
        """Give how many of these ``seconds`` there are to be waited: all."""
        return seconds

    def skip_to(self, moment: float) -> None:
        """Do nothing: this time cannot be skipped."""


class SkippedTime(LoopTime):
    """The clock of a loop that jumps where there is nothing to do but to wait. ``clock`` is the loop's own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._skipped = 0.0

    def now(self) -> float:
        """The time of the loop, and what has been skipped."""
        return self._clock() + self._skipped

    def skip_to(self, moment: float) -> None:
        """Go on at this moment; one that is over changes nothing."""
        self._skipped += max(0.0, moment - self.now())

    def wait(self, seconds: float) -> float:
        """Skip these ``seconds``, so that there are none to be waited."""
        self._skipped += max(0.0, seconds)
        return 0.0


class Watch(Protocol):
    """The eyes of a stand-in on one client that it serves."""

    def accepted(self, kind: Any, key: Any, payload: Any) -> None:
        """Note a call that the client has accepted, in whatever thread: its kind, its key, what it says."""
        ...

    def invalid(self, error: Exception, arguments: Any) -> None:
        """Note a call that is refused with this error, and the arguments with which it was made."""
        ...

    def on_dead(self, on_dead: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        """Give the callback for lost calls, around the application's own."""
        ...


class StandIn(Protocol):
    """Answers in place of the servers, for every client that is opened while it is here."""

    def transport(self, base_url: str) -> Any:
        """Give the transport for a client that believes its server to be at this URL."""
        ...

    def watch(self, client: Any) -> Watch:
        """Take note of a client that is being opened."""
        ...

    def requested(self, call: Any) -> None:
        """Note a call that `UserpilotAPI` has made, without a queue, and the server taken."""
        ...


_here: list[StandIn] = []
_remedy = ""


def current() -> StandIn | None:
    """Give what stands in for the servers now, or ``None``: the one that came last, where there are several."""
    return _here[-1] if _here else None


def place(stand_in: StandIn) -> None:
    """Have the clients that are opened from now on talk to this one."""
    _here.append(stand_in)


def remove(stand_in: StandIn) -> None:
    """Take it away again; clients that have been opened meanwhile keep it."""
    _here.remove(stand_in)


def forbid_network(remedy: str) -> None:
    """Have no client opened that would reach a server, but for this machine's; ``remedy`` says what to do instead."""
    global _remedy
    _remedy = remedy


def allow_network() -> None:
    """Undo `forbid_network`, so that clients reach servers again."""
    global _remedy
    _remedy = ""


def forbidden() -> str:
    """Give the remedy where no server may be reached, or nothing."""
    return _remedy


def is_test() -> bool:
    """Ask whether tests run: a client that is made then need not have a key, until it is opened."""
    return bool(_here or _remedy)

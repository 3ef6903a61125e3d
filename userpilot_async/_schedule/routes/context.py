"""The context that all routes of a schedule share: queues, budgets, the ends of calls, and how much time there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from ..._calls.payload import Kind
from ..._protocol.backoff import Gate, backoff
from ..._protocol.rate_limit import Bucket
from ..._protocol.verdict import Meaning, Verdict
from ..._settings import DeliverySettings
from ..calendar import Calendar
from ..completion import Completion
from ..destination import Destination, Endpoint
from ..health import ServerHealth
from ..key_queue import KeyQueue
from ..queues import Queues


@attrs.define(eq=False)
class Urgency:
    """How much time there is: how long calls linger for others to share a request, and when the client leaves."""

    linger: float
    """Seconds that a call waits for others to share its request."""
    expedited: int = 0
    """So many callers wait for everything to be sent: nothing lingers."""
    leave_by: float | None = None
    """When the client leaves, and what is left is lost."""
    newest: dict[Kind, float] = attrs.field(factory=dict)
    """When the newest call came, by its kind."""

    def ends_within(self, seconds: float, now: float) -> bool:
        """The client leaves earlier than that."""
        return self.leave_by is not None and seconds > self.leave_by - now

    def ripe_at(self, accepted_at: float, now: float) -> float:
        """When a call that was accepted then has lingered long enough."""
        return now if self.expedited else accepted_at + self.linger


@attrs.frozen(eq=False)
class RouteContext:
    """All that a route needs of the schedule around it. ``chance`` gives 0 … 1, ``filename`` a new unique name."""

    settings: DeliverySettings
    destination: Destination
    queues: Queues
    buckets: Mapping[str, Bucket]
    """By the names that endpoints use."""
    completion: Completion
    health: ServerHealth
    urgency: Urgency
    calendar: Calendar
    chance: Callable[[], float]
    filename: Callable[[], str]
    server: str
    """For messages, and to tell its own links from others."""

    def bucket(self, endpoint: Endpoint) -> Bucket:
        """The bucket that requests to this endpoint take tokens of."""
        return self.buckets[endpoint.budget]

    def opens_at(self, gate: Gate, endpoint: Endpoint, now: float) -> float:
        """When the next request may go to this endpoint: the gate is open, and there is a token."""
        return max(gate.opens_at(now), self.bucket(endpoint).ready_at(now))

    def send_again(self, queues: Sequence[KeyQueue], verdict: Verdict, now: float) -> None:
        """The heads of these queues go again: after a pause, or as soon as the limit allows it."""
        if verdict.meaning is Meaning.LIMITED:
            self.back_in_line(queues)
            return
        failures = 1 + max(queue.failures for queue in queues)
        due = now + max(verdict.delay, backoff(failures, self.chance()))
        for queue in queues:
            queue.failed(failures)
            self.queues.back_off(queue, due)

    def back_in_line(self, queues: Sequence[KeyQueue]) -> None:
        """Put these queues first in line again, in their order."""
        for queue in reversed(queues):
            self.queues.come_back(queue, first=True)

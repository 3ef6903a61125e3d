"""How long what waits will take, and what it waits for: for the log, which is asked for neither in passing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from .._account.losses import Rest
from .._calls.rows import RowState
from .._protocol.backoff import Gate
from .._protocol.jobs import ROWS_PER_SECOND, expected_duration
from .._protocol.rate_limit import Bucket
from .destination import Destination
from .health import IMPORTS
from .posts import Deletion, Post
from .queues import Queues


class Outlook:
    """Counts all that waits, which takes some milliseconds for 100,000 calls: not for every request."""

    def __init__(
        self, queues: Queues, buckets: Mapping[str, Bucket], gates: Mapping[str, Gate], destination: Destination
    ) -> None:
        self._queues = queues
        self._buckets = buckets
        self._gates = {name: gate for name, gate in gates.items() if name != IMPORTS}  # what is late has another way
        self._to = destination

    def rest(self, now: float) -> Rest:
        """How long it will take to send all that waits at the present budgets, and what sets that pace."""
        requests, filed = self._requests()
        all_requests = requests.total()
        seconds, pace = expected_duration(filed), f"{ROWS_PER_SECOND * 60:g} rows a minute" if filed else ""
        for name, number in requests.items():
            bucket = self._buckets[name]
            needed = bucket.time_for(number, now)
            if bucket.limit < math.inf and (needed > seconds or not pace):
                seconds, pace = needed, f"{bucket.limit:g} a minute"
        shut = max((gate.until - now for gate in self._gates.values()), default=0.0)
        return Rest(seconds=max(seconds, shut), pace=pace, requests=all_requests)

    def waits_for(self, now: float) -> str:
        """The reason why no request is made at present, in a few words."""
        for name, gate in self._gates.items():
            if gate.until > now:
                return f"a pause after failures ({name})"
        for name, bucket in self._buckets.items():
            if bucket.ready_at(now) > now:
                return f"the budget ({name})"
        return "more calls to share a request with, or a job of the server" if not self._queues.are_empty else "calls"

    def _requests(self) -> tuple[Counter[str], int]:
        """The requests that what waits will take, by budget, and the rows that jobs of the server have to work off."""
        packed = self._queues.packed
        events, filed, requests = self._queues.events.packed.number, packed.filed(), Counter[str]()
        rows = Counter({kind: packed.waiting(kind) for kind in self._to.rows if packed.waiting(kind)})
        for queue in self._queues:
            events += len(queue.given_back)
            if queue.only_events:
                events += len(queue.calls)
                continue
            for call in queue.calls:
                if isinstance(call, tuple):
                    events += 1
                elif isinstance(call, Deletion):
                    requests[self._deletion_budget(queue.kind)] += 1
                elif isinstance(call, Post):
                    requests[self._to.posts[call.kind].budget] += 1
                elif call.state is RowState.BATCHED:
                    filed += 1
                else:
                    rows[queue.kind] += 1
        for kind, number in rows.items():
            files = self._to.files
            if files is not None and number > files.threshold:
                filed += number
                number = 1
            requests[self._to.rows[kind].budget] += number
        if events:
            requests[self._to.events.endpoint.budget] += math.ceil(events / self._to.events.most)
        return requests, filed

    def _deletion_budget(self, kind: str) -> str:
        deletions = self._to.deletions
        return deletions.submit[kind].budget if deletions is not None else ""

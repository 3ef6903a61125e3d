"""How the server is, as the answers to all requests show it: well, failing, or refusing the key or the URL."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from .._account.losses import in_brackets
from .._protocol.backoff import Gate
from .._protocol.hold import Hold
from .._protocol.verdict import CANCELLED, Meaning, Verdict
from .destination import Destination, Endpoint
from .routes.import_breaker import ImportBreaker
from .routes.route import Request

REFUSED = (Meaning.DENIED, Meaning.MISCONFIGURED)
IMPORTS = "imports"
"""The name of the route whose files may be refused although the key is right: not every plan has imports."""


class ServerHealth:
    """Gets each answer before its route does: opens and shuts gates; while the key is refused, pauses everything."""

    def __init__(
        self, server: str, destination: Destination, breaker: ImportBreaker, chance: Callable[[], float]
    ) -> None:
        self.outage: str | None = None
        """The failure that goes on, while several requests in a row have failed."""
        self.failure: str | None = None
        """The failure of the last request, if it failed."""
        self.retries = 0
        self.rate_limited = 0
        self.last_taken = -math.inf
        """When the server was well."""
        self.gates: Mapping[str, Gate] = {}
        """Of all routes, by their names."""
        self._server = server
        self._to = destination
        self._breaker = breaker
        self._chance = chance
        self._hold = Hold()
        self._begun = 0

    @property
    def paused(self) -> str | None:
        """Why nothing is sent; one request a minute asks whether that has changed."""
        return self._hold.why

    @property
    def failures(self) -> int:
        """Requests in a row that came to nothing, of the route where they are most."""
        return max(gate.failures for gate in self.gates.values())

    def opens_at(self, now: float) -> float:
        """When the next request may begin, on any route."""
        return self._hold.opens_at(now)

    def began(self, request: Request, now: float) -> None:
        """A request begins: it gets its number, and goes through the gate of its route."""
        self._begun += 1
        request.begun_at, request.number = now, self._begun
        request.route.gate.enter()
        self._hold.began(request.number, now)

    def ended(self, request: Request, verdict: Verdict, now: float, *, events_wait: bool) -> None:
        """A request has ended; ``events_wait`` says that others of the realtime endpoint are to come."""
        gate, meaning = request.route.gate, verdict.meaning
        gate.leave()
        self._hold.ended(request.number)
        missing_job = request.endpoint.method == "GET" and verdict.status in (404, 405)
        answered = verdict.status is not None and not verdict.foreign
        submits_import = request.route.name == IMPORTS and request.rows and self.paused is None
        if submits_import and answered and meaning in REFUSED:
            self._breaker.close(self._why_no_imports(verdict, request.endpoint), now)
            return
        if answered:
            self._breaker.heard(denied=meaning is Meaning.DENIED, begun_at=request.begun_at)
        if meaning in REFUSED and not missing_job:
            self._refused(request, verdict, now)
            return
        if answered and not missing_job:
            self._hold.lift(request.number, taken=meaning is Meaning.ACCEPTED)
        if meaning is Meaning.LIMITED:
            self.rate_limited += 1
            gate.limited(now, verdict.delay)
        elif meaning in (Meaning.AGAIN, Meaning.LOST, Meaning.UNSENT):
            self._failed(request, verdict, now)
        else:
            self._taken(request, now, events_wait)

    def _refused(self, request: Request, verdict: Verdict, now: float) -> None:
        """The answer speaks of key or URL."""
        gate, why = request.route.gate, self._why_paused(verdict, request.endpoint)
        self.failure = f"{why} {verdict.words.ids}".rstrip()
        if gate.is_past(request.number):
            return
        # A firewall may refuse what is in one request; 401 refuses the key.
        believed = gate.refused(now, at_once=not verdict.ambiguous)
        if verdict.status == 401 or believed or self.paused is not None:
            ours = verdict.detail if verdict.foreign or verdict.status is None else ""
            about = (verdict.meaning, verdict.status, ours)
            self._hold.close(why, verdict.words.ids, request.number, self._begun, now, about=about)

    def _failed(self, request: Request, verdict: Verdict, now: float) -> None:
        """The server is not well, or nothing came from it."""
        gate, endpoint = request.route.gate, request.endpoint
        self.retries += 1
        gate.failed(now, verdict.delay, self._chance())
        if verdict.detail != CANCELLED:
            what = f"{self._server}: {verdict.status or verdict.detail} on {endpoint.name}"
            what = self._foreign(verdict, endpoint) if verdict.foreign else what
            self.failure = f"{what} {verdict.words.ids}".rstrip()
        if gate.failing:
            self.outage = self.failure

    def _taken(self, request: Request, now: float, events_wait: bool) -> None:
        """The server has taken a request: it is well."""
        gate = request.route.gate
        self.failure, self.last_taken = None, now
        if gate.failing:
            self._breaker.forgive()  # an outage is over: files were not to blame for it
        gate.succeeded(now, request.number)
        if request.route.name == IMPORTS and not events_wait:
            # No request is left on the realtime endpoint that could show that the outage is over.
            self.gates["events"].succeeded(now, request.number)
        if not any(gate.failing for gate in self.gates.values()):
            self.outage = None

    def go_on(self, before: ServerHealth) -> None:
        """Go on counting where that of an earlier schedule has stopped."""
        self.retries, self.rate_limited = before.retries, before.rate_limited

    # ── words ──

    def _why_no_imports(self, verdict: Verdict, endpoint: Endpoint) -> str:
        detail = in_brackets(verdict.detail)
        return f"{self._server} answers {verdict.status} on {endpoint.name}{detail}: does the plan have imports?"

    def _why_paused(self, verdict: Verdict, endpoint: Endpoint) -> str:
        if verdict.meaning is Meaning.DENIED:
            refused = f"{self._server} refuses the API key ({verdict.status} on {endpoint.name})"
            return f"{refused}; {self._to.wrong_key}"
        if verdict.status is None:
            return f"{self._server}: {verdict.detail}"
        if verdict.foreign:
            return self._foreign(verdict, endpoint)
        return f"{self._server} answers {verdict.status} on {endpoint.name}: {self._to.wrong_url}"

    def _foreign(self, verdict: Verdict, endpoint: Endpoint) -> str:
        return f"{self._server}, asked for {endpoint.name}, {verdict.detail}"

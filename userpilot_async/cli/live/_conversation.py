"""The conversation with the server: one request after the other, within the rate limits, and the deletion at its end.

Whatever a question runs into is written down, and the next one is asked; only a server that does not answer at all is
asked nothing more. An id counts as one that may exist from before its request goes until the server has refused that.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence

import anyio
import attrs

from ..._delivery.connection import Connection
from ..._protocol.backoff import backoff
from ..._protocol.rate_limit import Bucket
from ..._protocol.verdict import Meaning, Verdict
from ..._runtime.http import httpx, tls_context
from ..._userpilot.api import UserpilotAPI
from ._terms import ANSWERED, INTERRUPTED, NOT_ASKED, NOT_BEGUN, Answered, Ask, Ended, Question, Session, Steps, delete

LIMIT, BURST = 600, 100  # requests a minute, and at once, as `Settings` has them
SILENT = 3  # requests in a row without an answer, after which no more questions are asked
ATTEMPTS = 3  # at a deletion
DEFINITE = (Meaning.INVALID, Meaning.DENIED, Meaning.MISCONFIGURED, Meaning.BUSY, Meaning.TOO_LARGE, Meaning.LIMITED,
            Meaning.UNSENT)  # fmt: skip  # what was answered so has changed nothing at the server

PASSING = (Meaning.UNSENT, Meaning.LOST, Meaning.AGAIN, Meaning.BUSY)  # what may be otherwise a second later


class Transcript(httpx.AsyncBaseTransport):
    """A transport that notes headers and sizes of answers, and leaves the version out of a request where it is told."""

    def __init__(self, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport(verify=tls_context(), trust_env=False)
        self._versioned = True
        self.headers: dict[str, str] = {}
        """Headers of the last answer, with lower-case names."""
        self.size = 0
        """Bytes of the last answer's body."""

    def begin(self, *, versioned: bool) -> None:
        """Note the next request, which has the header ``X-API-Version`` or not."""
        self._versioned, self.headers, self.size = versioned, {}, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._versioned:
            del request.headers["X-API-Version"]
        response = await self._inner.handle_async_request(request)
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        stream = _Counted(response.stream, self) if isinstance(response.stream, AsyncIterable) else None
        return httpx.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx.AsyncByteStream):
    """The body of an answer, which tells its transcript how long it is."""

    def __init__(self, inner: httpx.AsyncByteStream, transcript: Transcript) -> None:
        self._inner = inner
        self._transcript = transcript

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._inner:
            self._transcript.size += len(piece)
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define
class Result:
    """The outcome of a question, with its requests."""

    question: Question
    outcome: str = NOT_BEGUN
    """`ANSWERED`, or why it did not come to its end."""
    findings: list[str] = attrs.field(factory=list)
    exchanges: list[tuple[Ask, Answered]] = attrs.field(factory=list)
    """Requests and their answers, in order."""
    stopped_by: Answered | None = None
    """The answer behind which it could not go on."""


@attrs.define
class Remains:
    """Ids that may exist at the server."""

    users: dict[str, None] = attrs.field(factory=dict)
    companies: dict[str, None] = attrs.field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.users or self.companies)

    @property
    def ids(self) -> list[str]:
        """All ids, of users first."""
        return [*self.users, *self.companies]


class Conversation:
    """Asks questions, and deletes what they made: `ask`, then `delete`, each with an API that is open.

    ``say`` gets a line before each question.
    """

    def __init__(self, session: Session, questions: Sequence[Question], say: Callable[[str], object]) -> None:
        self.session = session
        self.results = [Result(question) for question in questions]
        self.remains = Remains()
        """Ids that may exist, and are to be deleted."""
        self.made = 0
        """Ids that may have existed at any time."""
        self._say = say
        self._silent = 0
        self._delay = 0.0  # seconds that the last answer asked to be left alone
        self._began: float | None = None
        self._buckets: dict[str, Bucket] = {}

    async def ask(self, api: UserpilotAPI, transcript: Transcript) -> None:
        """Ask all questions; `results` has what came of them, also if this is cancelled."""
        for number, result in enumerate(self.results, 1):
            if self._silent >= SILENT:
                result.outcome = NOT_ASKED
                continue
            self._say(f"{number} of {len(self.results)}: {result.question.text}")
            self.session.findings = result.findings
            await self._ask(result, api._connection, transcript)

    async def delete(self, api: UserpilotAPI, transcript: Transcript) -> None:
        """Delete what may exist; `remains` has what could not be deleted."""
        for kind, waiting in (("users", self.remains.users), ("companies", self.remains.companies)):
            for attempt in range(1, ATTEMPTS + 1):
                if not waiting:
                    break
                seen = await self._exchange(delete(kind, tuple(waiting)), api._connection, transcript)  # type: ignore[arg-type]  # one of the two
                if seen.meaning not in PASSING or attempt == ATTEMPTS:
                    break
                await anyio.sleep(backoff(attempt, 1.0))

    async def _ask(self, result: Result, connection: Connection, transcript: Transcript) -> None:
        result.outcome = INTERRUPTED  # for as long as it has no other
        steps = result.question.steps(self.session)
        seen: Answered | None = None
        while True:
            ask = _next(steps, seen, result)
            if ask is None:
                return
            seen = await self._exchange(ask, connection, transcript)
            result.exchanges.append((ask, seen))

    async def _exchange(self, ask: Ask, connection: Connection, transcript: Transcript) -> Answered:
        """Make a request; once more if it is over the rate limit."""
        await anyio.sleep(ask.after)
        seen = await self._once(ask, connection, transcript)
        if seen.meaning is Meaning.LIMITED:
            await anyio.sleep(self._delay)
            seen = await self._once(ask, connection, transcript)
        return seen

    async def _once(self, ask: Ask, connection: Connection, transcript: Transcript) -> Answered:
        now = anyio.current_time()
        self._began = now if self._began is None else self._began
        bucket = self._buckets.setdefault(ask.budget, Bucket(LIMIT, BURST, now))
        await anyio.sleep(bucket.ready_at(now) - now)
        bucket.take(anyio.current_time())
        new = Remains(
            dict.fromkeys(id for id in ask.users if id not in self.remains.users),
            dict.fromkeys(id for id in ask.companies if id not in self.remains.companies),
        )
        self.remains.users |= new.users
        self.remains.companies |= new.companies
        transcript.begin(versioned=ask.versioned)
        verdict = await connection.exchange(ask.what, ask.method, ask.path, ask.body, filename=ask.filename)
        self._settle(bucket, verdict)
        if verdict.meaning in DEFINITE and not verdict.foreign:
            for id in new.ids:
                self.remains.users.pop(id, None)
                self.remains.companies.pop(id, None)
        else:
            self.made += len(new.ids)
        if verdict.meaning is Meaning.ACCEPTED:
            for id in ask.deletes:
                self.remains.users.pop(id, None)
                self.remains.companies.pop(id, None)
        return Answered(
            meaning=verdict.meaning, status=verdict.status, headers=transcript.headers, body=verdict.body,
            size=transcript.size, detail=verdict.detail, error_code=verdict.error_code, foreign=verdict.foreign,
            at=anyio.current_time() - self._began,
        )  # fmt: skip

    def _settle(self, bucket: Bucket, verdict: Verdict) -> None:
        now = anyio.current_time()
        if verdict.status is None:
            self._silent += 1
            bucket.lost(now)
            return
        self._silent, self._delay = 0, verdict.delay
        bucket.answered(now)
        bucket.heard(verdict.rate.limit, verdict.rate.remaining, verdict.rate.reset, now)


def _next(steps: Steps, seen: Answered | None, result: Result) -> Ask | None:
    """The next request of a question; ``None`` at its end, of whatever kind that is."""
    try:
        return next(steps) if seen is None else steps.send(seen)
    except StopIteration:
        result.outcome = ANSWERED
    except Ended as ended:
        result.outcome, result.stopped_by = ended.seen.outcome, ended.seen
    except Exception as error:  # a body that no question foresaw is an answer, and not the end of the run
        result.outcome = f"an answer was not understood ({type(error).__name__})"
    return None

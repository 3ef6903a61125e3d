"""UserpilotAPI: every endpoint as one awaitable method; and the one place that knows httpx and tenacity.

HTTP runs only in tasks of this class's own (or of the sender), under anyio deadlines, with at most as many
requests in flight as the pool has connections. A caller's native cancellation never reaches the connection
pool: httpx 0.28 leaks its slots then (encode/httpcore, "Connection pool slot leaked on cancellation").
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import anyio
import attrs
import httpx
from anyio.abc import TaskGroup

from . import _jobs, _verdict
from ._calls import Identify, IdentifyCompany, Track, track_body
from ._coalesce import MAX_ROWS
from ._endpoint import Key, KeyRing, Region, checked_base_url
from ._errors import ClientClosed, InvalidCall, JobFailed, Rejected, Unavailable
from ._gate import backoff
from ._jobs import Job, JobStatus
from ._values import Convertible, checked_id, encode_json
from ._verdict import Meaning, Verdict

T = TypeVar("T")

API_VERSION = "2020-09-22"  # header X-API-Version on every call; docs.userpilot.com, read 2026-10
_MAX_ANSWER = 1024 * 1024  # bytes read of an answer; a job is 500, an error 300
_FAREWELL = 0.3  # seconds to close connections politely
_MAX_LISTING = 16 * 1024 * 1024  # of the job list, which grows


@attrs.define
class _Attempt:
    """How far one request got."""

    traced: bool = False
    sent: bool = False
    status: int | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's trace extension: nothing has left before the request's headers start to."""
        self.traced = True
        if event.endswith("send_request_headers.started"):
            self.sent = True

    def verdict(self, failure: str | None, error: BaseException | None = None) -> Verdict:
        """A status is a status, even if its body broke off; otherwise it matters whether anything had left."""
        if self.status is not None:
            encoded = self.headers.get("content-encoding", "identity").strip().lower() != "identity"
            return _verdict.of_answer(self.status, self.headers, b"" if encoded else bytes(self.body))
        early = isinstance(
            error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
        )
        sent = self.sent if self.traced else not early
        return _verdict.of_failure(failure or "no answer", sent=sent, certificate=_is_certificate_error(error))


class UserpilotAPI(anyio.AsyncContextManagerMixin):
    """The HTTP API, one method an endpoint, no queue.

    Use it as ``async with UserpilotAPI("API_KEY") as api``, or as ``client.api``. Each method makes up to
    ``attempts`` requests where that is safe (nothing had left, or the server said "later"), and raises
    `InvalidCall`, `Rejected` or `Unavailable`. What is not safe to repeat (an event or a file whose answer got
    lost) raises `Unavailable` with ``ambiguous=True``.
    """

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        region: Region | None = None,
        base_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        request_timeout: float = 15.0,
        upload_timeout: float = 120.0,
        attempts: int = 3,
        connections: int = 8,
        sender_connections: int = 0,
    ) -> None:
        self._keys = KeyRing(api_key)
        self.base_url = checked_base_url(region, base_url)
        self._transport = transport
        self._request_timeout = request_timeout
        self._upload_timeout = upload_timeout
        self._attempts = attempts
        self._connections = connections
        self._pool = connections + sender_connections
        self._tasks: TaskGroup | None = None
        self._http: httpx.AsyncClient | None = None
        self.requests: dict[str, int] = {}
        """Requests made, by endpoint."""

    def __repr__(self) -> str:
        return f"<UserpilotAPI {self.base_url}>"

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[UserpilotAPI, None]:
        async with anyio.create_task_group() as tasks:
            self._limiter = anyio.Semaphore(self._connections)
            self._ready = anyio.Event()
            self._tasks = tasks
            tasks.start_soon(self._connect)
            try:
                yield self
            finally:
                self._tasks = None
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True), anyio.move_on_after(_FAREWELL):
                    if self._http is not None:
                        await self._http.aclose()

    async def _connect(self) -> None:
        """Build the HTTP client; its TLS context takes 20 to 125 ms, which is too long for the loop."""
        secure = self._transport is None and self.base_url.startswith("https:")
        tls = await anyio.to_thread.run_sync(_tls_context, abandon_on_cancel=True) if secure else False
        limits = httpx.Limits(max_connections=self._pool, max_keepalive_connections=self._pool)
        self._http = httpx.AsyncClient(
            transport=self._transport, verify=tls, limits=limits, timeout=None, trust_env=False, follow_redirects=False,
        )  # fmt: skip
        self._ready.set()

    # ── one attempt, in the caller's task: for the sender ──

    async def exchange(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *, filename: str | None = None
    ) -> Verdict:
        """Make one request; never raises for what a network or a server may do.

        ``filename`` sends ``body`` as a multipart upload under this name. Must run in a task that only anyio
        scopes cancel.
        """
        attempt = _Attempt()
        try:
            key = self._keys.current()
        except Exception as exc:  # the application's callable: whatever it raises means that there is no key now
            return Verdict(Meaning.MISCONFIGURED, detail=f"the api_key callable raised {type(exc).__name__}")
        cap = _MAX_LISTING if method == "GET" else _MAX_ANSWER
        failure, error = None, None
        with anyio.move_on_after(self._request_timeout if filename is None else self._upload_timeout) as scope:
            await self._ready.wait()
            self.requests[endpoint] = self.requests.get(endpoint, 0) + 1
            try:
                await self._stream(attempt, self._request(method, path, body, filename, key), cap)
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, ssl.SSLError, OSError) as exc:
                failure, error = type(exc).__name__, exc
        if scope.cancelled_caught:
            failure = "timeout"
        return attempt.verdict(failure, error)

    def _request(self, method: str, path: str, body: bytes | None, filename: str | None, key: str) -> httpx.Request:
        headers = {
            "Authorization": f"Token {key}",
            "X-API-Version": API_VERSION,
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a 200 kB gzip answer can hold 60 MB
            "User-Agent": "userpilot-async",
        }
        assert self._http is not None
        if filename is not None and body is not None:
            kind = "text/csv" if filename.endswith(".csv") else "application/x-ndjson"
            files = {"file": (filename, body, kind)}
            return self._http.build_request(method, self.base_url + path, headers=headers, files=files)
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self._http.build_request(method, self.base_url + path, headers=headers, content=body)

    async def _stream(self, attempt: _Attempt, request: httpx.Request, cap: int) -> None:
        request.extensions["trace"] = attempt.trace
        assert self._http is not None
        response = await self._http.send(request, stream=True)
        try:
            attempt.status = response.status_code
            attempt.headers = {name.lower(): value for name, value in response.headers.items()}
            async for chunk in response.aiter_raw():
                attempt.body += chunk[: cap - len(attempt.body)]
                if len(attempt.body) >= cap:
                    break
        finally:
            await response.aclose()

    # ── the endpoints ──

    async def identify(
        self,
        user_id: str,
        metadata: Mapping[str, Convertible] | None = None,
        *,
        company: Mapping[str, Convertible] | None = None,
    ) -> None:
        """Create or update a user. 600 requests a minute. Source: "Identify user API", read 2026-10."""
        call = Identify(user_id, metadata, company)
        body: dict[str, object] = {"user_id": call.user_id, "metadata": call.metadata}
        if call.company is not None:
            body["company"] = {**call.company, "company_id": call.company["id"]}
        await self._post("identify", "/v1/identify", body, repeatable=True)

    async def identify_company(self, company_id: str, metadata: Mapping[str, Convertible] | None = None) -> None:
        """Create or update a company; shares the budget of `identify`. Source: OpenAPI, read 2026-10."""
        call = IdentifyCompany(company_id, metadata)
        body = {"company_id": call.company_id, "metadata": call.metadata}
        await self._post("identify_company", "/v1/companies/identify", body, repeatable=True)

    async def track(self, user_id: str, event_name: str, metadata: Mapping[str, Convertible] | None = None) -> None:
        """Record an event, dated on arrival. 600 requests a minute. Source: "Track events API", read 2026-10."""
        Track(user_id, event_name, metadata)
        await self._ask("track", "POST", "/v1/track", track_body(user_id, event_name, metadata))

    async def bulk_identify_users(self, rows: Iterable[Mapping[str, Any]], *, filename: str | None = None) -> Job:
        """Submit up to 10,000 rows ``{"user_id", "company_id"?, "metadata"?}`` as one job.

        One bulk job at a time for one key: `Rejected` with status 409 otherwise. The rows go as an NDJSON file,
        so that the job can be found by its ``filename``. Source: "Users - Bulk Identify and Update", read 2026-10.
        """
        lines = [_user_line(row, number) for number, row in enumerate(rows, 1)]
        return await self._upload("bulk_users", "/v1/users/bulk_identify", lines, filename)

    async def bulk_identify_companies(self, rows: Iterable[Mapping[str, Any]], *, filename: str | None = None) -> Job:
        """Submit up to 10,000 rows ``{"company_id", "metadata"?}``; else as `bulk_identify_users`."""
        lines = [_company_line(row, number) for number, row in enumerate(rows, 1)]
        return await self._upload("bulk_companies", "/v1/companies/bulk_identify", lines, filename)

    async def import_rows(self, rows: Iterable[Mapping[str, Any]] | bytes, *, filename: str | None = None) -> Job:
        """Submit rows of the Import API: dicts, or a file's content (NDJSON, or CSV by its ``filename``).

        One import at a time for one key (409). A plan without imports answers 401. Source: "Import event
        schema", read 2026-10; the rows are sent as they are.
        """
        content = rows if isinstance(rows, bytes) else b"".join(encode_json(row).encode() + b"\n" for row in rows)
        return await self._upload("imports", "/v1/imports", [content], filename)

    async def jobs(self) -> list[Job]:
        """The background jobs the server lists. Its pages are undocumented: this is the first."""
        verdict = await self._ask("jobs", "GET", "/v1/background_jobs", repeatable=True)
        return _jobs.listed(verdict.body)

    async def job(self, job_id: str) -> Job:
        """One background job as it stands now; `Rejected` with status 404 if there is none."""
        path = f"/v1/background_jobs/{quoted_job_id(job_id)}"
        verdict = await self._ask("job", "GET", path, repeatable=True)
        return _job_in(verdict, job_id)

    async def wait_for_job(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """The job once it is ``completed``.

        Looks when an answer can be expected (1,800 rows a minute), then backs off to every 30 seconds; calls
        ``on_progress`` after each look. Raises `JobFailed`, or `TimeoutError` after ``timeout`` seconds.
        """
        job_id = job if isinstance(job, str) else job.job_id
        looks, started = 0, anyio.current_time()
        with anyio.fail_after(timeout):
            while True:
                seen = await self.job(job_id)
                if on_progress is not None:
                    on_progress(seen)
                if seen.status is JobStatus.COMPLETED:
                    return seen
                if seen.status is JobStatus.FAILED:
                    raise JobFailed(job_id)
                await anyio.sleep(_jobs.next_look(seen, seen.total_rows or 0, anyio.current_time() - started, looks))
                looks += 1

    async def delete_users(self, user_ids: Iterable[str]) -> Job | None:
        """Schedule the deletion of users and what is known of them; the job, if the server names one."""
        return await self._delete("delete_users", "/v1/users", "users", user_ids)

    async def delete_companies(self, company_ids: Iterable[str]) -> Job | None:
        """Schedule the deletion of companies; the job, if the server names one."""
        return await self._delete("delete_companies", "/v1/companies", "companies", company_ids)

    # ── how the endpoints ask ──

    async def _post(self, endpoint: str, path: str, body: Mapping[str, object], *, repeatable: bool) -> None:
        await self._ask(endpoint, "POST", path, encode_json(body).encode(), repeatable=repeatable)

    async def _delete(self, endpoint: str, path: str, field: str, ids: Iterable[str]) -> Job | None:
        if isinstance(ids, str):
            raise InvalidCall(field, "must be an iterable of ids, not one str")
        body = encode_json({field: [checked_id(one, field) for one in ids]}).encode()
        verdict = await self._ask(endpoint, "DELETE", path, body, repeatable=True)
        return Job.from_wire(verdict.body) if isinstance(verdict.body, dict) else None

    async def _upload(self, endpoint: str, path: str, lines: list[bytes], filename: str | None) -> Job:
        if not lines or not lines[0]:
            raise InvalidCall("rows", "is empty")
        if len(lines) > MAX_ROWS:
            raise InvalidCall("rows", f"has {len(lines):,} rows; the limit is {MAX_ROWS:,}")
        name = filename or f"userpilot-async-{uuid4().hex}.ndjson"
        verdict = await self._ask(endpoint, "POST", path, b"".join(lines), filename=name)
        return _job_in(verdict, "")

    async def _ask(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *,
        filename: str | None = None, repeatable: bool = False,
    ) -> Verdict:  # fmt: skip
        import tenacity  # 5 to 25 ms of import time that only users of the plain API need

        async def once() -> Verdict:
            verdict = await self._in_own_task(lambda: self.exchange(endpoint, method, path, body, filename=filename))
            if verdict.meaning is Meaning.ACCEPTED:
                return verdict
            raise _Refused(verdict)

        def again(error: BaseException) -> bool:
            safe = {Meaning.UNSENT, Meaning.LIMITED, Meaning.AGAIN} | ({Meaning.LOST} if repeatable else set())
            return isinstance(error, _Refused) and error.verdict.meaning in safe

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.verdict.delay if isinstance(error, _Refused) else 0.0
            return max(asked, backoff(state.attempt_number, 1.0))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(again), wait=pause, sleep=anyio.sleep, reraise=True,
            stop=tenacity.stop_after_attempt(self._attempts),
        )  # fmt: skip
        try:
            return await retrying(once)
        except _Refused as refused:
            raise refused.translated() from None

    async def _in_own_task(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Run ``ask`` in a task of our own, so that a native cancellation of the caller cannot break the pool."""
        if self._tasks is None:
            raise ClientClosed("the API client is not open: use it as `async with UserpilotAPI(...) as api`")
        answers: list[T] = []
        finished = anyio.Event()
        scope = anyio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    async with self._limiter:
                        answers.append(await ask())
            finally:
                finished.set()

        self._tasks.start_soon(run)
        try:
            await finished.wait()
        finally:
            scope.cancel()
        if not answers:
            raise ClientClosed("the API client was closed while this request was under way")
        return answers[0]


class _Refused(Exception):
    """Carries a verdict through tenacity."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.meaning.value)
        self.verdict = verdict

    def translated(self) -> Rejected | Unavailable:
        verdict = self.verdict
        if verdict.meaning is Meaning.DENIED:
            hint = "wrong API key, the browser's App Token in its place, or a feature your plan does not have"
            return Rejected(verdict.status or 401, f"{hint} ({verdict.detail})" if verdict.detail else hint)
        if verdict.meaning in (Meaning.UNSENT, Meaning.LOST, Meaning.AGAIN, Meaning.LIMITED) or verdict.status is None:
            detail = f"the server answered {verdict.status}" if verdict.status else f"no answer: {verdict.detail}"
            return Unavailable(detail, ambiguous=verdict.meaning is Meaning.LOST)
        return Rejected(verdict.status, verdict.detail)


def quoted_job_id(job_id: str) -> str:
    """A job's id as one segment of a path: it has colons, and a hostile one may have slashes and dots."""
    if not isinstance(job_id, str) or not _jobs.usable_job_id(job_id):
        raise InvalidCall("job_id", "must be a printable str of at most 1,024 characters")
    quoted = quote(job_id, safe="")
    return quoted.replace(".", "%2E") if set(job_id) <= {"."} else quoted


def _job_in(verdict: Verdict, job_id: str) -> Job:
    if not isinstance(verdict.body, dict):
        raise Unavailable("the server's answer is no job object", ambiguous=True)
    job = Job.from_wire(verdict.body)
    return attrs.evolve(job, job_id=job.job_id or job_id)


def _user_line(row: Mapping[str, Any], number: int) -> bytes:
    company_id = row.get("company_id")
    company = None if company_id is None else {"id": company_id}
    call = Identify(row.get("user_id"), row.get("metadata"), company)
    line: dict[str, object] = {"user_id": call.user_id, "metadata": call.metadata}
    if call.company is not None:
        line["company_id"] = call.company["id"]
    return encode_json(line).encode() + b"\n"


def _company_line(row: Mapping[str, Any], number: int) -> bytes:
    call = IdentifyCompany(row.get("company_id"), row.get("metadata"))
    return encode_json({"company_id": call.company_id, "metadata": call.metadata}).encode() + b"\n"


def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _is_certificate_error(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False

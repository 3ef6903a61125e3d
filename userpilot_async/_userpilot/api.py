"""UserpilotAPI: every endpoint as one awaitable method. Retries, and thereby tenacity, live here only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import attrs
from anyio.abc import TaskGroup

from .._calls.rows import MAX_ROWS
from .._calls.values import MAX_NAME, Convertible, checked_id, encode_json
from .._delivery.credentials import Key, KeyRing, Transport, checked_base_url, checked_transport, hidden
from .._errors.foreign import is_a, must_be
from .._errors.secret import Hidden
from .._errors.tree import ConfigurationError, InvalidCall, JobFailed, Rejected, Unavailable
from .._protocol.backoff import Pace, backoff
from .._protocol.file_job import FileJob, JobRules
from .._protocol.job_effects import Completed, Failed, JobStep
from .._protocol.job_list import MAX_PAGES, Pages
from .._protocol.jobs import Job, quoted_job_id, scheduled_in
from .._protocol.verdict import Meaning, Promise, Verdict, as_promised
from .._runtime.disabled import SwitchedOff, switched_off
from .._runtime.environment import flag_given, given
from .._runtime.lifetime import Lifetime, Startable, weakly
from .._runtime.log import log
from .answers import error_of, job_in
from .calls import Identify, IdentifyCompany, Track, track_body
from .file_rows import company_line, each, each_id, import_line, user_line
from .request_tasks import RequestTasks
from .reserved import ReservedProperties

if TYPE_CHECKING:
    from .._delivery.connection import Connection
else:  # so that `typing.get_type_hints` finds the name, and httpx need not be loaded for it
    Connection = Any

T = TypeVar("T")
Region = Literal["us", "eu"]

JOBS_PATH = "/v1/background_jobs"
IMPORTS_PATH = "/v1/imports"
# docs.userpilot.com, "Environment", read 2026-10. An Enterprise account may have a host of its own: `base_url`.
BASE_URLS = {"us": "https://analytex.userpilot.io", "eu": "https://analytex-eu.userpilot.io"}
API_VERSION = "2020-09-22"  # header X-API-Version on every call; the same page
DISABLED, ALLOW_HTTP = "USERPILOT_DISABLED", "USERPILOT_ALLOW_HTTP"


def keys_of(api_key: Hidden[Any], switch: SwitchedOff | None) -> KeyRing:
    """The key given, or the environment's; none where ``switch`` says so. Raises `ValueError`."""
    return KeyRing(api_key if switch is None else switch, "USERPILOT_API_KEY")


def server_of(region: str | None, base_url: str | None, allow_http: bool | None = None) -> str:
    """The URL given, or the region's; what is not given is the environment's. Raises `ConfigurationError`."""
    where, called = given(region, "region", "USERPILOT_REGION")
    where = "us" if where is None else where
    if not is_a(where, str) or where not in BASE_URLS:
        raise ConfigurationError(f'{called} must be "us" or "eu"')
    url, called = given(base_url, "base_url", "USERPILOT_BASE_URL")
    any_host, remedy = flag_given(allow_http, "allow_http", ALLOW_HTTP), f"allow_http=True or {ALLOW_HTTP}=1"
    return BASE_URLS[where] if url is None else checked_base_url(url, called, allow_http=any_host, remedy=remedy)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Token {key}", "X-API-Version": API_VERSION}


class UserpilotAPI(Startable):
    """The HTTP API, one method an endpoint, no queue.

    Use it as ``async with UserpilotAPI("API_KEY") as api``, by `start` and `aclose`, or as ``client.api``. Each method
    makes up to ``attempts`` requests where that is safe (nothing had left, or the server said "later"), and raises
    `InvalidCall`, `Rejected` or `Unavailable`. What is not safe to repeat (an event or a file whose answer got lost)
    raises `Unavailable` with ``ambiguous=True``. With ``USERPILOT_DISABLED=1``, or as the ``api`` of a client that is
    switched off, it needs no key and makes no request: arguments are checked, and `Unavailable` is raised.

    ``request_timeout`` and ``upload_timeout`` are seconds, ``allow_http`` as of `UserpilotClient`. Raises
    `ConfigurationError` for a key, URL or number that cannot be right; where it cannot be used at all, each method
    raises `ClientNotOpen`, `ClientClosed`, or `WrongLoop` in another event loop than its own.
    """

    def __init__(
        self,
        api_key: Key | KeyRing | None = None,
        *,
        region: Region | None = None,
        base_url: str | None = None,
        transport: Transport | None = None,
        request_timeout: float = 15.0,
        upload_timeout: float = 120.0,
        attempts: int = 3,
        connections: int = 8,
        allow_http: bool | None = None,
    ) -> None:
        key = hidden(api_key)
        del api_key  # no frame that an exception leaves shows it
        from .._delivery.connection import Connection  # httpx takes longest to import: not before it is wanted

        keys = key.reveal() if isinstance(key.reveal(), KeyRing) else keys_of(key, switched_off(None, DISABLED))
        self.switch: SwitchedOff | None = keys.switch
        """What switched it off, so that each method raises `Unavailable`; ``None`` where requests are made."""
        self.base_url: str = server_of(region, base_url, allow_http)
        """Where the requests go."""
        self._connection = Connection(
            keys,
            _headers,
            self.base_url,
            checked_transport(transport),
            request_timeout=request_timeout,
            upload_timeout=upload_timeout,
            size=connections,
        )
        for name, seconds in (("request_timeout", request_timeout), ("upload_timeout", upload_timeout)):
            if type(seconds) not in (int, float) or not 0 < seconds < float("inf"):
                raise ConfigurationError(f"{name} must be a finite number above 0")
        for name, number in (("attempts", attempts), ("connections", connections)):
            if type(number) is not int or number < 1:
                raise ConfigurationError(f"{name} must be an int above 0")
        self.before_deletion: Callable[[str, list[str]], object] = lambda kind, ids: None
        """To be called with ``user`` or ``company`` and the ids that are about to be deleted."""
        self._attempts = attempts
        self._own_connections = connections
        self._tasks = RequestTasks()
        self.reserved_properties: ReservedProperties = ReservedProperties(partial(log, logging.WARNING))
        """Warns once of each property that Userpilot keeps itself; a client's queue asks the same one."""

    def __repr__(self) -> str:
        return f"<UserpilotAPI {self.base_url}>"

    def __asynccontextmanager__(self) -> Lifetime[UserpilotAPI]:
        return Lifetime(self, self._open, self.aclose, weakly(self.lose_tasks))

    async def _open(self, tasks: TaskGroup) -> None:
        self._connection.meet_stand_in()
        self.open(tasks)

    def open(self, tasks: TaskGroup) -> None:
        """Make requests in ``tasks`` from now on: what ``async with`` does, for those who have a task group."""
        self._connection.open()
        self._tasks.open(tasks, self._own_connections)

    def lose_tasks(self) -> None:
        """The tasks have ended in which requests are made: take no more of them."""
        self._tasks.lose()

    async def aclose(self) -> None:
        """Take no more requests, close the connections, and end what `start` began."""
        self._tasks.lose()
        await self._connection.aclose()
        await self._end_start()

    def reserve(self, connections: int) -> Connection:
        """Keep so many connections of the pool for others who make requests on their own."""
        self._own_connections -= connections
        return self._connection

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
        self.reserved_properties.check(call.metadata)
        body: dict[str, object] = {"user_id": call.user_id, "metadata": call.metadata}
        if call.company is not None:
            body["company"] = {**call.company, "company_id": call.company["id"]}
        await self._post("identify", "/v1/identify", body, call)

    async def identify_company(self, company_id: str, metadata: Mapping[str, Convertible] | None = None) -> None:
        """Create or update a company; shares the budget of `identify`. Source: OpenAPI, read 2026-10."""
        call = IdentifyCompany(company_id, metadata)
        body = {"company_id": call.company_id, "metadata": call.metadata}
        await self._post("identify_company", "/v1/companies/identify", body, call)

    async def track(self, user_id: str, event_name: str, metadata: Mapping[str, Convertible] | None = None) -> None:
        """Record an event, dated on arrival. 600 requests a minute. Source: "Track events API", read 2026-10."""
        call = Track(user_id, event_name, metadata)
        await self._ask("track", "POST", "/v1/track", track_body(call.user_id, call.event_name, call.metadata))
        self._note(call)

    async def bulk_identify_users(self, rows: Iterable[Mapping[str, Any]], *, filename: str | None = None) -> Job:
        """Submit up to 10,000 rows ``{"user_id", "company_id"?, "metadata"?}`` as one job.

        One bulk job at a time for one key: `Rejected` with status 409 otherwise. The rows go as an NDJSON file,
        so that the job can be found by its ``filename``. Source: "Users - Bulk Identify and Update", read 2026-10.
        """
        lines = [
            user_line(row, number, self.reserved_properties.check) for number, row in enumerate(each(rows, "rows"), 1)
        ]
        return await self._upload("bulk_users", "/v1/users/bulk_identify", lines, filename)

    async def bulk_identify_companies(self, rows: Iterable[Mapping[str, Any]], *, filename: str | None = None) -> Job:
        """Submit up to 10,000 rows ``{"company_id", "metadata"?}``; else as `bulk_identify_users`."""
        lines = [company_line(row, number) for number, row in enumerate(each(rows, "rows"), 1)]
        return await self._upload("bulk_companies", "/v1/companies/bulk_identify", lines, filename)

    async def import_rows(self, rows: Iterable[Mapping[str, Any]] | bytes, *, filename: str | None = None) -> Job:
        """Submit rows of the Import API: dicts, or a file's content (NDJSON, or CSV by its ``filename``).

        One import at a time for one key (409). A plan without imports answers 401. Source: "Import event
        schema", read 2026-10; the rows are sent as they are.
        """
        if isinstance(rows, bytes):
            content: bytes = rows
        else:
            content = b"".join(import_line(row, number) for number, row in enumerate(each(rows, "rows"), 1))
        return await self._upload("imports", IMPORTS_PATH, [content], filename)

    async def jobs(self) -> list[Job]:
        """The background jobs the server lists, as far as its pages can be read: how to ask for them is undocumented.

        Follows links, or asks for ``?page=2`` and so on where a page looks full; 100 pages at most.
        """
        return await self._read_jobs()

    async def _read_jobs(self, *, most_pages: int = MAX_PAGES) -> list[Job]:
        """The jobs of the first ``most_pages`` pages of the list; raises as the other methods do.

        A page after the first that the server does not know ends the list, and so does one that it has no sensible
        answer for: how to ask for it was a guess.
        """
        pages, found = self._new_pages(most_pages), list[Job]()
        while not pages.over:
            try:
                verdict = await self._ask("jobs", "GET", _listing(pages.query), repeatable=True, promises=Promise.JOBS)
            except (Rejected, Unavailable) as error:
                if not pages.read or error.status is None:
                    raise
                break
            found += pages.take_in(verdict.body, verdict.next_page)
        return found

    def _new_pages(self, most: int = MAX_PAGES) -> Pages:
        """The beginning of a walk through the job list, of at most so many pages."""
        return Pages(urlsplit(self.base_url).hostname or "", JOBS_PATH, most)

    async def _carry_out(self, step: JobStep, content: bytes, filename: str) -> Verdict:
        """The verdict on one step of an import file, with the file's ``content`` for its submission."""
        if step.what == "submit":
            return await self._tried(
                "imports", "POST", IMPORTS_PATH, content,
                filename=filename, repeatable=False, promises=Promise.NEW_JOB,
            )  # fmt: skip
        endpoint, path, promise = "jobs", _listing(step.query), Promise.JOBS
        if step.what == "poll":
            endpoint, path, promise = "job", f"{JOBS_PATH}/{quoted_job_id(step.job_id)}", Promise.JOB
        return await self._tried(endpoint, "GET", path, None, filename=None, repeatable=True, promises=promise)

    async def job(self, job_id: str) -> Job:
        """The background job of this id as it stands now; raises `Rejected` with status 404 if there is none."""
        if is_a(job_id, str):  # also of a subclass, whose methods may do anything
            job_id = checked_id(job_id, "job_id")
        path = f"{JOBS_PATH}/{quoted_job_id(job_id)}"
        verdict = await self._ask("job", "GET", path, repeatable=True, promises=Promise.JOB)
        return job_in(verdict, job_id)

    async def wait_for_job(
        self,
        job: Job | str,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
    ) -> Job:
        """The job once it is ``completed``.

        Polls when an answer can be expected (1,800 rows a minute), then backs off to every 30 seconds; calls
        ``on_progress`` after each poll. Raises `JobFailed`, or `TimeoutError` after ``timeout`` seconds.
        """
        if not is_a(job, Job) and not is_a(job, str):
            raise InvalidCall("job", must_be("Job or str", job))
        job_id = job.job_id if isinstance(job, Job) else job
        file = FileJob("", 0, JobRules(), Pace(lambda: 1.0))
        time = self._connection.time
        file.watch(job_id, time.now())
        with anyio.fail_after(timeout):
            while True:
                seen = await self.job(job_id)
                if on_progress is not None:
                    on_progress(seen)
                for effect in file.seen(seen, time.now()):
                    if isinstance(effect, Completed):
                        return seen
                    if isinstance(effect, Failed):
                        raise JobFailed(job_id)
                await anyio.sleep(time.wait(file.due - time.now()))

    async def delete_users(self, user_ids: Iterable[str]) -> int | None:
        """Schedule the deletion of users and their events; how many the server says it has scheduled, if it says so.

        The answer names no job: it is in the list of `jobs`. Source: "Delete Users and Companies", read 2026-10.
        """
        return await self._delete("user", "delete_users", "/v1/users", "users", user_ids)

    async def delete_companies(self, company_ids: Iterable[str]) -> int | None:
        """Schedule the deletion of companies; else as `delete_users`."""
        return await self._delete("company", "delete_companies", "/v1/companies", "companies", company_ids)

    # ── how the endpoints ask ──

    async def _post(self, endpoint: str, path: str, body: Mapping[str, object], call: object) -> None:
        await self._ask(endpoint, "POST", path, encode_json(body).encode(), repeatable=True)
        self._note(call)

    def _note(self, call: object) -> None:
        """Show a call that the server has taken to its stand-in, in a test."""
        if self._connection.met is not None:
            self._connection.met.requested(call)

    async def _delete(self, kind: str, endpoint: str, path: str, field: str, ids: Iterable[str]) -> int | None:
        self.before_deletion(kind, checked := [checked_id(one, field) for one in each_id(ids, field)])
        body = encode_json({field: checked}).encode()
        verdict = await self._ask(endpoint, "DELETE", path, body, repeatable=True)
        return scheduled_in(verdict.body)

    async def _upload(self, endpoint: str, path: str, lines: list[bytes], filename: str | None) -> Job:
        if not lines or not lines[0]:
            raise InvalidCall("rows", "is empty")
        if len(lines) > MAX_ROWS:
            raise InvalidCall("rows", f"has {len(lines):,} rows; the limit is {MAX_ROWS:,}")
        name = checked_id(filename, "filename", MAX_NAME) if filename else f"userpilot-async-{uuid4().hex}.ndjson"
        body = b"".join(lines)
        verdict = await self._ask(endpoint, "POST", path, body, filename=name, promises=Promise.NEW_JOB)
        return job_in(verdict, "")

    async def _ask(
        self, endpoint: str, method: str, path: str, body: bytes | None = None, *,
        filename: str | None = None, repeatable: bool = False, promises: Promise = Promise.RECEIPT,
    ) -> Verdict:  # fmt: skip
        """The answer of a server that has accepted the request; raises `Rejected` or `Unavailable` for any other."""
        verdict = await self._tried(
            endpoint, method, path, body, filename=filename, repeatable=repeatable, promises=promises
        )
        if verdict.meaning is not Meaning.ACCEPTED:
            raise error_of(verdict)
        return verdict

    async def _tried(
        self, endpoint: str, method: str, path: str, body: bytes | None, *,
        filename: str | None, repeatable: bool, promises: Promise,
    ) -> Verdict:  # fmt: skip
        """The verdict on a request, which is made again where that is safe: always, if it is ``repeatable``."""
        if self.switch is not None:
            self.switch()
        import tenacity  # 5 to 25 ms of import time that only users of the plain API need

        ask = partial(self._connection.exchange, endpoint, method, path, body, filename=filename, promises=promises)

        async def once() -> Verdict:
            verdict = as_promised(await self._tasks.run(ask), promises)
            if verdict.meaning is Meaning.ACCEPTED:
                return verdict
            verdict = attrs.evolve(verdict, body=None)  # or it would live for as long as the exception is kept
            raise _Refused(verdict)

        def again(error: BaseException) -> bool:
            safe = {Meaning.UNSENT, Meaning.LIMITED, Meaning.AGAIN} | ({Meaning.LOST} if repeatable else set())
            return isinstance(error, _Refused) and error.verdict.meaning in safe

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.verdict.delay if isinstance(error, _Refused) else 0.0
            return max(asked, backoff(state.attempt_number, 1.0))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(again), wait=pause, reraise=True,
            sleep=lambda seconds: anyio.sleep(self._connection.time.wait(seconds)),
            stop=tenacity.stop_after_attempt(self._attempts),
        )  # fmt: skip
        try:
            return await retrying(once)
        except _Refused as refused:
            return refused.verdict


class _Refused(Exception):
    """Carries a verdict through tenacity."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.meaning.value)
        self.verdict = verdict


def _listing(query: str) -> str:
    """The path of a page of the job list."""
    return f"{JOBS_PATH}?{query}" if query else JOBS_PATH

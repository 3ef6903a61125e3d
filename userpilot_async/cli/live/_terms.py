"""The terms of a live check: what is asked, what was seen, and the ids that a run makes for itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Literal, TypeAlias

import attrs

from ..._calls.values import encode_json
from ..._protocol.verdict import Meaning

EVENT = "userpilot_async_check"  # the name of all events of a run
Budget = Literal["identify", "track"]

OUTCOMES: Mapping[Meaning, str] = {
    Meaning.DENIED: "refused: the key, or the plan, does not allow it",
    Meaning.LIMITED: "refused: over the rate limit, also after waiting",
    Meaning.BUSY: "refused: another job holds the slot",
    Meaning.LOST: "no answer",
    Meaning.UNSENT: "no answer",
    Meaning.AGAIN: "no answer but an error of the server",
}
ANSWERED, INTERRUPTED = "answered", "interrupted"
NOT_BEGUN, NOT_ASKED = "not asked: the run was interrupted", "not asked: the server does not answer"
FOREIGN = "no answer of Userpilot's API"


@attrs.frozen(kw_only=True)
class Ask:
    """A request that a question wants made."""

    what: str
    """The request in a word or two, for the report."""
    method: str = "POST"
    path: str
    shown: str = ""
    """The path as the report may show it, where ``path`` has an id in it."""
    body: bytes | None = None
    filename: str | None = None
    """The body goes as a multipart upload under this name."""
    budget: Budget = "identify"
    versioned: bool = True
    """The request has the header ``X-API-Version``."""
    after: float = 0.0
    """Seconds to wait before it."""
    users: tuple[str, ...] = ()
    """Ids of users who may exist once the server has had it."""
    companies: tuple[str, ...] = ()
    """Ids of companies that may exist then."""
    deletes: tuple[str, ...] = ()
    """Ids of users who need no deletion any more, once it is accepted."""


@attrs.frozen(kw_only=True)
class Answered:
    """The answer to a request, or the lack of one."""

    meaning: Meaning
    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Headers of the answer, with lower-case names."""
    body: Any = attrs.field(default=None, repr=False)
    """The decoded JSON of the answer, whatever that may be; ``None`` if it was none."""
    size: int = 0
    """Bytes that the body has."""
    detail: str = ""
    """The kind of failure, where there was no status."""
    error_code: str | None = None
    foreign: bool = False
    """A success that is no answer of this API: a web page, half a body, a list of errors."""
    at: float = 0.0
    """When it came, in seconds since the run began."""

    @property
    def ok(self) -> bool:
        """The server has accepted the request."""
        return self.meaning is Meaning.ACCEPTED

    @property
    def outcome(self) -> str:
        """The reason why a question that needs this answer ends here."""
        if self.foreign or (self.status is not None and 300 <= self.status < 400):
            return FOREIGN
        return OUTCOMES.get(self.meaning, f"refused with status {self.status}")


class Ended(Exception):
    """Raised by a question that cannot go on behind an answer."""

    def __init__(self, seen: Answered) -> None:
        super().__init__(seen.outcome)
        self.seen = seen


@attrs.frozen(kw_only=True)
class Cost:
    """The most that a question may cost the account; a request that is answered 429 is made once more."""

    requests: int
    jobs: int = 0
    users: int = 0
    companies: int = 0

    def __add__(self, other: Cost) -> Cost:
        mine, theirs = attrs.astuple(self), attrs.astuple(other)
        names = [field.name for field in attrs.fields(Cost)]
        return Cost(**{name: one + two for name, one, two in zip(names, mine, theirs, strict=True)})


@attrs.frozen
class Look:
    """A question that only the dashboard answers, after the requests of a run."""

    name: str
    question: str
    """Without an id, for the report."""
    user_id: str


@attrs.define
class Session:
    """The ids that one run makes for itself, and what its present question has found."""

    prefix: str
    """All ids begin with it; made by chance."""
    date: str
    """The time of the run in UTC, as an import row has it."""
    looks: list[Look] = attrs.field(factory=list)
    in_jobs: list[str] = attrs.field(factory=list)
    """Ids of users in a file whose job has not ended, as far as was seen: it may make them again after a deletion."""
    findings: list[str] = attrs.field(factory=list)
    """Sentences about the server, of the question that is being asked: no ids in them, and no values."""

    def user(self, name: str) -> str:
        """The id of a test user; ``name`` is its question's."""
        return f"{self.prefix}-{name}"

    def company(self, name: str) -> str:
        """The id of a test company; ``name`` is its question's."""
        return f"{self.prefix}-{name}-company"

    def filename(self, name: str) -> str:
        """The unique name of a file that is uploaded."""
        return f"{self.prefix}-{name}.ndjson"

    def found(self, sentence: str) -> None:
        """Add a finding to those of the present question."""
        self.findings.append(sentence)


Steps: TypeAlias = Generator[Ask, Answered, None]
"""The requests of a question, one after the other; each answer is sent in. Raises `Ended` where it cannot go on."""


@attrs.frozen(kw_only=True)
class Question:
    """A thing to be learned of the server, its price, and how it is asked."""

    name: str
    text: str
    cost: Cost
    steps: Callable[[Session], Steps]


def needed(seen: Answered) -> Answered:
    """The answer, if the server has accepted the request; else raises `Ended`."""
    if not seen.ok:
        raise Ended(seen)
    return seen


def identify(user_id: str, metadata: Mapping[str, object], company_id: str = "") -> Ask:
    """The request that identifies a user, and moves them to a company if there is one."""
    body: dict[str, object] = {"user_id": user_id, "metadata": metadata}
    if company_id:
        body["company"] = {"id": company_id, "company_id": company_id}
    what = "identify with a company" if company_id else "identify"
    companies = (company_id,) if company_id else ()
    return Ask(what=what, path="/v1/identify", body=_json(body), users=(user_id,), companies=companies)


def identify_company(company_id: str, metadata: Mapping[str, object]) -> Ask:
    """The request that identifies a company."""
    body = _json({"company_id": company_id, "metadata": metadata})
    return Ask(what="identify a company", path="/v1/companies/identify", body=body, companies=(company_id,))


def track(user_id: str) -> Ask:
    """The request that records an event of a user's."""
    body = _json({"user_id": user_id, "event_name": EVENT, "metadata": {"check_number": 1}})
    return Ask(what="track", path="/v1/track", body=body, budget="track", users=(user_id,))


def upload(what: str, path: str, user_id: str, row: Mapping[str, object], filename: str, **more: Any) -> Ask:
    """The upload of a file of one row; ``more`` are fields of `Ask`."""
    return Ask(what=what, path=path, body=_json(row) + b"\n", filename=filename, users=(user_id,), **more)


def delete(kind: Literal["users", "companies"], ids: tuple[str, ...]) -> Ask:
    """The request that schedules the deletion of these users or companies."""
    body = _json({kind: list(ids)})
    return Ask(what=f"delete {kind}", method="DELETE", path=f"/v1/{kind}", body=body, deletes=ids)


def job_list(query: str = "", after: float = 0.0) -> Ask:
    """The request for the job list, or a page of it."""
    path = f"/v1/background_jobs?{query}" if query else "/v1/background_jobs"
    return Ask(what="job list", method="GET", path=path, after=after)


def _json(body: Mapping[str, object]) -> bytes:
    return encode_json(body).encode()

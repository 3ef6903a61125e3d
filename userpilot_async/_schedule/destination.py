"""All that differs between servers, as data: endpoints, budgets, and how calls look on the wire.

A `Destination` is all that the schedule and the sender know of where calls go. A new one costs such a value, and a
client whose methods check their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import attrs

from .._calls.pairs import Pair
from .._calls.payload import IdentifyPayload, Key, Kind, Payload
from .._calls.rows import FiledRow, Row
from .._errors.tree import InvalidCall
from .._protocol.verdict import Promise, Verdict
from .job_batch import Step


class Pairs(Protocol):
    """The keys that are one person's for good, because a call has named them together: the first such call counts."""

    def settle(self, key: Key) -> bool:
        """Remember the keys of a call, in the order of acceptance; false if one of them is another person's."""
        ...

    def learn(self, pairs: Iterable[Pair]) -> None:
        """Hear what an outbox has kept, in that order, too. In any thread."""
        ...


class Call(Protocol):
    """A call as a value: what a file holds, what `on_dead` gets, what may be made again."""

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file."""
        ...


@attrs.frozen(kw_only=True)
class LostCall:
    """A call that will not be delivered."""

    status: Literal["dead", "dropped"]
    reason: str
    """A label: ``invalid``, ``too_large``, ``expired``, ``queue_full``, ``closed``, ``ambiguous``, ``deleted``."""
    call: Call | None = attrs.field(default=None, repr=False)
    """The call as it could be made again: of merged identifies, all that they said together."""
    merged: int = 0
    """How many earlier calls share this outcome because they went into this one."""
    error: InvalidCall | None = None
    """Why there is no ``call``: it was invalid, and the settings send those here."""
    arguments: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    """The arguments that an invalid call was made with."""
    detail: str = ""
    """The server's own words, if it refused the call and said why; shortened, and printable."""
    error_code: str | None = None
    """The server's code for its refusal; ``None`` if it gave none."""
    request_id: str | None = None
    """The header ``x-request-id`` of that answer, which the vendor's support asks for; ``None`` if it had none."""


@attrs.frozen
class Endpoint:
    """An endpoint of a server, and the budget that its requests take tokens of."""

    name: str
    """The name by which `Statistics.requests` counts it."""
    path: str
    """``{job_id}`` in it stands for the quoted id of a job."""
    budget: str
    """The budget that its requests take tokens of: a key of `Destination.budgets`."""
    method: str = "POST"
    promises: Promise = Promise.RECEIPT
    """The answer, if all is well; anything else is the answer of a machine in between."""


def alone(bodies: Sequence[bytes]) -> bytes:
    """The body of a request for one event."""
    return bodies[0]


def as_array(bodies: Sequence[bytes]) -> bytes:
    """The body of a request for several: a JSON array."""
    return b"[" + b",".join(bodies) + b"]"


@attrs.frozen(kw_only=True)
class Events:
    """How events go to the server."""

    endpoint: Endpoint
    most: int = 1
    """Events in one request. More than one linger for others to fill an array with."""
    max_bytes: int = 1
    """About what one request holds, if that is more than one event."""
    pack: Callable[[Sequence[bytes]], bytes] = alone


@attrs.frozen(kw_only=True)
class Files:
    """How rows go in bulk: as files that become jobs, one at a time."""

    threshold: int
    """More waiting rows of a kind than this become a file."""
    submit: Mapping[Kind, Endpoint]
    """By kind of row; they take turns, in this order."""
    poll: Endpoint
    listing: Endpoint
    line: Callable[[Kind, FiledRow], bytes]
    """A row of this kind as one line of the file, with its newline."""
    arrays: Mapping[Kind, str] = attrs.field(factory=dict)
    """By kind of row: the name under which ``submit`` takes the same rows as an array in a JSON object, if it does."""
    job_timeout: float
    """Seconds past its expected end that a job is believed in."""

    def endpoint(self, step: Step) -> Endpoint:
        """Where this step of a file's life is asked for."""
        return self.submit[step.batch.kind] if step.what == "submit" else _query_endpoint(self, step)


@attrs.frozen(kw_only=True)
class Imports:
    """How events go that would be dated wrongly by now: as files whose lines say when, one job at a time."""

    wanted: bool
    """Otherwise only a file that another sender has left is watched to its end."""
    late_after: float
    """Seconds after which an event is late."""
    submit: Endpoint
    poll: Endpoint
    listing: Endpoint
    lines: Callable[[Row, Mapping[str, Any], Callable[[float], float]], Iterator[bytes]]
    """A row with its events as lines of the file. It says of the person all these properties; the function turns the
    schedule's time into seconds since 1970.
    """
    job_timeout: float

    def endpoint(self, step: Step) -> Endpoint:
        """Where this step of a file's life is asked for."""
        return self.submit if step.what == "submit" else _query_endpoint(self, step)


@attrs.frozen(kw_only=True)
class Deletions:
    """How people and companies are deleted: several in a request, which a background job carries out.

    Only for servers that take one event a request: what waits behind the one under way is dropped.
    """

    of: Mapping[Kind, Kind]
    """Kinds of keys, by the kind of the call that deletes them."""
    submit: Mapping[Kind, Endpoint]
    """Where keys of a kind are deleted."""
    body: Callable[[Kind, Sequence[str]], bytes]
    """The body of a request that deletes these keys of a kind."""
    listing: Endpoint
    """The job list, in which the job is looked for."""
    most: int
    """The number of keys in one request."""
    job_timeout: float
    """Seconds after which the job is believed to have failed."""
    unlink: Callable[[Row, Mapping[str, int]], object] | None = None
    """Has a person's row name none of these companies any more, if no call in it is newer than this id."""


def _query_endpoint(files: Files | Imports, step: Step) -> Endpoint:
    return files.poll if step.what == "poll" else files.listing


@attrs.frozen(kw_only=True)
class Destination:
    """A kind of server, and all that is special about it."""

    name: str
    """The name of the destination, which begins the names of its files."""
    budgets: Mapping[str, int | None]
    """Requests a minute by the name that endpoints use; ``None`` for no limit."""
    burst: int
    """Requests that each budget allows at once."""
    events: Events
    rows: Mapping[Kind, Endpoint]
    """Identifies, by what they are of: each goes in a row of its own, into which later ones merge."""
    row_body: Callable[[Row], bytes]
    row_call: Callable[[Row], Call]
    """The one call that says what a row says."""
    merges: Callable[[Row, IdentifyPayload, bool], bool] = attrs.field(default=lambda row, facts, last: True)
    """Whether facts may go into a row that waits; ``last`` says that nothing lies behind it yet."""
    posts: Mapping[Kind, Endpoint] = attrs.field(factory=dict)
    """Calls that go alone, as they are."""
    once: frozenset[Kind] = frozenset()
    """Posts that the server takes once: the same one again is not sent."""
    prefaces: Callable[[Kind, Key], Sequence[tuple[Kind, bytes]]] | None = None
    """Posts, each of a kind that is taken once, that the server has to have before a call of this kind by this key."""
    unnamed: Callable[[Key], str | None] = attrs.field(default=lambda key: None)
    """The key in a call's key that may be given to a person by a post, if there is one: see `idle_unmet`."""
    idle_unmet: frozenset[Kind] = frozenset()
    """Posts, each taken once, that do nothing, for good, before the server has met their `unnamed` key."""
    pauses: Mapping[Kind, float] = attrs.field(factory=dict)
    """Posts before and after which nothing else of the same person goes for so many seconds; of others, it goes on."""
    pairs: Pairs | None = None
    """Where a further key of a call belongs to the first one for good; a call that says otherwise is not sent."""
    not_a_pair: str = ""
    """The words for people whose call says otherwise."""
    files: Files | None = None
    imports: Imports | None = None
    deletions: Deletions | None = None
    call_of: Callable[[Kind, Key, Payload], Call]
    """The call that was put as this."""
    reads: Callable[[Verdict], Verdict] = attrs.field(default=lambda verdict: verdict)
    """Reads an answer, where it means something else here than elsewhere."""
    lost_call: Callable[..., LostCall]
    """The class of what `on_dead` gets; the subclass says which calls this destination knows."""
    wrong_key: str = "is it the right one?"
    """A question for people whose key is refused."""
    wrong_url: str = "is the URL right?"
    """A question for people whose path the server does not know."""

    @property
    def packs(self) -> Iterable[Kind]:
        """Kinds of rows that go in files, and that nothing has to go before: see `packed_rows`."""
        return self.files.submit if self.files is not None and self.prefaces is None and self.pairs is None else ()

    @property
    def packs_events(self) -> bool:
        """Nothing has to go before an event, and none has to be looked at again because it may be late."""
        is_late_ever = self.imports is not None and self.imports.wanted
        return self.prefaces is None and self.pairs is None and not is_late_ever

    def learn_pairs(self, pairs: Iterable[Pair]) -> None:
        """Hear of keys that calls have named together, in the order of acceptance. In any thread."""
        if self.pairs is not None:
            self.pairs.learn(pairs)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of keys that calls can be of: persons, and whatever else rows are of."""
        return ("user", *(kind for kind in self.rows if kind != "user"))

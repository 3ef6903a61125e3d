"""The things that a sender takes over from the one before it: tokens that are spent, and files that were under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from .._calls.payload import Kind


@attrs.frozen
class UnfinishedFile:
    """A file of rows that may have been submitted: the job list knows it by its name, if it was."""

    filename: str
    kind: Kind
    last_calls: Mapping[str, int]
    """By the key of each row in it: the last call that says something of it. It has all that waited up to that."""


@attrs.frozen
class Takeover:
    """Of an outbox whose calls outlive their sender."""

    spent: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """By budget: in how many seconds each token comes back that a request of the last minutes took."""
    files: Sequence[UnfinishedFile] = ()
    unknown: float = 0.0
    """For so many seconds, tokens may be spent of which nothing is known any more."""


@attrs.define(eq=False)
class RequestNote:
    """A request, as an outbox that outlives its sender notes it down before it is made."""

    budget: str
    ids: Sequence[int] = ()
    """Calls in it that the server may have twice, if its answer gets lost."""
    filename: str = ""
    """Of a submission; with the kind of its rows, and the last call that says something of each."""
    kind: Kind = ""
    last_calls: Sequence[int] = ()
    filed: Sequence[int] = ()
    """Calls in a submitted file that the server would have twice if they were in another one, too."""
    in_rows: Callable[[], Iterable[int]] = tuple
    """Gives the calls in its rows, which the server may have twice without harm: hundreds of thousands, perhaps."""
    number: int | str | None = None
    """The outbox's own name for it."""

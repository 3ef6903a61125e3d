"""The vocabulary of `FileJob`: the steps that it asks for about a file, and the effects that it answers with."""

from __future__ import annotations

from typing import Literal

import attrs

from .._calls.outcome import Words
from .jobs import Job


@attrs.frozen
class JobStep:
    """A request to make about a file."""

    what: Literal["submit", "search", "poll"]
    job_id: str = ""
    """The job that a poll asks for."""
    query: str = ""
    """Of the URL: the page of the job list to search."""


@attrs.frozen
class Submitted:
    """The server has taken the file, as the answer says, or the job list."""

    job: Job | None


@attrs.frozen
class InDoubt:
    """The server may have taken the file: the job list is searched for it."""


@attrs.frozen
class Refused:
    """The server will not have this file, in ``words`` of its own; ``too_large`` says that the size is the reason."""

    too_large: bool
    words: Words


@attrs.frozen
class Busy:
    """Another job holds the slot, so that the file can be submitted again at ``until``."""

    until: float


@attrs.frozen
class Postponed:
    """The server did not take the file, for no fault of the file's; it can be submitted again at ``until``."""

    until: float


@attrs.frozen
class NotFound:
    """The job list does not show the file, which may be submitted again.

    ``lost`` says that an answer had got lost before: then the server might have it twice.
    """

    lost: bool


@attrs.frozen
class Missing:
    """The job's id is not known any more: the job list is searched for its filename."""


@attrs.frozen
class Found:
    """The job list still shows the job that was missing."""

    job: Job


@attrs.frozen
class Forgotten:
    """The server had taken the file, and now neither the job's id nor the list knows of it."""


@attrs.frozen
class Completed:
    """The job has ended well."""

    job: Job


@attrs.frozen
class Failed:
    """The job has failed, and says nothing about single rows."""

    job: Job


@attrs.frozen
class Overdue:
    """The file has been searched for, or its job watched, for longer than is sensible: the owner may give it up.

    ``outage`` says that the server does not answer at present. The state stays, and the effect comes again.
    """

    outage: bool


Effect = (
    Submitted | InDoubt | Refused | Busy | Postponed | NotFound | Missing | Found | Forgotten | Completed | Failed
    | Overdue
)  # fmt: skip

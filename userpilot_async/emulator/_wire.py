"""The words of the wire: whose call came in, the answer that goes out, the shape of an error."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, get_args

import attrs

from userpilot_async.emulator._bodies import Body

Payload: TypeAlias = dict[str, Any]
"""A parsed JSON object. `Any`, because a client may put anything into it."""

Family: TypeAlias = Literal[
    "identify",
    "track",
    "bulk",
    "imports",
    "jobs",
    "deletions",
    "parcelvoy_identify",
    "parcelvoy_alias",
    "parcelvoy_devices",
    "parcelvoy_events",
    "parcelvoy_users",
    "other",
]
"""Endpoints that are counted together, and share one rate window where there is one."""

FAMILIES: tuple[Family, ...] = get_args(Family)

API_VERSION = "2020-09-22"  # The only value of X-API-Version that the vendor documents.


@attrs.frozen
class WireError:
    """A complaint about one call, with the status it asks for."""

    status: int
    message: str
    details: str = ""
    code: int | None = None
    """Parcelvoy's number for the error, if it has one."""

    def as_json(self) -> Payload:
        known = self.status in HTTPStatus.__members__.values()  # a proxy's 520 has no phrase
        phrase = HTTPStatus(self.status).phrase if known else "Error"
        return {
            "error": phrase,
            "error_code": phrase.lower().replace(" ", "_"),
            "message": self.message,
            "details": self.details,
        }


@attrs.frozen
class Answer:
    """The API's answer to one call, and what the request log will remember of it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    rows: int = 0
    filename: str | None = None
    applied: bool = False


class Refused(Exception):
    """Raised where a call breaks a rule; carries at least one error."""

    def __init__(self, errors: Sequence[WireError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


def obey(errors: Sequence[WireError]) -> None:
    """Go on if there is nothing to complain about, else raise `Refused`."""
    if errors:
        raise Refused(errors)


def refuse(status: int, message: str, details: str = "") -> Refused:
    return Refused([WireError(status, message, details)])


def json_answer(status: int, content: object, *, rows: int = 0, filename: str | None = None) -> Answer:
    return Answer(
        status,
        json.dumps(content, separators=(",", ":")).encode(),
        {"content-type": "application/json; charset=utf-8"},
        rows=rows,
        filename=filename,
    )


@attrs.frozen
class Api:
    """The demands of all endpoints of one vendor on a call, and the shape of their complaints."""

    scheme: str  # of the Authorization header
    error_body: Callable[[Sequence[WireError]], Payload]
    key_errors: Callable[[str, Collection[str] | None], list[WireError]]
    """Lists what is wrong with a key (empty if none came), given the accepted ones (None: any)."""
    version: str = ""  # the only value of X-API-Version that the `versioned` families take; others do not look at it
    versioned: Collection[Family] = ()
    limited: Collection[Family] = ()  # the families with a rate window
    common_headers: Mapping[str, str] = attrs.field(factory=dict)  # of every answer
    numbered: bool = False  # every answer has an id, and the three headers of the rate limit
    scheme_in_any_case: bool = True
    prefixes: tuple[str, ...] = ()  # of keys of several kinds; one of each belongs to the same account
    read: Callable[[str, Mapping[str, str], Body], Any] | None = None
    """Reads a body by the request's method and headers, or refuses it, before the key is looked at. The endpoint gets
    the result (`Any`: whatever it wants) as `Call.content`. None: the endpoint reads the body."""

    def key_of(self, headers: Mapping[str, str]) -> str:
        """The key in the Authorization header, or nothing."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        same = scheme.lower() == self.scheme.lower() if self.scheme_in_any_case else scheme == self.scheme
        return key.strip() if same else ""

    def kind_of(self, key: str) -> str:
        """The kind of a key: its API, and its prefix if that tells kinds apart."""
        return self.scheme + next((prefix for prefix in self.prefixes if key.startswith(prefix)), "")

    def complain(self, errors: Sequence[WireError]) -> Answer:
        """The answer to a refused call; its status is that of the first error."""
        return json_answer(errors[0].status, self.error_body(errors))


def _key_errors(key: str, accepted: Collection[str] | None) -> list[WireError]:
    known = bool(key) if accepted is None else key in accepted
    return [] if known else [WireError(401, "the API key is missing or wrong")]


def _all_errors(errors: Sequence[WireError]) -> Payload:
    return {"errors": [error.as_json() for error in errors]}


# The scheme is written `Token` and `token` by the vendor. The pages of the realtime calls and of deletions ask for the
# version, those of bulk, imports and jobs do not. 600 requests a minute are documented for identify and track alone.
USERPILOT = Api(
    "Token",
    _all_errors,
    _key_errors,
    version=API_VERSION,
    versioned=frozenset({"identify", "track", "deletions"}),
    limited=frozenset({"identify", "track"}),
    # As in the samples of the analytex OpenAPI document.
    common_headers={"cache-control": "max-age=0, private, must-revalidate", "server": "Cowboy"},
    numbered=True,
)

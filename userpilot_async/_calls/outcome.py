"""The end of a call, and the server's words about it."""

from __future__ import annotations

from typing import Literal

import attrs

Status = Literal["pending", "submitted", "delivered", "dead", "dropped", "merged"]
DeliveryRoute = Literal["realtime", "bulk", "import"]


@attrs.frozen
class Outcome:
    """The end that a call has come to.

    ``reason`` says why a call is ``dead`` or ``dropped``. A ``merged`` call shares the outcome of the row that
    took it in: ``row`` is that row's outcome, ``None`` while it is still on its way.
    """

    status: Status
    reason: str | None = None
    row: Outcome | None = None
    by: Literal["bulk", "import"] | None = None
    """The job that delivered it, if one did."""

    @property
    def is_delivered(self) -> bool:
        """The server has the call, as far as it says."""
        return self.status == "delivered"

    @property
    def keeps_call(self) -> bool:
        """A durable outbox keeps the lost call as a dead letter: not that of a deleted person or company."""
        return not self.is_delivered and self.reason != "deleted"

    @property
    def route(self) -> DeliveryRoute | None:
        """By which way a delivered call went, also as part of another; ``None`` for one that is not delivered."""
        if self.row is not None:
            return self.row.route
        return (self.by or "realtime") if self.is_delivered else None


# The `__init__` that attrs makes does not find the class's own name, which `typing.get_type_hints` asks it for.
Outcome.__init__.__annotations__["row"] = Outcome | None

PENDING = Outcome("pending")
SUBMITTED = Outcome("submitted")
DELIVERED = Outcome("delivered")
BY_BULK = Outcome("delivered", by="bulk")
BY_IMPORT = Outcome("delivered", by="import")
MERGED = Outcome("merged")
DELETED = Outcome("dropped", "deleted")
"""The end of what waited of a person or company when its deletion came."""


def merged_into(row: Outcome) -> Outcome:
    """The outcome of a call that went into one with this outcome."""
    if row.status == "merged":
        return row
    return MERGED if row.status in ("pending", "submitted") else Outcome("merged", row.reason, row)


@attrs.frozen
class Words:
    """The words of a server beside the status: for people, and for the vendor's support."""

    detail: str = ""
    """The server's own words, shortened and printable; or the kind of network error."""
    error_code: str | None = None
    """Of the first error in the body, if it has one."""
    request_id: str | None = None
    """The header ``x-request-id`` of the answer."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.detail, self.ids)))

    @property
    def ids(self) -> str:
        """Both ids in brackets, or nothing."""
        named = (("error_code", self.error_code), ("request", self.request_id))
        ids = ", ".join(f"{name} {value}" for name, value in named if value)
        return f"({ids})" if ids else ""


NO_WORDS = Words()

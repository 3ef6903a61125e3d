"""What can go wrong, and whose fault it is.

    UserpilotError
    ├── InvalidCall        the caller's: raised at the call; names the field, never the value
    ├── QueueFull          the caller's choice: only with Settings(when_full="raise")
    ├── ClientClosed       the caller's: the client is not open here (closed, other loop, forked)
    ├── OutboxError        the machine's: a durable outbox cannot hold calls (disk full, denied, another account's)
    └── DeliveryError      the far side's: raised by UserpilotAPI only, never by track() or identify()
        ├── Rejected       the server answered, and said no
        ├── Unavailable    no usable answer: network, timeout, 5xx, 429
        └── JobFailed      a background job ended as `failed`

A bad key, URL or setting is a ``ValueError`` at construction.
"""

from __future__ import annotations


class UserpilotError(Exception):
    """The root of every error this library raises on purpose."""


class InvalidCall(UserpilotError):
    """A call that the server could never take.

    ``field`` is where (``"metadata['plan']"``), ``reason`` is why, with the type and the limit.
    Neither ever holds the value itself: values are your users' data.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field} {self.reason}"


class QueueFull(UserpilotError):
    """The queue has no room for this call, and the settings ask to be told."""


class ClientClosed(UserpilotError):
    """The client takes no calls here: not opened yet, closed, or used from another loop, thread or process."""


class OutboxError(UserpilotError):
    """A durable outbox cannot be opened, or cannot hold this call: it was not accepted.

    The disk is full or denies writing, the file belongs to another account, or to a newer version of this library.
    """


class DeliveryError(UserpilotError):
    """A request of `UserpilotAPI` did not do what was asked."""


class Rejected(DeliveryError):
    """The server answered with ``status`` and will not answer otherwise to the same request.

    ``detail`` is the server's own message, shortened and free of control characters.
    """

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"the server answered {self.status}" + (f": {self.detail}" if self.detail else "")


class Unavailable(DeliveryError):
    """No usable answer.

    ``ambiguous`` says that the request may have been carried out all the same; ``status`` is there if the
    server did answer, with a 5xx or a 429.
    """

    def __init__(self, detail: str, *, ambiguous: bool = False, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.ambiguous = ambiguous
        self.status = status


class JobFailed(DeliveryError):
    """A background job ended as ``failed``. The server does not say which row was at fault."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"background job {self.job_id} failed"

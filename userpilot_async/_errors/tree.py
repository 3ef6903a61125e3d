"""Everything that can go wrong, and whose fault it is.

UserpilotError
├── InvalidCall        the caller's: raised at the call; names the field, never the value
├── QueueFull          the caller's choice: only with Settings(when_full="raise")
├── ClientNotOpen      the caller's: the client has not been opened yet
├── ClientClosed       the caller's: the client takes no calls any more (closed, or forked)
├── WrongLoop          the caller's: an awaited call in another event loop than the client's
├── OutboxError        the machine's: a durable outbox cannot hold calls (disk full, denied, another account's)
├── ConfigurationError the caller's: a key, a URL, a setting or a variable that cannot be right; a `ValueError`, too
└── DeliveryError      the far side's: raised by UserpilotAPI only, never by track() or identify()
    ├── Rejected       the server answered, and said no
    ├── Unavailable    no usable answer: network, timeout, 5xx, 429
    └── JobFailed      a background job ended as `failed`
"""

from __future__ import annotations

from typing import TypeVar

from .printable import printable

E = TypeVar("E", bound=Exception)


class UserpilotError(Exception):
    """The root of every error this library raises on purpose. Its text is one line, fit for a log and a terminal."""

    def __str__(self) -> str:
        return printable(self._text())

    def _text(self) -> str:
        return super().__str__()


class InvalidCall(UserpilotError):
    """A call that the server could never take.

    ``field`` is where (``"metadata['plan']"``), ``reason`` is why, with the type and the limit.
    Neither ever holds the value itself: values are your users' data.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def _text(self) -> str:
        return f"{self.field} {self.reason}"


class QueueFull(UserpilotError):
    """The queue has no room for this call, and the settings ask for this error."""


class ClientNotOpen(UserpilotError):
    """The client takes no calls yet: open it with ``async with``, or with ``await client.start()``."""


class ClientClosed(UserpilotError):
    """The client takes no calls any more: it was closed, or this is a process forked from the one that opened it."""


class WrongLoop(UserpilotError):
    """An awaited call was made in another event loop than the one in which the client was opened.

    The message says what to do: a ``…_nowait`` call, which any thread may make, or a client for this loop.
    """


class ConfigurationError(UserpilotError, ValueError):
    """A key, a URL, a setting or an environment variable cannot be right; raised at construction.

    Or the connection that `UserpilotClient.within` is given cannot be. The message names the argument or the variable,
    and shows no secret. Also a `ValueError`.
    """


class OutboxError(UserpilotError):
    """A durable outbox cannot be opened, or cannot hold this call: it was not accepted.

    The disk is full or denies writing, the file belongs to another account, or to a newer version of this library, or
    what lies in its place, or beside it, must not be used: a link, another user's file, one that others may read.
    """


class DeliveryError(UserpilotError):
    """A request of `UserpilotAPI` did not do what was asked."""


def _with_ids(text: str, error_code: str | None, request_id: str | None) -> str:
    """The text, with what the vendor's support asks for behind it."""
    ids = [f"{name} {value}" for name, value in (("error_code", error_code), ("request", request_id)) if value]
    return f"{text} ({', '.join(ids)})" if ids else text


class Rejected(DeliveryError):
    """The server answered with ``status`` and will not answer otherwise to the same request.

    ``detail`` is the server's own message, shortened and free of control characters. ``error_code`` is the server's,
    ``request_id`` its ``x-request-id``, which the vendor's support asks for; each is ``None`` if it gave none.
    """

    def __init__(
        self, status: int, detail: str = "", *, error_code: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.error_code = error_code
        self.request_id = request_id

    def _text(self) -> str:
        text = f"the server answered {self.status}" + (f": {self.detail}" if self.detail else "")
        return _with_ids(text, self.error_code, self.request_id)


class Unavailable(DeliveryError):
    """No usable answer.

    ``ambiguous`` says that the request may have been carried out all the same; ``status`` is there if a
    server did answer, with a 5xx, a 429, or what is no answer of this API. ``error_code`` and ``request_id`` are as in
    `Rejected`.
    """

    def __init__(
        self, detail: str, *, ambiguous: bool = False, status: int | None = None, error_code: str | None = None,
        request_id: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.detail = detail
        self.ambiguous = ambiguous
        self.status = status
        self.error_code = error_code
        self.request_id = request_id

    def _text(self) -> str:
        return _with_ids(self.detail, self.error_code, self.request_id)


class JobFailed(DeliveryError):
    """A background job ended as ``failed``. The server does not say which row was at fault."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def _text(self) -> str:
        return f"background job {self.job_id} failed"


def without_frames(error: E) -> E:
    """The error, without the frames it came through and without what it was raised for, to be raised anew.

    Tools that report errors show the locals of frames, and those may have a password. To be raised outside of the
    ``except`` in which it was caught, or that one's error comes along as its context.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)

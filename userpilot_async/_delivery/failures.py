"""Exceptions out of a transport: what a failure is called in the log, and which ones are no failure of a request.

They come from httpx, from what it is made of, or from the application's own transport, and hold requests with the key
in them. So they are named by their types, and followed to their roots with care; none is ever shown.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable

import anyio

from .._errors.foreign import is_a, type_name

MAX_CAUSES = 10  # of an exception that are followed: a chain may be a ring


def named(error: BaseException) -> str:
    """Name the error and its root by their types: `ConnectError` alone may be a name, a port, or a protocol.

    Never by its text, which may hold a URL or a header; and with care: a foreign exception may lack what its class
    promises (``ssl.SSLError("…")`` has no ``reason``), and its properties may raise.
    """
    root = _chain(error)[-1]
    name, cause = type_name(error), type_name(root)
    if is_a(root, ssl.SSLError):
        try:
            reason = getattr(root, "reason", None)
        except Exception:
            reason = None
        cause = reason if is_a(reason, str) and reason else cause
    return name if cause in (name, "OSError", "CancelledError", "Cancelled") else f"{name}, {cause}"


def _chain(error: BaseException) -> list[BaseException]:
    """List the error and what it began with: its cause, that one's cause, and so on; the first in place of a group."""
    chain = [error]
    while len(chain) <= MAX_CAUSES:
        within = _exceptions(error)[0] if is_a(error, BaseExceptionGroup) else _cause(error) or _context(error)
        if within is None:
            break
        chain.append(within)
        error = within
    return chain


# As `BaseException` has them: a class may have properties of these names, which may raise.
_cause: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__cause__"].__get__
_context: Callable[[BaseException], BaseException | None] = BaseException.__dict__["__context__"].__get__
_exceptions: Callable[[BaseException], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__


def is_certificate_error(error: BaseException) -> bool:
    """Ask whether the server's certificate was refused."""
    return any(is_a(one, ssl.SSLCertVerificationError) for one in _chain(error))


def forget_frames(error: BaseException) -> None:
    """Drop the frames of the error and of all its causes: httpcore's and h11's hold the request, with the key in it."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        BaseException.with_traceback(one, None)
        waiting += [_cause(one), _context(one), *(_exceptions(one) if is_a(one, BaseExceptionGroup) else ())]


def goes_on(error: BaseException) -> bool:
    """Ask whether an error must go on: a cancellation, Ctrl-C, or the end of the program or of this very coroutine."""
    if is_a(error, BaseExceptionGroup):
        return any(goes_on(one) for one in _exceptions(error) if not is_a(one, anyio.get_cancelled_exc_class()))
    if is_a(error, anyio.get_cancelled_exc_class()):
        return not _is_stray(error)
    return issubclass(type(error), (KeyboardInterrupt, SystemExit, GeneratorExit))


def _is_stray(cancellation: BaseException) -> bool:
    """Ask whether this task was not cancelled: a transport has waited for what was, as asyncio's futures can be."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not is_a(cancellation, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()

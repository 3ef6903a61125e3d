"""How a command ends: codes that scripts can use, and sentences for people."""

from __future__ import annotations

from enum import IntEnum

import click

from .._errors.tree import DeliveryError, Rejected, Unavailable


class Exit(IntEnum):
    """Exit codes of all commands; `userpilot-async --help` documents them."""

    FINE = 0
    LOST = 1
    USAGE = 2  # click's own
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Failed(click.ClickException):
    """Ends the command with a sentence on stderr."""

    exit_code = Exit.LOST


class NotPossible(Failed):
    """The command cannot run as it was called, or as the package is installed."""

    exit_code = Exit.USAGE


class Unreachable(Failed):
    """The server does not answer, or is of another kind."""

    exit_code = Exit.UNREACHABLE


class Refused(Failed):
    """The server does not take the key."""

    exit_code = Exit.REFUSED


def failure_of(error: DeliveryError | TimeoutError) -> Failed:
    """The failure of the command for an error of `UserpilotAPI`."""
    if isinstance(error, TimeoutError):
        return Failed("the time was up before the job had ended")
    if isinstance(error, Unavailable):
        return Unreachable(f"the server is unavailable: {error}")
    if isinstance(error, Rejected) and error.status in (401, 402, 403):
        return Refused(str(error))
    return Failed(str(error))


def failure_of_listing(error: DeliveryError) -> Failed:
    """The failure for an error of the job list: a server without one is no Userpilot server."""
    if isinstance(error, Unavailable) and error.status is not None and 200 <= error.status < 300:
        return Unreachable(f"this does not look like a Userpilot server: {error.detail}")
    if isinstance(error, Rejected) and (error.status in (404, 405) or 300 <= error.status < 400):
        return Unreachable(f"this does not look like a Userpilot server: it answered {error.status}")
    return failure_of(error)

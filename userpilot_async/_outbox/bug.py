"""A bug of this library that ends the sending of an outbox: logged once, and raised to callers and the sender."""

from __future__ import annotations

import logging

from .._errors.tree import OutboxError
from .._runtime.log import log


class Bug:
    """The bug that one opening may meet. ``place`` is the outbox's name in messages."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.met: BaseException | None = None
        """What has ended the sending here, if a bug of this library has."""

    def meet(self, bug: BaseException) -> None:
        """Remember the first one, and log it; later ones follow from it."""
        if self.met is None:
            self.met = bug
            log(
                logging.ERROR,
                f"{self._place} met a bug of this library ({type(bug).__name__}): it sends nothing and takes no calls "
                "any more, and what it holds stays there; please report this, and open the client again",
                bug,
            )

    def error(self) -> OutboxError:
        """The error for callers that wait for a call to be held."""
        error = OutboxError(f"{self._place} met a bug of this library; see the log")
        error.__cause__ = self.met
        return error

    def raise_met(self) -> None:
        """Raise the bug that was met, if one was, for the sender, which ends with it."""
        if self.met is not None:
            raise self.met

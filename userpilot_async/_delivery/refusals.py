"""Calls that are not held, and never come to the schedule: each gets an outcome, a dead letter, a word in the log."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._account.losses import why_lost
from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import OutboxError
from .._outbox.protocol import Outbox
from .._outbox.receipt import Receipt
from .._runtime.log import RateLimitedLog
from .._schedule.destination import Destination
from .._settings import DeliverySettings
from .admission import Admission
from .dead_letters import DeadLetter, DeadLetters, lost_call, unheld_call
from .sender import Sender


class Refusals:
    """Accounts for calls that are not held. The sender is woken for each, to deliver its dead letter."""

    def __init__(
        self,
        settings: DeliverySettings,
        destination: Destination,
        outbox: Outbox,
        admission: Admission,
        sender: Sender,
        dead_letters: DeadLetters,
        log: RateLimitedLog,
    ) -> None:
        # A plain function: what the inbox holds must not hold the inbox.
        self.dead_letter_of = partial(unheld_call, destination, dead_letters.are_read)
        self._settings = settings
        self._destination = destination
        self._outbox = outbox
        self._admission = admission
        self._sender = sender
        self._dead_letters = dead_letters
        self._log = log

    def no_room(self, kind: Kind, key: Key, payload: Payload, reason: str = "queue_full") -> Receipt:
        """Drop a call that there is no room for; the reason is ``closed`` where the client does not take calls now."""
        reason = reason if self._admission.is_open else "closed"
        outcome = Outcome("dropped", reason)
        why = partial(_not_taken, self._outbox.place, self._settings.max_wait) if reason == "outbox" else None
        return self.refuse(outcome, self.dead_letter_of(kind, key, payload, outcome), why)

    def refuse(
        self, outcome: Outcome, dead_letter: DeadLetter | None = None, why: Callable[[], str] | None = None
    ) -> Receipt:
        """Give a call this outcome at once; ``why`` is for the log, which asks it of the first one only.

        Without a ``dead_letter``, `on_dead` gets one in which the call is missing.
        """
        receipt = self._outbox.refuse(outcome)
        self.report_lost(outcome, dead_letter, why)
        return receipt

    def outbox_failed(self, kind: Kind, key: Key, payload: Payload, error: OutboxError) -> None:
        """Report a call of a ``_nowait`` method that the outbox has accepted, and then could not hold."""
        outcome, call = Outcome("dropped", "outbox"), self._destination.call_of(kind, key, payload)
        lost = lost_call(self._destination, outcome, call=call, detail=str(error))
        self.report_lost(outcome, lambda: lost, lambda: str(error))

    def report_lost(
        self, outcome: Outcome, dead_letter: DeadLetter | None = None, why: Callable[[], str] | None = None
    ) -> None:
        """Log that a call is lost, and queue its dead letter; the account is another's to keep."""
        reason, letter = outcome.reason or "", dead_letter or partial(lost_call, self._destination, outcome)

        def reasons() -> str:
            if reason == "invalid" and (error := letter().error) is not None:  # of a call from a thread
                return str(error)
            return why_lost(reason, self._settings)

        self._dead_letters.post(letter, bounded=True)
        self._log.lost(reason, 1, why=why or reasons)
        self._sender.wake()

    def count_lost(self, outcome: Outcome) -> None:
        """Log that a call is lost of which no dead letter can be delivered any more."""
        reason = outcome.reason or ""
        self._log.lost(reason, 1, why=partial(why_lost, reason, self._settings))


def _not_taken(place: str, max_wait: float | None) -> str:
    return f"{place} did not take them within max_wait={max_wait}"

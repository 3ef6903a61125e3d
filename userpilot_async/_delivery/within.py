"""Calls of a client within a transaction of the application's, which decides whether they are accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._calls.dedupe import DedupeKey
from .._outbox.receipt import Receipt
from .._outbox.transactions import puts_within
from .client import Checked, DeliveryClient

Check = Callable[..., Checked | Receipt]


class CallsWithin:
    """The calls on one ``connection``. A client of a destination has a class of its own, with a method for each call.

    Where the client is switched off, or a test has captured it and its outbox is in memory, the connection is not
    used: the calls go the way of all others. Raises as `UserpilotClient.within` does.
    """

    def __init__(self, client: DeliveryClient, connection: object) -> None:
        _check_open(client)
        captured = client._watch is not None and not client._outbox.durable
        self._client = client
        self._puts = None if captured or _is_off(client) else puts_within(client._outbox, connection)

    def _put(self, check: Check, *arguments: Any, dedupe: str | None) -> Receipt:
        """Check a call, and put it right now, in this thread. `Any` is what ``check`` is there for."""
        found = self._checked(check, arguments, dedupe)
        if isinstance(found, Receipt):
            return found
        checked, key = found
        if self._puts is None:
            return self._client._hand_in_nowait(dedupe, lambda *key: checked)
        receipt = self._puts.put(*checked, key)
        self._show(checked)
        return receipt

    async def _hold(self, check: Check, *arguments: Any, dedupe: str | None) -> Receipt:
        """Check a call, and put it, in whatever loop this is: the connection's, and perhaps not the client's."""
        found = self._checked(check, arguments, dedupe)
        if isinstance(found, Receipt):
            return found
        checked, key = found
        if self._puts is None:
            return self._client._hand_in_nowait(dedupe, lambda *key: checked)
        receipt = await self._puts.hold(*checked, key)
        self._show(checked)
        return receipt

    def _checked(
        self, check: Check, arguments: tuple[Any, ...], dedupe: str | None
    ) -> tuple[Checked, DedupeKey | None] | Receipt:
        _check_open(self._client)
        checked = check(*arguments) if dedupe is None else check(*arguments, dedupe)
        if isinstance(checked, Receipt):
            return checked
        return checked, self._client._key_of(dedupe)

    def _show(self, checked: Checked) -> None:
        """Show a call to the test that has captured the client: whether it is committed, only the database knows."""
        kind, key, payload, _ = checked
        if self._client._watch is not None:
            self._client._watch.accepted(kind, key, payload)


def _is_off(client: DeliveryClient) -> bool:
    return client._connection.keys.switch is not None


def _check_open(client: DeliveryClient) -> None:
    """See that the client takes calls, in any thread and loop. Raises `ClientNotOpen` and `ClientClosed`."""
    if not client._admission.is_open or client._admission.home.has_ended():
        raise client._refusal()

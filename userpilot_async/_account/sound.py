"""Counts that were kept with the calls, and that may be damaged: read, or found to be so."""

from __future__ import annotations

from typing import Any

from .account import Account


def sound_account(value: Any) -> Account | None:
    """The counts as they were written; ``None`` if they are damaged. `Any`: that may be anything."""
    if not isinstance(value, dict):
        return None
    account = Account.of(value)
    counts = [count for count in account.as_dict().values() if not isinstance(count, dict)]
    for labelled in (account.by, account.dead, account.dropped):
        if not isinstance(labelled, dict):
            return None
        counts += labelled.values()
    return account if all(type(count) is int for count in counts) else None

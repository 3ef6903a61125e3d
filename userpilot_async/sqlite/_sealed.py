"""Rows and sealed texts that may be damaged, or another program's: read, or found to be so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._account.account import Account
from .._account.sound import sound_account
from .._calls.payload import Kind
from .._calls.stored import UNREADABLE, Runs, Stored, stretches_in, unsealed

OWNER = ("destination", "salt", "fingerprint")


def checked(
    call_id: int, at: Any, size: Any, stored: Sequence[Any], crc: Any, parts: Iterable[tuple[Kind, str]]
) -> Any:
    """The call as it was put, or ``None`` if the row is damaged: `Any`, because a damaged row may hold anything."""
    try:
        call = Stored(*stored)
        return call.call(parts) if call.checksum(call_id, at, size) == crc else None
    except UNREADABLE:
        return None


def account_in(sealed_text: Any) -> Account | None:
    """The counts as they are kept; ``None`` if they are damaged."""
    return sound_account(unsealed(sealed_text))


def owner_in(sealed_text: Any) -> dict[str, str] | None:
    """The owner of the calls; ``None`` if that is damaged."""
    try:
        value = unsealed(sealed_text)
        bytes.fromhex(value["salt"])
        return dict(value) if all(isinstance(value[name], str) for name in OWNER) else None
    except UNREADABLE:
        return None


def ids_in(sealed_text: Any) -> Runs:
    """Ids; none, if what is kept of them is damaged."""
    try:
        return stretches_in(unsealed(sealed_text) or ())
    except UNREADABLE:
        return []

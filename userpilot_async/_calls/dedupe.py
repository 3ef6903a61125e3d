"""The key of ``dedupe=``: it says which fact a call tells, so that the same fact is accepted once."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import attrs

from .values import MAX_NAME, checked_id

DIGEST = 16  # bytes: two of ten million keys are alike once in 10**24 outboxes


@attrs.frozen
class DedupeKey:
    """A caller's key as outboxes keep it: no text of the caller's, which may name a person."""

    digest: bytes
    """A hash of the text, `DIGEST` bytes."""
    seconds: float
    """For so long after the acceptance of the first call another one with this key repeats it."""

    @classmethod
    def of(cls, text: str, seconds: float) -> DedupeKey:
        """The key that a caller has given. Raises `InvalidCall`."""
        told = checked_dedupe(text).encode()
        return cls(blake2b(told, digest_size=DIGEST, person=b"userpilot dedupe").digest(), seconds)


def checked_dedupe(value: object) -> str:
    """A non-blank string of at most 255 characters, or `InvalidCall` with the field ``dedupe``."""
    return checked_id(value, "dedupe", MAX_NAME)


def with_dedupe(line: dict[str, Any], dedupe: str | None) -> dict[str, Any]:
    """The same line of NDJSON, with the key of its call if that has one."""
    return line if dedupe is None else {**line, "dedupe": dedupe}


def checked_dedupe_or_none(value: object) -> str | None:
    """The same, where a call need not have a key."""
    return None if value is None else checked_dedupe(value)

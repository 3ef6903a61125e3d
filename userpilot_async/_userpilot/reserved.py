"""Properties of users that Userpilot keeps itself: what a caller sets there is not what people will see.

Source: docs.userpilot.com, "Identify users", read 2026-10: it reserves them for users, and none for companies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# `created_at` is the caller's to set, and shows under `signed_up_at`, too.
KEPT = {
    "signed_up_at": "is filled from 'created_at': set that one instead",
    "first_seen_at": "is set by Userpilot itself when it first sees the user: leave it out",
    "last_seen_at": "is set by Userpilot itself when it sees the user: leave it out",
}


class ReservedProperties:
    """Warns once of each property that an identify sets and the server keeps itself. In any thread."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        self._warn = warn
        self._unwarned = dict(KEPT)

    def check(self, properties: Mapping[str, object]) -> None:
        """Look for such names among a user's ``properties``, and warn of those found; the values are not read."""
        # Each call pays for this: three look-ups take 55 ns, an intersection of sets 90 to 220 (Python 3.11, 2026-11).
        if "signed_up_at" in properties or "first_seen_at" in properties or "last_seen_at" in properties:
            self._found(properties)

    def _found(self, properties: Mapping[str, object]) -> None:
        for name in KEPT:
            # Of two threads that find the same name, one gets what is popped.
            if name in properties and (reason := self._unwarned.pop(name, None)) is not None:
                self._warn(f"identify sets the user property {name!r}, which {reason}")

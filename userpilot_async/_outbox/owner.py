"""The owner of an outbox's calls: one kind of server, and one account of it. Written and compared here only."""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs

from .._errors.tree import OutboxError

Fingerprint = Callable[[bytes], str]
"""The fingerprint of an account's key, for a salt."""


@attrs.frozen
class Owner:
    """The owner of a place's calls, as it is noted there."""

    destination: str
    """The kind of server, and where it is."""
    salt: bytes
    fingerprint: str
    """Of the account's key, for the salt."""


@attrs.frozen
class Claim:
    """A client that opens an outbox as its owner. Fingerprints are slow to make: none is made that is not needed."""

    destination: str
    fingerprint: Fingerprint
    old_fingerprint: Fingerprint = lambda salt: ""
    """As earlier versions made it: an outbox of theirs is opened, and gets the other one."""
    rebind: bool = False
    """The outbox becomes the claimant's, whatever its owner was."""

    def owner(self) -> Owner:
        """The claimant, under a new salt."""
        salt = os.urandom(16)
        return Owner(self.destination, salt, self.fingerprint(salt))

    def check(self, owner: Owner, place: str, remedy: str) -> bool:
        """Compare the owner noted at ``place`` with the claimant; true if an earlier version has noted it.

        Raises `OutboxError` if the calls there are another account's; ``remedy`` says how the outbox is rebound.
        """
        if owner.destination != self.destination:
            raise OutboxError(f"{place} has calls for {owner.destination}, not for {self.destination}")
        if owner.fingerprint == self.old_fingerprint(owner.salt):
            return True
        if owner.fingerprint != self.fingerprint(owner.salt):
            raise OutboxError(
                f"{place} has calls for the account of another API key. If it is the same one, with a new key, {remedy}"
            )
        return False


def owner_unknown(place: str) -> OutboxError:
    """The error where nothing says any more whose calls there are."""
    return OutboxError(f"{place} does not say any more whose calls it has: rebind it")


def rebinding(outbox: str) -> str:
    """How an outbox of the class of this name is given to its new owner, for a message."""
    return f"say so: `userpilot-async outbox rebind`, or {outbox}(..., rebind=True)"

"""The ``open`` script: which outbox is there, of which generation, and whose it is."""

from __future__ import annotations

from uuid import uuid4

from .._account.pages import PAGE
from .._errors.tree import OutboxError
from .._outbox.owner import Claim, Owner, owner_unknown, rebinding
from ._access import ClientState
from ._answers import Opened, opened_of
from ._failures import OddAnswer
from ._lease import RedisLease
from ._link import Step

VERSION = 2  # of keys, scripts, and the fingerprint
REBIND = rebinding("RedisOutbox")


class Opener:
    """Opens one outbox, at each connection anew. Fingerprints are slow to make: none is made without need."""

    def __init__(self, claim: Claim, place: str) -> None:
        self._claim = claim
        self._place = place
        self._rebind = claim.rebind
        self._known: Owner | None = None  # that has proved to be this client's account

    def open(self, access: ClientState, lease: RedisLease, run_id: str) -> Opened:
        """Open what is there, in this run of the server. Raises `OutboxError` if it is not the claimant's."""

        def ask(owner: Owner, instead: str) -> Opened | None:
            return self._ask(access, lease, run_id, owner, instead)

        rebinds = str(int(self._rebind))
        opened = ask(Owner(self._claim.destination, b"", ""), rebinds)
        if opened is None:  # it has no owner, or gets another one
            opened = ask(self._owner(), rebinds)
        while opened is not None and self._is_old(opened.owner):
            opened = ask(self._owner(), opened.owner.salt.hex() if opened.owner else "")
        if opened is None:
            raise OddAnswer("what is there was expected, and a salt was asked for again")
        self._rebind = False
        return opened

    def _owner(self) -> Owner:
        """The claimant's account, salted anew."""
        self._known = self._claim.owner()
        return self._known

    def _ask(self, access: ClientState, lease: RedisLease, run_id: str, owner: Owner, instead: str) -> Opened | None:
        """``instead``: as the script has it. ``None`` if the owner has to have a fingerprint."""
        step = Step(
            "open", access.generation, access.sure, lease.last_token, run_id, uuid4().hex, VERSION,
            owner.destination, owner.salt.hex(), owner.fingerprint, instead, PAGE, min(access.heard, access.sure),
            access.ambiguous, "" if lease.made.since is None else lease.made.since, access.made,
            *access.generations_before,
        )  # fmt: skip
        try:
            return opened_of(access.link.run(step))
        except OutboxError as error:
            words = str(error)
            if "SALT" in words:
                return None
            if "OWNER" in words:
                raise owner_unknown(self._place) from None
            if "VERSION" in words:
                raise OutboxError(f"{self._place} is of a newer version than this one, {VERSION}") from None
            raise

    def _is_old(self, owner: Owner | None) -> bool:
        """True if an earlier version has noted the owner. Raises `OutboxError` if these are another account's calls."""
        if owner is None:
            raise owner_unknown(self._place)
        if owner == self._known:
            return False
        if self._claim.check(owner, self._place, REBIND):
            return True
        self._known = owner
        return False

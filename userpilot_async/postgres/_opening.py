"""Opening an outbox in PostgreSQL: is it there, of which version, whose is it, and is it what it was?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

import attrs

from .._account.pages import PAGE
from .._calls.pairs import Pair
from .._outbox.owner import Claim, Owner, owner_unknown, rebinding
from .._outbox.store import Committed
from ._access import ClientState
from ._migrate import check_server, check_tables
from ._send_log import LOST_TOKEN
from ._state import Origin, State

REBIND = rebinding("PostgresOutbox")


@attrs.frozen
class Opened:
    """The outbox as it was found."""

    now: Committed
    before: str = ""
    """The generation that was known, if calls that were held in it are gone."""
    first: int | None = None
    """In another generation than the one that was known: the lowest id that is none there, to the end of its page."""


class Opener:
    """Opens one outbox, at each connection anew. Fingerprints are slow to make: none is made without need, or under
    a lock.
    """

    def __init__(self, claim: Claim, place: str) -> None:
        self._claim = claim
        self._place = place
        self._rebind = claim.rebind
        self._known: Owner | None = None  # that has proved to be this client's account
        self._checked = False
        self.may_lose_commits = False
        """The server says that a transaction is committed before that is on its disk."""

    def open(self, access: ClientState, learn: Callable[[Sequence[Pair]], object]) -> Opened:
        """Open what is there, by a new connection. Raises `OutboxError` if it is not the claimant's, or no outbox."""
        if not self._checked:
            check_server(access.connection, self._place)
            self.may_lose_commits = access.connection.run(b"SHOW synchronous_commit")[0][0] == "off"
            self._checked = True
        check_tables(access.connection, access.names, self._place)
        self._bind(access)
        state, before, first = self._found(access)
        with access.connection.transaction(frozen=True):
            state = access.row.read()
            heard = access.news(state)
            access.hear_pairs(state, learn)
        return Opened(access.learned(state, heard=heard), before, first)

    # ── whose it is ──

    def _bind(self, access: ClientState) -> None:
        """See that the outbox is the claimant's; one without an owner becomes it."""
        while True:
            with access.connection.transaction(frozen=True):
                state = access.row.read()
            if state.owner is not None and state.owner == self._known and not self._rebind:
                return
            if state.owner is None and state.account.waiting and not self._rebind:
                raise owner_unknown(self._place)
            if state.owner is None or self._rebind or self._claim.check(state.owner, self._place, REBIND):
                if write_owner(access, state.owner, self._claim.owner()):
                    self._rebind = False
            else:
                self._known = state.owner

    # ── is it what it was ──

    def _found(self, access: ClientState) -> tuple[State, str, int | None]:
        """The state; the generation in which calls were held that are gone; and the lowest id that is left out."""
        with access.row.locked() as state:
            before, lost_from = access.generation, access.lost_from(state)
            if not before or (state.generation == before and not access.is_older(state)):
                access.generation = state.generation
                return state, "", None
            if state.generation == before or before not in state.origins:
                self._begin_generation(access, state)
            if state.account.ambiguous < access.ambiguous:  # what was counted since is true all the same
                state.account.ambiguous = access.ambiguous
                access.row.write(state)
            origin = state.origins[before]
            is_whole = access.revision <= origin.revision and lost_from is None
        access.begins(state.generation)
        # Where others had written past what is known before anybody noticed, ids from an earlier one on are theirs.
        first = origin.next_id if lost_from is None else min(origin.next_id, lost_from)
        return state, "" if is_whole else before, first

    def _begin_generation(self, access: ClientState, state: State) -> None:
        """Calls are gone, and this process is the first to notice. Ids go on where none was given before."""
        is_older = state.generation == access.generation
        before = Origin(state.revision, state.account.next_id) if is_older else Origin(-1, 0)
        state.origins = {**state.origins, access.generation: before}
        if not is_older:  # another line: those who know it go on in the new one
            state.origins[state.generation] = Origin(state.revision, state.account.next_id)
        was_empty = state.oldest_held is None
        state.sent_below = state.account.next_id
        state.account.next_id = (max(state.account.next_id, access.next_id) // PAGE + 1) * PAGE
        if was_empty:
            state.oldest = state.account.next_id
        state.generation = str(uuid4())
        state.unknown_until = state.now + LOST_TOKEN
        access.row.write(state)
        access.row.end_lease()


def write_owner(access: ClientState, before: Owner | None, owner: Owner) -> bool:
    """Give the outbox its owner, if it is still as it was ``before``; false if it is not."""
    with access.row.locked() as state:
        if state.owner != before:
            return False
        access.give_to(state, owner)
    return True

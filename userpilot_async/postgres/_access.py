"""A process's knowledge of the outbox in PostgreSQL, and its ways to the tables there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from psycopg import sql

from .._calls.pairs import Pair
from .._calls.stored import Concluded
from .._outbox.away import OtherGeneration
from .._outbox.owner import Owner
from .._outbox.store import Admitted, Committed
from .._runtime.clocks import steady
from ._connection import Connection
from ._inbox import Inbox
from ._reading import Reader
from ._schema import Names
from ._send_log import SendLog
from ._state import LastStep, State, StateRow
from ._tables import AT_ONCE, Tables
from ._unseen import Unseen

ADMISSIONS = 4  # in one transaction, for which all others wait: some tenths of a second
REMEMBERED = 7 * 86_400.0  # seconds in which a client's last step is kept; it asks after it within its next ones

_GLANCE = """
SELECT generation::text, revision, lease, extract(epoch FROM lease_until)::float8,
       extract(epoch FROM clock_timestamp())::float8, (SELECT step FROM {clients} WHERE client = {client}), {look}
FROM {state}"""


class ClientState:
    """``client`` is the name of who uses the outbox, ``place`` the outbox's in messages."""

    def __init__(self, connection: Connection, names: Names, client: str, place: str) -> None:
        self.connection = connection
        self.names = names
        self.client = client
        self.unseen = Unseen(names)
        self.row = StateRow(connection, names, client, place, self.unseen)
        self.tables = Tables(connection, names)
        self.reader = Reader(connection, names)
        self.send_log = SendLog(connection, names)
        self.inbox = Inbox(connection, names, self.row, self.tables, self.unseen)
        self.generation = ""
        """The one that is known; "" before the first contact."""
        self.revision = 0
        """The last revision that is known."""
        self.oldest = 0
        """No call has a lower id, as far as is known."""
        self.sent_below = 0
        """Calls below this id may have been sent before, as what was noted of that is gone."""
        self.ambiguous = 0
        """How many calls were counted as perhaps sent twice, as far as is known."""
        self.next_id = 0
        """The next id, as far as is known."""
        self.offset = 0.0
        """From the steady clock to the server's."""
        self.lease_free_at = -math.inf
        """When the lease ends that somebody has, by the steady clock, as far as is known."""
        self._heard = 0
        self._knows = False
        self._admitted: list[Admitted] = []  # the loop has not heard of these calls
        self._pairs = self._pairs_heard = 0
        self._steps = 0
        self._last_step: LastStep | None = None  # that is known to be there, in this generation
        self._first_id = 0  # of the calls that this client has put in this generation
        self._stepped_at = -math.inf  # by the server's clock

    def next_step(self) -> int:
        """The number of the next step of this client."""
        self._steps += 1
        return self._steps

    def made(self, number: int, first_put: int, next_id: int, now: float) -> None:
        """Note that a step of this client is there, and the ids of what it has put."""
        if self._last_step is None:
            self._first_id = min(first_put, self.next_id)  # it may have accepted others before its own
        self._last_step, self._stepped_at = LastStep(number, next_id), now

    def misses_step(self, there: int | None, now: float) -> bool:
        """Whether this client's last step should be there, and is not: the last one there has this number.

        So it is where older data was restored, however much others have written since. Notes are forgotten in time.
        """
        if self._last_step is None or (there is None and now - self._stepped_at > REMEMBERED / 2):
            return False
        return (there or 0) < self._last_step.number

    def look(self) -> tuple[int, bool]:
        """The revision that is there, and whether the inbox has calls, in one short statement. Raises as `check`."""
        look = self.unseen.look(may_take_long=True)
        rows = self.connection.run_alone(self.names.sql(_GLANCE, client=sql.Literal(self.client), look=look))
        if not rows:
            raise OtherGeneration
        generation, revision, lease, until, now, step, found, not_seen = rows[0]
        has_inbox = self.unseen.looked(found, not_seen)
        if generation != self.generation or revision < self.revision or self.misses_step(step, now):
            raise OtherGeneration
        self.saw(now, until if lease else None)
        return revision, has_inbox

    def check(self, state: State) -> None:
        """See that this is what is known, or newer. Raises `OtherGeneration` if it is not: calls may be gone."""
        if self.generation and (state.generation != self.generation or self.is_older(state)):
            raise OtherGeneration

    def is_older(self, state: State) -> bool:
        """Whether this is not all that is known of this generation."""
        return state.revision < self.revision or self.lost_from(state) is not None

    def lost_from(self, state: State) -> int | None:
        """The id from which on no call is there that this client has put; ``None`` if all of its steps are."""
        there = state.last_step
        if not self.misses_step(None if there is None else there.number, state.now):
            return None
        return self._first_id if there is None else there.next_id

    def learned(self, state: State, settled: Sequence[Concluded] = (), *, heard: Sequence[Concluded] = ()) -> Committed:
        """Learn what there is, and what became of calls since the last time; what the loop hears of it."""
        self.revision, self.oldest, self.next_id = state.revision, state.oldest, state.account.next_id
        self.sent_below, self.ambiguous = state.sent_below, max(self.ambiguous, state.account.ambiguous)
        self.saw(state.now, state.lease_until if state.lease else None)
        self._heard, self._knows, self._pairs = state.news, True, state.pairs
        admitted, self._admitted = self._admitted, []
        return Committed(state.account, state.oldest_held, heard, settled, complete=True, admitted=admitted)

    def saw(self, now: float, lease_until: float | None) -> None:
        """Note the server's clock, and until when somebody has the lease; ``None`` if nobody has."""
        here = steady()
        self.offset = now - here
        self.lease_free_at = -math.inf if lease_until is None else here + (lease_until - now)

    def news(self, state: State) -> list[Concluded]:
        """News that others have written since the last time, within a transaction; none, before anything is known."""
        self._admitted = []  # a transaction before this one may have been undone
        if not self._knows or state.news == self._heard:
            return []
        heard, self._admitted = self.tables.news_since(self._heard)
        return heard

    def admit(self, state: State) -> bool:
        """Accept what transactions of the application's have put, `ADMISSIONS` times as many as at once at most.

        True if there may be more of it. Within a transaction that has the row locked, and in which others' news were
        heard before.
        """
        for _ in range(ADMISSIONS):
            more, admitted = self.inbox.admit(state)
            self._admitted += admitted
            if not more:
                return False
        return True

    def hear_pairs(self, state: State, learn: Callable[[Sequence[Pair]], object]) -> None:
        """Have it learnt which keys calls have named together since the last time, within a transaction."""
        if self._pairs_heard < state.pairs:
            learn(self.tables.pairs_since(self._pairs_heard))
            self._pairs_heard = state.pairs

    @property
    def has_unheard_pairs(self) -> bool:
        """Keys were named together since the last time, perhaps by this process."""
        return self._pairs_heard < self._pairs

    def give_to(self, state: State, owner: Owner) -> None:
        """Give the outbox its owner, within a transaction that has the row locked; pairs are of one server's people."""
        self.row.write_owner(owner)
        if state.owner is not None and state.owner.destination != owner.destination:
            self.tables.forget_pairs()
        self.row.write(state)

    def forget(self, keep_lost: float) -> bool:
        """Forget lost calls for their age, in seconds, or their number; true if there were any. And old clients."""
        with self.row.locked() as state:
            self.check(state)
            query = "DELETE FROM {clients} WHERE seen < clock_timestamp() - %s * interval '1 second'"
            self.connection.run(self.names.sql(query), (REMEMBERED,))
            forgotten = self.tables.forget_lost(state, state.now - keep_lost)
            if self.tables.keys.forget(state, AT_ONCE) or forgotten:
                self.row.write(state)
        return bool(forgotten)

    def set_aside(self, token: str, damaged: Sequence[int]) -> int:
        """Keep calls that cannot be read as lost ones, for the holder of the lease of this token; how many."""
        with self.row.locked() as state:
            self.check(state)
            if state.lease != token:
                return 0
            self.tables.write_news(state, self.tables.set_aside(state, damaged))
            self.row.write(state)
        return len(damaged)

    def begins(self, generation: str) -> None:
        """Go on in this generation from now on, of which nothing is known yet."""
        self.generation, self.revision, self.oldest = generation, 0, 0
        self._last_step = None
        self._pairs = self._pairs_heard = 0
        self._knows = False

"""An outbox across a network during one opening: it may be away, come back with older data, or have another sender."""

from __future__ import annotations

from .._calls.outcome import Outcome
from .._calls.payload import Key, Kind, Payload
from .._errors.tree import OutboxError
from .._runtime.clocks import steady
from .batch import Batch
from .remote_send_log import RemoteSendLog
from .remote_store import RemoteStore
from .session import Session
from .store import Committed, Lead
from .window import Window


class RemoteSession(Session):
    """As any other; with a ``fallback`` callers need not wait while the place is away."""

    send_log: RemoteSendLog
    store: RemoteStore | None = None

    def __init__(self, place: str, most_at_once: float, *, fallback: bool) -> None:
        super().__init__(place, most_at_once)
        self.away = False
        """The place does not answer at present."""
        self.steady = steady  # the server's clock is not known before it has answered: how long ago that was, is
        self.send_log = RemoteSendLog(self.queue, self.wake, lambda: self.sends, self._lease_is_valid)
        self._fallback = fallback

    def use(self, store: RemoteStore) -> None:
        """Use this store, with its lease and its clock."""
        self.store = store
        self.wall = lambda: steady() + store.offset

    def _lease_is_valid(self) -> bool:
        """True if no other process has the lease at this moment, for certain."""
        return self.store is not None and steady() < self.store.lease.valid_until

    # ── for the thread ──

    def takes_refusal(self, error: OutboxError) -> bool:
        """Note why the outbox cannot be opened; false if it took so long that it is open already."""
        with self.queue.lock:
            if self.is_open.past:
                return False
            self.refusal = error
            return True

    def check_call(self, kind: Kind, key: Key, payload: Payload) -> None:
        """See that a call is one that this client could have put; raises whatever making it raises, if it is not."""
        self.opening.call_of(kind, key, payload)

    # ── what the thread reports ──

    def began(self, now: Committed) -> None:
        """The outbox is there, and holds this."""
        self.away = False
        super().began(now)

    def began_away(self) -> None:
        """The place does not answer yet: the client is open all the same."""
        with self.queue.lock:
            if self.refusal is None:
                self.away = True
                self.is_open.come()

    def is_away(self) -> None:
        """The place does not answer any more."""
        self.away = True
        if self._fallback:
            for batch in self.queue.batches():
                batch.stirs.come()
        self.opening.changed()

    def is_back(self, now: Committed) -> None:
        """The place answers again, and holds this."""
        self.away = False
        self._hear(now)

    def polled(self, now: Committed | None) -> None:
        """Hear what others have done, or nothing; and the loop goes round."""
        self._goes_round()
        super().polled(now)

    def written(self, batch: Batch, now: Committed) -> None:
        """A batch is recorded, or a part of it; and the loop goes round."""
        self._goes_round()
        super().written(batch, now)

    def _goes_round(self) -> None:
        """Note that the loop does what it is asked: one that stands still must not keep the lease."""
        if self.store is not None:
            self.store.lease.heard_from_loop = steady()

    def leads(self, lead: Lead) -> None:
        """The lease is ours: send, from the oldest call on."""
        self.send_log.under_way.clear()  # of an earlier lease
        super().leads(lead)

    def started_again(self, first: int) -> None:
        """The place was restarted with all it had: ids go on further up."""
        self.ledger.skip(first)

    def set_back(self, now: Committed, first: int, generation: str) -> None:
        """The place has older data, or none: calls from this one on are not there any more, which it had until then."""
        for settled in (one for batch in self.queue.batches() for one in (*batch.delivered.values(), *batch.lost)):
            # It is not recorded, and will not be; yet it is so.
            merged = Outcome("merged", settled.outcome.reason, settled.outcome)
            self.ledger.conclude_from(first, settled.carriers, settled.outcome)
            self.ledger.conclude_from(first, settled.merged, merged)
        under_way = self.send_log.end_under_way()
        knows = self.sends or bool(under_way)  # which calls were under way, only their sender does
        lost, perhaps = self.ledger.lose(first, now.account.next_id, under_way)
        if self.store is not None:
            self.store.report_set_back(generation, lost, perhaps if knows else None)
        self.wake()

    def deposed(self, term: int) -> None:
        """Stop sending: another one may have the lease, and takes what was taken here."""
        self.sends = False
        self.window = Window()
        self.send_log.end()
        self.outgoing.clear()
        self.ledger.undecide()
        self.queue.begin_term(term)
        self.opening.changed()

"""A call that `on_dead` makes is known for one wherever it is lost."""

from __future__ import annotations

import anyio

from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._errors.tree import OutboxError
from userpilot_async._outbox.batch import Put
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._runtime.reentry import in_on_dead, marked
from userpilot_async.sqlite import SQLiteOutbox


def test_a_call_of_on_dead_that_an_outbox_could_not_hold_is_told_of_as_one(tmp_path):
    """The thread that could not hold it knows nothing of who has made it."""
    incoming, told = SQLiteOutbox(tmp_path / "events.db")._session.incoming, []
    incoming.begin(lambda *call: told.append(in_on_dead.get()), anyio.Event)
    puts = []
    for inside in (True, False):
        with marked(inside):
            puts.append(Put("track", "u", b"{}", 2, 0.0, 0.0, Receipt(SharedLedger().pages), awaited=False))
    for put in puts:
        incoming.refuse(put, OutboxError("the disk is full"))

    assert [True, False] == told
    assert not in_on_dead.get()

"""The account: what became of every accepted call.

The law, at every moment: accepted = delivered + dead + dropped + merged + pending. Each call leaves `pending` exactly
once; a second time is a bug, and raises.

    pages ◀── ledger ◀── memory_ledger   of one process: ids are handed out and settled here
                     ◀── shared_ledger   of an outbox with several processes: the counts (`account`) are kept with
                                         the calls, and what others have settled is heard as stretches of ids

`pages` keep one byte a call, 65,536 a page; receipts hold on to their page, so that they can answer for ever. `ledger`
has the counts that both have. `statistics` are frozen snapshots of them for users, `losses` the lines in which the log
tells of lost calls.

Called by outboxes, which settle, and by clients, which show. Nothing here waits, and nothing knows a clock.
"""

"""The account: what became of every accepted call.

The law, at every moment: accepted = delivered + dead + dropped + merged + pending. Each call leaves `pending` exactly
once; a second time is a bug, and raises.

`ledger` keeps one byte a call, in pages of 65,536, and the counts; receipts hold on to their page, so that they can
answer for ever. `shared_ledger` is the same for an outbox that several processes use: the counts (`Account`) are kept
with the calls, and what others have settled is heard as stretches of ids. `statistics` are frozen snapshots of both for
users, `losses` the log lines about lost calls.

Called by outboxes, which settle, and by clients, which show. Nothing here waits, and nothing knows a clock.
"""

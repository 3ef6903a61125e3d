"""Calls: what a call is, from the check of its values to the line that holds it.

A call is a tuple until it is sent. A client checks its arguments (`values`, `times`) and makes a payload; an outbox
gives it an id, and the two are a ticket. `payload` alone knows how these tuples are made: 100,000 of them wait at once,
and exact tuples of plain items are what the garbage collector need not walk.

Identifies of one user that wait are 3,000 updates of one fact, so they merge: a `Row` is a person or company with
everything that waiting identifies say of it, and the later value wins. What comes with a call for another (a user's for
the company) is a row of its own; the call is delivered when both are. A row's states are in `RowState`:

    WAITING ──▶ SENDING ──▶ ANSWERED         others may merge into it only while it waits
       └──────▶ BATCHED ──────▲              a file carries it

Every accepted call ends in exactly one `Outcome`: delivered, dead, dropped, or merged into one that ends so.

`stored` and `ndjson` are the two ways out of the process: JSON throughout, with a checksum, for outboxes on disk or on
another machine; and one line for people, files and dead letters. Both come back as exactly what went in.

Everything here is handed what it needs: no clock, no IO. All other folders but the errors and the settings import it.
"""

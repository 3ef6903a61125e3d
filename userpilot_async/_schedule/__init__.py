"""The brain: which request is made next, and what its answer means for the calls in it.

Sans-IO: `Schedule.add` takes a call in, `Schedule.next` gives out one request or the time to wait for, `Schedule.done`
takes its answer in. The sender performs requests and carries out what `Settlements` says; it decides nothing.

What is decided here:

- *Order.* Calls of one key wait in a `KeyQueue` and leave it in order. Its docstring draws the states; `Queues` has a
  line for each, so that no key starves another. Keys that turn out to be one person's (`identities`) join. Where a key
  is one person's for good (`Destination.pairs`), a call that says otherwise is refused here at the latest. Where a
  server answers before it has done what was asked, posts may have a pause on either side (`settling`). A key with one
  identify alone has no queue before it needs one: its row waits packed, in `packed_rows`, and goes so in a file. So
  does an event alone, in the `event_line`.
- *The way.* A route is one way to the server (`routes`): events, identifies and posts, rows in bulk, late events as
  imports. They take turns; each owns its gate, all share budgets. Routes that a `Destination` lacks do not exist.
- *Whether at all.* `ServerHealth` hears every answer first: a refused key pauses everything, failures shut a gate.
- *The end.* `Completion` is the only one that takes calls out: answered, by a job's end, of age, for want of room, or
  because the client closes; `FileEndings` has it do so for the rows of a file, a little at a time. Every accepted call
  ends in exactly one of delivered, dead, dropped, merged.

    ticket ─▶ Intake ─▶ KeyQueue in Queues ─▶ Route.next ─▶ Request ─▶ sender ─▶ Route.done ─▶ Completion ─▶ Settlements
                  └───▶ PackedRows ───┘

A sender may die at any moment. What the next one has to know (spent tokens, files under way) is a `Takeover`; routes
adopt its files, and calls rejoin them as they come in again.

`destination` holds all that differs between servers, as data. `calendar` turns the schedule's clock into dates.
`_delivery` calls this folder; it imports nothing that waits. Models of it are in the tests: a day takes a second.
"""

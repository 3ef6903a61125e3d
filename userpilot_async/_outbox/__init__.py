"""Outboxes: where accepted calls wait for the sender.

`protocol` is what a client and its sender ask: `Outbox` is the queue, `SendLog` the sender's notes for the sender after
it. In `memory` calls wait in this process, and end with it. A durable outbox keeps them in a place that outlives its
clients, and that several processes share: all may put, and the holder of the lease sends.

Who does what in a durable one, from the client down:

    durable      what the client asks, in the event loop; a kind of outbox adds its name, its options and its store
    session      one opening: the account, the `window` of calls in hand, and what the thread reports
    incoming     calls on their way in: put or awaited, then held, failed or withdrawn
    outgoing     calls on their way out: settled, then recorded
    send_log     the sender's notes
    write_queue  batches (`batch`), and the only lock: all that the loop and the thread both touch
    bug          a bug of this library, which ends the sending
    writer       the thread, and its work for any store: write, read, poll, lead
    store        `Store`, which a kind of outbox implements, and `Listener`, to which it reports

One across a network adds, in the same order, `remote`, `remote_session`, `remote_send_log`; and in the thread
`remote_store`, with `away`, which says whether it is there, the sender's `lease`, and `remote_steps`, which writes one
batch after the other. What the place reports besides is in `remote_listener`.

Nothing here blocks the event loop, and no cancellation breaks off a write. A batch is written whole, or step by
step where the place wants small steps; a place that is away raises `NotNow`, and is asked again.

`owner` says whose calls an outbox has, `admin` is an outbox from outside, for people, who see its calls in `pages`.
`receipt` says what became of a call, `url` makes an outbox of a URL. `transactions` is what a client asks of an outbox
that takes calls on connections of the application's. A new kind of outbox is a `Store`, an
`OutboxAdmin` and a subclass of `DurableOutbox`; across a network, subclasses of `RemoteStore`, `Lease` and
`RemoteOutbox`. `sqlite`, `redis` and `postgres` are three.
"""

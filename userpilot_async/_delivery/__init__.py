"""Sending: from a checked call to its outcome. Every accepted call ends delivered, dead, dropped or merged, once.

A client of a destination (`UserpilotClient`, `ParcelvoyClient`) is a `client.DeliveryClient`, which accepts calls and
is made of parts, none of which knows the client:

    arguments, credentials   what clients take: settings, outboxes, keys, URLs
    admission     the client's state (NEW, OPEN, then CLOSED, LOST or FORKED), and the errors for a call at a wrong time
    backpressure  a call that meets a full outbox waits its turn, or the oldest make room for it
    refusals      a call that is not held gets its outcome, its dead letter and its line in the log all the same
    inbox         calls of other threads, until the loop takes them;  threads  hands them in, and takes them out
    sender        the task: outbox → schedule → server → account;  handover  outbox ↔ schedule;  exchange  one request
    connection    to one server;  pool  of connections, a request at a time on each;  stream  the bytes of one
    outgoing      a request, as a transport takes it
    attempt       how far one request got;  failures  exceptions out of it, named without their texts
    dead_letters  `on_dead`, whatever it does
    health, reporting   how the server is, and losses, in words; when they are logged is `_runtime.log`'s to say
    shutdown      drain, land, stop, end: a close returns in time, whatever a server does
    snapshots     statistics and reports;  processes  forks, and the interpreter's end
    blocking      the same client for code without an event loop
    together      many calls that are handed in at once
    within        the calls that commit with a transaction of the application's
    watched       an open client as a test sees it, which has put something in the server's place: `_runtime.stand_in`

The path of a call: ``track`` checks it and asks `DeliveryClient._accept`, which puts it into the outbox and wakes the
sender if that sleeps. The sender moves it into the schedule, makes the requests that the schedule gives out, and writes
down what became of them. The schedule decides; here is only waiting. Callers are the two clients and the command line.
"""

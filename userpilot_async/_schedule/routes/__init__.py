"""Routes: the ways to the server, each deciding what it would send next and what an answer means for it.

A `Route` (`route`) is asked for a request in its turn, and gets the answer back to the request it gave out. What all of
them share (queues, budgets, completion, urgency) is one `RouteContext`.

- `events`: events, alone or in arrays; an array that is refused goes in halves, until the event at fault is alone.
- `identifies`: rows and posts, one a request. Leaves rows to `bulk` where that takes them.
- `bulk`: rows that nothing waits behind, as files that become jobs of the server.
- `late_events`: events that the realtime endpoint would date wrongly by now, as files of the Import API.

The two routes of files are one `FileRoute`: a job slot that knows a file from its submission to its end, its steps as
requests, and a file that was taken over from a sender that died. `import_file` gathers a file of events a little at a
time, since a backlog may be 100,000 events of one person, or of 100,000. `import_breaker` says whether files may be
waited for at all: not every plan has imports.

Three rules keep these files apart. The schedule asks whether a turn comes too late before it asks `events` or
`identifies`, which know nothing of lateness. How many events wait is a count of `Queues`. And `identifies` asks `bulk`
whether it takes a kind of rows, instead of knowing of slots and thresholds.
"""

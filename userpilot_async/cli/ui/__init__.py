"""`userpilot-async ui`: a console for one outbox, as a web page on this machine.

    _ui         the command: its options, all that may be wrong before it starts, and how it ends; `emulator/_serve` has
                uvicorn on a loopback address, until a signal
    _app        the routes, and what a failure looks like
    _guard      the requests that are answered: by host, origin and token; and the headers of every answer
    _visits     the outbox, asked in a thread, one question at a time
    _views      what is found there as JSON; without ``--show-data``, no id and no value is in it
    _aliases    short names instead of ids
    _traffic    what came in and went out, by samples of the account
    console.html   the page: all of it, with its script and its style

The page has no data in it, and may be read by any program on this machine. All else needs the token: it stands in the
printed URL behind ``#``, which no browser sends to a server, and goes with each request in a header. A cookie would go
to every port of this machine.

Everything works on `OutboxAdmin` alone, a page at a time: nothing here knows a kind of outbox.
"""

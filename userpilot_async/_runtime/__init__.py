"""The machine under the library: loops, tasks, clocks, files, the environment and the log. Knows nothing of calls.

    event_loop      the loop one is in, on asyncio and trio, and how other threads reach it
    lifetime        a task group between opening and leaving, also where two tasks do that
    reentry         whether `on_dead` is what makes a call, so that it cannot go round in circles
    log             at most one line in 30 seconds for each reason, with numbers that add up
    outage          whether an outage, or its end, is worth a line yet: well, doubted, kept back, logged
    clocks          the wall clock, and clocks that go on, or stand still, while the machine sleeps
    environment     variables;  disabled  whether a client is switched off;  version  of this library
    http            httpx2 or httpx, whichever is installed
    stand_in        what tests have put in the servers' place, if they have
    private_files   files for their owner alone, opened by no link of another's;  database_files  those of SQLite

Whatever decides imports none of this: `_calls`, `_protocol`, `_account` and `_schedule` are handed ``now``. The folders
that act (`_outbox`, `_delivery`, the stores, the importer) call it.
"""

"""`userpilot-async demo`: the claims of the README, shown on this machine without an account.

Four demonstrations, each with an emulator in a process of its own. Three send the calls of `sample.ndjson.gz`, and
compare what the emulator received with what `_oracle` expects from a plain reading of the file. `_oracle` shares no
code with the client, so that it can be right when the client is wrong. The fourth compares with a table of orders.

    _demo    20,550 calls through one client
    _crash   1,200 lines through an outbox on disk, whose application (`_app`) is killed four times: `CrashReport`
    _pods    the same lines through Redis, put by pods and sent by one of two senders (`_pod`): `FailoverReport`
    _transactions    events in the transactions of a shop (`_shop`) in PostgreSQL: `ShopReport`

`_processes` starts a child, reads the states that it prints, and kills it. `_redis_server` starts a private Redis,
`_postgres_server` a private PostgreSQL. Each
report has its own verdict: its exit code is 0 only if the kill happened in mid-flight and every call arrived all the
same, no more often than `possible_duplicates` allows.
"""

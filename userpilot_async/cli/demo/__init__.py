"""`userpilot-async demo`: the claims of the README, shown on this machine without an account.

Three demonstrations; each starts an emulator in a process of its own, sends the calls of `sample.ndjson.gz`, and
compares what the emulator received with what `_oracle` expects from a plain reading of the file. `_oracle` shares no
code with the client, so that it can be right when the client is wrong.

    _demo    20,550 calls through one client
    _crash   1,200 lines through an outbox on disk, whose application (`_app`) is killed four times: `CrashReport`
    _pods    the same lines through Redis, put by pods and sent by one of two senders (`_pod`): `FailoverReport`

`_processes` starts a child, reads the states that it prints, and kills it. `_redis_server` starts a private Redis. Each
report has its own verdict: its exit code is 0 only if the kill happened in mid-flight and every call arrived all the
same, no more often than `possible_duplicates` allows.
"""

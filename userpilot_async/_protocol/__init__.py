"""Answers of a server, and how they are treated: pure rules, handed ``now`` and chance, that know no call and no queue.

`verdict` reads an answer, or the lack of one, for its meaning, and `headers` its headers; `as_promised` holds a 2xx to
what its endpoint gives. Everything else here is handed verdicts, and decides how long to wait:

    rate_limit    a bucket of tokens that come back a minute after their answer: 600 requests in any 60 seconds
    backoff       full jitter, and the gate before a route: open, shut for a while, open for one request at a time
    hold          a refused key or a wrong URL: nothing is sent, and one request a minute probes

A background job is read in `jobs`, a list of them page by page in `job_list`. `file_job` is the life of one uploaded
file, and the only place that knows how often to poll its job, how long to search for a file whose answer got lost, and
when to submit it again:

    SUBMITTING ──taken──▶ RUNNING ──▶ OVER          an answer lost ──▶ SEARCHING ──found──▶ RUNNING
                                                                           └──not there──▶ SUBMITTING

`job_effects` has the effects that it answers with; what they mean for rows, a journal or a caller who waits is decided
by its three owners: `_schedule.job_slot`, `imports._uploading` and `UserpilotAPI.wait_for_job`. `learned_limit` is a
size that no document gives, learned from refusals.
"""

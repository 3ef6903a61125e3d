"""Userpilot as a destination: its calls, its wire, and its HTTP API; nothing here is shared with other destinations.

`calls` has the three calls as values, checked on birth, and the body of an event, which is the hot path. `destination`
gives the schedule, as data, the endpoints, what they take, and how rows look on their wire; `event_names`
counts the bytes of event names against the vendor's limit, and `reserved` knows which properties the server keeps.

`api` is the plain API, one awaitable method an endpoint, and the only place that knows tenacity: a request is made
again where that is safe; `answers` makes a job, or an error, of what came back. Each request runs in a task of its own
(`request_tasks`), so that a native cancellation of the caller cannot break the pool of connections. `blocking_api` has
the same endpoints without ``await``. `file_rows` makes the lines of files from what callers give.

`within` has the calls that commit with a transaction of the application's.

`_client` puts the queue before it; the importer and the command line use the API as it is.
"""

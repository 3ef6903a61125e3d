"""Calls wait in Redis: any number of machines put, and share one sender, one budget, one job at a time.

    UserpilotClient("API_KEY", outbox="redis://host:6379/0")

`_outbox` has the options, `_store` is the `RemoteStore`: opening, polling, and the pieces of work. Every change is one
script (`scripts/`), whole or not at all; `_link` runs them, and `_topology` finds the server, with `_sentinels` and
`_cluster`. `_answers`, `_codec` and `_shapes` take nothing on trust that comes back; `_failures` says what a failure
means, and shows no password.

A network can lose an answer, so each step has a number, and one in doubt is asked after before it is made again
(`_steps`). The sender's lease (`_lease`) ends by the server's clock; a process that loses it begins another *term*, and
what was noted in an old one is worth nothing. A server that starts again, or comes back with older data, begins another
*generation* (`_opening`): what is missing then is counted, and what may be sent twice is reported (`_made`).

`_admin` is the outbox from outside, for people; `_pages` shows its calls, and `_purge` erases a person from it.
"""

try:
    import redis  # noqa: F401  # of redis-py, to say what is missing before anything else fails for want of it
except ImportError:
    raise ImportError('an outbox in Redis needs redis-py: pip install "userpilot-async[redis]"') from None

from ._outbox import RedisOutbox

__all__ = ["RedisOutbox"]

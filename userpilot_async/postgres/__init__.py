"""Calls wait in PostgreSQL: beside an application's own data, and put in its own transactions if it likes.

    UserpilotClient("API_KEY", outbox="postgresql://host/database?name=shop")

`_outbox` has the options, `_address` is where the server is, `_schema` the tables, which `_migrate` makes: a command
does, no client. `_connection` runs statements, and `_failures` says what a failure means, and shows no password.

`_store` is the `RemoteStore`: opening, polling, and every transaction. One row (`_state`) is locked by whoever changes
anything, so that one does after the other. `_steps` writes a batch in one transaction, which notes itself: it is made
once, whatever becomes of the answer. `_tables` are the calls, `_keys` those of ``dedupe=``, `_send_log` the sender's
notes, `_reading` what is sent, and `_inbox` what an application's own transactions have put. `_lease` says who sends;
`_access` is what a process knows, and `_opening` sees whether that is still there.

`_admin` is the outbox from outside, for people; `_pages` shows its calls, and `_purge` erases a person from it.

Within transactions of the application's, calls are put into the inbox by one statement (`_insert`) on the
application's own connections (`_connections` knows their kinds): by a client's `within`, or without a client by `put`
and `aput` (`_within`). Who has the outbox open admits them (`_inbox`); by `_tickets` their receipts are found then.
"""

try:
    import psycopg  # noqa: F401  # to say what is missing before anything else fails for want of it
except ImportError:
    raise ImportError(
        'an outbox in PostgreSQL needs psycopg 3 and libpq: pip install "userpilot-async[postgres]"'
    ) from None

from ._outbox import PostgresOutbox
from ._within import aput, put

__all__ = ["PostgresOutbox", "aput", "put"]

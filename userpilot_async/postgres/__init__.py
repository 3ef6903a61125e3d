"""Calls wait in PostgreSQL: beside an application's own data, and put in its own transactions if it likes.

    UserpilotClient("API_KEY", outbox="postgresql://host/database?name=shop")

`_address` is where the server is, `_schema` the tables, which `_migrate` makes: a command does, no client.
`_connection` runs statements, and `_failures` says what a failure means, and shows no password.
"""

try:
    import psycopg  # noqa: F401  # to say what is missing before anything else fails for want of it
except ImportError:
    raise ImportError(
        'an outbox in PostgreSQL needs psycopg 3 and libpq: pip install "userpilot-async[postgres]"'
    ) from None

from ._outbox import PostgresOutbox

__all__ = ["PostgresOutbox"]

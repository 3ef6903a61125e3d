"""Calls that are put within the application's own transactions: by a client, or without one."""

from __future__ import annotations

from functools import cache
from typing import Any

from .._calls.dedupe import DedupeKey
from .._calls.payload import Key, Kind, Payload
from .._errors.foreign import is_a, must_be
from .._errors.tree import ConfigurationError, InvalidCall
from .._outbox.receipt import Receipt
from .._userpilot.calls import Identify, IdentifyCompany, Track
from .._userpilot.destination import as_put
from ._connections import Way, way_of
from ._insert import Insert, Row, row_of
from ._keys import WEEK
from ._schema import DEFAULT_NAME, Names, checked_name, checked_schema
from ._tickets import Tickets

# SQLSTATEs. Source: postgresql.org, "Appendix A. PostgreSQL Error Codes", read 2026-11.
NO_TABLE = ("42P01", "3F000", "42703")  # there is no such table, schema, or column
DENIED = "42501"


class ConnectionPuts:
    """Puts a client's calls on one ``connection``: rows by ``insert``, and receipts by ``tickets``."""

    def __init__(self, connection: object, insert: Insert, tickets: Tickets) -> None:
        self._connection = connection
        self._way = way_of(connection)
        self._insert = insert
        self._tickets = tickets

    def put(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Put a call right now, in this thread. Raises `ConfigurationError`, and what the driver raises."""
        _check_form(self._way, awaits=False, here="track_nowait()", there="await track()")
        ticket, receipt = self._tickets.issue()
        _put(self._way, self._connection, self._insert, row_of(kind, key, payload, size, dedupe, ticket))
        return receipt

    async def hold(self, kind: Kind, key: Key, payload: Payload, size: int, dedupe: DedupeKey | None) -> Receipt:
        """Put a call. Raises `ConfigurationError`, and what the driver raises."""
        _check_form(self._way, awaits=True, here="await track()", there="track_nowait()")
        ticket, receipt = self._tickets.issue()
        await _aput(self._way, self._connection, self._insert, row_of(kind, key, payload, size, dedupe, ticket))
        return receipt


def put(
    connection: object, call: Track | Identify | IdentifyCompany, *, name: str = DEFAULT_NAME,
    schema: str | None = None, dedupe: str | None = None,
) -> None:  # fmt: skip
    """Put a ``call`` within the transaction on this ``connection``, without a client: it is sent if that commits.

    ``connection`` is one that is not awaited: psycopg's, SQLAlchemy's (or a ``Session``), Django's; `aput` is for the
    others. ``name`` and ``schema`` are those of the outbox, whose tables are there (``userpilot-async outbox
    migrate``). ``dedupe`` says which fact this is: of several calls with it within seven days, the sender takes one.
    Raises `InvalidCall`, `ConfigurationError`, and whatever the driver raises.
    """
    way = way_of(connection)
    _check_form(way, awaits=False, here="put()", there="await aput()")
    _put(way, connection, _insert_into(name, schema), _row(call, dedupe))


async def aput(
    connection: object, call: Track | Identify | IdentifyCompany, *, name: str = DEFAULT_NAME,
    schema: str | None = None, dedupe: str | None = None,
) -> None:  # fmt: skip
    """As `put`, for a ``connection`` that is awaited: asyncpg's, and the async ones of psycopg and SQLAlchemy."""
    way = way_of(connection)
    _check_form(way, awaits=True, here="await aput()", there="put()")
    await _aput(way, connection, _insert_into(name, schema), _row(call, dedupe))


def _row(call: Track | Identify | IdentifyCompany, dedupe: str | None) -> Row:
    if not any(is_a(call, kind) for kind in (Track, Identify, IdentifyCompany)):
        raise InvalidCall("call", must_be("Track, Identify or IdentifyCompany", call))
    dedupe = call.dedupe if dedupe is None else dedupe
    key = None if dedupe is None else DedupeKey.of(dedupe, WEEK)
    return row_of(*as_put(call), key, None)


def _insert_into(name: str, schema: str | None) -> Insert:
    return _insert_of(checked_name(name), checked_schema(schema))


@cache  # an application has few outboxes
def _insert_of(name: str, schema: str | None) -> Insert:
    return Insert(Names(name, schema))


def _check_form(way: Way, *, awaits: bool, here: str, there: str) -> None:
    if awaits and way.aput is None:
        raise ConfigurationError(f"{here} needs a connection that is awaited, and this one is not: use {there} with it")
    if not awaits and way.put is None:
        raise ConfigurationError(f"{here} cannot await, as this connection must be: use {there} with it")


def _put(way: Way, connection: Any, insert: Insert, row: Row) -> None:
    assert way.put is not None
    try:
        way.put(connection, insert, row)
    except Exception as error:
        _note_on(error, insert)
        raise


async def _aput(way: Way, connection: Any, insert: Insert, row: Row) -> None:
    assert way.aput is not None
    try:
        await way.aput(connection, insert, row)
    except Exception as error:
        _note_on(error, insert)
        raise


def _note_on(error: Exception, insert: Insert) -> None:
    """Note on an error of the driver's what would help."""
    state = _state_of(error)
    if state in NO_TABLE:
        error.add_note(
            f"userpilot_async: this database has no tables of an outbox named {insert.outbox}, or older ones: run "
            "`userpilot-async outbox migrate`"
        )
    elif state == DENIED:
        error.add_note(f"userpilot_async: putting a call needs GRANT INSERT ON {insert.table} TO this role")


def _state_of(error: BaseException | None) -> object:
    """The SQLSTATE of a driver's error, also of one around which SQLAlchemy or Django has put its own."""
    while error is not None:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state:
            return state
        error = error.__cause__
    return None

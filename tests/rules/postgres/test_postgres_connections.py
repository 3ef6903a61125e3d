"""Connections are told apart by what they are, and no driver is imported for that."""

from __future__ import annotations

import gc
import inspect
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("psycopg")

from userpilot_async import ConfigurationError, postgres
from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._calls.outcome import Outcome
from userpilot_async._outbox.store import Admitted
from userpilot_async.postgres._connections import WAYS, Way, way_of
from userpilot_async.postgres._insert import COLUMNS, Insert
from userpilot_async.postgres._schema import Names
from userpilot_async.postgres._tickets import Tickets
from userpilot_async.postgres._within import _put

KNOWN = (
    "connection must be a connection of psycopg 3 or asyncpg, a connection or a session of SQLAlchemy 2, or Django's "
    "connection, to PostgreSQL, not "
)
ASYNC = {"AsyncConnection", "AsyncSession", "async_scoped_session", "PoolConnectionProxy"}


def modules(**more: Any) -> tuple[dict[str, ModuleType], dict[tuple[str, str], type]]:
    """Stand-ins for the drivers' modules, and their classes by module and name."""
    made: dict[str, Any] = {}
    classes = {place: type(place[1], (), {"vendor": "postgresql", **more}) for place in WAYS}
    for (module, name), kind in classes.items():
        setattr(made.setdefault(module, SimpleNamespace()), name, kind)
    return made, classes


@pytest.mark.parametrize("place", WAYS, ids=".".join)
def test_a_connection_and_one_of_a_class_made_of_it_are_known(place: tuple[str, str]) -> None:
    there, classes = modules()
    below = type("Mine", (classes[place],), {})

    assert WAYS[place] is way_of(classes[place](), there) is way_of(below(), there)


@pytest.mark.parametrize(("place", "way"), WAYS.items(), ids=[".".join(place) for place in WAYS])
def test_a_way_is_awaited_or_it_is_not(place: tuple[str, str], way: Any) -> None:
    awaits = place[1] in ASYNC or place == ("asyncpg", "Connection")

    assert (awaits, not awaits) == (way.aput is not None, way.put is not None)
    assert inspect.iscoroutinefunction(way.aput) is awaits


def test_what_a_tracer_has_wrapped_is_what_it_says() -> None:
    there, classes = modules()

    class Traced:
        __class__ = classes["psycopg", "Connection"]  # type: ignore[assignment]  # as wrapt does

    assert WAYS["psycopg", "Connection"] is way_of(Traced(), there)


def test_the_proxy_of_djangos_cache_is_none() -> None:
    there, classes = modules()
    del classes["django.utils.connection", "ConnectionProxy"].vendor  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="not ConnectionProxy"):
        way_of(classes["django.utils.connection", "ConnectionProxy"](), there)


@pytest.mark.parametrize("connection", [None, "postgresql://host/db", object(), SimpleNamespace(execute=print)])
def test_anything_else_is_refused_with_what_is_taken(connection: object) -> None:
    with pytest.raises(ConfigurationError) as raised:
        way_of(connection)

    assert KNOWN + type(connection).__name__ == str(raised.value)


def test_a_module_that_is_half_imported_has_no_connections() -> None:
    with pytest.raises(ConfigurationError):
        way_of(object(), {"asyncpg": ModuleType("asyncpg"), "sqlalchemy": None})  # type: ignore[dict-item]


def test_the_statement_has_as_many_places_as_columns_in_each_form() -> None:
    insert = Insert(Names("shop", "app"))
    begin = f'INSERT INTO "app"."shop_inbox" ({", ".join(COLUMNS)}) VALUES '

    assert f"{begin}(%s, %s, %s, %s, %s, %s, %s, %s)" == insert.formatted
    assert f"{begin}($1, $2, $3, $4, $5, $6, $7, $8)" == insert.numbered
    assert f"{begin}(:kind, :key, :body, :moment, :size, :dedupe, :dedupe_for, :ticket)" == insert.named


def test_put_and_aput_take_the_same() -> None:
    put, aput = inspect.signature(postgres.put), inspect.signature(postgres.aput)

    assert put == aput
    assert ["connection", "call", "name", "schema", "dedupe"] == list(put.parameters)
    assert (False, True) == tuple(map(inspect.iscoroutinefunction, (postgres.put, postgres.aput)))


# ── notes on errors ──


class DriversError(Exception):
    """An error with an SQLSTATE, as psycopg and asyncpg have it."""

    def __init__(self, sqlstate: str | None = None, pgcode: str | None = None) -> None:
        self.sqlstate, self.pgcode = sqlstate, pgcode


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (DriversError("42P01"), "outbox migrate"),
        (DriversError("3F000"), "outbox migrate"),
        (DriversError("42703"), "outbox migrate"),
        (DriversError(pgcode="42P01"), "outbox migrate"),
        (DriversError("42501"), 'GRANT INSERT ON "shop_inbox" TO'),
        (DriversError("25P02"), None),
        (DriversError(), None),
        (KeyError("42P01"), None),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_passes_unchanged_with_a_note_where_one_helps(
    error: Exception, noted: str | None, wrapped: bool
) -> None:
    raised = RuntimeError("in a driver's wrapper") if wrapped else error
    if wrapped:
        raised.__cause__ = error

    def fails(*_: object) -> None:
        raise raised

    with pytest.raises(type(raised)) as caught:
        _put(Way(put=fails), object(), Insert(Names("shop")), ("track", '"u1"', "{}", None, 2, None, None, None))
    notes = raised.__dict__.pop("__notes__", [])  # the errors of the table are raised more than once

    assert raised is caught.value
    assert ([] if noted is None else [True]) == [noted is not None and noted in note for note in notes]


# ── receipts ──


def test_a_ticket_is_given_up_with_its_receipt() -> None:
    tickets = Tickets(SharedLedger().pages)
    issued = [tickets.issue() for _ in range(100)]
    kept = issued[0]
    del issued
    gc.collect()

    assert (1, "pending", -1) == (len(tickets), kept[1].status, kept[1].id)
    tickets.admitted(Admitted(kept[0], 70_000))
    assert (0, 70_000, "pending") == (len(tickets), kept[1].id, kept[1].status)


def test_a_ticket_of_another_process_or_one_that_comes_again_is_nothing() -> None:
    tickets = Tickets(SharedLedger().pages)
    ticket, receipt = tickets.issue()
    tickets.admitted(Admitted(ticket, 3))
    tickets.admitted(Admitted(ticket, 4))
    tickets.admitted(Admitted(ticket + 1, 5))

    assert 3 == receipt.id


def test_tickets_fit_into_a_column() -> None:
    issued = [Tickets(SharedLedger().pages).issue()[0] for _ in range(200)]

    assert all(0 <= ticket < 2**63 for ticket in issued)
    assert 2**61 < max(issued)


def test_a_ticket_of_a_call_that_repeats_another_shows_what_became_of_that() -> None:
    tickets = Tickets(SharedLedger().pages)
    (first, waits), (second, past) = tickets.issue(), tickets.issue()
    tickets.admitted(Admitted(first, 3, repeats=True))
    tickets.admitted(Admitted(second, 4, repeats=True, outcome=Outcome("delivered", by="realtime")))

    assert [(3, True, "merged", None), (4, True, "merged", "delivered")] == [
        (one.id, one.is_duplicate, one.status, row and row.status)
        for one, row in ((waits, waits._known().row), (past, past._known().row))
    ]

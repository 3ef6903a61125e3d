"""Calls within an application's own transaction, on every kind of connection that it may have."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.harness.postgres_server import PostgresServer, missing

if missing():
    pytest.skip(str(missing()), allow_module_level=True)

from tests.contract.within_forms import FORMS, Held, async_session, session
from userpilot_async import ConfigurationError, Identify, IdentifyCompany, InvalidCall, Receipt, Track
from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.stored import Stored
from userpilot_async._outbox.store import Admitted
from userpilot_async._userpilot.destination import as_put, call_of
from userpilot_async.postgres import aput, put
from userpilot_async.postgres._insert import Insert
from userpilot_async.postgres._schema import Names
from userpilot_async.postgres._tickets import Tickets
from userpilot_async.postgres._within import ConnectionPuts

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]
every_form = pytest.mark.parametrize("form", FORMS)

NO_SAVEPOINT = "ROLLBACK TO SAVEPOINT one"


class Place:
    """An outbox's tables in a ``database`` of a ``server``, and what an application puts there."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self.server = server
        self.database = database
        self.name = "shop"
        self.table = f'"{self.name}_inbox"'
        self.url = server.url_of(database)
        self.tickets = Tickets(SharedLedger().pages)

    async def put(self, held: Held, call: Any, dedupe: DedupeKey | None = None, *, name: str = "shop") -> Receipt:
        puts = ConnectionPuts(held.connection, Insert(Names(name)), self.tickets)
        checked = (*as_put(call), dedupe)
        return await puts.hold(*checked) if held.awaits else puts.put(*checked)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.run(statement, self.database)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        return self.run(f"SELECT * FROM {self.table} ORDER BY seq")

    @property
    def calls(self) -> list[Any]:
        """The calls that are committed, in their order."""
        stored = [Stored(kind, key, body.encode(), moment) for _, _, kind, key, body, moment, *_ in self.rows]
        return [call_of(*one.call()) for one in stored]


@pytest.fixture(scope="module")
def outbox(postgres_server: PostgresServer) -> Place:
    """An outbox for all tests of this module, in a database each statement of which is in the server's log."""
    database = postgres_server.new_name()
    postgres_server.run(f"CREATE DATABASE {database}")
    postgres_server.run(f"ALTER DATABASE {database} SET log_statement = 'all'")
    place = Place(postgres_server, database)
    postgres_server.migrate(place.name, database)
    return place


@pytest.fixture
def place(outbox: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The outbox, empty."""
    monkeypatch.setenv(
        "DJANGO_ALLOW_ASYNC_UNSAFE", "1"
    )  # these tests run in a loop, and applications with Django do not
    outbox.run(f"DELETE FROM {outbox.table}")
    return outbox


def paid(number: int = 1) -> Track:
    return Track("u1", "invoice_paid", {"number": number})


@every_form
async def test_calls_are_there_in_their_order_when_their_transaction_commits(place: Place, form: str) -> None:
    calls = [
        Track("ü'1\0", 'paid "%s" :kind $1', {"a\0": "\\ % :size €"}, datetime(2026, 1, 2, tzinfo=UTC)),
        Identify("u1", {"plan": None}, {"id": "acme", "name": "Acme"}),
        IdentifyCompany("acme", {"size": 3}),
        *(paid(number) for number in range(5)),
    ]
    async with FORMS[form](place.url) as held:
        receipts = [await place.put(held, call) for call in calls]
        before = place.rows
        await held.do(held.commit)

    assert [] == before
    assert calls == place.calls
    assert {("pending", -1)} == {(receipt.status, receipt.id) for receipt in receipts}


@every_form
async def test_calls_go_with_a_transaction_that_is_rolled_back(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        await place.put(held, paid())
        await held.do(held.roll_back)

    assert [] == place.rows


@every_form
async def test_a_savepoint_that_is_rolled_back_takes_its_calls_and_no_others(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        await place.put(held, paid(1))
        await held.do(held.run, "SAVEPOINT one")
        await place.put(held, paid(2))
        await held.do(held.run, NO_SAVEPOINT)
        await place.put(held, paid(3))
        await held.do(held.commit)

    assert [paid(1), paid(3)] == place.calls


@every_form
async def test_a_row_has_the_size_the_digest_and_the_ticket(place: Place, form: str) -> None:
    fact = DedupeKey.of("stripe:evt_1", 60.0)
    async with FORMS[form](place.url) as held:
        receipt = await place.put(held, paid(), fact)
        await held.do(held.commit)
    ((_, _, kind, key, _, moment, size, digest, seconds, ticket, _),) = place.rows
    place.tickets.admitted(Admitted(ticket, 7))

    assert ("track", '"u1"', None, len(as_put(paid())[2])) == (kind, key, moment, size)
    assert fact == DedupeKey(bytes(digest), seconds)
    assert 7 == receipt.id


@every_form
async def test_a_call_is_one_statement(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        await held.do(held.run, "SELECT 1")  # begins the transaction, where nothing has yet
        before = len(place.server.log)
        for number in range(7):  # psycopg prepares a statement at its sixth time
            await place.put(held, paid(number))
        said = re.findall(r"LOG:  (.*)", place.server.log[before:])
        await held.do(held.commit)

    assert 7 == len(said)
    assert {"INSERT INTO"} == {re.sub(r".*?: (\w+ \w+).*", r"\1", one) for one in said}


@pytest.mark.parametrize(("threshold", "prepared"), [(None, []), (5, ["INSERT INTO"])])
async def test_psycopg_prepares_if_the_connection_says_so(
    place: Place, threshold: int | None, prepared: list[str]
) -> None:
    """An application that has PgBouncer in between has said None, as its own statements need it."""
    async with FORMS["psycopg"](place.url) as held:
        held.connection.prepare_threshold = threshold
        for number in range(7):
            await place.put(held, paid(number))
        rows = held.connection.execute("SELECT statement FROM pg_prepared_statements", prepare=False).fetchall()

    assert prepared == [statement[:11] for (statement,) in rows]


@every_form
async def test_the_error_of_an_aborted_transaction_is_the_drivers_own(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        with suppress(Exception):
            await held.do(held.run, "SELECT 1 / 0")
        with pytest.raises(Exception, match="current transaction is aborted") as raised:
            await place.put(held, paid())
        await held.do(held.roll_back)

    assert not type(raised.value).__module__.startswith("userpilot_async")
    assert [] == getattr(raised.value, "__notes__", [])


@every_form
async def test_where_the_tables_are_missing_the_drivers_error_says_what_makes_them(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        with pytest.raises(Exception, match="none_inbox") as raised:
            await place.put(held, paid(), name="none")
        await held.do(held.roll_back)

    assert [
        "userpilot_async: this database has no tables of an outbox named none, or older ones: run `userpilot-async "
        "outbox migrate`"
    ] == raised.value.__notes__


@every_form
async def test_a_role_needs_the_right_to_insert_and_no_other(place: Place, form: str) -> None:
    role = place.server.new_name()
    place.run(f"CREATE ROLE {role} LOGIN")
    url = place.server.url_of(place.database, user=role)
    async with FORMS[form](url) as held:
        with pytest.raises(Exception, match="permission denied") as raised:
            await place.put(held, paid())
        await held.do(held.roll_back)
    place.run(f"GRANT INSERT ON {place.table} TO {role}")
    async with FORMS[form](url) as held:
        await place.put(held, paid())
        await held.do(held.commit)

    assert [
        f"userpilot_async: putting a call needs GRANT INSERT ON {place.table} TO this role"
    ] == raised.value.__notes__
    assert [paid()] == place.calls


# ── without a client ──


@every_form
async def test_a_call_is_put_without_a_client(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        if held.awaits:
            await aput(held.connection, paid(), name=place.name, dedupe="stripe:evt_1")
        else:
            put(held.connection, paid(), name=place.name, dedupe="stripe:evt_1")
        await held.do(held.commit)

    assert [paid()] == place.calls
    week = DedupeKey.of("stripe:evt_1", 7 * 86_400.0)
    assert [(week, None)] == [(DedupeKey(bytes(row[7]), row[8]), row[9]) for row in place.rows]


@pytest.mark.parametrize("form", ["psycopg", "asyncpg", "session, psycopg", "session, asyncpg", "django"])
async def test_a_schema_may_have_any_name(place: Place, form: str) -> None:
    schema = f"%s :kind $1 é' {form}"
    quoted = f'"{schema}"'
    place.run(f"CREATE SCHEMA {quoted}")
    place.server.migrate("shop", place.database, schema=schema)
    async with FORMS[form](place.url) as held:
        if held.awaits:
            await aput(held.connection, paid(), name="shop", schema=schema)
        else:
            put(held.connection, paid(), name="shop", schema=schema)
        await held.do(held.commit)

    assert [(1,)] == place.run(f"SELECT count(*) FROM {quoted}.shop_inbox")


@every_form
async def test_the_other_form_is_refused_before_anything_is_written(place: Place, form: str) -> None:
    async with FORMS[form](place.url) as held:
        if held.awaits:
            words = r"put\(\) cannot await, as this connection must be: use await aput\(\) with it"
            with pytest.raises(ConfigurationError, match=words):
                put(held.connection, paid(), name=place.name)
        else:
            words = r"await aput\(\) needs a connection that is awaited, and this one is not: use put\(\) with it"
            with pytest.raises(ConfigurationError, match=words):
                await aput(held.connection, paid(), name=place.name)
        await held.do(held.commit)

    assert [] == place.rows


async def test_the_key_of_a_call_is_that_of_its_row(place: Place) -> None:
    async with FORMS["psycopg"](place.url) as held:
        put(held.connection, Track("u1", "paid", dedupe="stripe:evt_1"), name=place.name)
        put(held.connection, Track("u1", "paid", dedupe="stripe:evt_1"), name=place.name, dedupe="stripe:evt_2")
        held.commit()

    keys = [DedupeKey.of(f"stripe:evt_{number}", 0.0).digest for number in (1, 2)]
    assert keys == [bytes(row[7]) for row in place.rows]


async def test_what_is_no_call_or_no_name_is_refused(place: Place) -> None:
    async with FORMS["psycopg"](place.url) as held:
        with pytest.raises(InvalidCall, match="call must be Track, Identify or IdentifyCompany, not dict"):
            put(held.connection, {"user_id": "u1"})  # type: ignore[arg-type]  # that is the point
        with pytest.raises(InvalidCall, match="dedupe must"):
            put(held.connection, paid(), name=place.name, dedupe=" ")
        with pytest.raises(ConfigurationError, match="name must be 1 to 40 lower-case letters"):
            put(held.connection, paid(), name='x"; DROP TABLE y; --')
        with pytest.raises(ConfigurationError, match="schema must be the name of a schema"):
            put(held.connection, paid(), schema="")


async def test_another_database_than_postgres_is_refused() -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite://")
    with (
        engine.connect() as connection,
        pytest.raises(ConfigurationError, match=r"must be to PostgreSQL, .*, not to sqlite"),
    ):
        put(connection, paid())
    engine.dispose()


# ── sessions ──


@pytest.mark.parametrize("form", [session("psycopg"), async_session("asyncpg")], ids=["session", "async session"])
async def test_nothing_of_a_session_is_flushed_or_expired(place: Place, form: Any) -> None:
    sqlalchemy, orm = pytest.importorskip("sqlalchemy"), pytest.importorskip("sqlalchemy.orm")

    class Base(orm.DeclarativeBase):  # type: ignore[misc,name-defined]  # it may not be installed
        pass

    class Invoice(Base):
        __tablename__ = "invoices"
        number = orm.mapped_column(sqlalchemy.Integer, primary_key=True)
        amount = orm.mapped_column(sqlalchemy.Integer)

    place.run("DROP TABLE IF EXISTS invoices; CREATE TABLE invoices (number int PRIMARY KEY, amount int NOT NULL)")
    async with form(place.url) as held:
        kept, new = Invoice(number=1, amount=49), Invoice(number=2, amount=50)
        held.connection.add(kept)
        await held.do(held.connection.flush)
        kept.amount = 48
        held.connection.add(new)
        await place.put(held, paid())
        is_new, is_dirty = new in held.connection.new, kept in held.connection.dirty
        expired = getattr(held.connection, "sync_session", held.connection).identity_map.values()[0]
        loaded = dict(expired.__dict__)
        await held.do(held.commit)

    assert (True, True, 48) == (is_new, is_dirty, loaded["amount"])
    assert [(1, 48), (2, 50)] == place.run("SELECT * FROM invoices ORDER BY number")
    assert [paid()] == place.calls

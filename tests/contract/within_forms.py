"""Connections and sessions as applications have them, each with a transaction under way, for tests of `within`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any

import attrs
import pytest

Statement = str


@attrs.define
class Held:
    """A ``connection`` in a transaction, and what an application does with it. `Any`: each driver has its own."""

    connection: Any
    run: Callable[[Statement], Any]
    """Run a statement of the application's."""
    commit: Callable[[], Any]
    roll_back: Callable[[], Any]
    awaits: bool
    """Its driver's methods are awaited."""

    async def do(self, what: Callable[..., Any], *arguments: Any) -> Any:
        done = what(*arguments)
        return await done if self.awaits else done


Form = Callable[[str], AbstractAsyncContextManager[Held]]


@asynccontextmanager
async def psycopg(url: str) -> AsyncIterator[Held]:
    import psycopg

    with psycopg.connect(url) as it:
        yield Held(it, it.execute, it.commit, it.rollback, awaits=False)


@asynccontextmanager
async def psycopg_with_raw_cursors(url: str) -> AsyncIterator[Held]:
    """Whose own cursors take other placeholders, and give dictionaries."""
    import psycopg
    from psycopg.rows import dict_row

    with psycopg.connect(url, cursor_factory=psycopg.RawCursor, row_factory=dict_row, prepare_threshold=0) as it:
        yield Held(it, it.execute, it.commit, it.rollback, awaits=False)


@asynccontextmanager
async def async_psycopg(url: str) -> AsyncIterator[Held]:
    import psycopg

    async with await psycopg.AsyncConnection.connect(url) as it:
        yield Held(it, it.execute, it.commit, it.rollback, awaits=True)


@asynccontextmanager
async def asyncpg(url: str) -> AsyncIterator[Held]:
    asyncpg = pytest.importorskip("asyncpg")
    it = await asyncpg.connect(url)
    try:
        transaction = it.transaction()
        await transaction.start()
        yield Held(it, it.execute, transaction.commit, transaction.rollback, awaits=True)
    finally:
        await it.close()


@asynccontextmanager
async def asyncpg_of_a_pool(url: str) -> AsyncIterator[Held]:
    asyncpg = pytest.importorskip("asyncpg")
    async with asyncpg.create_pool(url, min_size=1, max_size=1, statement_cache_size=0) as pool:
        it = await pool.acquire()
        transaction = it.transaction()
        await transaction.start()
        yield Held(it, it.execute, transaction.commit, transaction.rollback, awaits=True)
        await pool.release(it)


def sqlalchemy_url(url: str, driver: str) -> str:
    return url.replace("postgresql://", f"postgresql+{driver}://")


def sqlalchemy_connection(driver: str) -> Form:
    @asynccontextmanager
    async def form(url: str) -> AsyncIterator[Held]:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        pytest.importorskip(driver)
        engine = sqlalchemy.create_engine(sqlalchemy_url(url, driver))
        try:
            with engine.connect() as it:
                yield Held(it, lambda text: it.execute(sqlalchemy.text(text)), it.commit, it.rollback, awaits=False)
        finally:
            engine.dispose()

    return form


def session(driver: str, *, scoped: bool = False) -> Form:
    @asynccontextmanager
    async def form(url: str) -> AsyncIterator[Held]:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        pytest.importorskip(driver)
        orm = pytest.importorskip("sqlalchemy.orm")
        engine = sqlalchemy.create_engine(sqlalchemy_url(url, driver))
        make = orm.sessionmaker(engine)
        it = orm.scoped_session(make) if scoped else make()
        try:
            yield Held(it, lambda text: it.execute(sqlalchemy.text(text)), it.commit, it.rollback, awaits=False)
        finally:
            it.close()
            engine.dispose()

    return form


def async_sqlalchemy_connection(driver: str) -> Form:
    @asynccontextmanager
    async def form(url: str) -> AsyncIterator[Held]:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        pytest.importorskip(driver)
        aio = pytest.importorskip("sqlalchemy.ext.asyncio")
        engine = aio.create_async_engine(sqlalchemy_url(url, driver))
        try:
            async with engine.connect() as it:
                yield Held(it, lambda text: it.execute(sqlalchemy.text(text)), it.commit, it.rollback, awaits=True)
        finally:
            await engine.dispose()

    return form


def async_session(driver: str, *, scoped: bool = False) -> Form:
    @asynccontextmanager
    async def form(url: str) -> AsyncIterator[Held]:
        sqlalchemy = pytest.importorskip("sqlalchemy")
        pytest.importorskip(driver)
        aio = pytest.importorskip("sqlalchemy.ext.asyncio")
        engine = aio.create_async_engine(sqlalchemy_url(url, driver))
        make = aio.async_sessionmaker(engine)
        it = aio.async_scoped_session(make, scopefunc=lambda: 0) if scoped else make()
        try:
            yield Held(it, lambda text: it.execute(sqlalchemy.text(text)), it.commit, it.rollback, awaits=True)
        finally:
            await it.close()
            await engine.dispose()

    return form


def django(*, proxy: bool) -> Form:
    """To be used with Django's own check for event loops off: the test runs in one."""

    @asynccontextmanager
    async def form(url: str) -> AsyncIterator[Held]:
        django = pytest.importorskip("django")
        from django.conf import settings
        from django.db.utils import ConnectionHandler
        from django.utils.connection import ConnectionProxy
        from psycopg.conninfo import conninfo_to_dict

        if not settings.configured:
            settings.configure(USE_TZ=True, LOGGING_CONFIG=None)
            django.setup()
        to = conninfo_to_dict(url)
        handler = ConnectionHandler({
            "default": {
                "ENGINE": "django.db.backends.postgresql", "NAME": to["dbname"], "USER": to["user"],
                "HOST": to["host"], "PORT": to["port"],
            }
        })  # fmt: skip
        wrapper = handler["default"]
        with closing(wrapper):
            wrapper.set_autocommit(False)  # as `transaction.atomic()` does
            it = ConnectionProxy(handler, "default") if proxy else wrapper

            def run(text: str) -> None:
                with it.cursor() as cursor:
                    cursor.execute(text)

            yield Held(it, run, it.commit, it.rollback, awaits=False)

    return form


FORMS: dict[str, Form] = {
    "psycopg": psycopg,
    "psycopg, raw cursors": psycopg_with_raw_cursors,
    "psycopg, async": async_psycopg,
    "asyncpg": asyncpg,
    "asyncpg, pool": asyncpg_of_a_pool,
    "sqlalchemy connection, psycopg": sqlalchemy_connection("psycopg"),
    "sqlalchemy connection, asyncpg": async_sqlalchemy_connection("asyncpg"),
    "session, psycopg": session("psycopg"),
    "session, psycopg2": session("psycopg2"),
    "session, scoped": session("psycopg", scoped=True),
    "session, asyncpg": async_session("asyncpg"),
    "session, psycopg async": async_session("psycopg"),
    "session, async scoped": async_session("asyncpg", scoped=True),
    "django": django(proxy=True),
    "django, wrapper": django(proxy=False),
}

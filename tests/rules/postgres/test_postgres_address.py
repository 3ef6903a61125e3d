"""Where PostgreSQL is: what libpq is given, what may be shown, and what is refused without a word of it."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("psycopg", exc_type=ImportError)

from urllib.parse import quote

from userpilot_async import ConfigurationError
from userpilot_async._outbox.url import flag_in_url, word_in_url
from userpilot_async.postgres import PostgresOutbox
from userpilot_async.postgres._address import address_of
from userpilot_async.postgres._schema import MIGRATIONS, NAME, TABLES, Names, checked_name, statements

OURS: Any = {"name": word_in_url, "sender": flag_in_url}


@pytest.mark.parametrize(
    ("dsn", "shown", "given", "ours"),
    [
        ("postgresql://h/db", "postgresql://h/db", {"host": "h", "dbname": "db"}, {}),
        ("postgres://u:pw@h:5433/db?name=shop&sender=false&sslmode=require", "postgresql://h:5433/db",
         {"host": "h", "port": "5433", "user": "u", "password": "pw", "dbname": "db", "sslmode": "require"},
         {"name": "shop", "sender": False}),
        ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db", {"host": "a,b", "port": "1,2", "dbname": "db"}, {}),
        ("postgresql:///db?host=/run/pg&name=x", "postgresql:///db?host=/run/pg",
         {"host": "/run/pg", "dbname": "db"}, {"name": "x"}),
        ("postgresql://[::1]:5432/", "postgresql://[::1]:5432/", {"host": "::1", "port": "5432"}, {}),
        ("host=h dbname=db password='a b'", "postgresql://h/db", {"host": "h", "dbname": "db", "password": "a b"}, {}),
        ("postgresql://h/db?options=-c%20work_mem%3D1MB&name=x", "postgresql://h/db",
         {"host": "h", "dbname": "db", "options": "-c work_mem=1MB"}, {"name": "x"}),
    ],
)  # fmt: skip
def test_a_dsn_is_read_as_libpq_reads_it_and_without_our_options(
    dsn: str, shown: str, given: dict[str, str], ours: dict[str, Any]
) -> None:
    address, options = address_of(dsn, OURS)

    assert (shown, given, ours) == (address.shown, address.options, options)


@pytest.mark.parametrize(
    "dsn",
    [
        "", "   ", "postgresql://h:port/hunter2?x", "postgresql://h/db?hunter2=1", "mysql://u:hunter2@h/db",
        "host=h hunter2", "postgresql://u:hun@ter2@h/db#hunter2", "postgresql://h/db?password=hunter2&passwrod=hunter2",
        "postgresql://u:hunter2@[h/db", "postgresql://u/hunter2@h/db", "name=hunter2 host=h", "postgresql://h/\nhunter2",
        17,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_quoted_nowhere(dsn: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        address_of(dsn, OURS)

    frames = [frame for frame, _ in traceback.walk_tb(refused.value.__traceback__)]
    ours = [frame for frame in frames if frame.f_code.co_filename.endswith("_address.py") and frame is not frames[0]]
    assert "hunter2" not in str(refused.value)
    assert ours
    assert "hunter2" not in "".join(repr(frame.f_locals) for frame in ours)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20))
def test_no_password_is_in_what_is_shown(password: str) -> None:
    secret = f"pw{password}pw"
    address, _ = address_of(f"postgresql://user:{quote(secret, safe='')}@host/db", OURS)

    assert secret == address.options["password"]
    assert "postgresql://host/db" == address.shown
    assert secret not in repr(address)


def test_a_password_may_be_overheard_where_tls_is_not_insisted_on() -> None:
    def overheard(dsn: str) -> bool:
        return address_of(dsn, OURS)[0].is_overheard

    assert overheard("postgresql://u:pw@example.org/db")
    assert overheard("postgresql://u:pw@localhost,example.org/db?sslmode=prefer")
    assert not overheard("postgresql://u:pw@example.org/db?sslmode=verify-full")
    assert not overheard("postgresql://u:pw@127.0.0.1/db")
    assert not overheard("postgresql://u@example.org/db")
    assert not overheard("postgresql:///db?host=/run/pg&password=pw")


def test_the_primary_is_looked_for_among_several_hosts_unless_the_dsn_says_otherwise() -> None:
    def wanted(dsn: str) -> Any:
        return address_of(dsn, OURS)[0].parameters(5.0).get("target_session_attrs")

    assert "read-write" == wanted("postgresql://a,b/db")
    assert "any" == wanted("postgresql://a,b/db?target_session_attrs=any")
    assert wanted("postgresql://a/db") is None


# ── names ──


@pytest.mark.parametrize("name", ["", "Shop", "1shop", "shop-a", "a" * 41, 'x"; DROP TABLE y', "ü", "shop\n", 1, None])
def test_a_name_that_is_no_plain_identifier_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name must be"):
        checked_name(name)


@given(st.from_regex(NAME, fullmatch=True))
def test_no_table_of_any_outbox_has_a_name_that_would_be_cut(name: str) -> None:
    names = Names(checked_name(name))

    assert all(len(names.text(table)) - 2 <= 63 for table in TABLES)


def test_statements_make_what_is_missing_and_nothing_else() -> None:
    made = list(statements(Names("shop", "Odd schema"), 0))

    assert len(TABLES) == sum(one.startswith("CREATE TABLE") for one in made)
    assert all('"Odd schema"."shop_' in one for one in made)
    assert [] == list(statements(Names("shop"), len(MIGRATIONS)))


def test_a_statement_that_takes_its_whole_time_does_not_cost_the_lease() -> None:
    assert 2.0 == PostgresOutbox("postgresql://host/d", lease_ttl=6.0, timeout=4.0)._timeout

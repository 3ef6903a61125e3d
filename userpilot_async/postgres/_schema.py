"""The tables of an outbox, in each version, as SQL: pure text, run by `_migrate`.

All names begin with the outbox's own, so that rights, settings and the end of an outbox are by outbox.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import LiteralString

from psycopg import sql

from .._errors.foreign import must_be
from .._errors.tree import ConfigurationError

NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")  # with the longest of our endings still a name: PostgreSQL cuts at 63
DEFAULT_NAME = "userpilot_async"

_FIRST = """
CREATE TABLE {inbox} (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL,
    key text NOT NULL,
    body text NOT NULL,
    moment text,
    size integer NOT NULL,
    dedupe bytea,
    dedupe_for double precision,
    ticket bigint,
    xact bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint)
) WITH ({churned});
CREATE INDEX {inbox_xact} ON {inbox} (xact);
CREATE TABLE {calls} (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, key text NOT NULL, body text NOT NULL,
    moment text, size integer NOT NULL, dedupe bytea, checked boolean NOT NULL, sent boolean NOT NULL DEFAULT false
) WITH (fillfactor = 90, {churned});
CREATE TABLE {parts} (call_id bigint NOT NULL, kind text NOT NULL, key text NOT NULL) WITH ({churned});
CREATE INDEX {parts_call_id} ON {parts} (call_id);
CREATE TABLE {lost} (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, key text NOT NULL, body text NOT NULL,
    moment text, size integer NOT NULL, dedupe bytea, checked boolean NOT NULL,
    lost_at timestamptz NOT NULL, status text NOT NULL, reason text NOT NULL, detail text NOT NULL
);
CREATE TABLE {news} (id bigint PRIMARY KEY, body text NOT NULL) WITH ({churned});
CREATE TABLE {requests} (
    id text PRIMARY KEY, at timestamptz NOT NULL, landed_at timestamptz, budget text NOT NULL, calls text NOT NULL
) WITH (fillfactor = 50, {churned});
CREATE TABLE {files} (filename text PRIMARY KEY, kind text NOT NULL, last_calls text NOT NULL) WITH ({churned});
CREATE TABLE {pairs} (id bigint PRIMARY KEY, digest bytea UNIQUE, body text);
CREATE TABLE {keys} (
    id bigint PRIMARY KEY, digest bytea NOT NULL UNIQUE, until timestamptz NOT NULL, outcome text,
    told boolean NOT NULL DEFAULT false
) WITH (fillfactor = 90, {churned});
CREATE INDEX {keys_until} ON {keys} (until);
CREATE TABLE {clients} (
    client text PRIMARY KEY, step bigint NOT NULL, first_put bigint NOT NULL, first_refused bigint NOT NULL,
    repeats text NOT NULL, fenced boolean NOT NULL, seen timestamptz NOT NULL
) WITH (fillfactor = 50, {churned});
CREATE TABLE {state} (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version integer NOT NULL,
    generation uuid NOT NULL DEFAULT gen_random_uuid(),
    revision bigint NOT NULL DEFAULT 0,
    account text NOT NULL DEFAULT '{{}}',
    oldest bigint NOT NULL DEFAULT 0,
    news bigint NOT NULL DEFAULT 0,
    pairs bigint NOT NULL DEFAULT 0,
    destination text,
    salt bytea,
    fingerprint text,
    lease text NOT NULL DEFAULT '',
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT 'epoch',
    holder text NOT NULL DEFAULT '',
    unknown_until timestamptz NOT NULL DEFAULT 'epoch',
    sent_below bigint NOT NULL DEFAULT 0,
    origins text NOT NULL DEFAULT '{{}}'
) WITH (fillfactor = 10, {churned});
INSERT INTO {state} (version) VALUES (1);
"""
# inbox: calls that were put in transactions of the application's, not accepted yet; by a ticket its client learns a
# call's id; by its transaction it is found behind all that went. calls: what waits, by its id; `checked`, if a client
# of ours has put it, and not anybody's SQL.
# parts: what the server has already of what a call says. lost: dead and dropped calls. news: what became of calls, for
# all who have the outbox open. requests: of the last minutes. files: of rows, that the server may have. pairs: keys
# that calls have named together; no body, for a person who was erased. clients: the last step of each, for one whose
# answer got lost. keys: of `dedupe=`; told, if the caller of another call knows that this one has it. state: one row,
# locked by whoever changes anything; the account, the owner, the lease. oldest: no call has a lower id. sent_below:
# calls below this may have been sent, and what was noted of that is gone. origins: the
# generations before this one, and how much of each is in this.

# Rows come and go by the thousand: dead ones are to be cleared by their number, and not by their share of the table.
_CHURNED = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0"

MIGRATIONS: Sequence[LiteralString] = (_FIRST,)
"""Statements that make version n + 1 of version n; the first one makes version 1 where nothing is."""
VERSION = len(MIGRATIONS)
TABLES = ("inbox", "calls", "parts", "lost", "news", "requests", "files", "pairs", "keys", "clients", "state")
INDEXES = ("inbox_xact", "parts_call_id", "keys_until")


def checked_name(name: str) -> str:
    """The name of an outbox, or of a schema's. Raises `ConfigurationError` if that is no plain identifier."""
    if not isinstance(name, str):
        raise ConfigurationError(f"name {must_be('a str', name)}")
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            "name must be 1 to 40 lower-case letters, digits and underscores, and begin with no digit"
        )
    return name


def checked_schema(schema: str | None) -> str | None:
    """The name of a schema. Raises `ConfigurationError` if it is none, or cannot be shown."""
    if schema is not None and not isinstance(schema, str):
        raise ConfigurationError(f"schema {must_be('a str or None', schema)}")
    if schema is not None and (not schema or not schema.isprintable()):
        raise ConfigurationError("schema must be the name of a schema, without control characters")
    return schema


class Names:
    """The tables of the outbox of this name, as SQL: ``{calls}`` in `sql`. ``schema`` is where the search path says."""

    def __init__(self, name: str, schema: str | None = None) -> None:
        self.name = name
        self.schema = schema
        self._known: dict[str, sql.Composable] = {one: self._table(one) for one in TABLES}
        for index in INDEXES:
            self._known[index] = sql.Identifier(f"{name}_{index}")  # which is where its table is
        self._known["churned"] = sql.SQL(_CHURNED)

    def _table(self, table: str) -> sql.Identifier:
        whole = f"{self.name}_{table}"
        return sql.Identifier(whole) if self.schema is None else sql.Identifier(self.schema, whole)

    def sql(self, text: LiteralString, **more: sql.Composable) -> sql.Composed:
        """A statement with our tables, and ``more``, in their places."""
        return sql.SQL(text).format(**self._known, **more)

    def text(self, table: str) -> str:
        """A table's name as SQL has it."""
        return self._table(table).as_string(None)


def statements(names: Names, version: int) -> Iterator[str]:
    """The statements that bring an outbox of this version, 0 for none, to the newest."""
    for migration in MIGRATIONS[version:]:
        whole = names.sql(migration).as_string(None)
        yield from (one.strip() for one in whole.split(";\n") if one.strip())
    if 0 < version < VERSION:
        yield names.sql("UPDATE {state} SET version = {version}", version=sql.Literal(VERSION)).as_string(None)

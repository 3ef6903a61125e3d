"""A PostgreSQL of the benchmarks' own: it syncs each commit, as a user's does, on the core of those not measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from benchmarks import disk
from benchmarks.cores import rest
from tests.harness.postgres_server import PostgresServer, missing

__all__ = ["missing", "new_database", "running_postgres"]

# What the tests set lower, as a new server has it; and room for 64 writers.
AS_INSTALLED = {"shared_buffers": "'128MB'", "max_connections": "100"}
TABLES = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, amount integer);
CREATE TABLE plain (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL, key text NOT NULL, body text NOT NULL
);
CREATE TABLE queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reads integer NOT NULL DEFAULT 0,
    at timestamptz NOT NULL DEFAULT now(), visible_at timestamptz NOT NULL, message jsonb
);
CREATE INDEX ON queue (visible_at);
CREATE FUNCTION enqueue(message jsonb) RETURNS bigint LANGUAGE sql AS
    $$ INSERT INTO queue (visible_at, message) VALUES (clock_timestamp(), message) RETURNING id $$;
"""
_numbers = count()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new, empty one, on the disk of the durable subjects."""
    with disk.directory() as folder, PostgresServer(Path(folder), durable=True, config=AS_INSTALLED) as server:
        if cores := rest():
            os.sched_setaffinity(server.pid, cores)  # and so each connection's process, which it starts
        yield server


def new_database(server: PostgresServer) -> str:
    """The URL of a new database with the tables of all subjects, and those of an outbox."""
    name = f"benchmark_{next(_numbers)}"
    server.run(f"CREATE DATABASE {name}")
    server.run(TABLES, name)
    server.migrate("userpilot_async", name)
    server.run("CHECKPOINT")  # so that what one subject has not flushed does not slow down the next
    return server.url_of(name)

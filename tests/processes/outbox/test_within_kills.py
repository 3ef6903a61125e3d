"""A program is killed between its transactions: what it had committed is sent, and what it had not is not."""

from __future__ import annotations

import signal

import httpx

from tests.harness.postgres_server import PostgresServer
from tests.harness.processes import python
from userpilot_async import UserpilotClient, blocking

PROGRAM = """
import os, signal, sys
import psycopg
from userpilot_async import Track, UserpilotClient, blocking
from userpilot_async.postgres import put

outbox, database, name = sys.argv[1:]
with blocking(UserpilotClient("KEY", outbox=outbox)) as userpilot:
    for n in range(3):
        with psycopg.connect(database) as connection:
            userpilot.within(connection).track_nowait("u1", "paid", {"n": n})
            put(connection, Track("u1", "paid", {"n": n + 10}), name=name)
            if n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_program_had_committed_is_sent_and_nothing_else(
    postgres_server: PostgresServer, postgres_url: str, emulator_url: str
) -> None:
    database, _, query = postgres_url.partition("?")
    name = query.partition("name=")[2]
    environment = {"USERPILOT_BASE_URL": emulator_url}
    with python("-c", PROGRAM, f"{postgres_url}&sender=false", database, name, env=environment) as running:
        assert -signal.SIGKILL == running.wait(60.0), running.output

    with blocking(UserpilotClient("KEY", base_url=emulator_url, outbox=postgres_url)) as sender:
        sender.track("u1", "paid", {"n": 99})  # which is accepted behind all that was committed before it
        report = sender.flush(60.0)

    assert report.complete
    events = httpx.get(f"{emulator_url}/__emulator__/events").json()["items"]
    assert [0, 10, 1, 11, 99] == [event["metadata"]["n"] for event in events]
    assert [] == postgres_server.run(f"SELECT seq FROM {name}_inbox")

"""Subjects that keep calls in a file. All at the same durability, whatever their defaults; all put the same JSON.

The peers' `put` blocks until the disk has answered. An asyncio application must not stop its loop for that, so they are
measured through `asyncio.to_thread`, as it would have to call them; and once more called on the loop, which stops then.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import attrs

from benchmarks.payloads import Properties
from benchmarks.subjects import FLOOR, OURS

SYNCHRONOUS = {"power": ("FULL", 2), "process": ("NORMAL", 1)}  # in SQLite's words, and the number it answers with
NOBODY = "http://127.0.0.1:9"

WITH_SENDER = f"({OURS}, with its sender)"
NOTHING = "(asyncio.to_thread, of nothing)"

Put = Callable[[str, str, Properties], object]


@attrs.frozen
class Durable:
    """A queue, opened in the running loop and never closed: its process ends with the measurement."""

    awaited: bool
    track: Callable[[str, str, Properties], Any]
    file: str
    table: str
    """Where what was put can be counted."""

    def held(self) -> int:
        """How many calls another connection finds in the file."""
        with closing(sqlite3.connect(self.file)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0])


def body(user: str, event: str, properties: Properties) -> dict[str, Any]:
    """The fields of a call on the wire, before it is JSON."""
    return {"user_id": user, "event_name": event, "metadata": properties}


def make_durable(connection: sqlite3.Connection, durability: str) -> None:
    """Set how long a commit waits; raises `RuntimeError` if that is not what it does then."""
    word, number = SYNCHRONOUS[durability]
    connection.execute(f"PRAGMA synchronous = {word}")
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    said = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (journal, said) != ("wal", number):
        raise RuntimeError(f"a peer runs with journal {journal} and synchronous {said}, not wal and {number}")


async def userpilot(place: str, durability: str, url: str | None = None) -> Durable:
    """With ``url``, this process sends as well as puts."""
    from userpilot_async import UserpilotClient
    from userpilot_async.sqlite import SQLiteOutbox

    path = os.path.join(place, "events.db")
    outbox = SQLiteOutbox(path, durability=durability, sender=url is not None)  # type: ignore[arg-type]  # from JSON
    client = UserpilotClient("benchmark", base_url=url or NOBODY, outbox=outbox)
    await client.__aenter__()
    return Durable(True, client.track, path, "calls")


def persist_queue(place: str, durability: str) -> tuple[Put, str, str]:
    """By itself it runs with synchronous=FULL, and pickles."""
    from persistqueue import SQLiteAckQueue
    from persistqueue.serializers import json as as_json

    queue = SQLiteAckQueue(place, multithreading=True, serializer=as_json)
    connection: Any = queue._putter  # declared as None
    make_durable(connection, durability)

    def put(user: str, event: str, properties: Properties) -> None:
        queue.put(body(user, event, properties))

    return put, os.path.join(place, "data.db"), "ack_queue_default"


def litequeue(place: str, durability: str) -> tuple[Put, str, str]:
    """By itself it runs with synchronous=NORMAL."""
    from litequeue import LiteQueue  # type: ignore[import-untyped]

    path = os.path.join(place, "queue.db")
    queue = LiteQueue(path)
    make_durable(queue.conn, durability)

    def put(user: str, event: str, properties: Properties) -> None:
        queue.put(json.dumps(body(user, event, properties)))

    return put, path, "Queue"


def bare_insert(place: str, durability: str) -> tuple[Put, str, str]:
    """The least that a commit for each call costs."""
    path = os.path.join(place, "bare.db")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    make_durable(connection, durability)
    connection.execute("CREATE TABLE puts (id INTEGER PRIMARY KEY, said TEXT)")

    def put(user: str, event: str, properties: Properties) -> None:
        said = json.dumps(body(user, event, properties))
        connection.execute("INSERT INTO puts (said) VALUES (?)", (said,))

    return put, path, "puts"


PEERS = {"persist-queue": persist_queue, "litequeue": litequeue}
BLOCKING = {f"({name}, on the loop)": opening for name, opening in PEERS.items()}

SUBJECTS = (OURS, WITH_SENDER, *PEERS, *BLOCKING)
FLOORS = (FLOOR, NOTHING)


async def opened(subject: str, place: str, durability: str, url: str) -> Durable:
    """A subject with a new file, in a directory of its own in ``place``."""
    place = os.path.join(place, durability)
    os.mkdir(place)
    if subject in (OURS, WITH_SENDER):
        return await userpilot(place, durability, url if subject == WITH_SENDER else None)
    if subject in PEERS:
        put, file, table = PEERS[subject](place, durability)

        async def track(user: str, event: str, properties: Properties) -> None:
            await asyncio.to_thread(put, user, event, properties)

        return Durable(True, track, file, table)
    if subject == NOTHING:
        _, file, table = bare_insert(place, durability)

        async def hop(user: str, event: str, properties: Properties) -> None:
            await asyncio.to_thread(body, user, event, properties)

        return Durable(True, hop, file, table)
    put, file, table = (bare_insert if subject == FLOOR else BLOCKING[subject])(place, durability)
    return Durable(False, put, file, table)

"""Machines, each a process here, that use one outbox in PostgreSQL; and an application that puts in transactions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.harness.postgres_server import PostgresServer
from tests.harness.stage.postgres_scenes import Books
from tests.processes.programs.redis_host import RemoteHost


class Application:
    """Threads that each put one user's tracks in transactions of their own, some of which they undo."""

    def __init__(self, url: str, name: str, users: int, pause: float) -> None:
        self.committed: set[str] = set()
        self.tried: set[str] = set()
        self.undone: set[str] = set()
        self._identified: set[str] = set()  # users of whom the server knows before it hears of their events
        self._url = url
        self._name = name
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(f"tx{n}",), daemon=True) for n in range(users)]

    def start(self) -> None:
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        """End when the transaction that is under way has."""
        self._over.set()
        for one in self._threads:
            one.join(20)
            assert not one.is_alive()

    def _work(self, user: str) -> None:
        connection: psycopg.Connection[Any] | None = None
        number = 0
        while not self._over.wait(self._pause):
            mark, number = f"{user}.0.{number}", number + 1
            self.tried.add(mark)
            try:
                if connection is None or connection.broken:
                    connection = psycopg.connect(self._url, connect_timeout=2)
                self._put(connection, user, mark, undone=number % 5 == 0, identifies=user not in self._identified)
                self._identified.add(user)
            except psycopg.Error:  # the server is down: whether it was committed is not known
                connection = None
        if connection is not None:
            connection.close()

    def _put(
        self, connection: psycopg.Connection[Any], user: str, mark: str, *, undone: bool, identifies: bool
    ) -> None:
        kind, body = "track", json.dumps({"user_id": user, "event_name": "clicked", "metadata": {"mark": mark}})
        if identifies:
            kind, body = "user", json.dumps([{f"mark {mark}": 1}, None, 20, None])
        connection.execute(
            f"INSERT INTO {self._name}_inbox (kind, key, body, size) VALUES (%s, %s, %s, %s)",
            (kind, json.dumps(user), body, len(body)),
        )  # type: ignore[call-overload]  # a test's own words
        if undone:
            connection.rollback()
            self.undone.add(mark)
        else:
            connection.commit()
            self.committed.add(mark)


class PostgresHost(RemoteHost):
    """The processes of one outbox, and an application beside them."""

    runs = "postgres_worker"

    def __init__(self, folder: Path, url: str, server: PostgresServer, place: str, **orders: Any) -> None:
        name = place.partition("name=")[2]
        super().__init__(folder, url, Books(server, name), place, **orders)
        self.application = Application(server.url, name, 2, 0.3)

    def tried(self) -> set[str]:
        return super().tried() | self.application.tried


@contextmanager
def postgres_host(folder: Path, url: str, server: PostgresServer, **orders: Any) -> Iterator[PostgresHost]:
    """Processes that all have ended when the block does. ``orders`` are for each of them."""
    one = PostgresHost(folder, url, server, server.new_outbox(), **orders)
    try:
        yield one
    finally:
        one.application.stop()
        one.end()

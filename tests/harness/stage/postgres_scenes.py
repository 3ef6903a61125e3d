"""Clients with an outbox in PostgreSQL in the test's own process, and looks into that PostgreSQL."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from tests.harness.postgres_server import PostgresServer
from tests.harness.stage.loops import KEY, InProcess
from tests.harness.stage.outbox_files import LIMIT, an_emulator
from userpilot_async import Settings, UserpilotClient
from userpilot_async.emulator import Emulator
from userpilot_async.postgres import PostgresOutbox
from userpilot_async.postgres._schema import TABLES

OF_THE_OUTBOX = ("sender", "max_bytes", "lease_ttl", "timeout", "fallback", "keep_lost", "rebind")


@attrs.frozen
class Books:
    """What a PostgreSQL has of an outbox."""

    server: PostgresServer
    name: str

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, with the outbox's name in it."""
        return self.server.run(statement.format(self.name))

    def account(self) -> Counter[str]:
        """The account, count by count."""
        ((account,),) = self.ask("SELECT account FROM {}_state")
        counts: Counter[str] = Counter()
        for name, value in json.loads(account).items():
            counts.update(
                {f"{name}:{label}": n for label, n in value.items()} if isinstance(value, dict) else {name: value}
            )
        return counts

    def balanced(self) -> Counter[str]:
        """I1: every call that was accepted waits, or has an outcome. The account."""
        ((waiting, size, oldest),) = self.ask("SELECT count(*), coalesce(sum(size), 0), min(id) FROM {}_calls")
        ((noted,),) = self.ask("SELECT oldest FROM {}_state")
        account = self.account()
        lost = ("dead:", "dropped:")
        ended = {name: n for name, n in account.items() if name in ("delivered", "merged") or name.startswith(lost)}
        assert account["accepted"] == sum(ended.values()) + waiting, (dict(account), waiting)
        assert min(account.values(), default=0) >= 0, dict(account)
        assert account["bytes"] == size, dict(account)
        assert noted == (account["next_id"] if oldest is None else oldest)
        return account

    def fence(self) -> int:
        """How many leases there were."""
        ((fence,),) = self.ask("SELECT fence FROM {}_state")
        return int(fence)

    def holder(self) -> int | None:
        """The process that has the lease, while it lasts."""
        rows = self.ask("SELECT holder FROM {}_state WHERE lease <> '' AND lease_until > clock_timestamp()")
        return int(json.loads(rows[0][0])["pid"]) if rows else None

    def everything(self) -> dict[str, str]:
        """Each table, and all that is in it, as text."""
        return {one: str(self.ask(f"SELECT * FROM {{}}_{one}")) for one in TABLES}


@asynccontextmanager
async def with_postgres(url: str, emulator: Emulator | None = None, **more: Any) -> AsyncIterator[UserpilotClient]:
    """A client, open. Without an emulator it only puts. ``more`` are settings, or options of the outbox."""
    options = {name: more.pop(name) for name in OF_THE_OUTBOX if name in more}
    settings = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "burst": 1_000, "flush_interval": 0.01, **more}
    client = UserpilotClient(
        KEY,
        transport=InProcess(emulator or an_emulator()),
        outbox=PostgresOutbox(url, **{"sender": emulator is not None, **options}),
        settings=Settings(**settings),
    )
    async with client:
        yield client

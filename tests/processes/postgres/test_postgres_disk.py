"""The server's disk is really full: that of its tables, or that of its log (WAL), without which it cannot run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.postgres_server import PostgresServer
from tests.harness.stage.loops import wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.postgres_scenes import Books, with_postgres
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Log
from tests.processes.outbox.test_outbox_disk import LARGE_CALL, fill
from userpilot_async import OutboxError, Receipt, UserpilotClient
from userpilot_async.postgres._schema import TABLES

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]


@contextmanager
def small_disk(server: PostgresServer, name: str, megabytes: int) -> Iterator[Path]:
    """A file system of its own in the server's folder, of so many megabytes, that is the server's."""
    place = server.folder / name
    place.mkdir(parents=True)
    owner = server.owner()
    whose = f",uid={owner['user']},gid={owner['group']}" if owner else ""
    options = f"size={megabytes}m,mode=0700{whose}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        server.close()
        subprocess.run(["umount", str(place)], check=True)


async def until_not_held(userpilot: UserpilotClient, times: int) -> tuple[list[str], int]:
    """Put large calls until so many were not held: those that were, and how many were dropped and not raised for."""
    held: list[str] = []
    dropped = raised = 0
    with anyio.fail_after(60):
        while dropped + raised < times:
            mark = f"meanwhile {len(held) + dropped + raised}"
            try:
                receipt = await userpilot.track("u", "clicked", {"mark": mark, "large": LARGE_CALL})
            except OutboxError:
                raised += 1
            else:
                if receipt.reason == "outbox":
                    dropped += 1
                else:
                    held.append(mark)
    return held, dropped


def in_small_tables(server: PostgresServer, disk: Path) -> str:
    """The URL of a new outbox whose tables are on this disk."""
    url = server.new_outbox()
    server.run(f"CREATE TABLESPACE small LOCATION '{disk}'")
    for table in TABLES:
        server.run(f"ALTER TABLE {url.partition('name=')[2]}_{table} SET TABLESPACE small")
    return url


@ON_ASYNCIO
async def test_row_93_tables_on_a_full_disk_take_no_calls_and_lose_none(own_postgres: Start) -> None:
    server, emulator = own_postgres(), an_emulator(latency=0.02)
    with small_disk(server, "small", 12) as disk, Log() as log:
        url = in_small_tables(server, disk)
        async with with_postgres(url, emulator, max_wait=1.5, concurrency=2) as userpilot:
            accepted: list[Any] = [f"before {n}" for n in range(200)]
            async with anyio.create_task_group() as callers:
                for mark in accepted:
                    callers.start_soon(userpilot.track, f"user of {mark}", "clicked", {"mark": mark})
            filler = fill(disk)
            more, dropped = await until_not_held(userpilot, 3)
            filler.unlink()
            while (last := (await put(userpilot, ["afterwards"]))[0]).reason == "outbox":
                dropped += 1
            report = await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates
        account = Books(server, url.partition("name=")[2]).balanced()

    arrived = marks_at(emulator)
    accepted += [*more, "afterwards"]
    assert log.said("No space left on device"), "it was not full"
    assert "delivered" == last.status
    judge.conservation_by_id(accepted, {"delivered": set(arrived)})
    judge.duplicates(arrived, ambiguous)
    assert len(accepted) == account["delivered"] == report.statistics.delivered
    assert (dropped, 0) == (report.statistics.dropped, report.statistics.outbox_resets)


@pytest.mark.night
@ON_ASYNCIO
async def test_row_93_a_server_whose_log_has_no_room_has_all_its_calls_when_there_is_room_again(
    own_postgres: Start,
) -> None:
    """Whether PostgreSQL refuses to write then, or panics, depends on where it needs the room."""
    server, emulator = own_postgres(), an_emulator()
    url = server.new_outbox()
    receipts: dict[Any, Receipt] = {}
    server.stop()
    with small_disk(server, "wal", 40) as disk, Log() as log:
        for one in (server.data / "pg_wal").iterdir():
            subprocess.run(["cp", "-a", str(one), str(disk)], check=True)
        shutil.rmtree(server.data / "pg_wal")
        (server.data / "pg_wal").symlink_to(disk)
        server.start()
        async with with_postgres(url, emulator, max_wait=None) as userpilot:
            filler = fill(disk)
            server.run("SELECT pg_switch_wal()")  # the next one has no room
            over = anyio.Event()
            async with anyio.create_task_group() as callers:
                for number in range(4):
                    callers.start_soon(click, userpilot, over, receipts, f"u{number}")
                await wait_until(lambda: bool(log.said("calls wait meanwhile")), 60.0)
                over.set()
                filler.unlink()
                if not server.running:  # it could not recover without room
                    server.start()
            report = await sent(userpilot)
            ambiguous = userpilot.statistics().possible_duplicates
        account = Books(server, url.partition("name=")[2]).balanced()

    arrived = marks_at(emulator)
    assert "No space left on device" in server.log
    judge.conservation_by_id(list(receipts), {"delivered": set(arrived)})
    judge.duplicates(arrived, ambiguous)
    assert len(receipts) == account["delivered"] == report.statistics.delivered
    assert 0 == report.statistics.outbox_resets


async def click(userpilot: UserpilotClient, over: anyio.Event, receipts: dict[Any, Receipt], user: str) -> None:
    n = 0
    while not over.is_set():
        mark = f"{user}.{n}"
        receipts[mark] = await userpilot.track(user, "clicked", {"mark": mark, "large": LARGE_CALL})
        n += 1

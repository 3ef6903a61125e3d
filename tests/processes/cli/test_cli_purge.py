"""`userpilot-async outbox purge`: a person is erased from everything that is in the outbox, or has been."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import click.testing
import httpx
import pytest

from tests.harness import judge
from tests.harness.emulator_thread import emulator_thread
from tests.harness.raw_server import RefusedPort
from tests.harness.redis_server import RedisServer
from tests.processes.cli.conftest import MARKED, OTHER, client_of, fill, identify, lose, track, until, waiting
from userpilot_async import UserpilotClient
from userpilot_async._calls.stored import sealed, unsealed
from userpilot_async._outbox.admin import OutboxAdmin, PurgeReport, Subject
from userpilot_async.cli._exits import Exit
from userpilot_async.redis import RedisOutbox
from userpilot_async.sqlite._admin import SQLiteAdmin

Invoke = Callable[..., click.testing.Result]
PARTS = [(1, "ACME-9"), (2, "else")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def holding(path: Path, text: str = MARKED) -> list[str]:
    """The files, of those that belong to the outbox, in which the text stands."""
    return sorted(one.name for one in path.parent.iterdir() if text.encode() in one.read_bytes())


def rows(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()


def leave_in_free_pages(path: Path) -> None:
    """Delete calls of the person as a library does whose SQLite does not write over what it deletes."""
    fill(path, [track(MARKED, number) for number in range(200)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA secure_delete = OFF")
        db.execute("DELETE FROM calls")


def test_a_person_is_erased_from_waiting_lost_and_damaged_calls_from_free_pages_and_from_the_log(
    invoke: Invoke, path: Path
) -> None:
    leave_in_free_pages(path)
    assert holding(path) == ["events.db"], "there was nothing to erase"
    lose(path, [track(MARKED), identify(MARKED, plan="pro"), track(OTHER)])
    fill(path, [track(MARKED), identify(MARKED, {"id": "acme", "name": "A"}, mail=f"{MARKED}@b.c"), track(OTHER, 7)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO damaged SELECT id, at, kind, key, said, moment, size, crc FROM calls")
    user = sqlite3.connect(path, isolation_level=None)  # as long as somebody has it open, the log is kept
    user.execute("SELECT count(*) FROM calls").fetchone()

    result = invoke("outbox", "purge", path, "--user", MARKED, "--yes")
    left = holding(path)
    user.close()

    assert Exit.FINE == result.exit_code, result.output
    assert "erased: 2 calls that waited, 2 lost, 2 damaged" in result.output
    assert "1 damaged row is left" in result.output
    assert [] == left == holding(path)
    assert ["events.db"] == holding(path, OTHER)
    assert [7] == [json.loads(row[4])["metadata"]["serial"] for row in rows(path, "calls")]
    assert 1 == len(rows(path, "lost"))


def test_what_waited_is_dropped_and_the_account_balances(invoke: Invoke, path: Path) -> None:
    fill(path, [track(MARKED), track(OTHER), track(MARKED)])

    invoke("outbox", "purge", path, "--user", MARKED, "--yes")

    account = SQLiteAdmin(path).inspect().account
    assert (3, {"purged": 2}, 1) == (account.accepted, account.dropped, account.waiting)
    assert account.bytes == sum(row[6] for row in rows(path, "calls"))


def test_a_company_goes_with_what_identifies_of_users_say_of_it_and_those_stay(invoke: Invoke, path: Path) -> None:
    company = {"id": "ACME-9", "name": "ACME-9 Ltd"}
    lose(path, [identify(OTHER, company, lost=True)])
    fill(path, [identify(OTHER, company, plan="pro"), identify(OTHER, {"id": "else"}), track("ACME-9")])
    fill(path, [{"type": "identify_company", "company_id": "ACME-9", "metadata": {"seats": 2}}])

    with closing(sqlite3.connect(path, isolation_level=None)) as db:  # as if the server had been told some of it
        db.executemany("INSERT INTO parts VALUES (?, ?)", [(id, sealed([id, "company", key])) for id, key in PARTS])

    result = invoke("outbox", "purge", path, "--company", "ACME-9", "--yes")

    assert [PARTS[1]] == [tuple(unsealed(row[1])[::2]) for row in rows(path, "parts")]
    assert "erased: 1 call that waited, 0 lost, 0 damaged" in result.output
    assert "2 calls of users named the company" in result.output
    assert b"ACME-9 Ltd" not in path.read_bytes()
    lose(path, [])
    calls = [json.loads(line) for line in invoke("outbox", "dead", path, "--json").stdout.splitlines()]
    said = [identify(OTHER, lost=True), identify(OTHER, plan="pro"), identify(OTHER, {"id": "else"})]
    assert said == [call for call in calls if call["type"] == "identify"]
    assert 1 == sum(call["type"] == "track" for call in calls)


def test_a_damaged_row_that_nobody_has_noticed_yet_goes_too(invoke: Invoke, path: Path) -> None:
    fill(path, [track(MARKED), track(OTHER)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert 1 == db.execute("UPDATE calls SET key = '\"some' WHERE id = 0").rowcount

    result = invoke("outbox", "purge", path, "--user", MARKED, "--yes")

    assert "erased: 1 call that waited" in result.output
    assert [] == holding(path)
    assert [1] == [row[0] for row in rows(path, "calls")]


def test_it_asks_first_and_no_means_no(invoke: Invoke, path: Path) -> None:
    fill(path, [track(MARKED)])

    asked = invoke("outbox", "purge", path, "--user", MARKED, stdin="n\n")

    assert Exit.LOST == asked.exit_code
    assert "to be erased: 1 call that waits" in asked.output
    assert 1 == len(rows(path, "calls"))
    assert Exit.FINE == invoke("outbox", "purge", path, "--user", MARKED, stdin="y\n").exit_code
    assert [] == rows(path, "calls")


def test_quarantined_files_are_named_and_not_touched(invoke: Invoke, path: Path) -> None:
    fill(path, [track(MARKED)])
    aside = path.with_name("events.db.damaged-1")
    aside.write_text(MARKED)

    result = invoke("outbox", "purge", path, "--user", MARKED, "--yes", "--json")

    assert ["events.db.damaged-1"] == json.loads(result.stdout)["quarantined"] == holding(path)
    assert "quarantined files are not touched: events.db.damaged-1" in result.stderr


# ── the same in a file and in Redis ──


def seen_at(url: str, what: str) -> list[dict[str, Any]]:
    with httpx.Client(base_url=url, trust_env=False) as http:
        items: list[dict[str, Any]] = http.get(f"/__emulator__/{what}").json()["items"]
        return items


@attrs.frozen
class Place:
    """A place where calls wait, a purge of it, and a view into it."""

    where: Path | str
    admin: OutboxAdmin
    waiting: Callable[[], Sequence[tuple[Any, ...]]]
    """The calls that wait, with their ids in front."""

    async def purged(self, user: str) -> PurgeReport:
        return await anyio.to_thread.run_sync(self.admin.purge, Subject("user", user))


async def with_a_job(userpilot: UserpilotClient) -> None:
    """Have the calls of 60 users, one of them to be purged, go into a background job."""
    for number in range(60):
        await userpilot.identify(MARKED if number == 30 else f"u{number}", {"number": number})
    with anyio.fail_after(20):
        while not userpilot.statistics().submitted:
            await userpilot.flush(0.01)


class Purges:
    """Purges that are the same wherever the calls wait; a subclass says where."""

    def test_nobody_else_is_touched(self, invoke: Invoke, place: Place) -> None:
        """Ids that begin or end alike, a company of the same name, a property with the id in it."""
        others = [
            track(MARKED + "1"), track("x" + MARKED), track(f"e:{MARKED}"), identify(OTHER, {"id": MARKED}),
            {"type": "identify_company", "company_id": MARKED, "metadata": {}},
            {**track(OTHER), "metadata": {"invited_by": MARKED}},
        ]  # fmt: skip
        fill(place.where, others)
        before = place.waiting()

        result = invoke("outbox", "purge", place.where, "--user", MARKED, "--yes")

        assert "erased: 0 calls that waited, 0 lost, 0 damaged" in result.output
        assert "named the company" not in result.output
        assert before == place.waiting()

    def test_at_parcelvoy_a_person_is_known_by_either_id_and_the_other_one_is_told(
        self, invoke: Invoke, place: Place
    ) -> None:
        calls: list[dict[str, Any]] = [
            {"type": "track", "name": "Opened", "external_id": "p1"},
            {"type": "track", "name": "Opened", "anonymous_id": "p1"},
            {"type": "alias", "anonymous_id": "a-77", "external_id": "p1"},
            {"type": "track", "name": "Opened", "anonymous_id": "a-77"},
            {"type": "identify", "external_id": "e:p1", "data": {}},
        ]
        fill(place.where, calls, to="parcelvoy")

        result = invoke("outbox", "purge", place.where, "--user", "p1", "--yes")

        assert "erased: 3 calls that waited" in result.output
        assert "the same calls name a-77" in result.output
        assert [3, 4] == [call[0] for call in place.waiting()]

    def test_a_live_sender_is_named_as_what_may_still_send_them(self, invoke: Invoke, place: Place) -> None:
        said: list[str] = []

        async def beside() -> None:
            async with client_of(place.where) as sender:
                await until(lambda: sender.statistics().is_sender)
                purge = partial(invoke, "outbox", "purge", place.where, "--user", "u1", "--yes")
                said.append((await anyio.to_thread.run_sync(purge)).stderr)

        anyio.run(beside)

        assert "sends: calls that it has in memory may still be sent" in said[0]

    @pytest.mark.anyio
    async def test_live_processes_hear_of_it(self, place: Place) -> None:
        with RefusedPort() as nobody:
            async with client_of(place.where, nobody.url) as sender, client_of(place.where, nobody.url) as putter:
                receipt = await putter.track(MARKED, "Opened")
                await putter.track(OTHER, "Opened")
                await place.purged(MARKED)
                await until(lambda: sender.statistics().dropped == putter.statistics().dropped == 1)

                assert ("dropped", "purged") == (receipt.status, receipt.reason)
                assert 1 == sender.statistics().pending == putter.statistics().pending
                judge.conservation(sender.statistics())
                judge.conservation(putter.statistics())

    @pytest.mark.anyio
    async def test_a_row_in_a_background_job_is_purged_and_the_job_settles_the_others(self, place: Place) -> None:
        with emulator_thread() as url:
            async with client_of(place.where, url) as sender:
                await with_a_job(sender)
                await place.purged(MARKED)
                report = await sender.flush(30)

                seen = report.statistics
                assert report.complete
                assert (60, 59, 1, 0) == (seen.accepted, seen.delivered, seen.dropped, seen.submitted)
                judge.conservation(seen)

    @pytest.mark.anyio
    async def test_under_purges_and_retries_beside_a_live_sender_the_account_always_balances(
        self, place: Place
    ) -> None:
        users, admin = [f"user-{number}" for number in range(5)], place.admin
        seen = {"purged": 0, "retried": 0, "lost": 0}
        with emulator_thread("--latency", "0.02", "--rate-limit", "60000") as url:
            fault = {"path": "/v1/track", "user_id": users[0], "status": 422, "times": None}
            httpx.post(f"{url}/__emulator__/faults", json=fault, trust_env=False).raise_for_status()
            async with client_of(place.where, url, track_per_minute=60_000, burst=10_000) as sender:
                for turn in range(60):
                    for user in users:
                        await sender.track(user, "Opened", {"turn": turn})
                    if not turn % 3:
                        seen["purged"] += (await place.purged(users[turn % 5])).waiting
                    if turn % 3 == 1:
                        seen["retried"] += (await anyio.to_thread.run_sync(admin.retry)).calls
                    now = await anyio.to_thread.run_sync(admin.inspect)
                    assert now.account.waiting >= 0
                    judge.conservation(sender.statistics())
                assert (await sender.flush(30)).complete
                seen["retried"] += (await anyio.to_thread.run_sync(admin.retry)).calls
                await until(lambda: not admin.inspect().account.waiting)  # the sender hears of them by polling

        account = admin.inspect().account
        seen["lost"] = account.dead.get("invalid", 0)
        judge.happened(seen, "purged", "retried", "lost")
        assert 300 + seen["retried"] == account.accepted
        assert (0, 0) == (account.waiting, account.bytes)
        assert seen["purged"] == account.dropped["purged"]


class TestInAFile(Purges):
    """Purges of a SQLite file, beside clients that have it open."""

    @pytest.fixture
    def place(self, path: Path) -> Place:
        return Place(path, SQLiteAdmin(path), partial(rows, path, "calls"))

    @pytest.mark.anyio
    async def test_live_processes_hear_of_it(self, place: Place) -> None:
        await super().test_live_processes_hear_of_it(place)

        assert [] == holding(Path(place.where))

    @pytest.mark.night
    @pytest.mark.anyio
    async def test_under_purges_and_retries_beside_a_live_sender_the_account_always_balances(
        self, place: Place
    ) -> None:
        await super().test_under_purges_and_retries_beside_a_live_sender_the_account_always_balances(place)

        with closing(sqlite3.connect(place.where)) as db:
            assert [("ok",)] == db.execute("PRAGMA integrity_check").fetchall()
            assert [(0,)] == db.execute("SELECT count(*) FROM calls").fetchall()

    @pytest.mark.anyio
    async def test_a_sender_that_has_merged_what_is_purged_goes_on_and_its_account_balances(self, place: Place) -> None:
        """The person's row may still go out: it is in the sender's memory."""
        with emulator_thread("--latency", "0.3") as url:
            async with client_of(place.where, url, flush_interval=2.0) as sender:
                for number in range(3):
                    await sender.identify(MARKED, {"number": number})
                await until(lambda: sender.statistics().merged == 2)
                erased = await place.purged(MARKED)
                await until(lambda: sender.statistics().dropped == 3)
                judge.conservation(sender.statistics())
                await sender.track(OTHER, "Opened")
                report = await sender.flush(20)

                assert 3 == erased.waiting
                assert report.complete
                seen = report.statistics
                assert (4, 1, 3, 0, 0) == (seen.accepted, seen.delivered, seen.dropped, seen.merged, seen.pending)
                judge.conservation(seen)
        assert [] == holding(Path(place.where))

    @pytest.mark.anyio
    async def test_calls_of_which_a_request_is_under_way_are_settled_once(self, place: Place) -> None:
        with emulator_thread("--latency", "0.5") as url:
            async with client_of(place.where, url) as sender:
                await sender.track(MARKED, "Opened")
                await until(lambda: sender.statistics().in_flight == 1)
                await place.purged(MARKED)
                report = await sender.flush(20)
                await until(lambda: sender.statistics().in_flight == 0)

                seen = report.statistics
                assert (1, 0, 1) == (seen.accepted, seen.delivered, seen.dropped)
                judge.conservation(sender.statistics())

    @pytest.mark.night
    @pytest.mark.anyio
    async def test_the_next_sender_takes_a_job_over_from_which_a_row_was_purged(self, place: Place) -> None:
        with emulator_thread() as url:
            async with client_of(place.where, url) as first:
                await with_a_job(first)
                await first.aclose(0.0)
            await place.purged(MARKED)
            await until(lambda: [job["status"] for job in seen_at(url, "jobs")] == ["completed"])
            async with client_of(place.where, url) as second:
                report = await second.flush(30)

                seen = report.statistics
                assert report.complete
                assert (60, 59, 1) == (seen.accepted, seen.delivered, seen.dropped)
                assert 0 == seen.requests.get("bulk_users", 0)
                judge.conservation(seen)


class TestInRedis(Purges):
    """Purges of an outbox in Redis, beside clients that have it open."""

    @pytest.fixture
    def place(self, redis_url: str, redis_server: RedisServer) -> Place:
        return Place(redis_url, RedisOutbox(redis_url).admin(), partial(waiting, redis_server))

    @pytest.mark.night
    @pytest.mark.anyio
    async def test_a_row_in_a_background_job_is_purged_and_the_job_settles_the_others(self, place: Place) -> None:
        await super().test_a_row_in_a_background_job_is_purged_and_the_job_settles_the_others(place)

"""`userpilot-async demo --transactions`: events commit with a shop's orders, and two of its processes are killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click.testing
import pytest

from tests.harness.postgres_server import missing
from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import userpilot
from userpilot_async.cli._exits import Exit, Unreachable
from userpilot_async.cli.demo import _postgres_server
from userpilot_async.cli.demo._postgres_server import Programs
from userpilot_async.cli.demo._transactions import Comparison, Death, ShopReport, Told, compare

Invoke = Callable[..., click.testing.Result]


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_events_commit_with_orders_though_the_sender_and_another_process_are_killed() -> None:
    """Whatever account, outbox and database the environment has, they are left alone."""
    with RefusedPort() as account:
        env = {
            "USERPILOT_BASE_URL": account.url, "USERPILOT_API_KEY": "LIVE", "USERPILOT_OUTBOX": "redis://live/0",
            "PGHOST": "live", "PGPORT": "1", "PGPASSWORD": "SECRET",
        }  # fmt: skip
        result = userpilot("demo", "--transactions", "--json", env=env, timeout=150)

    assert result.returncode == Exit.FINE, result.stderr
    report = json.loads(result.stdout)
    assert [False, True] == [death["was_sender"] for death in report["deaths"]]
    assert 2 == result.stderr.count("(SIGKILL)")
    assert report["rolled_back"] > 0
    assert report["cut_off"] > 0
    assert report["orders"] == report["committed"] + report["cut_off_committed"] == report["delivered"]
    assert report["events"] == report["orders"] + report["twice"]
    assert (0, 0, 0) == (report["missing"], report["unfounded"], report["untrue"])
    assert report["twice"] <= report["possible_duplicates"]


def test_without_a_postgresql_it_says_how_to_get_one(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_postgres_server, "DEBIAN", tmp_path)

    result = invoke("demo", "--transactions")

    assert Exit.UNREACHABLE == result.exit_code
    assert "there is none on PATH: apt-get install postgresql, or brew install postgresql" in result.output
    assert 1 == len(result.output.splitlines())


def test_on_debian_the_newest_postgresql_is_found_off_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setattr(_postgres_server, "DEBIAN", tmp_path)
    for version in ("9.6", "13", "15"):
        place = tmp_path / version / "bin"
        place.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (place / name).touch(mode=0o755)

    found = _postgres_server.postgres_programs()

    assert str(tmp_path / "15/bin/initdb") == found.initdb
    assert str(tmp_path / "15/bin/postgres") == found.postgres
    assert (os.geteuid() == 0) == ("user" in found.owner), "PostgreSQL refuses to run as root"


@pytest.mark.anyio
async def test_why_no_server_can_be_made_is_told_in_the_words_of_initdb(tmp_path: Path) -> None:
    initdb = tmp_path / "initdb"
    initdb.write_text("#!/bin/sh\necho 'The files belong to nobody.'\necho 'initdb: error: no room' >&2\nexit 1\n")
    initdb.chmod(0o755)
    programs = Programs(str(initdb), "/nowhere/postgres", {})

    with pytest.raises(Unreachable, match=r"^PostgreSQL cannot be set up here: initdb: error: no room$"):
        async with _postgres_server.postgres_process(programs):
            pass


# ── the verdict ──

ONE_OF_EACH = Told(began={1, 2, 3, 4, 5}, committed={1, 2}, rolled_back={3})  # 4 and 5 were cut off by a kill


def test_orders_and_events_are_the_same_set() -> None:
    found = compare(ONE_OF_EACH, [1, 2, 4], [4, 2, 1, 1])

    assert Comparison(
        transactions=5, committed=2, rolled_back=1, cut_off=2, cut_off_committed=1,
        orders=3, events=4, missing=0, unfounded=0, twice=1, untrue=0,
    ) == found  # fmt: skip
    assert found.fine_but_for(1)
    assert not found.fine_but_for(0)


@pytest.mark.parametrize(
    ("orders", "events", "wrong"),
    [
        ([1, 2], [1], "missing"),
        ([1, 2], [1, 2, 3], "unfounded"),  # which was rolled back
        ([1, 2], [1, 2, 4], "unfounded"),  # which was cut off
        ([1], [1], "untrue"),  # 2 was committed
        ([1, 2, 3], [1, 2, 3], "untrue"),  # 3 was rolled back
        ([1, 2, 9], [1, 2, 9], "untrue"),  # nobody has begun that
    ],
)
def test_each_difference_is_noticed(orders: list[int], events: list[int], wrong: str) -> None:
    found = compare(ONE_OF_EACH, orders, events)

    assert [wrong] == [name for name in ("missing", "unfounded", "untrue") if getattr(found, name)]
    assert not found.fine_but_for(9)


def report(**changed: Any) -> ShopReport:
    of_comparison = {name: changed.pop(name) for name in list(changed) if name in attrs.fields_dict(Comparison)}
    fields = {
        "deaths": [
            Death(1, was_sender=False, waiting=0, under_way=0),
            Death(2, was_sender=True, waiting=3, under_way=1),
        ],
        "takeover": 2.0,
        "account": {"accepted": 3, "delivered": 3, "dead": 0, "dropped": 0, "merged": 0, "pending": 0},
        "possible_duplicates": 1,
        "comparison": attrs.evolve(compare(ONE_OF_EACH, [1, 2, 4], [1, 2, 4, 4]), **of_comparison),
        "elapsed": 9.0,
    }
    return ShopReport(**{**fields, **changed})


def test_it_is_fine_if_two_were_killed_amid_transactions_and_all_is_there() -> None:
    fine = report()

    assert Exit.FINE == fine.exit_code
    assert "orders and events are the same set" in fine.as_text()
    assert "  userpilot-async docs transactions" in "\n".join(fine.as_text())


@pytest.mark.parametrize(
    "changed",
    [
        {"deaths": [Death(2, was_sender=True, waiting=3, under_way=1)]},
        {"deaths": [Death(one, was_sender=True, waiting=3, under_way=1) for one in (1, 2)]},
        {"deaths": [Death(one, was_sender=one == 2, waiting=0, under_way=0) for one in (1, 2)]},
        {"cut_off": 0}, {"rolled_back": 0}, {"missing": 1}, {"unfounded": 1}, {"untrue": 1}, {"twice": 2},
        {"account": {"accepted": 3, "delivered": 2, "dead": 1, "dropped": 0, "merged": 0, "pending": 0}},
    ],
)  # fmt: skip
def test_it_fails_if_it_proves_nothing_or_an_order_and_an_event_differ(changed: dict[str, Any]) -> None:
    failed = report(**changed)

    assert Exit.LOST == failed.exit_code
    assert "Next:" not in failed.as_text()

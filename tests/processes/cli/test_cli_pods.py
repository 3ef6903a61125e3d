"""`userpilot-async demo --pods`: many put into Redis, one sends, and is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click.testing
import pytest

from tests.harness.postgres_server import PostgresServer
from tests.harness.raw_server import RefusedPort
from tests.harness.redis_server import missing
from tests.processes.cli.conftest import fill, track, userpilot
from userpilot_async._outbox.url import admin_at
from userpilot_async._userpilot.calls import from_dict
from userpilot_async.cli._exits import Exit
from userpilot_async.cli.demo import _redis_server
from userpilot_async.cli.demo._oracle import Judgement
from userpilot_async.cli.demo._pod import shares
from userpilot_async.cli.demo._pods import Death, FailoverReport, worst_minute

Invoke = Callable[..., click.testing.Result]
with_redis = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@with_redis
def test_the_sender_of_three_pods_is_killed_and_another_one_goes_on_without_a_loss() -> None:
    """Whatever account and outbox the environment has, they are left alone."""
    with RefusedPort() as account:
        env = {"USERPILOT_BASE_URL": account.url, "USERPILOT_API_KEY": "LIVE", "USERPILOT_OUTBOX": "redis://live/0"}
        result = userpilot("demo", "--pods", "3", "--json", env=env, timeout=150)

    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE == report["exit_code"], result.stderr
    assert 3 == len(report["pods"]) == result.stderr.count("has put")
    assert 1 == result.stderr.count("(SIGKILL)")
    assert sum(report["pods"]) == report["calls"] == report["accepted"] == report["delivered"] + report["merged"]
    assert report["accepted"] == report["death"]["sent"] + report["sent_after"]
    assert report["death"]["waiting"] > 0
    assert report["death"]["under_way"] > 0
    assert 20 > report["death"]["takeover"] > 0
    assert (0, []) == (report["emulator"]["missing"], report["emulator"]["wrong"])
    assert report["emulator"]["twice"] <= report["possible_duplicates"]
    assert 600 >= report["worst_minute"] > 0
    assert 0 == report["refused_jobs"]


@pytest.mark.night
def test_an_outbox_in_postgresql_is_taken_after_its_tables_are_made(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_name()
    url = f"{postgres_server.url}?name={name}"

    refused = userpilot("demo", "--pods", "2", "--outbox", url)
    postgres_server.migrate(name)
    result = userpilot("demo", "--pods", "2", "--outbox", url, "--json", timeout=150)

    assert "`userpilot-async outbox migrate` makes them" in refused.stderr
    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE == report["exit_code"], result.stderr
    assert report["calls"] == report["accepted"] == report["delivered"] + report["merged"]
    assert report["death"]["waiting"] > 0


def test_without_a_redis_server_it_says_how_to_get_one(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_server, "PROGRAM", "no-such-redis-server")

    result = invoke("demo", "--pods", "3")

    assert Exit.USAGE == result.exit_code
    assert "no no-such-redis-server on PATH: apt-get install redis-server, or brew install redis" in result.output


def test_an_outbox_of_the_users_is_taken_only_if_nothing_was_ever_in_it(
    invoke: Invoke, redis_url: str, tmp_path: Path
) -> None:
    """Or the demonstration would send invented calls to somebody's emulator, or rebind somebody's outbox."""
    fill(redis_url, [track()])

    result = invoke("demo", "--pods", "3", "--outbox", redis_url)

    assert Exit.USAGE == result.exit_code
    assert "has been in use; the demo needs a new outbox" in result.output
    assert 1 == admin_at(redis_url).inspect().account.accepted
    (tmp_path / "calls.db").touch()
    for wrong in (tmp_path / "calls.db", "memory://", "ftp://host/x"):
        assert Exit.USAGE == invoke("demo", "--pods", "3", "--outbox", wrong).exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ["--crash", "--pods", "3"], ["--pods", "0"], ["--pods", "9"], ["--pods"], ["--transactions", "--pods", "3"],
        ["--transactions", "--crash"], ["--transactions", "--outbox", "redis://host/0"], ["--outbox", "redis://host/0"],
    ],
)  # fmt: skip
def test_wrong_usage_is_told(invoke: Invoke, arguments: list[str]) -> None:
    assert Exit.USAGE == invoke("demo", *arguments).exit_code


# ── the verdict ──


def failover(**changed: Any) -> FailoverReport:
    of_death = {name: changed.pop(name) for name in list(changed) if name in attrs.fields_dict(Death)}
    of_server = {name: changed.pop(name) for name in list(changed) if name in attrs.fields_dict(Judgement)}
    counts = {"accepted": 9, "delivered": 8, "dead": 0, "dropped": 0, "merged": 1, "pending": 0}
    account = {name: changed.pop(name, count) for name, count in counts.items()}
    fields = {
        "pods": [4, 5], "valid": 9, "sent_after": 5, "possible_duplicates": 2, "worst_minute": 600, "bulk_jobs": 2,
        "refused_jobs": 0, "elapsed": 9.0, "account": account,
        "death": Death(**{"pid": 1, "sent": 4, "waiting": 5, "under_way": 1, "takeover": 1.5, **of_death}),
        "judgement": Judgement(
            **{"users": 1, "companies": 1, "events": 1, "missing": 0, "twice": 2, "wrong": (), **of_server}
        ),
    }  # fmt: skip
    return FailoverReport(**{**fields, **changed})


def test_it_is_fine_if_the_sender_was_killed_in_mid_flight_and_all_is_there() -> None:
    assert Exit.FINE == failover().exit_code


@pytest.mark.parametrize(
    "changed",
    [
        {"sent": 0}, {"waiting": 0}, {"under_way": 0}, {"missing": 1}, {"twice": 3}, {"wrong": ("1 user",)},
        {"pods": [4, 4]}, {"accepted": 8}, {"dead": 1, "delivered": 7}, {"pending": 1, "delivered": 7},
        {"worst_minute": 601}, {"refused_jobs": 1},
    ],
)  # fmt: skip
def test_it_fails_if_it_proves_nothing_or_lost_something_or_broke_a_rule(changed: dict[str, Any]) -> None:
    assert Exit.LOST == failover(**changed).exit_code


def test_the_worst_minute_counts_each_kind_of_request_by_itself_and_no_minute_twice() -> None:
    stamps = [("track", 0.0), ("track", 59.9), ("track", 60.0), ("users", 60.0), ("track", 61.0)]

    assert 3 == worst_minute([{"family": family, "stamp": stamp} for family, stamp in stamps])
    assert 0 == worst_minute([])


def test_all_that_is_said_of_a_company_and_its_people_goes_to_one_pod_in_order() -> None:
    calls = [
        from_dict(call)
        for call in (
            {"type": "identify", "user_id": "u1", "metadata": {}, "company": {"id": "a"}},
            {"type": "track", "user_id": "u2", "event_name": "Opened"},
            {"type": "identify", "user_id": "u2", "metadata": {}, "company": {"id": "a"}},
            {"type": "identify_company", "company_id": "a", "metadata": {}},
            {"type": "identify", "user_id": "u3", "metadata": {}},
            {"type": "track", "user_id": "u1", "event_name": "Opened"},
        )
    ]

    found = shares(calls, 3)

    assert [[*calls[:4], calls[5]], [calls[4]], []] == found

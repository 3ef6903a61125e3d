from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness.raw_server import RefusedPort
from tests.processes.cli.conftest import userpilot
from userpilot_async.cli._exits import Exit
from userpilot_async.cli.demo._crash import CrashReport, Death
from userpilot_async.cli.demo._oracle import Judgement


def test_the_demo_proves_within_a_minute_that_20_550_calls_arrived_once() -> None:
    """Whatever account the environment has, it is left alone: this one would refuse every connection."""
    with RefusedPort() as account:
        env = {"USERPILOT_BASE_URL": account.url, "USERPILOT_API_KEY": "LIVE", "USERPILOT_OUTBOX": "sqlite:///live.db"}
        result = userpilot("demo", "--json", env=env, timeout=120)

    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE == report["exit_code"]
    assert 60 > report["elapsed"]
    assert report["accepted"] == 20_550 == report["delivered"] + report["merged"]
    assert report["rejected"] == 12
    assert 1_000 > report["requests_total"]
    assert {"users": 2_000, "companies": 50, "events": 550, "missing": 0, "twice": 0, "wrong": [], "fine": True} == (
        report["emulator"]
    )
    assert "accepted, " in result.stderr  # plain lines of progress, as there is no terminal


@pytest.mark.night
def test_the_crash_demo_kills_the_sender_in_mid_flight_and_proves_that_nothing_is_missing() -> None:
    with RefusedPort() as account:
        env = {"USERPILOT_BASE_URL": account.url, "USERPILOT_API_KEY": "LIVE", "USERPILOT_REGION": "eu"}
        result = userpilot("demo", "--crash", "--json", env=env, timeout=120)

    report = json.loads(result.stdout)
    assert result.returncode == Exit.FINE == report["exit_code"], result.stderr
    assert 4 == len(report["deaths"]) == result.stderr.count("(SIGKILL)")
    for death in report["deaths"]:
        assert death["waiting"] > 0
        assert death["under_way"] > 0
        assert death["acknowledged"] <= death["accepted"]
    assert report["calls"] == report["accepted"] == report["delivered"] + report["merged"]
    assert (0, []) == (report["emulator"]["missing"], report["emulator"]["wrong"])
    assert report["emulator"]["twice"] <= report["possible_duplicates"]


def death(**changed: int) -> Death:
    return Death(**{"acknowledged": 5, "accepted": 5, "waiting": 3, "under_way": 1, **changed})


def crash(deaths: list[Death], judged: dict[str, Any], **changed: int) -> CrashReport:
    account = {"accepted": 9, "delivered": 8, "dead": 0, "dropped": 0, "merged": 1, "pending": 0, **changed}
    judgement = Judgement(**{"users": 1, "companies": 1, "events": 1, "missing": 0, "twice": 2, "wrong": (), **judged})
    return CrashReport(deaths, account, 9, 2, judgement, 1.0)


def test_a_crash_demo_is_fine_if_it_was_killed_as_promised_and_all_is_there() -> None:
    assert Exit.FINE == crash([death()] * 4, {}).exit_code


@pytest.mark.parametrize(
    ("deaths", "judged", "changed"),
    [
        ([death()] * 3, {}, {}),
        ([*[death()] * 3, death(waiting=0)], {}, {}),
        ([*[death()] * 3, death(under_way=0)], {}, {}),
        ([*[death()] * 3, death(accepted=4)], {}, {}),
        ([death()] * 4, {"missing": 1}, {}),
        ([death()] * 4, {"twice": 3}, {}),
        ([death()] * 4, {"wrong": ("1 users have other properties",)}, {}),
        ([death()] * 4, {}, {"accepted": 8}),
        ([death()] * 4, {}, {"dead": 1, "delivered": 7}),
        ([death()] * 4, {}, {"pending": 1, "delivered": 7}),
    ],
)
def test_a_crash_demo_that_proves_nothing_or_lost_something_fails(
    deaths: list[Death], judged: dict[str, Any], changed: dict[str, int]
) -> None:
    assert Exit.LOST == crash(deaths, judged, **changed).exit_code

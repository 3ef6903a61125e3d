from __future__ import annotations

import json

from tests.cli.conftest import userpilot
from tests.harness.raw_server import RefusedPort
from userpilot_async.cli._exits import Exit


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

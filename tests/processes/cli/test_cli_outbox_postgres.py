"""`userpilot-async outbox` where the calls wait in PostgreSQL: its tables are made by it, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click.testing
import pytest

from tests.harness.postgres_server import PostgresServer
from tests.processes.cli.conftest import MARKED, OTHER, Received, Run, fill, identify, lose, track
from userpilot_async import OutboxError
from userpilot_async.cli._exits import Exit

Invoke = Callable[..., click.testing.Result]
ONE = "{'type': 'track'}"


def shown(invoke: Invoke, url: str) -> dict[str, Any]:
    result = invoke("outbox", url, "--json")
    assert result.exit_code == Exit.FINE, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def put_in_inbox(server: PostgresServer, url: str, user: str = "u1", count: int = 1) -> None:
    """Put tracks as a transaction of the application's does."""
    name = url.partition("name=")[2]
    server.run(
        f"INSERT INTO {name}_inbox (kind, key, body, size) SELECT 'track', %s, %s, 40 FROM generate_series(1, %s)",
        values=(json.dumps(user), json.dumps({"user_id": user, "event_name": "Opened", "metadata": {}}), count),
    )


def test_the_tables_are_made_by_a_command_which_opening_names(postgres_server: PostgresServer, invoke: Invoke) -> None:
    url = f"{postgres_server.url}?name={postgres_server.new_name()}"
    with pytest.raises(OutboxError, match="`userpilot-async outbox migrate` makes them"):
        fill(url, [track()])
    refused = invoke("outbox", url)
    printed = invoke("outbox", "migrate", url, "--sql")
    still = invoke("outbox", url)
    made, again = invoke("outbox", "migrate", url), invoke("outbox", "migrate", url)
    fill(url, [track()])

    assert Exit.FINE != refused.exit_code == still.exit_code
    assert "`userpilot-async outbox migrate` makes them" in refused.output
    assert printed.output.startswith("BEGIN;\nCREATE TABLE ")
    assert printed.output.endswith("COMMIT;\n")
    assert "the tables are made" in made.output
    assert "nothing to do" in again.output
    assert "-- nothing to do\n" == invoke("outbox", "migrate", url, "--sql").output
    assert 1 == shown(invoke, url)["waiting"]["calls"]


def test_what_a_dry_run_prints_makes_the_tables(postgres_server: PostgresServer, invoke: Invoke) -> None:
    url = f"{postgres_server.url}?name={postgres_server.new_name()}"
    postgres_server.run(invoke("outbox", "migrate", url, "--sql").output)
    fill(url, [track()])

    assert 1 == shown(invoke, url)["waiting"]["calls"]


def test_only_postgresql_has_tables_to_be_made(invoke: Invoke, redis_url: str) -> None:
    refused = invoke("outbox", "migrate", redis_url)

    assert Exit.USAGE == refused.exit_code
    assert "only an outbox in PostgreSQL has to be made" in refused.output


def test_show_counts_what_waits_and_what_is_not_accepted_yet(
    postgres_server: PostgresServer, postgres_url: str, invoke: Invoke
) -> None:
    fill(postgres_url, [track(), identify()])
    put_in_inbox(postgres_server, postgres_url, count=3)
    seen = shown(invoke, postgres_url)

    assert (2, 3, 120) == (seen["waiting"]["calls"], seen["inbox"]["calls"], seen["inbox"]["bytes"])
    assert (2, 0) == (seen["account"]["accepted"], seen["account"]["delivered"])
    assert (
        "inbox        3 calls, 120 bytes, which a sender has still to accept" in invoke("outbox", postgres_url).output
    )


def test_drain_accepts_what_transactions_have_put_and_sends_it_all(
    postgres_server: PostgresServer, postgres_url: str, run: Run, received: Received, server: str
) -> None:
    fill(postgres_url, [track(serial=1)], base_url=server)
    put_in_inbox(postgres_server, postgres_url, count=2)
    drained = run("drain", "--outbox", postgres_url, "--once")

    assert 0 == drained.returncode, drained.stderr
    assert 3 == len(received("events"))


def test_lost_calls_are_listed_put_back_and_purged(postgres_url: str, invoke: Invoke) -> None:
    lose(postgres_url, [track(MARKED, 1), track(OTHER, 2), track(MARKED, 3)])
    dead = [json.loads(line) for line in invoke("outbox", "dead", postgres_url, "--json").stdout.splitlines()]
    back = json.loads(invoke("outbox", "retry", postgres_url, "--id", "0", "--json").stdout)
    purged = json.loads(invoke("outbox", "purge", postgres_url, "--user", MARKED, "--yes", "--json").stdout)
    left = [json.loads(line) for line in invoke("outbox", "dead", postgres_url, "--json").stdout.splitlines()]

    assert [1, 2, 3] == [one["metadata"]["serial"] for one in dead]
    assert (1, 3) == (back["retried"], back["first_id"])
    assert (1, 1, True) == (purged["waiting"], purged["lost"], purged["done"])
    assert [OTHER] == [one["user_id"] for one in left]


def test_a_purge_finds_a_person_in_the_inbox_and_a_company_in_identifies(
    postgres_server: PostgresServer, postgres_url: str, invoke: Invoke
) -> None:
    fill(postgres_url, [identify(OTHER, {"id": MARKED, "name": "Acme"}, plan="pro"), track(OTHER)])
    put_in_inbox(postgres_server, postgres_url, MARKED, 2)
    put_in_inbox(postgres_server, postgres_url, OTHER)
    person = json.loads(invoke("outbox", "purge", postgres_url, "--user", MARKED, "--yes", "--json").stdout)
    company = json.loads(invoke("outbox", "purge", postgres_url, "--company", MARKED, "--yes", "--json").stdout)
    name = postgres_url.partition("name=")[2]
    bodies = postgres_server.run(f"SELECT body FROM {name}_calls UNION ALL SELECT body FROM {name}_inbox")

    assert (2, 0) == (person["waiting"], person["changed"])
    assert (0, 1) == (company["waiting"], company["changed"])
    assert 3 == len(bodies)
    assert MARKED not in str(bodies)


def test_an_outbox_is_given_to_another_key_unless_somebody_sends(
    postgres_url: str, invoke: Invoke, server: str
) -> None:
    fill(postgres_url, [track()], base_url=server)
    given = invoke("outbox", "rebind", postgres_url, "--api-key", "ANOTHER", "--base-url", server, "--json")
    fill(postgres_url, [track()], base_url=server, key="ANOTHER")

    assert 1 == json.loads(given.stdout)["waiting"]
    assert 2 == shown(invoke, postgres_url)["waiting"]["calls"]


def test_no_command_shows_a_password(postgres_server: PostgresServer, invoke: Invoke) -> None:
    login = postgres_server.url.replace("postgres@", "postgres:hunter2%24@")
    for arguments in (
        ("outbox", f"{login}?name=none"), ("outbox", f"{login}?name=No"), ("outbox", "migrate", f"{login}?nme=x"),
        ("outbox", login.replace(f":{postgres_server.port}", ":1")), ("outbox", login.replace("postgres@", "nobody@")),
        ("outbox", "dead", login.replace("/postgres", "/hunter2")),
    ):  # fmt: skip
        result = invoke(*arguments)

        assert Exit.FINE != result.exit_code
        assert "hunter2" not in result.output.replace("/hunter2", "")

"""What documents say about programs: the script with Redis, and the emulator. All else: `tests/wire/documents`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.harness.documents import PAGES, ROOT, redis_user, script
from tests.harness.processes import program, python

IN_REDIS, IN_POSTGRES = "redis://localhost:6379/0", "postgresql://localhost/app?name=shop"
SCRIPTS = {IN_REDIS: script("machines", "redis://").code, IN_POSTGRES: script("postgres", "postgresql://").code}


def run_script(url: str, emulator_url: str, folder: Path, place: str = IN_REDIS) -> str:
    """Run the script with this outbox, in place of the guide's, in this folder; what it printed."""
    code = SCRIPTS[place].replace(place, url)
    assert code != SCRIPTS[place]
    command = f"cd {shlex.quote(str(folder))} && exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    env = {"USERPILOT_BASE_URL": emulator_url, "USERPILOT_API_KEY": "key-of-the-guides", "PYTHONPATH": str(ROOT)}
    with program(["bash", "-c", command], env=env) as running:
        assert 0 == running.wait(60.0), running.output
    return running.output


def test_the_script_with_redis_delivers_what_waits_there(emulator_url: str, redis_url: str, tmp_path: Path) -> None:
    outputs = [run_script(redis_url, emulator_url, tmp_path) for _ in range(2)]

    assert ["1 accepted = 1 delivered", "2 accepted = 2 delivered"] == [output[:24] for output in outputs]


def test_the_redis_user_of_the_guide_may_do_what_is_needed(
    emulator_url: str, own_redis: Callable[..., Any], tmp_path: Path
) -> None:
    server = own_redis(users=[redis_user()])
    url = server.url_of(0, user="pods", password="PASSWORD") + "?name=shop"

    assert "1 accepted = 1 delivered" in run_script(url, emulator_url, tmp_path)


def test_the_script_with_postgresql_delivers_what_waits_there_also_what_a_transaction_has_put(
    emulator_url: str, own_postgres: Callable[..., Any], tmp_path: Path
) -> None:
    """With the statements of the guide: the inbox's, and the grants."""
    server = own_postgres()
    server.migrate("shop")
    insert, grants = (block.code for block in PAGES["postgres"].blocks if not block.language)
    server.run("CREATE ROLE pods LOGIN; CREATE ROLE application LOGIN")
    server.run(grants)
    url = f"{server.url_of(user='pods')}?name=shop"
    first = run_script(url, emulator_url, tmp_path, IN_POSTGRES)
    server.run(f"SET ROLE application; {insert}")
    second = run_script(url, emulator_url, tmp_path, IN_POSTGRES)
    events = httpx.get(f"{emulator_url}/__emulator__/events").json()["items"]

    assert ["1 accepted = 1 delivered", "3 accepted = 3 delivered"] == [first[:24], second[:24]]
    assert [("u1", "invoice_paid", {"amount": 49})] * 3 == [
        (one["user_id"], one["event_name"], one["metadata"]) for one in events
    ]
    assert len(insert.split("'")[5]) == int(insert.split(",")[-1].split()[0])  # the size is that of the body


def test_the_emulator_starts_as_the_guide_says() -> None:
    (command,) = [line for line in PAGES["testing"].commands if " emulate" in line]
    words = ["0" if word == "8080" else word for word in shlex.split(command)][1:]

    with python("-m", "userpilot_async", *words, env={"PYTHONPATH": str(ROOT)}) as running:
        url = running.wait_for_line(r"http://\S+").group()

        assert 200 == httpx.get(f"{url}/__emulator__/health").status_code

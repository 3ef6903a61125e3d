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

SCRIPT = script("machines", "redis://").code
IN_REDIS = "redis://localhost:6379/0"


def run_script(redis_url: str, emulator_url: str, folder: Path) -> str:
    """Run the script with this Redis in this folder; what it printed."""
    code = SCRIPT.replace(IN_REDIS, redis_url)
    assert code != SCRIPT
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


def test_the_emulator_starts_as_the_guide_says() -> None:
    (command,) = [line for line in PAGES["testing"].commands if " emulate" in line]
    words = ["0" if word == "8080" else word for word in shlex.split(command)][1:]

    with python("-m", "userpilot_async", *words, env={"PYTHONPATH": str(ROOT)}) as running:
        url = running.wait_for_line(r"http://\S+").group()

        assert 200 == httpx.get(f"{url}/__emulator__/health").status_code

"""The emulator with a file for its state, as a program: stopped and started again."""

from __future__ import annotations

import signal
import subprocess
import sys

import httpx
from click.testing import CliRunner

from tests.harness.processes import LISTENING, python
from userpilot_async.cli import cli

HEADERS = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}


def test_a_restart_forgets_nothing_and_a_damaged_file_is_said(tmp_path):
    file = tmp_path / "state.json"
    command = ("-m", "userpilot_async", "emulate", "--port", "0", "--persist", str(file))
    with python(*command) as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        assert 202 == httpx.post(f"{url}/v1/identify", json={"user_id": "u1"}, headers=HEADERS).status_code
        emulating.send_signal(signal.SIGTERM)
        assert 0 == emulating.wait()
    with python(*command) as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        assert ["u1"] == [user["user_id"] for user in httpx.get(f"{url}/__emulator__/users").json()["items"]]

    file.write_bytes(file.read_bytes()[:-10])
    words = [sys.executable, "-m", "userpilot_async.emulator", "--persist", str(file)]
    refused = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    in_process = CliRunner().invoke(cli, ["emulate", "--port", "0", "--persist", str(file)])
    assert (3, "", 3) == (refused.returncode, refused.stdout, in_process.exit_code)
    assert f"Error: {file} is damaged, or no state of an emulator: move it away to begin anew\n" == refused.stderr

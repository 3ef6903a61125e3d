from __future__ import annotations

import signal
import socket

import httpx
import pytest
from click.testing import CliRunner

from tests.harness.processes import LISTENING, python
from tests.processes.cli.conftest import userpilot
from userpilot_async.cli import cli
from userpilot_async.cli._exits import Exit


def test_the_hint_of_emulate_is_all_that_a_client_needs() -> None:
    with python("-m", "userpilot_async", "emulate", "--port", "0") as emulating:
        hint = emulating.wait_for_line(r"export (?P<assignments>.+)")["assignments"]

        result = userpilot("check", env=dict(one.split("=", 1) for one in hint.split()))

    assert result.returncode == Exit.FINE


def test_emulate_does_not_echo_its_key_and_takes_no_other() -> None:
    with python("-m", "userpilot_async", "emulate", "--port", "0", "--api-key", "SECRET") as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        refused = userpilot("check", "--base-url", url, "--api-key", "OTHER")
        accepted = userpilot("check", "--base-url", url, "--api-key", "SECRET")

        assert "SECRET" not in emulating.output

    assert (Exit.REFUSED, Exit.FINE) == (refused.returncode, accepted.returncode)


def test_emulate_answers_for_its_own_names_and_those_that_it_is_told() -> None:
    hosts = ("localhost", "127.0.0.1", "emulator:8080", "evil.example")
    with python("-m", "userpilot_async", "emulate", "--port", "0", "--allow-host", "emulator") as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        answers = [httpx.get(f"{url}/__emulator__/health", headers={"Host": host}) for host in hosts]

    assert [200, 200, 200, 403] == [answer.status_code for answer in answers]


def test_emulate_refuses_what_parcelvoy_loses_if_it_is_told_to() -> None:
    alias = {"anonymous_id": "A", "external_id": "of a stranger"}
    with python("-m", "userpilot_async", "emulate", "--port", "0", "--strict") as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        answer = httpx.post(f"{url}/api/client/alias", json=alias, headers={"Authorization": "Bearer anything"})

    assert (422, "error") == (answer.status_code, answer.json()["status"])


def test_a_host_that_cannot_be_one_is_wrong_usage() -> None:
    result = userpilot("emulate", "--allow-host", "http://emulator:8080")

    assert result.returncode == Exit.USAGE
    assert "without a port" in result.stderr


@pytest.mark.parametrize("host", ["\u00fc\x1b", "\udce9", "emulator\0"], ids=["control character", "surrogate", "NUL"])
def test_a_host_that_nobody_can_ask_for_is_wrong_usage(host: str) -> None:
    result = CliRunner().invoke(cli, ["emulate", "--port", "0", "--host", host])

    assert result.exit_code == Exit.USAGE, result.exception
    assert "that is no host's name or address" in result.output


def test_emulate_ends_well_on_ctrl_c() -> None:
    with python("-m", "userpilot_async", "emulate", "--port", "0") as emulating:
        emulating.wait_for_line(LISTENING)
        emulating.send_signal(signal.SIGINT)

        assert emulating.wait() == Exit.FINE
        assert "Traceback" not in emulating.output


def test_a_port_that_is_taken_is_wrong_usage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = userpilot("emulate", "--port", str(taken.getsockname()[1]))

    assert result.returncode == Exit.USAGE
    assert "cannot listen" in result.stderr
    assert "Traceback" not in result.stderr

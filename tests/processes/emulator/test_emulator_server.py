"""The emulator as a process of its own: start-up line, real connections, real cuts, a quick end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.harness.processes import REPOSITORY
from tests.processes.programs.outbox_host import told_by, wait_for

HEADERS = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}
TRACK = {"user_id": "u1", "event_name": "opened"}


@contextlib.contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """An emulator on a free port, and its URL."""
    command = [sys.executable, "-m", "userpilot_async.emulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", line)
            assert found, line
            yield process, found[1]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with running("--api-key", "KEY", "--speed", "60") as (_, url):
        yield url


def test_the_line_is_printed_once_connections_are_accepted_and_a_signal_ends_it_quietly():
    for number in (signal.SIGTERM, signal.SIGINT):
        with running() as (process, url):
            with httpx.Client(base_url=url, headers=HEADERS) as client:  # an idle connection must not hold it
                assert 202 == client.post("/v1/track", json=TRACK).status_code
                begun = time.monotonic()
                process.send_signal(number)
                output, errors = process.communicate(timeout=10)

            assert (0, "", "") == (process.returncode, output, errors)
            assert time.monotonic() - begun < 2


def test_a_signal_does_not_wait_for_an_answer_that_is_held_back():
    with running("--latency", "3600") as (process, url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request_bytes())
            wait_for(lambda: told_by(url, "requests"), "the request is inside")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=10)

        assert (0, "", "") == (process.returncode, output, errors)
        assert time.monotonic() - begun < 3


def test_options_reach_the_emulator():
    options = ["--no-imports", "--rate-limit", "1", "--api-key", "KEY", "--strict"]
    with running(*options) as (_, url), httpx.Client(base_url=url, headers=HEADERS) as client:
        assert 401 == client.post("/v1/imports").status_code
        assert [202, 429] == [client.post("/v1/track", json=TRACK).status_code for _ in range(2)]
        assert 401 == client.post("/v1/track", headers={"Authorization": "Token OTHER"}).status_code

        alias = {"anonymous_id": "A", "external_id": "of a stranger"}
        answer = client.post("/api/client/alias", json=alias, headers={"Authorization": "Bearer KEY"})
        assert (422, True) == (answer.status_code, "does not know this person" in answer.json()["error"])


def test_an_answer_has_one_date(served):
    with httpx.Client(base_url=served, headers=HEADERS) as client:
        answer = client.post("/v1/track", json=TRACK)

    assert 1 == len(answer.headers.get_list("date"))


def test_success_at_parcelvoy_is_a_204_without_a_byte_of_body(served):
    with httpx.Client(base_url=served, headers={"Authorization": "Bearer KEY"}) as client:
        answers = [client.post("/api/client/events", json=[{"external_id": "E", "name": "x"}]) for _ in range(2)]

    assert [(204, b"")] * 2 == [(answer.status_code, answer.content) for answer in answers]
    # RFC 9110, 8.6: a server sends neither header with a 204.
    assert {"content-length", "transfer-encoding", "content-type"}.isdisjoint(answers[0].headers)


def test_a_quoted_job_id_survives_the_server(served):
    with httpx.Client(base_url=served, headers=HEADERS) as client:
        job = client.post("/v1/users/bulk_identify", json={"users": [{"user_id": "u1"}]}).json()

        assert job["job_id"] == client.get(job["links"]).json()["job_id"]
        assert 404 == client.get("/v1/background_jobs/..%2F..%2Fv1%2Ftrack").status_code


@pytest.mark.parametrize(("cut", "applied"), [("before", False), ("after", True)])
def test_a_cut_resets_the_connection_without_a_byte(served, cut, applied):
    httpx.post(f"{served}/__emulator__/faults", json={"name": cut, "path": "/v1/track", "cut": cut})
    host, port = served.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request_bytes())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)

    last = httpx.get(f"{served}/__emulator__/requests?limit=1000").json()["items"][-1]
    assert (cut, None, applied) == (last["fault"], last["status"], last["applied"])


def test_a_cut_is_a_read_error_to_httpx_and_the_server_goes_on(served):
    httpx.post(f"{served}/__emulator__/faults", json={"path": "/v1/track", "cut": "after"})
    with httpx.Client(base_url=served, headers=HEADERS) as client:
        assert 202 == client.post("/v1/identify", json={"user_id": "u1"}).status_code
        with pytest.raises(httpx.ReadError):
            client.post("/v1/track", json=TRACK)
        assert 202 == client.post("/v1/track", json=TRACK).status_code


def test_a_client_that_leaves_in_the_middle_of_a_request_harms_nobody(served):
    host, port = served.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request_bytes()[:-5])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert 200 == httpx.get(f"{served}/__emulator__/health").status_code


def test_a_port_in_use_is_said_and_the_exit_status_is_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "userpilot_async.emulator", "--port", str(port)]
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)

    assert 1 == process.returncode
    assert "" == process.stdout
    assert f"cannot listen on 127.0.0.1:{port}" in process.stderr


def request_bytes() -> bytes:
    body = b'{"user_id": "u1", "event_name": "opened"}'
    head = [
        b"POST /v1/track HTTP/1.1",
        b"Host: localhost",
        b"Content-Type: application/json",
        *(f"{name}: {value}".encode() for name, value in HEADERS.items()),
        f"Content-Length: {len(body)}".encode(),
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def test_a_missing_package_is_one_line_for_both_commands(tmp_path):
    """What hides a package from a program is a module of its name that fails to be imported."""
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('No module named starlette', name='starlette')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    for words in (["userpilot_async", "emulate"], ["userpilot_async.emulator"]):
        command = [sys.executable, "-m", *words]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

        line = 'the emulator needs starlette: pip install "userpilot-async[emulator]"\n'
        assert (2, line) == (result.returncode, result.stderr.removeprefix("Error: "))


@pytest.mark.parametrize("package", ["python_multipart", "starlette", "uvicorn"])
def test_without_its_packages_the_import_says_what_to_install(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from userpilot_async.emulator import Emulator"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)

    told = f'ModuleNotFoundError: the emulator needs {package}: pip install "userpilot-async[emulator]"'
    assert told == result.stderr.splitlines()[-1]

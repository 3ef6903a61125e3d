"""The key is in no byte that is written anywhere, and nothing in the surroundings leads it elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from tests.harness import RawServer, TLSServer, answer, judge, python
from tests.harness.processes import emulator_process
from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import asyncio_only, on_sockets
from tests.processes.cli.conftest import userpilot
from userpilot_async import Settings, Unavailable, UserpilotAPI

pytestmark = pytest.mark.anyio

PROGRAM = """
import logging, os, sys, traceback
import anyio
from userpilot_async import Settings, UserpilotClient
from userpilot_async.imports import TrackEvent

logging.basicConfig(level=logging.DEBUG, filename=sys.argv[2] + "/log", force=True)

async def main():
    folder = sys.argv[2]
    async with UserpilotClient(base_url=sys.argv[1], outbox="sqlite:///" + folder + "/outbox/events.db") as client:
        for n in range(30):
            await client.track(f"u{n}", "opened", {"n": n})
            await client.identify(f"u{n}", {"n": n})
        print(repr(client), vars(client.api).keys(), await client.flush(20))
        row = dict(event_type="track", user_id="u", event_name="e", inserted_at="2024-12-01T08:55:43Z")
        report = await client.import_rows([row, {"bad": "row"}], journal=folder + "/rows.import")
        print(report)
        try:
            await client.api.job("none")
        except Exception:
            traceback.print_exc()
        print(open("/proc/self/cmdline", "rb").read())
        print("ready", flush=True)
        sys.stdin.readline()

anyio.run(main)
"""


def written(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@asyncio_only
async def test_the_key_is_in_no_file_no_output_and_no_command_line(tmp_path: Path) -> None:
    """Of a program that has an outbox, a journal, a log at DEBUG and a traceback, while it runs and afterwards."""
    with emulator_process("--speed", "1000", "--api-key", KEY) as url:
        environment = {"USERPILOT_API_KEY": KEY, "TMPDIR": str(tmp_path)}
        with python("-c", PROGRAM, url, str(tmp_path), env=environment) as program:
            await anyio.to_thread.run_sync(program.wait_for_line, "ready", 60)
            during = written(tmp_path)
            commands = {
                f"command line of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes()
                for pid in (program.pid, os.getpid())
            }
        after = written(tmp_path)

        files = {Path(name).name for name in during}
        assert {"events.db", "events.db.lock", "log", "rows.import"} <= files
        assert 5 <= judge.no_canary({**during, **commands, "output": program.output}, [KEY])
        judge.no_canary(after, [KEY])


@pytest.mark.parametrize("command", [["check"], ["jobs"], ["send", "-"]], ids=" ".join)
def test_no_command_hands_the_key_to_another_process_or_prints_it(command: list[str], tmp_path: Path) -> None:
    call = json.dumps({"type": "track", "user_id": "u", "event_name": "e"})
    with emulator_process("--api-key", KEY) as url:
        surroundings = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url, "TMPDIR": str(tmp_path)}
        ended = userpilot(*command, env=surroundings, stdin=call)

    assert 0 == ended.returncode
    judge.no_canary({"stdout": ended.stdout, "stderr": ended.stderr, **written(tmp_path)}, [KEY])


# ── what the surroundings say ──


@pytest.mark.parametrize(
    "name",
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "REQUEST_METHOD", "FTP_PROXY"],
)
@pytest.mark.parametrize("kind", ["http", "socks5", "file"])
@asyncio_only
async def test_no_proxy_is_taken_from_the_environment(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer() as proxy, RawServer() as server:
        monkeypatch.setenv(name, proxy.url.replace("http", kind))
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with on_sockets(server) as scene:
            await scene.track(person(1))
            await scene.drained()

        assert (0, 1) == (proxy.connections, len(server.requests))


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@asyncio_only
async def test_no_authority_is_taken_from_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A variable of the environment must not let its author read what goes over TLS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv(name, str(tmp_path if name.endswith("DIR") else tmp_path / "ca.pem"))
    with TLSServer() as server:
        async with UserpilotAPI(KEY, base_url=server.url.replace("127.0.0.1", "localhost"), attempts=1) as api:
            with pytest.raises(Unavailable):
                await api.track("u", "opened")

        assert not server.requests


FOREIGN_HOSTS = ["evil.example", "127.0.0.2", "localhost:1", "user@evil.example", "x" * 300]


@pytest.mark.parametrize("host", FOREIGN_HOSTS, ids=range(len(FOREIGN_HOSTS)))
@asyncio_only
async def test_no_answer_makes_the_key_go_to_another_host(host: str) -> None:
    """Whatever header might suggest it: the next request goes where the first one went."""
    headers: dict[str, str | None] = {
        "alt-svc": f'h2="{host}:443"; ma=99999; persist=1', "content-location": f"http://{host}/", "refresh": f"0; url=http://{host}/",
        "x-accel-redirect": f"http://{host}/", "link": f'<http://{host}/>; rel="canonical"', "host": host,
        "strict-transport-security": "max-age=0", "x-forwarded-host": host, "connection": "keep-alive",
    }  # fmt: skip
    with RawServer(answer(headers=headers)) as server:
        async with on_sockets(server, Settings(flush_interval=0, close_timeout=1.0)) as scene:
            await scene.track_all(person(n) for n in range(3))
            await scene.drained()

        assert 3 == len(server.requests)
        assert {f"127.0.0.1:{server.port}"} == {request.headers["host"] for request in server.requests}

"""A real browser with a hostile page open, and an emulator on the same machine: nothing is changed, nothing is read."""

from __future__ import annotations

import json
import queue
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import program

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `apt-get install chromium`, or the like"),
]

START = 60.0  # seconds for a browser to start and to run a page, on a machine that others use
USER = {"user_id": "u1", "metadata": {"secret": "s3cret"}}
HEADERS = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}

ATTACK = """<!doctype html><meta charset="utf-8"><title>hostile</title><body><script>
const there = TARGET, found = {};
const settled = (name, promise) => promise.then(
  value => { found[name] = value; }, error => { found[name] = "no: " + error.name; });
const text = {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}};
const element = (kind, path) => new Promise(done => {
  const one = document.createElement(kind);
  one.onload = () => done("loaded"); one.onerror = () => done("no: error");
  one.src = there + path; document.body.append(one);
});
const form = path => new Promise(done => {
  const frame = document.createElement("iframe"), one = document.createElement("form");
  frame.name = path; one.target = path; one.method = "POST"; one.enctype = "text/plain"; one.action = there + path;
  document.body.append(frame, one);
  one.submit();
  setTimeout(() => done("sent"), 500);  // an answer without content is never loaded
});
const framed = path => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = () => {
    try { done(frame.contentDocument ? frame.contentDocument.body.innerText : "no: null"); }
    catch (error) { done("no: " + error.name); }
  };
  frame.src = there + path; document.body.append(frame);
});
const fault = JSON.stringify({status: 200, body: "<script>1</" + "script>"});
(async () => {
  await settled("fetch", fetch(there + "/__emulator__/users").then(answer => answer.text()));
  await settled("fetch_one", fetch(there + "/__emulator__/users/u1").then(answer => answer.text()));
  await settled("opaque", fetch(there + "/__emulator__/users", {mode: "no-cors"}).then(answer => answer.text()));
  await settled("preflighted", fetch(there + "/__emulator__/faults", {method: "DELETE"}).then(answer => answer.text()));
  await settled("reset", fetch(there + "/__emulator__/reset", text).then(() => "sent"));
  await settled("fault", fetch(there + "/__emulator__/faults", {...text, body: fault}).then(() => "sent"));
  await settled("track", fetch(there + "/v1/track", {...text, body: "{}"}).then(() => "sent"));
  await settled("jobs", fetch(there + "/v1/background_jobs", {mode: "no-cors"}).then(() => "sent"));
  await settled("beacon", Promise.resolve(String(navigator.sendBeacon(there + "/__emulator__/reset", "x"))));
  await settled("form", form("/__emulator__/reset"));
  await settled("image", element("img", "/__emulator__/users"));
  await settled("image_api", element("img", "/v1/background_jobs"));
  await settled("script", element("script", "/__emulator__/users"));
  await settled("frame", framed("/__emulator__/users"));
  await fetch("/report", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""


class Hostile(ThreadingHTTPServer):
    """A web server with one page, and what that page reports."""

    daemon_threads = True

    def __init__(self, page: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.page = page
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()


class Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        self._answer(self.server.page.encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")
        self.server.reports.put(json.loads(body))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def hostile(page: str) -> Iterator[Hostile]:
    server = Hostile(page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def chromium(profile: Path, *arguments: str) -> list[str]:
    assert CHROMIUM is not None
    return [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
        "--host-resolver-rules=MAP *.test 127.0.0.1", f"--user-data-dir={profile}", *arguments,
    ]  # fmt: skip


@pytest.fixture
def emulator() -> Iterator[str]:
    """The URL of an emulator that knows one user, and has one fault in place."""
    with emulator_thread() as url:
        httpx.post(f"{url}/v1/identify", json=USER, headers=HEADERS)
        httpx.post(f"{url}/__emulator__/faults", json={"name": "mine", "path": "/v1/*", "status": 503})
        yield url


def state_of(url: str) -> tuple[Any, ...]:
    users, requests = (httpx.get(f"{url}/__emulator__/{what}").json() for what in ("users", "requests"))
    faults = httpx.get(f"{url}/__emulator__/faults").json()["faults"]
    names = [user["user_id"] for user in users["items"]]
    return names, [(fault["name"], fault["seen"]) for fault in faults], requests["total"]


TRIED = set(re.findall(r'settled\("(\w+)"', ATTACK))
UNTOUCHED = (["u1"], [("mine", 0)], 1)


@pytest.mark.parametrize(
    ("page_host", "emulator_host"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("evil.test", "localhost")],
)
def test_a_page_of_another_origin_changes_nothing_and_reads_nothing(emulator, tmp_path, page_host, emulator_host):
    port = urlsplit(emulator).port
    target = json.dumps(f"http://{emulator_host}:{port}")
    with ExitStack() as stack:
        server = stack.enter_context(hostile(ATTACK.replace("TARGET", target)))
        stack.enter_context(program(chromium(tmp_path, f"http://{page_host}:{server.server_port}/")))
        found = server.reports.get(timeout=START)

    assert UNTOUCHED == state_of(emulator), found
    assert not [name for name, what in found.items() if "u1" in what or "s3cret" in what], found
    assert set(found) == TRIED
    assert [] == [name for name in TRIED - {"beacon", "form"} if not found[name].startswith("no: ")], found


def shown(tmp_path: Path, url: str) -> str:
    """The document as it is after the browser has opened a URL, as if it had been typed."""
    with program(chromium(tmp_path, "--dump-dom", "--virtual-time-budget=2000", url)) as browser:
        browser.wait(START)
        return browser.output


def test_a_name_that_is_bound_again_to_the_loopback_reads_nothing(emulator, tmp_path):
    """After DNS rebinding the page and the emulator have one origin, so that the browser holds nothing back."""
    rebound = emulator.replace("127.0.0.1", "rebound.test")
    dom = shown(tmp_path, f"{rebound}/__emulator__/users")

    assert "--allow-host rebound.test" in dom
    assert "s3cret" not in dom
    assert UNTOUCHED == state_of(emulator)


def test_the_html_of_a_fault_runs_no_script(emulator, tmp_path):
    httpx.post(f"{emulator}/__emulator__/reset")
    body = "<p>a proxy's page</p><script>document.documentElement.id = 'has run'</script>"
    httpx.post(f"{emulator}/__emulator__/faults", json={"path": "/v1/*", "status": 200, "body": body})
    dom = shown(tmp_path, f"{emulator}/v1/track")

    assert "a proxy's page" in dom
    assert 'id="has run"' not in dom

"""`userpilot-async ui`: how it begins and ends, and one look at it by a real browser."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click.testing
import httpx
import pytest

from tests.harness.processes import python
from tests.harness.redis_server import RedisServer
from tests.processes.cli.conftest import fill, identify, lose, track
from userpilot_async.cli._exits import Exit
from userpilot_async.sqlite._admin import SQLiteAdmin

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PRINTED = r"console at (?P<url>(?P<base>http://\S+)/#(?P<token>\S+))"
RUN = "from userpilot_async.__main__ import main; main()"
HOSTILE = "<img src=x onerror=\"document.title='HACKED'\">"

Invoke = Callable[..., click.testing.Result]


@contextmanager
def console(*arguments: object, **env: str) -> Iterator[Any]:
    """The command in a process of its own, and what it has printed."""
    with python("-m", "userpilot_async", "ui", *map(str, arguments), "--port", "0", env=env) as running:
        yield running, running.wait_for_line(PRINTED)


def in_one_sentence(result: click.testing.Result, code: Exit) -> str:
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr.splitlines()[-1]


# ── what is wrong before it begins ──


def test_an_outbox_that_is_none_is_wrong_usage(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing of the kind")
    wrong = [
        ("ui", tmp_path / "missing"),
        ("ui", tmp_path / "text"),
        ("ui", "memory://"),
        ("ui", "ftp://host/x"),
        ("ui",),
    ]

    for arguments in wrong:
        in_one_sentence(invoke(*arguments), Exit.USAGE)


def test_a_file_of_a_newer_version_is_wrong_usage(invoke: Invoke, tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [track()])
    with sqlite3.connect(tmp_path / "events.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    assert "newer" in in_one_sentence(invoke("ui", tmp_path / "events.db"), Exit.USAGE)


def test_a_server_that_is_away_cannot_be_reached(invoke: Invoke, own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis()
    url = server.url
    nothing_there = invoke("ui", url)
    server.kill()

    assert "no outbox" in in_one_sentence(nothing_there, Exit.USAGE)
    assert "does not answer" in in_one_sentence(invoke("ui", url), Exit.UNREACHABLE)


def test_a_port_that_is_taken_is_wrong_usage(invoke: Invoke, tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [track()])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = invoke("ui", tmp_path / "events.db", "--port", taken.getsockname()[1])

    assert "cannot listen on 127.0.0.1" in in_one_sentence(result, Exit.USAGE)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])
def test_a_host_that_others_can_reach_is_refused(invoke: Invoke, tmp_path: Path, host: str) -> None:
    fill(tmp_path / "events.db", [track()])

    assert "loopback" in in_one_sentence(invoke("ui", tmp_path / "events.db", "--host", host), Exit.USAGE)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [track()])
    arguments = ["userpilot-async", "ui", str(tmp_path / "events.db")]
    script = f"import sys; sys.modules['starlette'] = None; sys.argv = {arguments!r}; {RUN}"

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert Exit.USAGE == result.returncode
    assert 'Error: the console needs starlette: pip install "userpilot-async[emulator]"\n' == result.stderr


# ── its life ──


def test_it_answers_only_with_its_token_and_ends_well_on_ctrl_c(tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [track()])
    with console(tmp_path / "events.db", "--open", BROWSER="/bin/echo opened %s") as (running, printed):
        opened = running.wait_for_line(r"opened (?P<url>\S+)")["url"]
        state = f"{printed['base']}/api/state"
        token = {"Authorization": f"Bearer {printed['token']}"}
        answers = [httpx.get(state, headers=headers) for headers in ({}, token, {**token, "Host": "evil.example"})]
        running.send_signal(signal.SIGINT)

        assert running.wait() == Exit.FINE
        assert "Traceback" not in running.output

    assert printed["url"] == opened
    assert len(printed["token"]) >= 32
    assert [403, 200, 403] == [answer.status_code for answer in answers]
    assert 1 == answers[1].json()["waiting"]["calls"]


def test_redis_that_goes_away_is_told_and_comes_back(own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(durable=True)
    fill(server.url, [track()])
    with console(server.url) as (running, printed):

        def state() -> httpx.Response:
            token = {"Authorization": f"Bearer {printed['token']}"}
            return httpx.get(f"{printed['base']}/api/state", headers=token, timeout=20.0)

        before = state()
        server.kill()
        during = state()
        server.start()
        after = state()

        assert "Traceback" not in running.output

    assert [200, 503, 200] == [answer.status_code for answer in (before, during, after)]
    assert "does not answer" in during.json()["error"]
    assert 1 == after.json()["waiting"]["calls"]


# ── in a browser ──


@contextmanager
def new_page() -> Iterator[Any]:
    """A page of a real browser; errors that it tells its developers are collected in `page.said`.

    Playwright has a loop of its own going on meanwhile: no other can run in this thread.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 390, "height": 900})
        page.set_default_timeout(15_000)
        page.said = []
        page.on("console", lambda message: page.said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.said.append(str(error)))
        yield page
        browser.close()


@pytest.mark.night
def test_a_browser_names_calls_as_they_are_written_and_says_why_ids_are_hidden(tmp_path: Path) -> None:
    fill(tmp_path / "events.db", [identify("u1", plan="pro")])
    with console(tmp_path / "events.db") as (_, printed), new_page() as page:
        page.goto(printed["url"])
        call = page.inner_text("#waiting tbody td[data-label=call]")
        note = page.inner_text("#hidden-note")
        page.wait_for_function("old => document.querySelector('#waiting [data-at]').textContent !== old",
                               arg=page.inner_text("#waiting [data-at]"))  # fmt: skip
        page.goto("about:blank")
    with console(tmp_path / "events.db", "--show-data") as (_, printed), new_page() as page:
        page.goto(printed["url"])
        page.wait_for_selector("#waiting tbody tr")
        assert not page.is_visible("#hidden-note")
        page.goto("about:blank")

    assert "identify" == call
    assert "people\u2019s data" in note
    assert "--show-data" in note


@pytest.mark.night
def test_a_browser_shows_what_waits_and_puts_back_what_was_lost(tmp_path: Path) -> None:
    place = tmp_path / "events.db"
    lose(place, [track(HOSTILE)])
    fill(place, [identify(HOSTILE, plan=HOSTILE), *[track(f"u{n}") for n in range(60)]])
    with console(place, "--show-data") as (running, printed), new_page() as page:
        page.goto(printed["url"])
        page.wait_for_selector("#waiting tbody tr:nth-child(50)")
        first = page.inner_text("#waiting tbody tr:first-child")
        width = page.evaluate("document.documentElement.scrollWidth")
        address = page.evaluate("location.href")

        page.click("#panel-waiting [data-go=next]")
        page.wait_for_selector("#waiting tbody tr:last-child:nth-child(11)")
        page.select_option("#order", "user")
        page.wait_for_selector("#waiting tr:first-child td[data-label=calls]")
        people = page.inner_text("#panel-waiting .pager")
        page.focus("#tab-waiting")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#dead tbody tr")
        lost = page.inner_text("#dead tbody tr")
        page.click("#retry-all")
        page.click("#ask-yes")
        page.wait_for_selector("#ask-text:has-text('1 call waits again')")
        page.click("#ask-no")
        page.wait_for_selector("#dead-empty:not([hidden])")
        title = page.title()
        running.kill()
        running.wait()
        page.wait_for_selector("#banner:not([hidden])")

    assert HOSTILE in first
    assert "61 users and companies in 61 calls" in people
    assert HOSTILE in lost
    assert width == 390
    assert printed["token"] not in address
    assert title.startswith("62 waiting")
    assert (62, 0) == (SQLiteAdmin(place).inspect().account.waiting, SQLiteAdmin(place).inspect().lost)
    assert [] == [one for one in page.said if not re.search("ERR_CONNECTION_REFUSED|Failed to load resource", one)]

"""The emulator's page in a real browser: from `userpilot-async emulate` to "I see my event"."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import LISTENING, REPOSITORY, python

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: the dependency group `browser`")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: `apt-get install chromium`, or the like")]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
]  # fmt: skip
HEADERS = {"Authorization": "Token anything", "X-API-Version": "2020-09-22"}
TRACK = {"user_id": "u1", "event_name": "opened"}
HOSTILE = {
    "user_id": "<img src=x onerror=\"alert('id')\">'\"&amp;",
    "event_name": "</script><script>alert('event')</script>",
    "metadata": {
        "<b onclick=alert(1)>": "x" * 9_000, "rtl": "\u202e\u0645\u0631\u062d\u0628\u0627", "quotes": "\"'`${1}\\",
        "__proto__": "polluted", "line": "a\nb\u2028c",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser for all tests here: it takes a second to start."""
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose errors are in `page.complaints`; in the end there must be none."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    yield page
    page.close()
    assert [] == complaints


@pytest.fixture
def url() -> Iterator[str]:
    with emulator_thread() as url:
        yield url


SHOW = """async hash => {
  location.hash = hash;
  do await new Promise(done => setTimeout(done, 20)); while (busy || shown.list !== hash.slice(1).split("?")[0]);
}"""


def send(url: str, **call: object) -> int:
    return httpx.post(f"{url}/v1/track", json={**TRACK, **call}, headers=HEADERS, trust_env=False).status_code


def rows(page: Any) -> Any:
    return page.locator("#rows tr")


def test_from_the_command_to_an_event_that_is_seen_found_and_made_to_fail(page):
    """What the page itself shows as the way to a first event is run as it is."""
    with python("-m", "userpilot_async", "emulate", "--port", "0", env={"USERPILOT_API_KEY": None}) as emulating:
        url = emulating.wait_for_line(LISTENING)["url"]
        page.goto(url)
        lines = page.locator("#empty code").inner_text()
        assert 3 == len(lines.splitlines())
        command = [sys.executable, "-c", lines]
        subprocess.run(command, cwd=REPOSITORY, timeout=30, check=True)
        page.locator("#rows tr", has_text="report_exported").wait_for()  # without a reload

        assert 202 == send(url, **HOSTILE)
        rows(page).nth(1).wait_for()
        page.keyboard.press("/")
        page.keyboard.type("IMG SRC")
        playwright.expect(rows(page)).to_have_count(1)
        cells = [cell.strip() for cell in rows(page).first.locator("td").all_inner_texts()]
        assert [HOSTILE["user_id"], HOSTILE["event_name"]] == cells[1:3]
        page.goto(f"{url}/__emulator__/#users?{quote(HOSTILE['user_id'], safe='')}")
        assert HOSTILE["user_id"] == page.locator("#detail h2").inner_text()
        assert 0 == page.locator("img, #rows script, #detail script, b[onclick]").count()

        page.get_by_role("tab", name="Faults").click()
        page.get_by_role("button", name="Set fault").click()
        page.locator("#rows tr", has_text="answers 503").wait_for()
        assert [503, 202] == [send(url), send(url)]
        page.locator("#rows tr", has_text="1 of 1").wait_for()
        page.goto("about:blank")  # or it would complain that the emulator ends
        emulating.wait_for_line(r"\d\d:\d\d:\d\d  503  POST   /v1/track +u1  opened  scripted fault fault-1")


def test_another_key_has_an_account_which_is_chosen_above(url, page):
    send(url)
    page.goto(url)
    rows(page).first.wait_for()
    choice = page.get_by_label("Account")
    assert not choice.is_visible()

    other = {**HEADERS, "Authorization": "Token another"}
    httpx.post(f"{url}/v1/track", json={**TRACK, "user_id": "of another key"}, headers=other, trust_env=False)
    choice.wait_for()
    assert 1 == rows(page).count()
    choice.select_option(index=1)
    page.locator("#rows tr", has_text="of another key").wait_for()
    choice.select_option(index=0)
    page.locator("#rows tr", has_text="u1").wait_for()
    assert 1 == rows(page).count()


@pytest.mark.night
def test_the_keyboard_is_enough(url, page):
    send(url)
    page.goto(url)
    rows(page).first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("nothing like it")
    page.locator("#empty", has_text="nothing like it").wait_for()
    page.keyboard.press("Escape")
    rows(page).first.wait_for()
    page.get_by_role("tab", name=re.compile("^Events")).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert "#users" == page.evaluate("location.hash")
    page.keyboard.press("ArrowUp")
    rows(page).first.locator("a").first.focus()
    page.keyboard.press("Enter")
    page.locator("#detail h2", has_text="u1").wait_for()
    page.keyboard.press("Escape")
    page.locator("#detail").wait_for(state="hidden")


@pytest.mark.night
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_scrolls_sideways_whatever_is_shown(url, page, scheme):
    page.emulate_media(color_scheme=scheme)
    send(url, **HOSTILE)
    identify = {"user_id": HOSTILE["user_id"], "metadata": HOSTILE["metadata"], "company": {"id": "c" * 200}}
    httpx.post(f"{url}/v1/identify", json=identify, headers=HEADERS)
    httpx.post(f"{url}/__emulator__/faults", json={"name": "f" * 200, "path": "/" + "p" * 500, "status": 503})
    page.goto(url)
    lists = page.evaluate("Object.keys(LISTS)")
    for width in (390, 820, 1280, 1600):
        page.set_viewport_size({"width": width, "height": 844})
        for name in [*lists, f"users?{quote(HOSTILE['user_id'], safe='')}", "requests?1"]:
            page.evaluate(SHOW, f"#{name}")
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (width, name)


@pytest.mark.night
def test_what_is_taken_back_and_what_is_forgotten_is_gone(url, page):
    page.goto(f"{url}/__emulator__/#faults")
    page.get_by_role("button", name="Set fault").click()
    page.get_by_role("button", name="Take back").click()
    page.locator("#empty", has_text="No fault is set").wait_for()
    assert 202 == send(url)

    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Forget everything").click()
    playwright.expect(page.locator("[role=tab] span", has_text=re.compile(r"\d"))).to_have_count(0)
    assert 0 == httpx.get(f"{url}/__emulator__/events").json()["total"]


@pytest.mark.night
def test_a_busy_emulator_is_shown_in_less_than_a_second(url, page):
    """100,000 events behind the page: it reads a hundred of them."""
    call = {"external_id": "p1", "name": "opened", "data": {"format": "csv"}}
    with httpx.Client(base_url=f"{url}/api/client", headers={"Authorization": "Bearer KEY"}) as client:
        for _ in range(100):
            client.post("/events", json=[call] * 1_000).raise_for_status()
    page.goto(f"{url}/__emulator__/#parcelvoy/events")
    rows(page).nth(99).wait_for()
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")

    assert 100 == rows(page).count()
    assert painted < 1_000

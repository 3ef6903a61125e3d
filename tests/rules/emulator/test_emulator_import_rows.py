"""The rows of an import one by one: their times, their companies, and where they happened."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

AT = {"source": "backend-http-import", "inserted_at": "2024-12-01T08:55:43.220396"}
USER = {"event_type": "identify_user", "user_id": "u1", "metadata": {"a": 1}, **AT}
VIEW = {"event_type": "page_view", "user_id": "u1", "hostname": "example.com", "pathname": "/", **AT}
TRACK = {"event_type": "track", "user_id": "u1", "event_name": "opened", **AT}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-12-01T08:55:43", 1733043343.0),
        ("2024-12-01 08:55:43", 1733043343.0),
        ("2024-12-01T08:55:43.5", 1733043343.5),
        ("2024-12-01T08:55:43,25", 1733043343.25),
        ("2024-12-01T08:55:43.220396999", 1733043343.220396),
        ("2024-12-01T08:55:43Z", 1733043343.0),
        ("2024-12-01T10:55:43+02:00", 1733043343.0),
        ("2024-12-01T10:55:43+0200", 1733043343.0),
        ("2024-12-01T10:55:43+02", 1733043343.0),
        ("2024-12-01T07:25:43-01:30", 1733043343.0),
        ("2024-02-29", 1709164800.0),
        ("2024-12-01T08:55Z", 1733043300.0),
        ("1969-12-31T23:59:59.75", -0.25),
        ("0001-01-01T00:00:00+23:59", -62135596800.0 - 86340),
    ],
)
async def test_inserted_at_is_iso_8601_with_a_t_or_a_space(load, emulator, text, seconds):
    await load({**TRACK, "inserted_at": text})

    assert pytest.approx(seconds, abs=1e-6) == emulator.store.events[0].occurred_at


@pytest.mark.parametrize(
    "text",
    [
        "2024-12-01x08:55:43", "2024-12-01t08:55:43", "2024-12-01  08:55:43", "2024-12-01T08:55:43z", "2024-12",
        " 2024-12-01T08:55:43", "2024-12-01T08:55:43\n", "2024-12-01Z", "2024-12-01T08", "20241201T085543",
        "2024-W48-7T08:55:43", "2024-336T08:55:43", "2024-12-01T08:55:43.", "2024-12-01T08:55:43+24:00",
        "2024-12-01T08:55:43+01:60", "2024-12-01T08:55:43+1", "2024-12-01T24:00:00", "2024-12-01T08:60:43",
        "2024-12-01T08:55:60", "2023-02-29T08:55:43", "2024-13-01T08:55:43", "0000-01-01T00:00:00",
        "+2024-12-01T08:55:43", "٢٠٢٤-12-01T08:55:43", "2024-12-01T08:55:43 UTC", "1733043343", "yesterday", " ",
    ],
)  # fmt: skip
async def test_another_time_is_refused_on_every_python(client, file_of, text):
    """`datetime.fromisoformat` takes any character for the `T`, and from 3.11 on weeks, hours alone, and more."""
    answer = await client.post("/v1/imports", files=file_of({**TRACK, "inserted_at": text}))

    assert 400 == answer.status_code
    assert "inserted_at" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("row", [USER, VIEW, TRACK])
@pytest.mark.parametrize("company_id", [["c1"], {"id": "c1"}, 7, 1.5, True, None, "  "])
async def test_a_company_id_of_a_row_is_a_string(client, clock, file_of, row, company_id):
    """A list was no row's fault and, once its job came to it, every request's: the store has companies by their ids."""
    refused = await client.post("/v1/imports", files=file_of(USER, {**row, "company_id": company_id}))
    clock.now += 60

    assert 400 == refused.status_code
    assert [("row 2", True)] == [
        (error["details"], "company_id" in error["message"]) for error in refused.json()["errors"]
    ]
    assert 202 == (await client.post("/v1/identify", json={"user_id": "u1"})).status_code


CHROME = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 "
PAGE = {"hostname": "elsewhere.org", "pathname": "/else"}


@pytest.mark.parametrize("row", [{**TRACK, "metadata": {}}, VIEW])
@pytest.mark.parametrize(
    ("where", "hostname", "pathname"),
    [
        (PAGE, "elsewhere.org", "/else"),
        ({**PAGE, "url": ""}, "elsewhere.org", "/else"),
        ({**PAGE, "url": "https://app.example.com:8443/a/b?c=d#e"}, "app.example.com", "/a/b"),
        ({**PAGE, "url": "https://example.com"}, "example.com", "/"),
        ({"hostname": None, "pathname": None, "url": "https://user@EXAMPLE.com/A"}, "example.com", "/A"),
        ({**PAGE, "url": "https://[::1]/x"}, "::1", "/x"),
        ({**PAGE, "url": "file:///tmp/page.html"}, None, "/tmp/page.html"),
        ({**PAGE, "url": "https://[broken"}, None, None),
    ],
)
async def test_a_url_overrides_hostname_and_pathname(load, emulator, row, where, hostname, pathname):
    await load({**row, **where})

    (stored,) = [*emulator.store.events, *emulator.store.page_views]
    assert (hostname, pathname) == (stored.context.get("hostname"), stored.context.get("pathname"))


@pytest.mark.parametrize("url", [7, ["https://example.com/a"], True, "  "])
async def test_a_url_is_a_string(client, file_of, url):
    assert 400 == (await client.post("/v1/imports", files=file_of({**VIEW, "url": url}))).status_code


AGENTS = [
    (f"Chrome - {CHROME}Safari/537.36", "Chrome", "Mac"),  # the vendor's sample
    (f"{CHROME}Safari/537.36 Edg/129.0.0.0", "Edge", "Mac"),
    (f"{CHROME}Safari/537.36 OPR/114.0.0.0", "Opera", "Mac"),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0", "Firefox", "Windows"),
    ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0", "Firefox", "Linux"),
    ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/129.0 Safari/537.36", "Chrome", "Chrome OS"),
    ("Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/129.0 Mobile Safari/537.36", "Chrome",
     "Android"),
    ("Mozilla/5.0 (Linux; Android 14; SM-S918B) SamsungBrowser/26.0 Chrome/122.0 Mobile Safari/537.36",
     "Samsung Internet", "Android"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Version/17.6 Mobile/15E148 "
     "Safari/604.1", "Safari", "iOS"),
    ("Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 CriOS/129.0 Mobile/15E148 Safari/604.1",
     "Chrome", "iOS"),
    ("Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko", "Internet Explorer", "Windows"),
    ("curl/8.5.0", "given", "given too"),
    ("", "given", "given too"),
    (None, "given", "given too"),
]  # fmt: skip


@pytest.mark.parametrize(("user_agent", "browser", "system"), AGENTS)
async def test_browser_and_system_are_derived_from_the_user_agent(load, emulator, user_agent, browser, system):
    """What the row says of them itself stands where the user agent tells nothing."""
    said = {"browser": "given", "operating_system": "given too", "user_agent": user_agent}
    await load({**TRACK, **said}, {**VIEW, **said})

    stored = [*emulator.store.events, *emulator.store.page_views]
    assert [(browser, system)] * 2 == [(one.context["browser"], one.context["operating_system"]) for one in stored]


async def test_a_row_that_does_not_say_where_it_happened_has_no_context(load, client, emulator):
    await load({**TRACK, "browser": 7, "operating_system": ""})
    await client.post("/v1/track", json={"user_id": "u1", "event_name": "e", "hostname": "example.com"})

    assert [{}, {}] == [event.context for event in emulator.store.events]

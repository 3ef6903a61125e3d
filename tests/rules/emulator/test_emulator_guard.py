"""No web page reads or changes an emulator: not by a name of its own (DNS rebinding), and not from its own origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from userpilot_async.emulator import Emulator, Fault
from userpilot_async.emulator._guard import HEADERS, Guard

pytestmark = pytest.mark.anyio

BOUND = "http://127.0.0.1:8080"
API = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}
TRACK = {"user_id": "u1", "event_name": "opened"}
CHANGES = [
    ("POST", "/__emulator__/reset"),
    ("POST", "/__emulator__/faults"),
    ("DELETE", "/__emulator__/faults"),
    ("POST", "/v1/track"),
    ("POST", "/v1/identify"),
    ("DELETE", "/v1/users"),
    ("GET", "/v1/background_jobs"),  # a line in the request log, and it may set off a fault
    ("OPTIONS", "/v1/track"),
    ("POST", "/api/client/events"),
    ("PUT", "/nowhere"),
]


@pytest.fixture
def served(emulator: Emulator) -> httpx.AsyncClient:
    """A client of the emulator as if it listened on port 8080 of 127.0.0.1."""
    emulator.faults.add(Fault(name="mine", path="/v1/*", status=503))
    return httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url=BOUND, headers=API)


def is_untouched(emulator: Emulator) -> bool:
    """As `served` has left it."""
    faults = [(armed.fault.name, armed.seen) for armed in emulator.faults]
    return faults == [("mine", 0)] and not emulator.store.requests and not emulator.store.applied


# ── by which name ──


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:8080", "LocalHost:8080", "localhost.", "localhost:", "127.0.0.1", "127.0.0.1:8080",
        "127.255.0.3:1", "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", "[::ffff:127.0.0.1]:8080",
    ],
)  # fmt: skip
async def test_a_loopback_name_is_answered_at_whatever_port(served, host):
    assert 200 == (await served.get("/__emulator__/health", headers={"Host": host})).status_code


FOREIGN = [
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io:8080", "evil-localhost",
    "localhost.localdomain", "xlocalhost", "localhost..", "emulator", "192.168.0.7:8080", "0.0.0.0:8080", "127.1",
    "0x7f.0.0.1", "2130706433", "[::]", "[::2]:8080", "[fe80::1]", "::1", "[::1", "[::1]evil.example",
    "localhost@evil.example", "evil.example#localhost", "localhost/evil.example", "localhost, evil.example",
    "localhost evil.example", "localhost:8080:8080", "localhost:http", "localhost:123456", "", " ", "[]", ":8080",
]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
async def test_any_other_name_is_refused_on_every_route(served, emulator, host):
    reads = [("GET", "/__emulator__/users"), ("HEAD", "/__emulator__/users"), ("GET", "/__emulator__/")]
    answers = [await served.request(*one, headers={"Host": host}) for one in [*reads, *CHANGES]]

    assert {403} == {answer.status_code for answer in answers}
    assert is_untouched(emulator)


async def test_the_refusal_says_what_to_do_in_the_words_of_each_route(served):
    host = {"Host": "emulator:8080"}
    told = await served.get("/__emulator__/health", headers=host)
    error = (await served.post("/v1/track", json=TRACK, headers=host)).json()["errors"][0]
    parcelvoy = (await served.post("/api/client/events", json=[], headers=host)).json()["error"]

    assert "text/plain; charset=utf-8" == told.headers["content-type"]
    assert all("--allow-host emulator" in said for said in (told.text, error["message"], parcelvoy))


@pytest.mark.parametrize("name", ["x-forwarded-host", "forwarded", "x-host", "x-original-host"])
async def test_a_proxy_s_word_is_no_host(served, name):
    foreign = {"Host": "evil.example", name: "localhost"}
    own = {"Host": "localhost", name: "evil.example"}

    assert 403 == (await served.get("/__emulator__/health", headers=foreign)).status_code
    assert 200 == (await served.get("/__emulator__/health", headers=own)).status_code


@pytest.mark.parametrize("hosts", [[], [b"localhost", b"evil.example"], [b"localhost", b"localhost"]])
def test_a_request_must_have_one_host(hosts):
    scope = {"headers": [(b"Host", host) for host in hosts], "server": ("127.0.0.1", 8080)}

    assert "one Host header" in Guard().refusal(scope, changes=False)


@pytest.mark.parametrize(
    ("server", "host"),
    [
        (("192.168.0.7", 8080), "192.168.0.7:8080"),
        (("::ffff:192.168.0.7", 8080), "192.168.0.7:8080"),
        (("fe80::1%eth0", 8080), "[fe80::1]:8080"),
    ],
)
def test_the_address_at_which_a_request_comes_in_is_a_name_of_the_server(server, host):
    scope = {"headers": [(b"host", host.encode())], "server": server}

    assert None is Guard().refusal(scope, changes=True)
    assert None is not Guard().refusal({**scope, "server": ("192.168.0.8", 8080)}, changes=True)
    assert None is not Guard().refusal({**scope, "server": None}, changes=True)


@pytest.mark.parametrize(
    "allowed", ["emulator", "Emulator.", "my_service", "192.168.0.7", "::2", "[::2]", "fe80::1%eth0"]
)
async def test_a_host_can_be_allowed(clock, allowed):
    emulator = Emulator(clock=clock, allow_hosts=[allowed])
    host = {"::2": "[::2]", "fe80::1%eth0": "[fe80::1]"}.get(allowed, allowed)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url=BOUND, headers=API) as client:
        answers = [await client.post("/v1/track", json=TRACK, headers={"Host": f"{one}:80"}) for one in (host, "other")]

    assert [202, 403] == [answer.status_code for answer in answers]


@pytest.mark.parametrize("allowed", ["", "emulator:8080", "http://emulator", "*", "*.example", "a b", "a\x1b[31m"])
def test_what_no_host_can_be_is_said_at_once(allowed):
    with pytest.raises(ValueError, match="without a port") as raised:
        Emulator(allow_hosts=[allowed])

    assert str(raised.value).isprintable()


def test_one_host_is_not_taken_for_a_collection_of_its_letters():
    with pytest.raises(TypeError, match="allow_hosts"):
        Emulator(allow_hosts="emulator")


@pytest.mark.parametrize("url", ["https://emulator", "http://testserver", "http://anything.example:81"])
async def test_in_process_every_host_is_the_emulators_own(emulator, url):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url=url, headers=API) as client:
        assert 202 == (await client.post("/v1/track", json=TRACK)).status_code


# ── from which page ──


def page_at(origin: str, site: str) -> dict[str, str]:
    """What a browser says of a page, with the content type that needs no preflight."""
    return {"Origin": origin, "Sec-Fetch-Site": site, "Content-Type": "text/plain"}


@pytest.mark.parametrize(
    "headers",
    [
        page_at("https://evil.example", "cross-site"),
        page_at("http://localhost:3000", "same-site"),
        page_at("null", "cross-site"),
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:8081"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://127.0.0.1:8080"},
        {"Origin": "http://localhost:8080"},  # another origin than the address, although the same machine
        {"Origin": "http://127.0.0.1:8080.evil.example"},
        {"Origin": "http://127.0.0.1:8080, https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "new-word"},
        {"Sec-Fetch-Site": ""},
        {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing(served, emulator, headers):
    answers = [await served.request(*one, headers=headers, content=b'{"status": 500}') for one in CHANGES]

    assert {403} == {answer.status_code for answer in answers}
    assert all("Origin" in answer.text for answer in answers)
    assert is_untouched(emulator)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin"},
        page_at("http://127.0.0.1:8080", "same-origin"),
        {"Origin": "HTTP://127.0.0.1:8080"},
    ],
)
async def test_a_program_and_a_page_of_its_own_may_change_it(served, emulator, headers):
    assert 204 == (await served.post("/__emulator__/reset", headers=headers)).status_code
    tracked = await served.post("/v1/track", json=TRACK, headers={**headers, "Content-Type": "application/json"})

    assert 202 == tracked.status_code
    assert 1 == len(emulator.store.events)


async def test_several_origins_are_each_looked_at(served, emulator):
    headers = [("Origin", "http://127.0.0.1:8080"), ("Origin", "https://evil.example")]

    assert 403 == (await served.post("/__emulator__/reset", headers=headers)).status_code
    assert is_untouched(emulator)


async def test_a_default_port_need_not_be_named(emulator):
    transport = httpx.ASGITransport(emulator)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=API) as client:
        for origin in ("http://localhost", "http://localhost:80"):
            assert 204 == (await client.post("/__emulator__/reset", headers={"Origin": origin})).status_code


async def test_looking_from_elsewhere_gives_a_page_nothing_that_a_browser_would_let_it_read(served, emulator):
    answers = [
        await served.request(method, "/__emulator__/users", headers=page_at("https://evil.example", "cross-site"))
        for method in ("GET", "OPTIONS")
    ]

    assert [200, 405] == [answer.status_code for answer in answers]
    assert "application/json" == answers[0].headers["content-type"]
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]
    assert is_untouched(emulator)


# ── what a browser may make of an answer ──


def fault_of(**headers: Any) -> Fault:
    return Fault(path="/v1/*", status=200, body="<script>alert(1)</script>", headers=headers)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get("/__emulator__/users"),
        lambda client: client.get("/__emulator__/users/nobody"),
        lambda client: client.get("/__emulator__/nothing"),
        lambda client: client.post("/__emulator__/reset"),
        lambda client: client.post("/__emulator__/faults", content=b"x"),
        lambda client: client.get("/v1/background_jobs"),
        lambda client: client.get("/nothing"),
        lambda client: client.post("/api/client/events", json=[]),
        lambda client: client.get("/__emulator__/users", headers={"Host": "evil.example"}),
        lambda client: client.post("/v1/track", headers={"Origin": "null"}),
    ],
)
async def test_every_answer_is_closed_to_other_pages(served, ask: Callable[[httpx.AsyncClient], Any]):
    answer = await ask(served)

    assert HEADERS == {name: ", ".join(answer.headers.get_list(name)) for name in HEADERS}


@pytest.mark.parametrize("by", [None, "", "script-src *"])
async def test_a_forged_page_is_none_and_no_fault_can_make_it_one(emulator, client, by):
    emulator.faults.add(fault_of(**{"Content-Security-Policy": by, "x-content-type-options": by}))
    answer = await client.get("/v1/background_jobs")

    assert "<script>alert(1)</script>" == answer.text
    assert HEADERS == {name: ", ".join(answer.headers.get_list(name)) for name in HEADERS}
    assert "sandbox" in HEADERS["content-security-policy"]
    assert "allow-" not in HEADERS["content-security-policy"]

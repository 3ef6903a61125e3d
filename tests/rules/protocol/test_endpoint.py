"""Where to send, and with which key: refused at construction, and the key never shown."""

from __future__ import annotations

import copy
import pickle
import re
import traceback

import httpx
import idna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from userpilot_async import ConfigurationError, UserpilotAPI, UserpilotClient
from userpilot_async._delivery.credentials import KeyRing, checked_base_url
from userpilot_async._userpilot.api import server_of
from userpilot_async.parcelvoy import ParcelvoyClient

SECRET = "hjk" + "mnp"
VARIABLE = "USERPILOT_API_KEY"


def key_ring(key: object) -> KeyRing:
    """As the clients make one."""
    return KeyRing(key, VARIABLE)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("USERPILOT_API_KEY", "USERPILOT_REGION", "USERPILOT_BASE_URL", "USERPILOT_OUTBOX"):
        monkeypatch.delenv(name, raising=False)


def all_it_says(error: BaseException) -> str:
    return "".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


# ── keys ──

BAD_KEYS = [
    SECRET + "\r\nX-Evil: 1",
    SECRET + "\n",
    "\t" + SECRET,
    SECRET + " ",
    SECRET + " " + SECRET,
    SECRET + "\x00",
    SECRET + "\x7f",
    SECRET + "é",
    SECRET + "\u2028",
    SECRET + "\ud800",
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
@pytest.mark.parametrize("make", [key_ring, UserpilotAPI, UserpilotClient])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_showing_it(make, key):
    with pytest.raises(ValueError, match="white space, control characters or non-ASCII") as caught:
        make(key)

    assert SECRET not in all_it_says(caught.value)


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_a_key_that_a_callable_gives_is_checked_too(key):
    with pytest.raises(ValueError, match="white space, control characters or non-ASCII") as caught:
        KeyRing(lambda: key, VARIABLE).secret().reveal()

    assert SECRET not in all_it_says(caught.value)


def test_an_empty_key_is_refused():
    with pytest.raises(ValueError, match=r"^api_key is empty$"):
        KeyRing("", VARIABLE)


@pytest.mark.parametrize("key", [SECRET.encode(), 7, [SECRET], {"key": SECRET}], ids=lambda key: type(key).__name__)
def test_a_key_of_another_type_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match=f"not {type(key).__name__}$") as caught:
        KeyRing(key, VARIABLE)

    assert SECRET not in all_it_says(caught.value)


def test_the_key_is_read_from_the_environment_if_none_is_given(monkeypatch):
    monkeypatch.setenv("USERPILOT_API_KEY", SECRET)

    assert SECRET == KeyRing(None, VARIABLE).secret().reveal()


def test_a_key_that_is_given_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("USERPILOT_API_KEY", "other")

    assert SECRET == KeyRing(SECRET, VARIABLE).secret().reveal()


def test_a_bad_key_in_the_environment_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("USERPILOT_API_KEY", SECRET + "\n")
    with pytest.raises(ConfigurationError, match=r"^USERPILOT_API_KEY has characters that no key has") as caught:
        KeyRing(None, VARIABLE)

    assert SECRET not in all_it_says(caught.value)


def test_without_any_key_the_error_says_where_one_may_be_put():
    with pytest.raises(ValueError, match="pass it, set USERPILOT_API_KEY, or switch the client off"):
        UserpilotClient()


def test_a_callable_is_asked_anew_for_each_request():
    keys = iter(["first", "second"])
    ring = KeyRing(lambda: next(keys), VARIABLE)

    assert ["first", "second"] == [ring.secret().reveal(), ring.secret().reveal()]


@pytest.mark.parametrize("holder", [key_ring, UserpilotAPI, UserpilotClient])
def test_no_repr_shows_the_key(holder):
    held = holder(SECRET)

    assert SECRET not in repr(held)
    assert SECRET not in repr(vars(held) if hasattr(held, "__dict__") else held)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda way: way.__name__)
def test_a_key_ring_cannot_be_pickled_or_copied(way):
    with pytest.raises(TypeError, match=r"^an API key is not for pickling$"):
        way(KeyRing(SECRET, VARIABLE))


# ── URLs ──


@pytest.mark.parametrize(
    ("region", "url"),
    [
        (None, "https://analytex.userpilot.io"),
        ("us", "https://analytex.userpilot.io"),
        ("eu", "https://analytex-eu.userpilot.io"),
    ],
)
def test_a_region_has_its_host(region, url):
    assert url == server_of(region, None)


def test_the_region_is_read_from_the_environment_if_none_is_given(monkeypatch):
    monkeypatch.setenv("USERPILOT_REGION", "eu")

    assert "https://analytex-eu.userpilot.io" == server_of(None, None)


def test_the_url_is_read_from_the_environment_if_none_is_given(monkeypatch):
    monkeypatch.setenv("USERPILOT_BASE_URL", "https://acme.userpilot.io")

    assert "https://acme.userpilot.io" == server_of(None, None)


def test_what_is_given_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("USERPILOT_REGION", "eu")
    monkeypatch.setenv("USERPILOT_BASE_URL", "https://acme.userpilot.io")

    assert "https://initech.userpilot.io" == server_of("us", "https://initech.userpilot.io")


@pytest.mark.parametrize("region", ["", "EU", "de", 1])
def test_another_region_is_refused(region):
    with pytest.raises(ValueError, match=r'^region must be "us" or "eu"$'):
        server_of(region, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://analytex.userpilot.io",
        "https://analytex.userpilot.io:8443",
        "https://proxy.acme.test/userpilot",
        "https://[2001:db8::1]",
        "https://b\u00fccher.test",
        "https://xn--bcher-kva.test",
        "https://my_service:8443",
        "https://10.0.0.1",
        "https://acme.test/a%20b/~c",
        "http://localhost:8080",
        "http://LOCALHOST:8080",
        "http://127.0.0.1:8080",
        "http://127.9.9.9",
        "http://[::1]:8080",
    ],
)
def test_https_anywhere_and_http_on_loopback_are_taken(url):
    assert url == checked_base_url(url)


@pytest.mark.parametrize("slashes", ["/", "//"])
def test_a_trailing_slash_is_taken_off(slashes):
    assert "https://acme.test/userpilot" == checked_base_url("https://acme.test/userpilot" + slashes)


@pytest.mark.parametrize(
    "url",
    [
        "http://analytex.userpilot.io",
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://192.168.1.1",
        "http://[::2]",
        "http://emulator:8080",
    ],
)
def test_http_to_another_machine_is_taken_where_it_is_allowed(url):
    with pytest.raises(ValueError, match=r"^base_url must start with https:// \(.*, and with allow_http=True for a"):
        checked_base_url(url)

    assert url == checked_base_url(url, allow_http=True)


@pytest.mark.parametrize("allow_http", [False, True])
@pytest.mark.parametrize("url", ["ftp://localhost", "file://localhost/etc", "//analytex.userpilot.io"])
def test_no_other_scheme_is_taken(url, allow_http):
    with pytest.raises(ValueError, match=r"^base_url must start with https:// \(http:// only for loopback\)$"):
        checked_base_url(url, allow_http=allow_http)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "analytex.userpilot.io",
        "https://",
        "https:///v1",
        "https://acme.test?key=1",
        "https://acme.test#top",
        "https://acme.test:0",
        "https://acme.test/a b",
        "https://acme.test/\r\nX-Evil: 1",
        "https://acme.test:port",
        "https://acme.test:99999",
        "https://[::1",
    ],
)
def test_what_is_no_origin_is_refused(url):
    with pytest.raises(ValueError, match=r"^base_url (must be an origin|is no URL|must start with)"):
        checked_base_url(url)


MALFORMED = [
    ("https://acme.test#", "a fragment (#)"),
    ("https://acme.test?", "a query (?)"),
    ("https://acme.test/proxy?", "a query (?)"),
    ("https://acme.test/proxy#", "a fragment (#)"),
    ("https://?", "a query (?)"),
    ("https://", "an empty host"),
    ("https://:443", "an empty host"),
    ("https://.", "a dot at either end"),
    ("https://..", "a dot at either end"),
    ("https://.acme.test", "a dot at either end"),
    ("https://acme.test.", "a dot at either end"),
    ("https://acme..test", "two in a row"),
    ("http://evil[::1]", "brackets"),
    ("http://[::1]evil", "brackets"),
    ("http://[::1", "brackets"),
    ("http://::1]", "more than one colon"),
    ("http://[[::1]]", "brackets"),
    ("http://[127.0.0.1]", "brackets"),
    ("http://[]", "brackets"),
    ("https://[v1.fe80::a]", "brackets"),
    ("https://[fe80::1%25eth0]", "the zone of an IPv6 address"),
    ("https://[fe80::1%eth0]", "the zone of an IPv6 address"),
    ("https://::1", "more than one colon"),
    ("https://acme.test\\@evil.test", "credentials"),
    ("https://acme.test\\evil", "backslashes"),
    ("https://acme.test/\\evil", "backslashes"),
    ("https://acme .test", "white space"),
    ("https://acme.test ", "white space"),
    ("https://acme.test\t", "white space"),
    ("https://acme\n.test", "white space"),
    ("https://acme.test\x00", "white space"),
    ("https://acme.test\u200b", "white space"),
    ("https://acme%2etest", "other characters than letters"),
    ("https://%61cme.test", "other characters than letters"),
    ("https://-acme.test", "other characters than letters"),
    ("https://acme-.test", "other characters than letters"),
    ("https://acme,test", "other characters than letters"),
    ("https://*.acme.test", "other characters than letters"),
    ("https://<host>", "other characters than letters"),
    ("https://${HOST}", "other characters than letters"),
    ("https://" + "a" * 64 + ".test", "63 between dots"),
    ("https://" + ".".join(["a" * 60] * 5), "more than 253 characters"),
    ("https://acme.test:", "a port that is no number"),
    ("https://acme.test:0", "a port that is no number"),
    ("https://acme.test:65536", "a port that is no number"),
    ("https://acme.test:-1", "a port that is no number"),
    ("https://acme.test:+80", "a port that is no number"),
    ("https://acme.test:8_0", "a port that is no number"),
    ("https://acme.test:\uff18\uff10", "a port that is no number"),
    ("https://acme.test:80:80", "more than one colon"),
    ("http://[::1]:", "a port that is no number"),
    ("https://256.1.1.1", "no IPv4 address"),
    ("https://1.2.3", "no IPv4 address"),
    ("https://127.0.0.01", "no IPv4 address"),
    ("https://2130706433", "no IPv4 address"),
    ("https://0x7f.1", "no IPv4 address"),
    ("https://0x7f", "no IPv4 address"),
    ("https://\u2603.test", "no international name"),
    ("https://acme\u3002test", "no international name"),
    ("https://" + "\u00fc" * 80 + ".test", "no international name"),
    ("https://xn--.test", "other characters than letters"),
    ("https://xn--a.test", "no international name"),
    ("https://xn--bcher-kva._x", "no international name"),
    ("https://acme.test/a//b", "empty parts in its path"),
    ("https://acme.test//a", "empty parts in its path"),
    ("https://acme.test/../a", "the parts . and .."),
    ("https://acme.test/a/..", "the parts . and .."),
    ("https://acme.test/./a", "the parts . and .."),
    ("https://acme.test/%2e%2E/a", "the parts . and .."),
    ("https://acme.test/a%2f..", "the parts . and .."),
    ("https://acme.test/a%0d%0ab", "control characters"),
    ("https://acme.test/%", "percent-encoded"),
    ("https://acme.test/%zz", "percent-encoded"),
    ("https://acme.test/\u00fc", "percent-encoded"),
    ("https://acme.test/<path>", "percent-encoded"),
    ("https://acme.test/" + "a" * 2_000, "more than 2,000 characters"),
]


@pytest.mark.parametrize(("url", "what"), MALFORMED, ids=lambda one: ascii(one)[:40])
def test_a_url_that_could_be_read_in_two_ways_is_refused_and_told_what_is_wrong_with_it(url, what):
    with pytest.raises(ConfigurationError, match=re.escape(what)) as caught:
        checked_base_url(url, "USERPILOT_BASE_URL")

    assert str(caught.value).startswith("USERPILOT_BASE_URL must ")
    assert url == "https://" or url not in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda url: UserpilotClient("KEY", base_url=url), lambda url: ParcelvoyClient("KEY", url)]
)
def test_every_client_refuses_such_a_url(make):
    with pytest.raises(ConfigurationError, match=r"^base_url must be an origin like .* without a fragment"):
        make("https://acme.test#")


@pytest.mark.parametrize(
    ("name", "make"),
    [("USERPILOT_BASE_URL", lambda: UserpilotClient("KEY")), ("PARCELVOY_BASE_URL", lambda: ParcelvoyClient("KEY"))],
)
def test_a_refusal_names_the_variable_that_such_a_url_comes_from(monkeypatch, name, make):
    monkeypatch.setenv(name, "https://acme.test?")
    with pytest.raises(ConfigurationError, match=rf"^{name} must be an origin like .* without a query"):
        make()


PIECES = st.sampled_from(
    ["acme", "test", "a", "xn--bcher-kva", "b\u00fccher", "_x", "1", "127.0.0.1", "localhost", "[::1]", "[", "]", ".",
     "..", ":", ":8080", ":0", "//", "/", "/v0", "?", "#", "@", "\\", "%", "%2e", "%2f", "-", "~", " ", "\t", "\u3002"]
)  # fmt: skip


@given(st.sampled_from(["https://", "http://", "HTTPS://"]), st.lists(PIECES, max_size=8).map("".join))
@example("https://", "b\u00fccher.test:8080/proxy")
@example("https://", "[2001:db8::1]:8443/a/b/")
def test_whatever_url_is_taken_requests_go_to_its_host_and_below_its_path(scheme, rest):
    """As httpx builds them, which reads URLs in a way of its own."""
    try:
        base = checked_base_url(scheme + rest)
    except ConfigurationError:
        return
    authority, _, prefix = rest.partition("/")
    host, _, port = authority.rpartition(":") if re.search(r":\d+$", authority) else (authority, "", "")

    url = httpx.Request("GET", f"{base}/v1/background_jobs?page=2").url
    wanted = host.strip("[]").lower()
    assert (wanted if wanted.isascii() else idna.encode(wanted).decode()) == url.raw_host.decode()
    default = 443 if url.scheme == "https" else 80
    assert int(port or default) == (url.port or default)
    assert f"/{prefix.rstrip('/')}".rstrip("/") + "/v1/background_jobs?page=2" == url.raw_path.decode()
    assert ("", b"") == (url.fragment, url.userinfo)
    assert url.host  # which is Unicode, and cannot be had of every name


@pytest.mark.parametrize("url", [b"https://acme.test", 7, ["https://acme.test"]], ids=repr)
def test_a_url_of_another_type_is_refused(url):
    with pytest.raises(ValueError, match=f"^base_url must be str, not {type(url).__name__}$"):
        checked_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@acme.test",
        f"https://{SECRET}@acme.test",
        f"http://:{SECRET}@localhost",
        f"https://user:{SECRET}@acme.test\u2100",
    ],
    ids=["both", "user", "password", "with a character that NFKC changes"],
)
def test_credentials_in_the_url_are_refused_without_showing_them(url):
    with pytest.raises(ValueError, match=r"^base_url ") as caught:
        checked_base_url(url)

    assert SECRET not in all_it_says(caught.value)


@pytest.mark.parametrize("url", ["HTTPS://acme.test", "Https://acme.test"])
def test_the_scheme_is_written_in_lower_case(url):
    assert "https://acme.test" == checked_base_url(url)

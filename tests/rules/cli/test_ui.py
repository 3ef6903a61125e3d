"""The console's pure parts: what it counts, what it calls people, which requests it answers, and its page's source."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._account.account import Account
from userpilot_async.cli.ui import _aliases
from userpilot_async.cli.ui._aliases import Aliases
from userpilot_async.cli.ui._guard import Guard, is_loopback
from userpilot_async.cli.ui._traffic import EVERY, GAP, WINDOW, Traffic

PAGE = (resources.files("userpilot_async.cli.ui") / "console.html").read_text(encoding="utf-8")

# ── what came and went ──


def account(accepted: int, delivered: int = 0, **lost: int) -> Account:
    return Account(accepted=accepted, delivered=delivered, dead=dict(lost))


def test_calls_a_minute_are_what_the_account_has_more_than_before():
    traffic = Traffic()
    traffic.add(100.0, account(10, 10))
    traffic.add(110.0, account(30, 12, invalid=3))

    assert [{"ago": 5.0, "seconds": 10.0, "in": 120.0, "out": 30.0}] == traffic.as_list(115.0)


def test_samples_in_quick_succession_are_one():
    traffic = Traffic()
    for n in range(int(EVERY) * 10 + 1):  # ten times a second
        traffic.add(n / 10, account(n))

    assert [EVERY] == [one["seconds"] for one in traffic.as_list(EVERY)]


def test_time_in_which_no_page_was_open_is_left_out():
    traffic = Traffic()
    for at in (0.0, 5.0, 5.0 + GAP + 1, 5.0 + GAP + 6):
        traffic.add(at, account(int(at)))

    assert [5.0, 5.0] == [one["seconds"] for one in traffic.as_list(100.0)]


def test_an_outbox_that_was_set_back_begins_anew():
    traffic = Traffic()
    for at, accepted in ((0.0, 100), (5.0, 200), (10.0, 7), (15.0, 8)):
        traffic.add(at, account(accepted))

    assert [12.0] == [one["in"] for one in traffic.as_list(15.0)]


def test_what_is_too_old_is_forgotten():
    traffic = Traffic()
    for n in range(1_000):
        traffic.add(5.0 * n, account(n))

    shown = traffic.as_list(5.0 * 999)

    assert WINDOW / 5.0 == len(shown)
    assert shown[0]["ago"] + shown[0]["seconds"] <= WINDOW


# ── what people are called ──


@given(st.lists(st.tuples(st.text(min_size=1)), min_size=1, unique=True, max_size=50))
def test_an_alias_is_stable_and_leads_back_to_its_id(people):
    aliases = Aliases(b"secret")
    names = [aliases.alias(one) for one in people]

    assert people == [aliases.ids(name) for name in names]
    assert names == [aliases.alias(one) for one in people]
    assert all(re.fullmatch("[a-z2-7]{8}", name) for name in names)


def test_without_the_secret_no_alias_can_be_found_by_trying():
    assert Aliases(b"one").alias(("u1",)) != Aliases(b"other").alias(("u1",))


def test_several_ids_are_another_person_than_one_that_looks_like_them():
    aliases = Aliases(b"secret")

    assert 3 == len({aliases.alias(("a", "b")), aliases.alias(("a, b",)), aliases.alias(("ab",))})


def test_as_many_aliases_are_remembered_as_fit(monkeypatch):
    monkeypatch.setattr(_aliases, "MOST", 2)
    aliases = Aliases(b"secret")
    first, second = (aliases.alias((one,)) for one in "ab")
    aliases.alias(("a",))
    aliases.alias(("c",))

    assert (("a",), None) == (aliases.ids(first), aliases.ids(second))


# ── who is answered ──

TOKEN = (b"authorization", b"Bearer right")


def refusal(*headers: tuple[bytes, bytes], host: bytes = b"127.0.0.1:8090", needs_token: bool = True) -> str:
    return Guard("right").refusal([(b"host", host), *headers], needs_token=needs_token) or ""


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8090", b"127.0.0.1:1", b"127.8.9.1", b"[::1]:8090"])
def test_this_machine_is_answered_by_any_of_its_own_names(host):
    assert "" == refusal(TOKEN, host=host)


@pytest.mark.parametrize("host", [
    b"evil.example", b"127.0.0.1.evil.example", b"localhost.evil.example:8090", b"192.168.1.7", b"0.0.0.0", b"",
    b"localhost@evil.example", b"evil.example#localhost", b"localhost, evil.example", b"[::]", b"\xff", b"2130706433",
])  # fmt: skip
def test_any_other_host_is_refused_even_the_page(host):
    assert "loopback" in refusal(TOKEN, host=host)
    assert "loopback" in refusal(host=host, needs_token=False)


def test_two_hosts_are_refused():
    assert "loopback" in refusal((b"host", b"localhost"), TOKEN)


@pytest.mark.parametrize("headers", [
    [], [(b"authorization", b"Bearer wrong")], [(b"authorization", b"right")], [(b"authorization", b"Bearer right ")],
    [(b"cookie", b"token=right")], [TOKEN, TOKEN], [(b"authorization", b"Bearer r\xefght")],
])  # fmt: skip
def test_without_the_token_nothing_is_answered(headers):
    assert "token" in refusal(*headers)


@pytest.mark.parametrize("header", [
    (b"origin", b"http://evil.example"), (b"origin", b"null"), (b"origin", b"http://127.0.0.1:8091"),
    (b"origin", b"https://127.0.0.1:8090"), (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-site", b"same-site"),
])  # fmt: skip
def test_a_page_of_another_origin_is_refused_whatever_it_knows(header):
    assert "another origin" in refusal(header, TOKEN)


def test_the_own_page_is_answered():
    assert "" == refusal((b"origin", b"http://127.0.0.1:8090"), (b"sec-fetch-site", b"same-origin"), TOKEN)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.com", "", "localhost.example.com"])
def test_what_others_can_reach_is_no_loopback(host):
    assert not is_loopback(host)


# ── the page ──


def test_the_page_takes_nothing_for_html_that_comes_from_an_outbox():
    dangerous = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|srcdoc|\.on\w+ = \""
    )

    assert [] == re.findall(dangerous, PAGE)


def test_the_page_asks_no_other_host():
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+[^\s\"']*", PAGE))

    assert {"http://www.w3.org/2000/svg"} == addresses  # a name, at which nothing is asked for
    assert [] == re.findall(r"<link|<img|<iframe|@import|url\(", PAGE)


def test_the_page_has_one_script_and_one_style_without_attributes():
    """The policy lets these two run by their hashes, and nothing else."""
    assert ["<script>", "<style>"] == sorted(re.findall(r"<(?:script|style)[^>]*>", PAGE))
    assert [] == re.findall(r"\son[a-z]+=\"|\sstyle=\"|javascript:", PAGE)

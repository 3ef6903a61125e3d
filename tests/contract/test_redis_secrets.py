"""Passwords on the way to Redis: said by no error, kept by no frame, and sent to nobody who is not the one meant."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.contract.inline import Client, at_once, open_now
from tests.contract.inline_redis import InlineRedisOutbox
from tests.harness import judge
from tests.harness.raw_server import RefusedPort
from tests.harness.redis_fake import Answer, Authority, FakeRedis, array
from tests.harness.told import told_by
from userpilot_async import OutboxError, UserpilotClient
from userpilot_async._outbox.url import outbox_at
from userpilot_async.redis import RedisOutbox
from userpilot_async.sqlite import SQLiteOutbox

pytest.importorskip("redis")

SECRETS = {
    "server": "canary-of-the-server", "sentinel": "canary-of-sentinels", "key": "canary-of-the-key",
    "query": "canary-in-the-query",
}  # fmt: skip
FORMS = {
    "one server": "redis://pods:{server}@{host}/0",
    "one server, in the query": "redis://{host}/0?username=pods&password={query}",
    "TLS": "rediss://pods:{server}@{host}/0?ssl_password={key}",
    "Sentinels": "redis+sentinel://pods:{server}@{host}/main?sentinel_password={sentinel}&sentinel_username=watch",
    "a cluster": "redis+cluster://pods:{server}@{host}",
}


def url_of(form: str, port: int, **options: Any) -> str:
    url = FORMS[form].format(host=f"127.0.0.1:{port}", **SECRETS)
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}" if url.startswith("rediss") else url


def echoing(words: str) -> Answer:
    """Each command is refused in these words, and what was sent is in them."""
    return lambda command: f"-{words} {' '.join(command)}\r\n".encode()


FAILURES: dict[str, Answer | None] = {
    "nobody there": None,
    "closed": lambda command: None,
    "no password like that": echoing("WRONGPASS invalid username-password pair"),
    "unknown command": echoing("ERR unknown command"),
    "an odd error": echoing("ODD"),
    "no Redis": lambda command: f"HTTP/1.1 400 {command}\r\n".encode(),
    "moved": echoing("MOVED 1"),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("failure", FAILURES)
def test_no_password_is_in_what_a_failure_leaves_behind(
    form: str, failure: str, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: dict[str, str] = {}
    answer, context = FAILURES[failure], authority.context("127.0.0.1") if form == "TLS" else None
    with FakeRedis(answer, context) if answer is not None else RefusedPort() as server:
        url = url_of(form, server.port, ssl_ca_certs=authority.ca_file)
        with pytest.raises(OutboxError) as seen:
            RedisOutbox(url, timeout=0.2).admin().inspect()
        texts |= told_by(seen.value)
        outbox = InlineRedisOutbox(url, timeout=0.2)
        try:
            open_now(outbox, Client().opening())
        except OutboxError as refused:
            texts |= told_by(refused)
        texts["repr"] = repr(outbox)
        at_once(outbox.aclose())

    texts["log"] = caplog.text
    judge.no_canary(texts, list(SECRETS.values()))


# ── whom it is sent to ──

OTHER = "elsewhere.test"


def trusting(authority: Authority, form: str, port: int, **options: Any) -> RedisOutbox:
    """Of a server, Sentinels or a cluster on this port; with a password, which nobody else may see."""
    url = form.format(host=f"localhost:{port}", login=f":{SECRETS['server']}@")
    return RedisOutbox(f"{url}?{urlencode({'ssl_ca_certs': authority.ca_file, **options})}", timeout=1.0)


@pytest.mark.parametrize(
    "form", ["rediss://{login}{host}", "rediss+sentinel://{login}{host}/main", "rediss+cluster://{login}{host}"]
)
def test_a_certificate_for_another_name_is_refused_before_anything_is_said(form: str, authority: Authority) -> None:
    with FakeRedis(echoing("ODD"), authority.context(OTHER)) as server:
        with pytest.raises(OutboxError, match="its certificate is not accepted: Hostname mismatch"):
            trusting(authority, form, server.port).admin().inspect()

        assert [] == server.commands
        with pytest.raises(OutboxError, match="ODD"):  # unless somebody wants it so
            trusting(authority, form, server.port, ssl_check_hostname="false").admin().inspect()


def test_the_certificate_of_a_master_or_a_node_that_was_named_is_for_its_name_too(authority: Authority) -> None:
    with FakeRedis(echoing("ODD"), authority.context(OTHER)) as named:
        where = ("localhost", str(named.port))
        master = array("ip", where[0], "port", where[1], "config-epoch", "1")
        moved = f"-MOVED 7 localhost:{named.port}\r\n".encode()
        answers: dict[str, Answer] = {
            "rediss+sentinel://{login}{host}/main": lambda command: master if command[1] == "MASTER" else array(*where),
            "rediss+cluster://{login}{host}": lambda command: moved if command[0] == "EXISTS" else b"+OK\r\n",
        }
        for form, answer in answers.items():
            with (
                FakeRedis(answer, authority.context("localhost")) as first,
                pytest.raises(OutboxError, match="its certificate is not accepted: Hostname mismatch"),
            ):
                trusting(authority, form, first.port).admin().inspect()
            assert first.commands

        assert [] == named.commands


def test_a_password_in_the_clear_is_warned_of_once_for_each_address(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        for url in (
            "redis://:{}@warned-a.test/0", "redis+sentinel://127.0.0.1,warned-b.test/main?sentinel_password={}",
            "redis+cluster://pods:{}@10.0.0.7", "redis://warned-c.test/0?password={}",
        ):  # fmt: skip
            RedisOutbox(url.format(SECRETS["server"]))

    said = [line for line in caplog.messages if "in the clear" in line]
    assert ["redis://warned-a.test/0", "redis+sentinel://127.0.0.1,warned-b.test/main", "redis+cluster://10.0.0.7",
            "redis://warned-c.test/0"] == [line.split(": ")[1] for line in said]  # fmt: skip
    assert said[1].endswith("use TLS: rediss+sentinel://127.0.0.1,warned-b.test/main")
    judge.no_canary({"log": caplog.text}, [SECRETS["server"]])


@pytest.mark.parametrize(
    "url",
    [
        "redis://:{}@localhost/0", "redis://:{}@127.0.0.7:1/0", "redis://:{}@[::1]/0", "unix://:{}@/run/redis.sock",
        "rediss://:{}@cache/0", "rediss+cluster://:{}@cache", "redis://cache/0", "redis://pods@cache/0",
        "redis+sentinel://:{}@localhost,127.0.0.1/main", "redis://:{}@/0",
    ],
)  # fmt: skip
def test_a_password_that_stays_here_or_is_hidden_is_not_warned_of(url: str, caplog: pytest.LogCaptureFixture) -> None:
    RedisOutbox(url.format(SECRETS["server"]))

    assert [] == caplog.messages


# ── what was mistyped ──

MISTYPED = [
    "redis//:{}@cache:6379/0", "reds://:{}@cache:6379/0", "redis:/:{}@cache:6379/0", "redis:/pods:{}@cache/0",
    "http://:{}@cache:6379", "redis://pods:x/{}@cache:6379/0", "redis://:{}@cache:port/0", "redis://:{}@cache:99999/0",
    "redis://:{}@cache:6379/0?nmae=x", "redis+sentnel://:{}@s1,s2/main", "redis+sentinel://:{}@s1,s2",
    "redis+sentinel://:{}@s1:x,s2/main", "redis+cluster://:{}@cache/1", "redis+cluster://:{}@n1,,n2",
    "redis://: {}@cache:6379/0", "redis://:x\n{}@cache:6379/0", "redis:// :{}@cache", "redis://:{}@[cache/0",
    "redis://:{}@cache/0?ssl_ca_certs=x", "redis://cache/{}%40x", "redis://cache/0?:{}%40=1", "redis://cache/:{}",
    "redis://cache/0?timeout=2;password={}", "redis://cache/0?max_calls=:{}", "redis://cache/0?sender=:{}",
    "rediss://:{}@cache/0?ssl_check_hostname=maybe", "rediss://:{}@cache/0?ssl_cert_reqs=maybe",
    "pods:{}@cache:6379", ":{}@cache:6379/0", "//:{}@cache:6379/0", "redis:pods:{}@cache", "redis.:{}@cache/0",
    ":{}@redis://cache/0", "redis:{}@cache://6379/0", "sqlite://:{}@cache/0", "sqlite:///redis://:{}@cache/0",
    "sqlite:///events.db?:{}@cache", "cache:6379/0?password={}", "REDIS://:{}@cache/0", "redis://:{}@cache/0?db=:x",
    "rediss@//:{}@cache/0", "rdis//{}@cache/0", "redis?//{}@cache/0", ".redis:/pods:{}@cache/0",
    "rdis//cache/0?passwodr={}", "redis://cachessl_password={}&name=x", "redis://cache'password=x@{}&name=x",
    "redis+sentinel://s1,s2/mainsentinel_password={}", "redis+cluster://n1,n2;password={}",
]  # fmt: skip


@pytest.mark.parametrize("mistyped", MISTYPED)
@pytest.mark.parametrize("by", ["argument", "environment", "place", "outbox"])
def test_what_was_mistyped_is_refused_without_its_password(
    mistyped: str, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    url = mistyped.format(SECRETS["server"])
    made: dict[str, Callable[[], Any]] = {
        "argument": lambda: UserpilotClient("KEY", outbox=url),
        "environment": lambda: UserpilotClient("KEY"),
        "place": lambda: outbox_at(url),
        "outbox": lambda: RedisOutbox(url),
    }
    if by == "environment":
        monkeypatch.setenv("USERPILOT_OUTBOX", url)
    with pytest.raises(ValueError) as refused:
        made[by]()

    judge.no_canary(told_by(refused.value), [SECRETS["server"]])
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["redis://pods:{}@cache/0", "redis:/:{}@cache/0", "pods:{}@cache:6379", "//:{}@cache/0", "redis//:{}@c/0"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_name_of_a_file(url: str, kind: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError) as refused:
        SQLiteOutbox(kind(url.format(SECRETS["server"])))

    judge.no_canary({"words": str(refused.value)}, [SECRETS["server"]])

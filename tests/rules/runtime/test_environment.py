"""What cannot be right in the environment, or at construction: one kind of error, which names where it comes from."""

from __future__ import annotations

import functools
import gc
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from userpilot_async import ConfigurationError, MemoryOutbox, Settings, UserpilotAPI, UserpilotClient, UserpilotError
from userpilot_async._delivery.credentials import KeyRing
from userpilot_async._outbox.url import outbox_at
from userpilot_async._runtime.environment import flag, variable
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings
from userpilot_async.redis import RedisOutbox
from userpilot_async.sqlite import SQLiteOutbox

WHAT = ("API_KEY", "REGION", "BASE_URL", "OUTBOX", "DISABLED", "ALLOW_HTTP")
NAMES = [f"{name}_{what}" for name in ("USERPILOT", "PARCELVOY") for what in WHAT]
SERVER = "https://parcelvoy.example.com"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def refusal(make: Any, *arguments: Any, **options: Any) -> str:
    """What is said when this is made."""
    with pytest.raises(ConfigurationError) as caught:
        make(*arguments, **options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UserpilotError)
    return str(caught.value)


# ── variables ──


def test_a_variable_that_is_empty_is_unset(monkeypatch):
    """`${NAME:-}` in a compose file makes it so."""
    monkeypatch.setenv("USERPILOT_OUTBOX", "")

    assert variable("USERPILOT_OUTBOX") is variable("USERPILOT_REGION") is None


def test_a_client_is_made_though_all_its_variables_are_empty(monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, "")
    userpilot, parcel = UserpilotClient("KEY"), ParcelvoyClient("KEY", SERVER)

    assert "https://analytex.userpilot.io" == userpilot.api.base_url
    assert isinstance(userpilot._outbox, MemoryOutbox)
    assert isinstance(parcel._outbox, MemoryOutbox)
    assert "pass it, set USERPILOT_API_KEY" in refusal(UserpilotClient)
    assert "pass it, set PARCELVOY_API_KEY" in refusal(ParcelvoyClient, None, SERVER)
    assert "pass it, or set PARCELVOY_BASE_URL" in refusal(ParcelvoyClient, "KEY")


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "ON"])
def test_a_flag_that_is_on(monkeypatch, text):
    monkeypatch.setenv("USERPILOT_FLAG", text)

    assert flag("USERPILOT_FLAG") is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off"])
def test_a_flag_that_is_off(monkeypatch, text):
    monkeypatch.setenv("USERPILOT_FLAG", text)

    assert flag("USERPILOT_FLAG") is False


def test_a_flag_that_is_unset_or_empty_says_nothing(monkeypatch):
    assert flag("USERPILOT_FLAG") is None
    monkeypatch.setenv("USERPILOT_FLAG", "")

    assert flag("USERPILOT_FLAG") is None


@pytest.mark.parametrize("text", ["maybe", "2", "tru"])
def test_a_flag_that_is_neither_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("USERPILOT_FLAG", text)

    assert "USERPILOT_FLAG must be one of true, 1, yes, on, or one of false, 0, no, off" == refusal(
        flag, "USERPILOT_FLAG"
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("USERPILOT_REGION", "mars", 'USERPILOT_REGION must be "us" or "eu"'),
        ("USERPILOT_BASE_URL", "http://acme.test", "USERPILOT_BASE_URL must start with https://"),
        ("USERPILOT_ALLOW_HTTP", "perhaps", "USERPILOT_ALLOW_HTTP must be one of true, 1, yes, on, or one of"),
        ("USERPILOT_BASE_URL", "https://user:hunter2@acme.test", "USERPILOT_BASE_URL must not hold credentials"),
        ("USERPILOT_OUTBOX", "events.db", "USERPILOT_OUTBOX must be a URL; a file is sqlite:///events.db"),
        ("USERPILOT_OUTBOX", "redis:hunter2@cache", "USERPILOT_OUTBOX must be a URL"),
        ("USERPILOT_OUTBOX", "mysql://hunter2@host", "USERPILOT_OUTBOX is mysql://…, and this version knows"),
        ("USERPILOT_OUTBOX", "sqlite:///a.db?mode=ro", "USERPILOT_OUTBOX: mode is no option of a SQLite outbox"),
        ("USERPILOT_OUTBOX", "redis://hunter2@cache/x", "USERPILOT_OUTBOX: the database of a Redis outbox is a number"),
    ],
)
def test_an_error_about_a_variable_names_it(monkeypatch, name, value, said):
    monkeypatch.setenv(name, value)
    message = refusal(UserpilotClient, "KEY")

    assert message.startswith(said)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARCELVOY_API_KEY", "hunter2\n"),
        ("PARCELVOY_BASE_URL", "ftp://host"),
        ("PARCELVOY_OUTBOX", "sqlite://"),
        ("PARCELVOY_ALLOW_HTTP", "perhaps"),
    ],
)
def test_an_error_about_a_variable_of_parcelvoys_names_it(monkeypatch, name, value):
    for known, right in (("PARCELVOY_API_KEY", "KEY"), ("PARCELVOY_BASE_URL", SERVER)):
        monkeypatch.setenv(known, right)
    monkeypatch.setenv(name, value)
    message = refusal(ParcelvoyClient)

    assert message.startswith(name)
    assert "hunter2" not in message


# ── everything that is refused at construction ──


async def key_later() -> str:
    return "KEY"


class KeyVault:
    """A callable object, as clients of secret stores are."""

    async def __call__(self) -> str:
        return "KEY"


EMULATOR = "http://emulator:8080"  # in a network of Compose's
TO_EMULATOR = {
    "USERPILOT": [
        lambda **options: UserpilotClient("KEY", base_url=EMULATOR, **options).api.base_url,
        lambda **options: UserpilotAPI("KEY", base_url=EMULATOR, **options).base_url,
    ],
    "PARCELVOY": [lambda **options: ParcelvoyClient("KEY", EMULATOR, **options)._connection.base_url],
}


@pytest.mark.parametrize(
    ("prefix", "base_url"), [(prefix, make) for prefix, makes in TO_EMULATOR.items() for make in makes]
)
def test_http_to_another_machine_is_allowed_by_an_argument_or_a_variable(monkeypatch, prefix, base_url):
    name = f"{prefix}_ALLOW_HTTP"
    remedy = f"http:// only for loopback, and with allow_http=True or {name}=1 for a server in a network of your own"
    monkeypatch.setenv(name, "")
    assert remedy in refusal(base_url)
    assert EMULATOR == base_url(allow_http=True)
    assert "allow_http must be a bool or None, not int" == refusal(base_url, allow_http=1)
    monkeypatch.setenv(name, "Yes")
    assert EMULATOR == base_url()
    assert remedy in refusal(base_url, allow_http=False)


@pytest.mark.parametrize(
    "key",
    [key_later, KeyVault(), KeyVault().__call__, functools.partial(key_later)],
    ids=["function", "object", "method", "partial"],
)
@pytest.mark.parametrize("make", [UserpilotClient, UserpilotAPI, lambda key: ParcelvoyClient(key, SERVER)])
def test_a_key_that_would_have_to_be_awaited_is_refused(make, key):
    assert "this one is async, and nothing awaits it" in refusal(make, key)


@pytest.mark.filterwarnings("error")
def test_a_key_that_turns_out_to_be_a_coroutine_is_refused_without_a_warning_of_pythons():
    with pytest.raises(ConfigurationError, match="not coroutine"):
        KeyRing(lambda: key_later(), "USERPILOT_API_KEY").secret().reveal()  # type: ignore[arg-type, return-value]  # the mistake
    gc.collect()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Settings, {"max_wait": -1.0}),
        (Settings, {"concurrency": 0}),
        (Settings, {"when_full": "explode"}),
        (Settings, {"when_full": ["wait"]}),
        (Settings, {"when_full": Mock(__eq__=Mock(side_effect=KeyError))}),
        (Settings, {"request_timeout": float("nan")}),
        (ParcelvoySettings, {"requests_per_minute": 0}),
        (ParcelvoySettings, {"max_events": "500"}),
        (UserpilotClient, {"api_key": "a b"}),
        (UserpilotClient, {"api_key": 7}),
        (UserpilotClient, {"api_key": "KEY", "region": "mars"}),
        (UserpilotClient, {"api_key": "KEY", "region": ["us"]}),
        (UserpilotClient, {"api_key": "KEY", "base_url": "acme.test"}),
        (UserpilotClient, {"api_key": "KEY", "settings": ParcelvoySettings()}),
        (UserpilotClient, {"api_key": "KEY", "on_dead": "print"}),
        (UserpilotClient, {"api_key": "KEY", "transport": httpx.HTTPTransport}),
        (UserpilotClient, {"api_key": "KEY", "transport": 5}),
        (UserpilotClient, {"api_key": "KEY", "outbox": 5}),
        (UserpilotClient, {"api_key": "KEY", "outbox": b"events.db"}),
        (UserpilotClient, {"api_key": "KEY", "outbox": SQLiteOutbox}),
        (UserpilotClient, {"api_key": "KEY", "outbox": ["sqlite:///events.db"]}),
        (ParcelvoyClient, {"api_key": "KEY"}),
        (ParcelvoyClient, {"api_key": "KEY", "base_url": SERVER, "settings": Settings()}),
        (ParcelvoyClient, {"api_key": "KEY", "base_url": SERVER, "outbox": 5}),
        (UserpilotAPI, {"api_key": "KEY", "attempts": 0}),
        (UserpilotAPI, {"api_key": "KEY", "connections": "8"}),
        (UserpilotAPI, {"api_key": "KEY", "request_timeout": 0}),
        (UserpilotAPI, {"api_key": "KEY", "upload_timeout": float("inf")}),
        (SQLiteOutbox, {"path": 5}),
        (SQLiteOutbox, {"path": ""}),
        (SQLiteOutbox, {"path": "a\0b"}),
        (SQLiteOutbox, {"path": "events.db", "durability": ["power"]}),
        (SQLiteOutbox, {"path": "events.db", "sender": "false"}),
        (SQLiteOutbox, {"path": "events.db", "max_bytes": 0}),
        (RedisOutbox, {"url": "redis://cache?ssl_cert_reqs=perhaps"}),
        (RedisOutbox, {"url": "redis://cache?db=first"}),
        (RedisOutbox, {"url": "rediss://cache?ssl_cert_reqs=perhaps"}),
    ],
    ids=lambda given: re.sub(r" id='\d+'", "", str(given))[:50] if isinstance(given, dict) else given.__name__,
)
def test_what_cannot_be_right_is_one_kind_of_error(make, options):
    assert refusal(make, **options)


def test_settings_of_the_same_name_by_somebody_else_are_told_apart():
    class Settings:
        pass

    assert f"settings must be Settings, not {__name__}.Settings" == refusal(UserpilotClient, "KEY", settings=Settings())


# ── where an outbox is ──


class SomePath:
    """A path by another library."""

    def __fspath__(self) -> str:
        return "events.db"


@pytest.mark.parametrize("path", [Path("events.db"), SomePath()], ids=["Path", "PathLike"])
def test_a_path_is_a_file_of_an_outbox(path):
    outbox = outbox_at(path)
    client = UserpilotClient("KEY", outbox=path)

    assert isinstance(outbox, SQLiteOutbox)
    assert Path(os.getcwd(), "events.db") == outbox.path
    assert isinstance(client._outbox, SQLiteOutbox)


@pytest.mark.parametrize(
    "place",
    [
        "sqlite:///:memory:",
        "sqlite://:memory:",
        "sqlite://",
        "sqlite:///",
        ":memory:",
        "sqlite:///:memory:?sender=false",
    ],
)
def test_a_sqlite_outbox_in_memory_is_refused_and_the_right_name_is_given(place):
    """The outbox made a file of that name."""
    assert "memory://" in refusal(outbox_at, place)
    if ":memory:" in place:
        assert refusal(outbox_at, place).startswith("outbox names SQLite's database in memory, which keeps nothing: ")


def test_sqlites_own_word_for_memory_is_no_path():
    assert "memory://" in refusal(SQLiteOutbox, ":memory:")
    assert "memory://" in refusal(outbox_at, Path(":memory:"))


@pytest.mark.parametrize("number", ["0", "one", "-2", ""])
def test_too_few_connections_for_an_outbox_in_redis_are_refused(number):
    said = "max_connections must be a whole number, 1 or more"

    assert said == refusal(RedisOutbox, f"redis://cache?max_connections={number}")
    assert RedisOutbox("redis://cache?max_connections=1").place

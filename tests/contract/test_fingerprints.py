"""What an outbox keeps of the API key: whose its calls are, and nothing from which the key could be guessed."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
import redis

from userpilot_async import OutboxError, UserpilotClient
from userpilot_async._calls.stored import sealed, unsealed
from userpilot_async._delivery.credentials import KeyRing
from userpilot_async.redis import _opening
from userpilot_async.sqlite._schema import version_of

pytestmark = pytest.mark.anyio

KEY = "pin-4711"
SALT = bytes(range(16))
OLD = hashlib.sha256(SALT + KEY.encode()).hexdigest()[:32]  # as versions before this one made it


class Place(Protocol):
    """An outbox, looked at from outside."""

    url: str

    def about(self) -> tuple[str, str, int]:
        """Salt, fingerprint and version, as they are stored."""

    def make_old(self) -> None:
        """As an earlier version has written it, for `KEY`."""


class OnDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    def _run(self, change: Callable[[sqlite3.Connection], object]) -> None:
        db = sqlite3.connect(self.path)
        with db:
            change(db)
        db.close()

    def about(self) -> tuple[str, str, int]:
        found = []

        def read(db: sqlite3.Connection) -> None:
            for table in ("about", "about_again"):
                said = unsealed(db.execute(f"SELECT said FROM {table}").fetchone()[0])
                version = db.execute("PRAGMA user_version").fetchone()[0]
                found.append((said["salt"], said["fingerprint"], version))

        self._run(read)
        assert found[0] == found[1]
        return found[0]

    def make_old(self) -> None:
        def change(db: sqlite3.Connection) -> None:
            for table in ("about", "about_again"):
                said = unsealed(db.execute(f"SELECT said FROM {table}").fetchone()[0])
                said = sealed({**said, "salt": SALT.hex(), "fingerprint": OLD})
                db.execute(f"UPDATE {table} SET said = ?", (said,))
            for table in ("pairs", "accepted_keys"):  # of later versions
                db.execute(f"DROP TABLE {table}")
            db.execute("PRAGMA user_version = 1")

        self._run(change)


class InRedis:
    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    def about(self) -> tuple[str, str, int]:
        (key,) = self.redis.keys("*:about")
        said: Mapping[str, str] = self.redis.hgetall(key)
        return said["salt"], said["fingerprint"], int(said["version"])

    def make_old(self) -> None:
        (key,) = self.redis.keys("*:about")
        self.redis.hset(key, mapping={"salt": SALT.hex(), "fingerprint": OLD, "version": "1"})


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return OnDisk(tmp_path / "outbox.db")
    return InRedis(request.getfixturevalue("redis_url"))


async def open_once(place: Place, key: str = KEY) -> None:
    async with UserpilotClient(key, base_url="https://server.test", outbox=place.url):
        pass


def test_a_fingerprint_costs_whoever_guesses_as_much_as_a_password_would() -> None:
    salted = hashlib.scrypt(KEY.encode(), salt=SALT, n=2**14, r=8, p=1, dklen=16).hex()

    assert f"scrypt:16384:8:1:{salted}" == KeyRing(KEY, "NONE").fingerprint(SALT)


@pytest.mark.parametrize("missing", [AttributeError, ValueError])
def test_where_openssl_has_no_scrypt_guesses_are_slow_all_the_same(
    monkeypatch: pytest.MonkeyPatch, missing: type[Exception]
) -> None:
    """OpenSSL has no scrypt in FIPS mode."""

    def absent(*_: object, **__: object) -> bytes:
        raise missing

    monkeypatch.setattr(hashlib, "scrypt", absent)
    derived = hashlib.pbkdf2_hmac("sha256", KEY.encode(), SALT, 600_000, dklen=16).hex()

    assert f"pbkdf2:600000:{derived}" == KeyRing(KEY, "NONE").fingerprint(SALT)


async def test_an_outbox_keeps_such_a_fingerprint_and_knows_its_key_by_it(place: Place) -> None:
    await open_once(place)
    salt, fingerprint, _ = place.about()
    await open_once(place)

    assert KeyRing(KEY, "NONE").fingerprint(bytes.fromhex(salt)) == fingerprint
    assert (salt, fingerprint) == place.about()[:2], "made anew without a reason"


async def test_an_older_outbox_is_opened_with_its_key_and_salted_anew(place: Place) -> None:
    await open_once(place)
    _, _, version = place.about()
    place.make_old()
    await open_once(place)
    salt, fingerprint, now = place.about()

    assert salt != SALT.hex()
    assert KeyRing(KEY, "NONE").fingerprint(bytes.fromhex(salt)) == fingerprint
    assert version == now > 1
    if isinstance(place, OnDisk):
        assert OLD.encode() not in place.path.read_bytes()
    await open_once(place)  # and is known after that


async def test_an_older_outbox_is_not_opened_with_another_key_and_stays_as_it_was(place: Place) -> None:
    await open_once(place)
    place.make_old()
    with pytest.raises(OutboxError, match="of another API key"):
        await open_once(place, "pin-4712")

    assert (SALT.hex(), OLD) == place.about()[:2]


async def test_a_version_that_does_not_know_these_fingerprints_says_that_the_outbox_is_newer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_once(place)
    if isinstance(place, OnDisk):
        db = sqlite3.connect(place.path)
        with pytest.raises(OutboxError, match="is of version 5, which a newer userpilot_async wrote; this one knows 1"):
            version_of(db, 1)
        db.close()
    else:
        monkeypatch.setattr(_opening, "VERSION", 1)  # which scripts compare
        with pytest.raises(OutboxError, match="is of a newer version than this one, 1"):
            await open_once(place)


async def test_a_fingerprint_is_made_once_when_an_outbox_is_opened(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = hashlib.scrypt

    def counted(*arguments: object, **more: object) -> bytes:
        made.append(more)
        return make(*arguments, **more)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(hashlib, "scrypt", counted)
    for _ in range(3):
        await open_once(place)

    assert 3 == len(made)


async def test_a_client_without_a_durable_outbox_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hashlib, "scrypt")
    async with UserpilotClient(KEY, base_url="https://server.test"):
        pass

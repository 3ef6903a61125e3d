"""The state in a file: what was saved is there again, what is damaged or newer is refused in a sentence."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx
import pytest

from userpilot_async.emulator import Emulator, Fault
from userpilot_async.emulator._persistence import INTERVAL, StateFile, Unusable

pytestmark = pytest.mark.anyio

LISTS = ["users", "companies", "events", "page_views", "applied", "requests", "jobs", "parcelvoy/users",
         "parcelvoy/events", "parcelvoy/devices", "parcelvoy/lost", "faults", "counters"]  # fmt: skip
AT = {"source": "backend-http-import", "inserted_at": "2024-12-01T08:55:43"}


@pytest.fixture
def emulator(clock) -> Emulator:
    return Emulator(clock=clock, seed=1, account_per_key=False)


@pytest.fixture
def busy(client, parcelvoy, emulator, clock, file_of):
    """Give the emulator something of everything; one job is half-way."""

    async def busy() -> None:
        await client.post(
            "/v1/identify", json={"user_id": "u1", "metadata": {"a": "\u00fc\u2028", "b": 1.5}, "company": {"id": "c1"}}
        )
        for _ in range(2):
            await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
        rows = [{"event_type": "track", "user_id": "u9", "event_name": "then", **AT},
                {"event_type": "page_view", "user_id": "u1", "hostname": "h", "pathname": "/", **AT}]  # fmt: skip
        await client.post("/v1/imports", files=file_of(*rows))
        clock.now += 60
        await parcelvoy.post("/identify", json={"external_id": "p1", "anonymous_id": "A", "data": {"x": {"y": 1}}})
        await parcelvoy.post("/events", json=[{"external_id": "p1", "name": "x"}, {"anonymous_id": "B", "name": "y"}])
        device = {"device_id": "d1", "external_id": "p1", "os": "o", "model": "m", "app_build": "1", "app_version": "1"}
        await parcelvoy.post("/devices", json=device)
        await parcelvoy.post("/alias", json={"anonymous_id": "B", "external_id": "p2"})
        await parcelvoy.post("/alias", json={"anonymous_id": "nobody", "external_id": "x"})
        emulator.faults.add(Fault(family="bulk", job="stuck"))
        emulator.faults.add(Fault(name="later", family="track", status=503, skip=1, times=5))
        for account in ("K1", "K2"):
            users = [{"user_id": f"{account}-{number}"} for number in range(60)]
            await client.post(
                "/v1/users/bulk_identify", json={"users": users}, headers={"authorization": f"Token {account}"}
            )
        await client.post("/v1/track", json={"user_id": "u1", "event_name": "opened"})
        clock.now += 3
        emulator.advance()

    return busy


async def shown(emulator: Emulator) -> dict[str, object]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator") as control:
        return {name: (await control.get(f"/__emulator__/{name}?limit=1000")).json() for name in LISTS}


async def test_everything_is_there_again_and_goes_on_where_it_was(
    emulator, busy, clock, tmp_path, connect, connect_parcelvoy
):
    await busy()
    file = tmp_path / "state.json"
    StateFile(file).save(emulator)
    again = Emulator(clock=clock, seed=1, account_per_key=False)
    assert StateFile(file).load(again)

    before = await shown(emulator)
    assert [] == [
        name for name in LISTS if name != "counters" and not before[name].get("items", before[name].get("faults"))
    ]
    assert before == await shown(again)
    clock.now += 60
    for one in (emulator, again):
        answers = [
            await connect(one).post("/v1/track", json={"user_id": "u1", "event_name": "opened"}) for _ in range(3)
        ]
        assert [503, 503, 503] == [answer.status_code for answer in answers]
        assert (
            204 == (await connect_parcelvoy(one).post("/events", json=[{"anonymous_id": "B", "name": "z"}])).status_code
        )
        assert "p2" == one.store.parcelvoy.users[one.store.parcelvoy.events[-1].user].external_id
        await connect_parcelvoy(one).post("/events", json=[{"anonymous_id": "of a new person", "name": "z"}])
        assert 3 == one.store.parcelvoy.events[-1].user
    assert await shown(emulator) == await shown(again)


async def test_accounts_by_key_are_kept_apart_in_the_file_too(clock, tmp_path, connect):
    emulator, again, shared = [Emulator(clock=clock, account_per_key=per_key) for per_key in (True, True, False)]
    for key in ("A", "B"):
        await connect(emulator, key=key).post("/v1/identify", json={"user_id": f"of {key}"})
    StateFile(tmp_path / "state").save(emulator)
    StateFile(tmp_path / "state").load(again)
    await connect(again, key="B").post("/v1/identify", json={"user_id": "later"})

    assert [["of A"], ["of B", "later"]] == [list(store.users) for store in again.accounts.stores()]
    with pytest.raises(Unusable, match="has an account for each key: leave out --one-account"):
        StateFile(tmp_path / "state").load(shared)


async def test_keys_that_shared_an_account_in_the_file_share_it_still(clock, tmp_path, connect):
    """A file of `--one-account` goes on by default: what was received is not lost, and a new key begins anew."""
    shared, again = Emulator(clock=clock, account_per_key=False), Emulator(clock=clock)
    for key in ("A", "B"):
        await connect(shared, key=key).post("/v1/identify", json={"user_id": f"of {key}"})
    StateFile(tmp_path / "state").save(shared)
    StateFile(tmp_path / "state").load(again)
    for key in ("B", "C"):
        await connect(again, key=key).post("/v1/identify", json={"user_id": f"later, of {key}"})

    assert [["of A", "of B", "later, of B"], ["later, of C"]] == [list(one.users) for one in again.accounts.stores()]


async def test_a_file_that_is_damaged_is_refused_and_leaves_the_emulator_empty(emulator, busy, clock, tmp_path):
    await busy()
    file = tmp_path / "state.json"
    StateFile(file).save(emulator)
    whole = file.read_bytes()
    document = json.loads(whole)
    stores = document["accounts"]["stores"][0]
    damaged = [whole[: len(whole) * part // 10] for part in range(10)] + [
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 100_000,
        whole + b"x",
    ]
    damaged += [
        json.dumps({**document, "accounts": {**document["accounts"], "stores": [{**stores, name: 7}]}}).encode()
        for name in stores
    ]
    for content in damaged:
        file.write_bytes(content)
        again = Emulator(clock=clock)
        with pytest.raises(Unusable, match=r"is damaged, or no state of an emulator: move it away to begin anew$"):
            StateFile(file).load(again)
        assert ({}, [], []) == (again.store.users, again.store.requests, list(again.faults))


def test_a_newer_file_says_what_to_do(emulator, tmp_path):
    file = tmp_path / "state.json"
    StateFile(file).save(emulator)
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 2}))

    with pytest.raises(Unusable, match=r"newer version .* \(format 2, this one reads 1\): update userpilot-async"):
        StateFile(file).load(emulator)


def test_without_a_file_it_begins_empty_and_a_place_that_cannot_be_is_said(emulator, tmp_path):
    assert not StateFile(tmp_path / "none").load(emulator)
    with pytest.raises(Unusable, match="cannot be written: No such file or directory"):
        StateFile(tmp_path / "none" / "state").save(emulator)
    with pytest.raises(Unusable, match="cannot be read: Is a directory"):
        StateFile(tmp_path).load(emulator)


def test_what_cannot_be_put_in_place_leaves_nothing_behind(emulator, tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(Unusable, match="cannot be written"):
        StateFile(tmp_path / "state").save(emulator)

    assert ["state"] == [path.name for path in tmp_path.iterdir()]


def test_others_cannot_read_the_file(emulator, tmp_path):
    StateFile(tmp_path / "state").save(emulator)

    assert 0o600 == stat.S_IMODE((tmp_path / "state").stat().st_mode)


@pytest.mark.virtual
async def test_it_is_written_now_and_then_and_only_if_something_came_in(emulator, tmp_path):
    import anyio

    file, told = StateFile(tmp_path / "state"), []

    def written() -> int | None:
        path: Path = tmp_path / "state"
        return path.stat().st_ino if path.exists() else None

    file.save(emulator)
    first = written()
    async with anyio.create_task_group() as group:
        group.start_soon(file.keep, emulator, told.append)
        await anyio.sleep(10 * INTERVAL)
        assert first == written()
        emulator.store.track({"user_id": "u1", "event_name": "opened"}, 1.0)
        await anyio.sleep(10 * INTERVAL)
        assert first != written()
        (tmp_path / "state").unlink()
        (tmp_path / "state").mkdir()  # nothing can be put in its place
        emulator.store.track({"user_id": "u1", "event_name": "opened"}, 2.0)
        await anyio.sleep(2 * INTERVAL)
        group.cancel_scope.cancel()

    assert told
    assert "cannot be written" in told[0]

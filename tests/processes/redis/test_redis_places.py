"""Redis with users, TLS, replicas, Sentinels and as a cluster; and where the key and the password are not."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness import judge
from tests.harness.redis_proxy import RedisProxy
from tests.harness.redis_server import ClusterNode, Replica, Sentinel, missing
from tests.harness.redis_topologies import Cluster, a_cluster
from tests.harness.stage.loops import KEY, wait_until
from tests.harness.stage.outbox_files import an_emulator, marks_at, put, sent
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Books, Log, with_redis
from userpilot_async import OutboxError, UserpilotClient
from userpilot_async.redis import RedisOutbox

pytestmark = pytest.mark.anyio

Start = Callable[..., Any]
PASSWORD = "canary-of-redis-77aa"
PERSON = "anna.kowalska@example.org"

MAY = (
    "+info +script|load +evalsha +time "
    "+hget +hset +hgetall +hmget +hsetnx +hincrby +hdel +hlen +exists +get +set +del +expire +pexpire "
    "+xadd +xdel +xrange +xlen +zadd +zrange +zrangebyscore +zremrangebyscore"
)
"""The least that a user needs; and ``+wait`` for replicas."""
USER = f"outbox on >{PASSWORD} resetchannels ~{{userpilot_async}}:* -@all {MAY}"


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Cluster]:
    """Three masters, empty of data or not, that no test of this module stops."""
    if reason := missing():
        pytest.skip(reason)
    with a_cluster() as cluster:
        yield cluster


async def lives(url: str, server: Any = None, **options: Any) -> None:
    """Calls are put, taken over by another client, sent, and settled."""
    emulator = an_emulator()
    async with with_redis(url, **options) as userpilot:
        await put(userpilot, range(30))
        await userpilot.identify("u1", {"plan": "pro"}, company={"id": "c1"})
    async with with_redis(url, emulator, **options) as userpilot:
        await put(userpilot, range(30, 60))
        report = await sent(userpilot)

    assert list(range(60)) == sorted(marks_at(emulator))
    assert 61 == report.statistics.accepted == report.statistics.delivered
    if server is not None:
        assert 61 == Books(server).balanced()["delivered"]


# ── who may do what, and TLS ──


async def test_a_user_needs_no_more_rights_than_these(own_redis: Start) -> None:
    server = own_redis(users=[USER])
    with Log() as log:
        await lives(server.url_of(user="outbox", password=PASSWORD), server)

    assert [] == log.lines


def test_these_rights_are_those_that_the_scripts_use() -> None:
    """Or the list in the guide has grown old."""
    folder = Path(__file__).parents[3] / "userpilot_async" / "redis" / "scripts"
    used = {word for path in folder.glob("*.lua") for word in re.findall(r"redis\.call\('(\w+)'", path.read_text())}

    assert {word.lower() for word in used} | {"info", "script|load", "evalsha"} == {one[1:] for one in MAY.split()}


@ON_ASYNCIO
@pytest.mark.parametrize("right", ["info", "script|load", "evalsha", "hget"])
async def test_a_right_that_is_missing_is_said_when_the_client_opens(right: str, own_redis: Start) -> None:
    server = own_redis(users=[f"{USER} -{right}"])
    with pytest.raises(OutboxError, match=r"can't run|no permissions|NOPERM") as refused:
        async with with_redis(server.url_of(user="outbox", password=PASSWORD)):
            pass

    judge.no_canary({"message": str(refused.value)}, [PASSWORD])


@ON_ASYNCIO
async def test_a_right_that_is_taken_away_is_met_like_a_redis_that_is_down(own_redis: Start) -> None:
    server, emulator = own_redis(users=[USER]), an_emulator()
    with Log() as log:
        async with with_redis(server.url_of(user="outbox", password=PASSWORD), emulator, max_wait=0.8) as userpilot:
            await put(userpilot, ["before"])
            with server.client() as redis:
                redis.execute_command("ACL", "SETUSER", "outbox", "-xadd")
            assert ["outbox"] == [receipt.reason for receipt in await put(userpilot, ["without"])]
            with server.client() as redis:
                redis.execute_command("ACL", "SETUSER", "outbox", "+xadd")
            await put(userpilot, ["after"])
            report = await sent(userpilot)

    assert ["before", "after"] == marks_at(emulator)
    assert (3, 2, 1) == (report.statistics.accepted, report.statistics.delivered, report.statistics.dropped)
    Books(server).balanced()
    assert "Command #" not in "".join(line for _, line in log.lines), log.lines


async def test_through_tls(own_redis: Start) -> None:
    server = own_redis(tls=True, password=PASSWORD)

    await lives(f"{server.url}?ssl_ca_certs={server.ca_file}", server)


@ON_ASYNCIO
async def test_a_certificate_that_is_not_trusted_is_never_accepted(own_redis: Start) -> None:
    server = own_redis(tls=True)
    with Log() as log:
        async with with_redis(server.url, an_emulator(), max_wait=0.5, close_timeout=0.2) as userpilot:
            receipts = await put(userpilot, [1])

    assert ["outbox"] == [receipt.reason for receipt in receipts]
    assert log.said("does not answer")
    with server.client() as redis:
        assert 0 == redis.dbsize()


# ── one node of a cluster, Sentinels, replicas ──


async def test_a_cluster_of_one_node(own_redis: Start) -> None:
    server = own_redis(ClusterNode)

    await lives(f"redis+cluster://127.0.0.1:{server.port}", server)


@ON_ASYNCIO
async def test_a_cluster_node_that_is_restarted_keeps_its_calls(own_redis: Start) -> None:
    server, emulator = own_redis(ClusterNode, durable=True), an_emulator()
    url = f"redis+cluster://127.0.0.1:{server.port}"
    async with with_redis(url, emulator, lease_ttl=60.0, max_wait=None) as userpilot:
        await put(userpilot, range(20))
        server.restart(keep=True)
        await put(userpilot, range(20, 40))
        await sent(userpilot)

    assert set(range(40)) == set(marks_at(emulator))
    assert 40 == Books(server).balanced()["delivered"]


@ON_ASYNCIO
async def test_in_a_cluster_an_outbox_opens_sends_and_gives_its_lease_back_whichever_master_has_its_slot(
    redis_cluster: Cluster,
) -> None:
    """Redis-py's own client sends SCRIPT LOAD to all masters; and any one of the nodes is told to be one of them."""
    for told, master in itertools.product(redis_cluster.masters, repeat=2):
        name = redis_cluster.name_at(master)
        url, books = redis_cluster.url(told), Books(master, name)
        emulator = an_emulator()
        with Log() as log:
            async with with_redis(url, emulator, name=name, max_wait=5.0) as userpilot:
                await userpilot.track("u1", "clicked", {"mark": 1})
                assert "" != books.lease()
                await sent(userpilot)
            assert "" == books.lease(), "the next sender has to wait until it ends"
        assert [] == log.lines
        assert [1] == marks_at(emulator)
        master.flushall()


@ON_ASYNCIO
async def test_a_cluster_is_found_though_all_but_one_of_the_given_nodes_are_gone(redis_cluster: Cluster) -> None:
    gone = "127.0.0.1:1,localhost:1"
    name, (told, *_, master) = redis_cluster.name_at(redis_cluster.masters[-1]), redis_cluster.masters
    url = redis_cluster.url(told).replace("://", f"://{gone},")

    await lives(url, name=name)
    assert 61 == Books(master, name).balanced()["delivered"]


@ON_ASYNCIO
async def test_calls_go_on_after_a_sentinel_has_made_another_server_the_master(own_redis: Start) -> None:
    master = own_redis(password=PASSWORD)
    replica = own_redis(Replica, master=master)
    sentinel = own_redis(Sentinel, master=master)
    sentinel.wait_replicas()
    replica.wait_synced()
    emulator = an_emulator()
    url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{sentinel.port}/{sentinel.name}/0"
    with Log() as log:
        async with with_redis(url, emulator, lease_ttl=60.0, max_wait=None, replicas=1) as userpilot:
            await put(userpilot, range(20))
            await sent(userpilot)
            replica.wait_synced()
        async with with_redis(url, emulator, lease_ttl=60.0, max_wait=None) as userpilot:
            replica.wait_synced()
            master.kill()
            with anyio.fail_after(40):
                await put(userpilot, range(20, 40))
            sentinel.wait_master(replica)
            report = await sent(userpilot)

    assert set(range(40)) == set(marks_at(emulator))
    assert 0 == report.statistics.outbox_resets
    assert 40 == Books(replica).balanced()["delivered"]
    judge.no_canary({"log": "\n".join(line for _, line in log.lines)}, [PASSWORD])


@ON_ASYNCIO
async def test_with_replicas_a_call_is_acknowledged_when_they_have_it_and_not_before(own_redis: Start) -> None:
    master = own_redis()
    replica = own_redis(Replica, master=master)
    replica.wait_synced()
    books = Books(master)
    async with with_redis(master.url, replicas=1, timeout=0.5, max_wait=1.5) as userpilot:
        fine = await put(userpilot, ["with it"])
        replica.pause()
        gone = await put(userpilot, ["without it"])
        assert ["outbox"] == [receipt.reason for receipt in gone]
        replica.resume()
        replica.wait_synced()
        fine += await put(userpilot, ["again"])
        await wait_until(lambda: 3 == userpilot.statistics().accepted)
        judge.conservation(userpilot.statistics())

    assert ["pending"] * 2 == [receipt.status for receipt in fine]
    assert ["with it", "again"] == books.held()
    assert (3, 1) == (books.balanced()["accepted"], books.balanced()["dropped:outbox"])


@ON_ASYNCIO
async def test_with_replicas_a_caller_without_a_limit_waits_until_they_have_it(own_redis: Start) -> None:
    master, emulator = own_redis(), an_emulator()
    replica = own_redis(Replica, master=master)
    replica.wait_synced()
    replica.pause()
    marks: list[int] = []
    async with with_redis(master.url, emulator, replicas=1, timeout=0.5, max_wait=None) as userpilot:

        async def call(mark: int) -> None:
            await put(userpilot, [mark])
            marks.append(mark)

        async with anyio.create_task_group() as callers:
            for mark in range(5):
                callers.start_soon(call, mark)
            await wait_until(lambda: 5 == len(Books(master).held()) + len(emulator.store.events))
            assert [] == marks, "acknowledged without the replica"
            replica.resume()
        await sent(userpilot)

    assert list(range(5)) == sorted(marks) == sorted(set(marks_at(emulator)))


@ON_ASYNCIO
async def test_what_no_replica_had_is_no_lost_call_and_is_sent_once_after_a_failover(own_redis: Start) -> None:
    """Everybody sees it at the deposed master, and nobody was told that it is held: it is put once more."""
    deposed, emulator = own_redis(), an_emulator()
    master = own_redis(Replica, master=deposed)
    master.wait_synced()
    with RedisProxy(deposed.port) as proxy, Log() as log:
        async with with_redis(proxy.url, emulator, replicas=1, timeout=0.5, max_wait=None) as userpilot:
            await put(userpilot, ["before"])
            await sent(userpilot)
            with master.client() as redis:
                redis.replicaof("NO", "ONE")
            async with anyio.create_task_group() as callers:
                callers.start_soon(put, userpilot, ["meanwhile"])
                await wait_until(lambda: 2 == userpilot.statistics().accepted)
                assert ["meanwhile"] == Books(deposed).held()
                proxy.upstream_port = master.port
                with deposed.client() as redis:
                    redis.replicaof("127.0.0.1", master.port)
                proxy.cut_connections()
            report = await sent(userpilot)

    assert ["before", "meanwhile"] == marks_at(emulator)
    assert (2, 0) == (report.statistics.delivered, report.statistics.outbox_resets)
    assert 2 == Books(master).balanced()["delivered"]
    assert not log.said("has lost calls")


# ── I9 ──


@ON_ASYNCIO
async def test_key_password_and_what_people_said_are_in_no_log_line_repr_exception_and_no_secret_in_redis(
    own_redis: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a restart, an emptied server, lost answers, a wrong password, another account, a missing right."""
    caplog.set_level(logging.DEBUG)
    server, emulator = own_redis(password=PASSWORD, users=[USER]), an_emulator()
    texts: dict[str, Any] = {}
    kept: dict[str, str] = {}

    def look(name: str, userpilot: UserpilotClient) -> None:
        outbox = userpilot._outbox
        texts[f"repr {name}"] = repr(userpilot) + repr(outbox) + repr(userpilot.statistics())
        kept.update({f"{name}: {key}": value for key, value in Books(server).everything().items()})

    async def track(userpilot: UserpilotClient, count: int) -> None:
        for n in range(count):
            await userpilot.track(PERSON, "clicked", {"mark": n, "mail": PERSON})
            await userpilot.identify(PERSON, {"mail": PERSON, "n": n}, company={"id": "c"})

    with RedisProxy(server.port) as proxy:
        url = server.url.replace(f":{server.port}", f":{proxy.port}")
        async with with_redis(
            url, emulator, max_wait=3.0, track_per_minute=60, burst=3, close_timeout=0.2
        ) as userpilot:
            await track(userpilot, 10)
            look("busy", userpilot)
            proxy.cut_next_answer(b"EVALSHA")
            await track(userpilot, 5)
            look("cut", userpilot)
            server.flushall()
            await track(userpilot, 5)
            look("emptied", userpilot)
            with server.client() as redis:
                redis.config_set("maxmemory", 1)
            with pytest.raises(OutboxError) as full:
                await track(userpilot, 1)
            texts["full"] = repr(full.value) + repr(full.value.__cause__) + repr(full.value.__context__)
            with server.client() as redis:
                redis.config_set("maxmemory", 0)
                redis.xadd(Books(server).key("log"), {"c": "\n\n", "s": "3", "t": "1"}, id="99999-1")
            await track(userpilot, 5)
            look("damaged", userpilot)
            report = await userpilot.aclose()
            texts["report"] = repr(report) + str(report)
    failures = {
        "a wrong password": (server.url.replace(PASSWORD, f"{PASSWORD}-wrong"), KEY, {}),
        "a wrong user": (server.url_of(user=PERSON, password=PASSWORD), KEY, {}),
        "another account": (server.url, "up-another-key-77aa", {}),
        "no keys of that name": (server.url_of(user="outbox", password=PASSWORD), KEY, {"name": "other"}),
    }
    for name, (url, key, options) in failures.items():
        with pytest.raises(OutboxError) as refused:
            async with with_redis(url, emulator, key=key, **options):
                pass
        error: BaseException | None = refused.value
        while error is not None:
            texts[f"{name}: {type(error).__name__} {len(texts)}"] = repr(error) + str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    texts["log"] = caplog.text
    texts["Redis' log"] = server.log

    assert "has lost calls" in caplog.text, "the log says nothing: nothing was searched"
    assert len(kept) > 10
    secrets = [KEY, PASSWORD, "up-another-key-77aa"]
    judge.no_canary(texts, [*secrets, PERSON])
    judge.no_canary(kept, secrets)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("sign", ["/", "?", "#", "@", ":", "[", "%zz", " "])
@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
async def test_a_password_that_is_not_quoted_is_not_said_aloud(scheme: str, sign: str) -> None:
    """Half of it would be a port, or a path, by the rules of URLs: no part of it may be in a message."""
    texts = {}
    for number, url in enumerate(
        [
            f"{scheme}://:canary{sign}secret@127.0.0.1:1/0",
            f"{scheme}://user:canary{sign}secret@127.0.0.1:1/main/0",
            f"{scheme}://canary{sign}secret@127.0.0.1:1/0",
        ]
    ):
        try:
            outbox = RedisOutbox(url, timeout=0.2, max_calls=5)
            texts[f"repr {number}"] = repr(outbox) + outbox.place
        except ValueError as error:
            texts[f"error {number}"] = repr(error) + repr(error.__context__ if not error.__suppress_context__ else "")

    judge.no_canary(texts, ["canary", "secret"])

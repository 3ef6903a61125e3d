from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ProgramFailed, free_of_leaks, python
from tests.harness.redis_proxy import RedisProxy, Values
from tests.harness.redis_server import (
    NO_SERVER,
    ClusterNode,
    RedisServer,
    Replica,
    Sentinel,
    missing,
    temporary,
)

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

import redis

Start = Callable[..., Any]  # a server of the kind that was asked for
Connect = Callable[..., redis.Redis]


def value_of(server: RedisServer, key: str) -> bytes | None:
    with server.client() as client:
        value: bytes | None = client.get(key)
        return value


def put(server: RedisServer, key: str, value: str) -> None:
    with server.client() as client:
        client.set(key, value)


def wait_until(condition: Callable[[], bool], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s"
        time.sleep(0.005)


# ── fixtures ──


def test_the_workers_server_is_given_out_empty(redis_url: str, redis_server: RedisServer) -> None:
    assert redis_server.url == redis_url
    with redis.Redis.from_url(redis_url) as client:
        assert 0 == client.dbsize()
        client.set("left", "behind")


def test_what_another_test_left_is_gone(redis_server: RedisServer, request: pytest.FixtureRequest) -> None:
    put(redis_server, "left", "behind")

    request.getfixturevalue("redis_url")

    assert value_of(redis_server, "left") is None


def test_an_own_server_is_another_one(redis_server: RedisServer, own_redis: Start) -> None:
    assert 3 == len({redis_server.port, own_redis().port, own_redis().port})


def test_without_a_server_tests_are_skipped_for_that_reason(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_inside.py").write_text("def test_url(redis_url): ...\ndef test_own(own_redis): ...\n")
    options = ["-q", "-rs", "-p", "no:cacheprovider", "-W", "error", "-c", "/dev/null", f"--rootdir={tmp_path}"]
    with python("-m", "pytest", *options, str(tmp_path), env={"PATH": "/nowhere"}) as program:
        program.wait(60)

        assert "2 skipped" in program.output
        assert f": {NO_SERVER}" in program.output


def test_the_conftest_needs_no_redis_py() -> None:
    script = "import sys; sys.modules['redis'] = None; import tests.conftest; print('imported', flush=True)"
    with python("-c", script) as program:
        assert program.wait_for_line("imported")


# ── a server's life ──


def test_nothing_is_left_of_a_server() -> None:
    with free_of_leaks(), temporary() as server:
        server.flushall()

    assert not server.running
    assert not server.folder.exists()
    assert not os.path.exists(f"/proc/{server.pid}")


@pytest.mark.parametrize("end", [RedisServer.stop, RedisServer.kill])
def test_without_a_disk_a_stopped_server_comes_back_empty(own_redis: Start, end: Callable[[RedisServer], None]) -> None:
    server = own_redis()
    put(server, "key", "value")
    port, pid = server.port, server.pid

    end(server)
    with pytest.raises(redis.ConnectionError):
        server.flushall()
    server.start()

    assert value_of(server, "key") is None
    assert port == server.port
    assert pid != server.pid


def test_a_durable_server_comes_back_from_sigkill_with_its_data(own_redis: Start) -> None:
    server = own_redis(durable=True)
    put(server, "key", "value")

    server.kill()
    server.start()

    assert b"value" == value_of(server, "key")


@pytest.mark.parametrize("durable", [False, True])
def test_a_restart_keeps_the_data_or_does_not(own_redis: Start, durable: bool) -> None:
    server = own_redis(durable=durable)
    put(server, "key", "value")

    server.restart(keep=True)
    kept = value_of(server, "key")
    server.restart(keep=False)

    assert b"value" == kept
    assert value_of(server, "key") is None


@pytest.mark.parametrize("durable", [False, True])
def test_a_snapshot_brings_back_older_data(own_redis: Start, durable: bool) -> None:
    server = own_redis(durable=durable)
    put(server, "key", "old")
    snapshot = server.snapshot()
    put(server, "key", "new")
    put(server, "later", "lost")
    port = server.port

    server.restore(snapshot)

    assert (b"old", None, port) == (value_of(server, "key"), value_of(server, "later"), server.port)


def test_a_restored_durable_server_goes_on_being_durable(own_redis: Start) -> None:
    server = own_redis(durable=True)
    put(server, "key", "old")
    server.restore(server.snapshot())
    put(server, "later", "kept")

    server.kill()
    server.start()

    assert (b"old", b"kept") == (value_of(server, "key"), value_of(server, "later"))


def test_a_paused_server_accepts_and_says_nothing(own_redis: Start) -> None:
    server = own_redis()
    server.pause()

    with server.client(socket_timeout=0.1) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()

    server.flushall()


def test_a_paused_server_can_be_stopped(own_redis: Start) -> None:
    server = own_redis()
    server.pause()

    server.stop()

    assert not server.running


def test_a_server_that_cannot_start_fails_at_once_with_its_log(own_redis: Start) -> None:
    began = time.monotonic()

    with pytest.raises(ProgramFailed, match=r"(?s)RedisServer on port \d+ did not become ready.*nonsense"):
        own_redis(config={"nonsense": "yes"})

    assert 5 > time.monotonic() - began


def test_a_port_taken_meanwhile_is_given_up_for_another(own_redis: Start, redis_server: RedisServer) -> None:
    offered = [redis_server.port]

    class Unlucky(RedisServer):
        def choose_port(self) -> int:
            return offered.pop() if offered else super().choose_port()

    server = own_redis(Unlucky)

    assert redis_server.port != server.port
    server.flushall()


def test_a_chosen_port_that_is_taken_fails(own_redis: Start, redis_server: RedisServer) -> None:
    with pytest.raises(ProgramFailed, match="Address already in use"):
        own_redis(port=redis_server.port)


def test_ctrl_c_is_for_the_tests_not_for_the_server(own_redis: Start) -> None:
    assert os.getpgid(0) != os.getpgid(own_redis().pid)


# ── who may do what ──


def test_scripts_can_be_forgotten(own_redis: Start) -> None:
    server = own_redis()
    with server.client() as client:
        digest = client.script_load("return 1")
        server.script_flush()

        with pytest.raises(redis.exceptions.NoScriptError):
            client.evalsha(digest, 0)


def test_a_password_is_asked_for_and_stands_in_the_url(own_redis: Start) -> None:
    server = own_redis(password="s3 cret/@")
    put(server, "key", "value")

    server.restart(keep=True)

    with redis.Redis.from_url(server.url_of(0, password="wrong")) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert b"value" == value_of(server, "key")


def test_more_users_have_their_rights_and_no_others(own_redis: Start) -> None:
    server = own_redis(users=["reader on >secret ~* +@read +@connection"])
    with redis.Redis.from_url(server.url_of(0, user="reader", password="secret")) as client:
        assert client.get("key") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("key", "value")


def test_databases_have_urls(own_redis: Start) -> None:
    server = own_redis()
    put(server, "key", "in 0")
    with redis.Redis.from_url(server.url_of(3)) as client:
        assert client.get("key") is None


def test_directives_of_the_test_come_last(own_redis: Start) -> None:
    server = own_redis(config={"maxmemory": "10mb", "appendonly": "yes"})
    with server.client() as client:
        assert {"maxmemory": "10485760", "appendonly": "yes"} == client.config_get("maxmemory", "appendonly")


def test_tls_is_trusted_with_its_authority_and_refused_without(own_redis: Start) -> None:
    server = own_redis(tls=True)
    put(server, "key", "value")
    server.restart(keep=True)

    assert server.url.startswith("rediss://")
    assert b"value" == value_of(server, "key")
    with server.client(ssl_ca_certs=None) as client, pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
        client.ping()


# ── more than one ──


def test_a_replica_follows(own_redis: Start) -> None:
    master = own_redis(password="secret")
    replica = own_redis(Replica, master=master)
    put(master, "key", "value")

    replica.wait_synced()

    assert b"value" == value_of(replica, "key")
    with pytest.raises(redis.ReadOnlyError):
        put(replica, "key", "other")


def test_a_replica_that_cannot_follow_fails_with_its_log(own_redis: Start) -> None:
    master = own_redis()
    replica = own_redis(Replica, master=master, config={"replicaof": "127.0.0.1 1"})

    with pytest.raises(ProgramFailed, match=r"(?s)Replica on port \d+ did not follow to offset.*127\.0\.0\.1:1"):
        replica.wait_synced(timeout=0.2)


def test_a_sentinel_promotes_the_replica_of_a_dead_master(own_redis: Start) -> None:
    master = own_redis()
    replica = own_redis(Replica, master=master)
    sentinel = own_redis(Sentinel, master=master)
    assert master.port == sentinel.master_port()
    put(master, "key", "value")
    replica.wait_synced()
    sentinel.wait_replicas()

    master.kill()
    sentinel.wait_master(replica)

    assert replica.port == sentinel.master_port()
    assert b"value" == value_of(replica, "key")
    put(replica, "key", "written here now")


def test_clients_find_the_master_through_the_sentinel(own_redis: Start) -> None:
    master = own_redis(password="secret")
    sentinel = own_redis(Sentinel, master=master)
    finder: Any = redis.Sentinel([("127.0.0.1", sentinel.port)])  # type: ignore[no-untyped-call]  # redis-py's
    try:
        with finder.master_for(sentinel.name, password="secret") as client:
            client.set("key", "value")
    finally:
        for asked in finder.sentinels:
            asked.close()

    assert b"value" == value_of(master, "key")


def test_a_cluster_of_one_takes_every_key_and_keeps_its_slots(own_redis: Start) -> None:
    node = own_redis(ClusterNode)
    with redis.RedisCluster.from_url(node.url) as client:
        for number in range(20):
            client.set(f"key {number}", number)
        with pytest.raises(redis.exceptions.RedisClusterException):
            client.mset({"a": 1, "b": 2})

    node.restart(keep=True)

    assert b"19" == value_of(node, "key 19")


# ── the proxy ──


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[RedisProxy]:
    with RedisProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: RedisProxy) -> Iterator[Connect]:
    """Clients through the proxy that try nothing twice and wait half a second; closed in the end."""
    clients: list[redis.Redis] = []

    def connect(**options: object) -> redis.Redis:
        no_retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        client = redis.Redis.from_url(proxy.url, **{"socket_timeout": 0.5, "retry": no_retry, **options})
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_passes_is_counted_and_unchanged(proxy: RedisProxy, connect: Connect, protocol: int) -> None:
    client = connect(protocol=protocol)
    payload = os.urandom(300_000)
    client.set("key", payload)
    before = proxy.requests

    with client.pipeline() as pipeline:
        pipeline.get("key")
        pipeline.hset("hash", mapping={"a": "b"})
        pipeline.hgetall("hash")
        assert [payload, 1, {b"a": b"b"}] == pipeline.execute()

    assert 5 == proxy.requests - before  # MULTI and EXEC too
    assert (1, 1) == (proxy.connections, proxy.open_connections)
    assert 300_000 < proxy.bytes_to_server < 302_000
    assert 300_000 < proxy.bytes_to_client < 302_000


def test_a_black_hole_takes_connections_and_gives_nothing(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer
) -> None:
    old, new = connect(), connect()
    old.ping()
    passed = proxy.bytes_to_server
    proxy.black_hole()

    for client in (old, new):
        with pytest.raises(redis.TimeoutError):
            client.set("key", "value")

    assert passed == proxy.bytes_to_server
    proxy.heal()
    assert new.get("key") is None
    wait_until(lambda: proxy.open_connections == 1)
    assert value_of(redis_server, "key") is None


def test_a_black_hole_may_give_late_what_it_took(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer
) -> None:
    """As TCP does after a partition: the client gave up long ago, and its command is carried out."""
    client = connect()
    client.ping()
    proxy.black_hole()
    with pytest.raises(redis.TimeoutError):
        client.set("key", "value")

    proxy.heal(late=True)

    wait_until(lambda: value_of(redis_server, "key") == b"value")


def test_a_patient_client_gets_its_answer_after_the_black_hole(proxy: RedisProxy, connect: Connect) -> None:
    client = connect(socket_timeout=10)
    client.ping()
    proxy.black_hole()
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(client.ping()))
    asking.start()

    proxy.heal()
    asking.join(10)

    assert [True] == answers


def test_swallowed_answers_leave_the_command_done(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer
) -> None:
    client = connect()
    client.ping()
    proxy.swallow_answers()

    with pytest.raises(redis.TimeoutError):
        client.set("key", "value")

    assert b"value" == value_of(redis_server, "key")


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_answer_leaves_the_command_done(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer, reset: bool
) -> None:
    """On a new connection too: the handshake passes, and the first command after it is hit."""
    proxy.cut_next_answer(reset=reset)
    client = connect()

    with pytest.raises(redis.ConnectionError):
        client.incr("key")

    assert b"1" == value_of(redis_server, "key")
    assert 2 == client.incr("key")
    assert 1 == proxy.cuts


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_request_leaves_it_undone(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer, reset: bool
) -> None:
    client = connect()
    proxy.cut_next_request(reset=reset)

    with pytest.raises(redis.ConnectionError):
        client.incr("key")

    assert value_of(redis_server, "key") is None
    assert 1 == client.incr("key")
    assert 1 == proxy.cuts


def test_a_cut_waits_for_the_request_it_is_meant_for(proxy: RedisProxy, connect: Connect) -> None:
    client = connect()
    proxy.cut_next_answer(b"XADD")

    client.set("key", "value")
    client.incr("number")
    assert 0 == proxy.cuts
    with pytest.raises(redis.ConnectionError):
        client.xadd("stream", {"a": "b"})

    assert 1 == client.xlen("stream")


@pytest.mark.parametrize("transaction", [False, True])
def test_a_pipeline_with_a_cut_answer_is_carried_out_whole(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer, transaction: bool
) -> None:
    client = connect()
    proxy.cut_next_answer()
    with client.pipeline(transaction=transaction) as pipeline:
        for number in range(200):
            pipeline.rpush("list", bytes(1000) + str(number).encode())
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()

    with redis_server.client() as direct:
        assert 200 == direct.llen("list")


def test_a_script_with_a_cut_answer_has_run_once(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer
) -> None:
    client = connect()
    script = client.register_script("return redis.call('INCR', KEYS[1])")
    script(["key"])
    proxy.cut_next_answer(b"EVALSHA")

    with pytest.raises(redis.ConnectionError):
        script(["key"])

    assert b"2" == value_of(redis_server, "key")


def test_a_blocking_read_is_cut_when_its_answer_comes(
    proxy: RedisProxy, connect: Connect, redis_server: RedisServer
) -> None:
    """What a consumer would call a lost delivery: taken from the list, and never seen."""
    client = connect(socket_timeout=10)
    proxy.cut_next_answer(b"BLPOP")
    failures: list[BaseException] = []

    def take() -> None:
        try:
            client.blpop(["list"], timeout=0)
        except redis.ConnectionError as error:
            failures.append(error)

    taking = threading.Thread(target=take)
    taking.start()
    with redis_server.client() as direct:
        wait_until(lambda: direct.info("clients")["blocked_clients"] == 1)
        direct.rpush("list", "taken")
        taking.join(10)

        assert 1 == len(failures)
        assert 0 == direct.llen("list")


def test_a_part_of_an_answer_may_arrive(proxy: RedisProxy, connect: Connect) -> None:
    client = connect()
    client.set("key", bytes(10_000))
    given = proxy.bytes_to_client
    proxy.cut_next_answer(answer_bytes=5000)

    with pytest.raises(redis.ConnectionError):
        client.get("key")

    assert 5000 == proxy.bytes_to_client - given
    assert bytes(10_000) == client.get("key")


def test_healing_takes_a_cut_back(proxy: RedisProxy, connect: Connect) -> None:
    proxy.cut_next_answer()

    proxy.heal()

    connect().ping()
    assert 0 == proxy.cuts


def test_answers_are_delayed(proxy: RedisProxy, connect: Connect) -> None:
    client = connect()
    client.ping()
    proxy.delay(0.1)
    began = time.monotonic()

    client.ping()

    assert 0.1 <= time.monotonic() - began


def test_a_delay_ends_with_healing(proxy: RedisProxy, connect: Connect) -> None:
    client = connect(socket_timeout=30)
    client.ping()
    proxy.delay(3600)
    asking = threading.Thread(target=client.ping)
    passed = proxy.bytes_to_server
    asking.start()
    wait_until(lambda: proxy.bytes_to_server > passed)

    proxy.heal()
    asking.join(10)

    assert not asking.is_alive()


def test_dripping_answers_arrive_whole(proxy: RedisProxy, connect: Connect) -> None:
    client = connect(socket_timeout=5)
    client.set("key", "a value of some length")
    proxy.drip()

    assert b"a value of some length" == client.get("key")


def test_refused_is_refused_until_healed(proxy: RedisProxy, connect: Connect) -> None:
    old, new = connect(), connect()
    old.ping()
    port = proxy.port
    proxy.refuse()

    for client in (old, new):
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.ping()

    proxy.heal()
    assert port == proxy.port
    assert old.ping()
    assert new.ping()


@pytest.mark.parametrize("end", [RedisProxy.refuse, RedisProxy.cut_connections])
def test_open_connections_are_reset(proxy: RedisProxy, end: Callable[[RedisProxy], None]) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert b"+PONG\r\n" == connection.recv(100)

        end(proxy)

        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_a_flapping_server_is_there_and_is_not(proxy: RedisProxy, connect: Connect) -> None:
    client = connect()
    proxy.flap(up=0.02, down=0.02)
    seen: list[bool] = []

    def ask() -> bool:
        try:
            seen.append(client.ping())
        except redis.ConnectionError:
            seen.append(False)
        turns = sum(one != other for one, other in itertools.pairwise(seen))
        return turns >= 6

    wait_until(ask)

    proxy.heal()
    assert client.ping()


def test_after_a_cut_a_client_may_come_again(proxy: RedisProxy, connect: Connect) -> None:
    client = connect()
    client.ping()

    proxy.cut_connections()

    # redis-py looks at an idle connection before it uses it.
    assert client.ping()
    assert 2 == proxy.connections


def test_a_dead_upstream_ends_its_connections_and_another_may_follow(
    proxy: RedisProxy, connect: Connect, own_redis: Start, redis_server: RedisServer
) -> None:
    own = own_redis()
    proxy.upstream_port = own.port
    client = connect()
    client.set("key", "own")
    own.kill()

    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.upstream_port = redis_server.port

    assert client.get("key") is None


def test_a_proxy_leaves_nothing_behind(redis_server: RedisServer) -> None:
    with free_of_leaks(), RedisProxy(redis_server.port) as proxy, redis.Redis.from_url(proxy.url) as client:
        client.ping()
        proxy.flap()
        proxy.heal()
        proxy.black_hole()


def test_a_proxy_may_end_while_it_flaps_or_refuses(redis_server: RedisServer) -> None:
    with free_of_leaks():
        with RedisProxy(redis_server.port) as proxy:
            proxy.flap()
        with RedisProxy(redis_server.port) as proxy:
            proxy.refuse()


def test_tls_passes_through(own_redis: Start) -> None:
    server = own_redis(tls=True)
    with RedisProxy(server.port) as proxy:
        trusting = {"ssl_ca_certs": str(server.ca_file)}
        with redis.Redis.from_url(proxy.url.replace("redis:", "rediss:"), **trusting) as client:
            assert client.ping()


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$4\r\na\r\nb\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        b"%1\r\n+a\r\n*2\r\n_\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:5\r\n$1\r\na\r\n",
        b">2\r\n+message\r\n,1.5\r\n",
        b"PING\r\n",
    ],
)
def test_the_ends_of_values_are_found_however_they_are_cut(value: bytes) -> None:
    whole, dripping = Values(), Values()
    dripped = [found for byte in value * 2 for found in dripping.feed(bytes([byte]))]

    assert [value, value] == whole.feed(value * 2) == dripped
    assert not dripping


def test_what_is_not_resp_yields_nothing() -> None:
    values = Values()

    assert [] == values.feed(b"*many\r\n") == values.feed(b"+OK\r\n")


def test_a_stopped_process_is_killed_with_its_block() -> None:
    with temporary() as server:
        os.kill(server.pid, signal.SIGSTOP)

    assert not server.running

"""A cluster, and Sentinels: servers are killed, replaced, moved and paused under the processes of one outbox.

Each put waits for a replica (``replicas=1``), so that whatever happens to one server, every call is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness import emulator_process, judge
from tests.harness.documents import redis_user
from tests.harness.redis_server import missing
from tests.harness.redis_topologies import Cluster, Watched, a_cluster, wait_for, watched
from tests.harness.stage.redis_scenes import ON_ASYNCIO, Books, with_redis
from tests.processes.programs.outbox_host import Worker
from tests.processes.programs.redis_host import RedisHost, judge_machines, redis_host

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]

NODE_TIMEOUT = 1_500  # ms
TTL = 8.0  # of the lease, in seconds
MOMENT = 10.0  # seconds, for an election, and for the lease of a sender that is gone
DEPOSED = 12.0  # seconds, until a Sentinel makes a replica of a master that it has deposed: until then there is none
SETTINGS = {"flush_interval": 0.2, "bulk_threshold": 20, "max_wait": None}
OUTBOX = {"replicas": 1, "lease_ttl": TTL, "timeout": 1.0}


@contextmanager
def at_work(folder: Path, url: str, name: str, server: Any, place: str) -> Iterator[RedisHost]:
    """Two that put, and two that may send."""
    with redis_host(
        folder,
        url,
        server,
        place,
        users=2,
        people=0,
        pause=0.05,
        settings=SETTINGS,
        outbox={**OUTBOX, "name": name},
    ) as one:
        one.books = Books(server, name)
        for number in range(2):
            one.start(f"producer{number}", sender=False, backend="trio" if number else "asyncio")
            one.start(f"candidate{number}", users=0)
        one.ready(*one.workers)
        goes_on(one)
        yield one


def accepted_by(worker: Worker) -> int:
    return len(worker.notes("accepted"))


def goes_on(one: RedisHost, within: float = 30.0) -> float:
    """Everybody's calls are accepted again, and somebody sends: within so many seconds. How long it took."""
    begun = time.monotonic()
    producers = [worker for worker in one.living if worker.slot.startswith("producer")]
    before = {worker.slot: accepted_by(worker) for worker in producers}
    wait_for(
        lambda: all(accepted_by(worker) >= before[worker.slot] + 5 for worker in producers) and one.holding(),
        f"calls are accepted, and sent: {[worker.program.output[-1_000:] for worker in one.living]}",
        within,
    )
    return time.monotonic() - begun


def ends_well(one: RedisHost) -> dict[str, Any]:
    one.finish(170.0, settings=SETTINGS)
    seen = judge_machines(one)
    print(seen)
    assert "has lost calls" not in one.output()
    return seen


# ── a cluster ──


@contextmanager
def a_scene(tmp_path: Path, told: int = 1, **options: Any) -> Iterator[tuple[RedisHost, Cluster, str]]:
    """The outbox is at the first master, and its processes are told of the node ``told`` only."""
    with (
        emulator_process("--latency", "0.01", "--speed", "20") as url,
        a_cluster(replicas=1, node_timeout=NODE_TIMEOUT, **options) as cluster,
    ):
        name = cluster.name_at(cluster.masters[0])
        place = cluster.url(cluster.nodes[told])
        with at_work(tmp_path, url, name, cluster.masters[0], place) as one:
            yield one, cluster, name


def is_elsewhere(cluster: Cluster, name: str, one: RedisHost, before: Any) -> None:
    """Wait for that; the books are there now."""
    wait_for(lambda: cluster.master_of(name) is not before, "its slot has another master")
    one.books = Books(cluster.master_of(name), name)


def test_the_master_of_the_slot_is_killed_and_its_replica_takes_over(tmp_path: Path) -> None:
    with a_scene(tmp_path) as (one, cluster, name):
        before = cluster.masters[0]
        before.kill()
        is_elsewhere(cluster, name, one, before)
        before.start()  # a replica now: without one no put is acknowledged
        assert MOMENT > goes_on(one)
        ends_well(one)


def test_a_planned_failover_in_a_cluster(tmp_path: Path) -> None:
    with a_scene(tmp_path) as (one, cluster, name):
        for _ in range(2):
            one.books = Books(cluster.fail_over(name), name)
            assert MOMENT > goes_on(one)
        ends_well(one)


def test_the_slot_is_moved_to_another_master_key_by_key(tmp_path: Path) -> None:
    with a_scene(tmp_path) as (one, cluster, name):
        cluster.move(name, cluster.masters[2], pause=lambda: time.sleep(0.7))
        one.books = Books(cluster.masters[2], name)
        assert MOMENT > goes_on(one)
        ends_well(one)


@pytest.mark.parametrize("told", [0, 1], ids=["the slot's master", "another master"])
def test_the_node_that_was_named_is_killed_and_the_others_are_known(tmp_path: Path, told: int) -> None:
    with a_scene(tmp_path, told) as (one, cluster, name):
        named, master = cluster.nodes[told], cluster.masters[0]
        named.kill()
        if named is master:
            is_elsewhere(cluster, name, one, master)
        with cluster.master_of(name).client() as client:  # everybody has to connect anew
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        if named is master:  # without a replica no put is acknowledged
            named.start()
        assert MOMENT > goes_on(one)
        if named is not master:
            named.start()  # or the last process finds nobody
            cluster.wait_ok(named)
        ends_well(one)


def test_a_replica_that_lags_and_then_its_master_dies(tmp_path: Path) -> None:
    with a_scene(tmp_path) as (one, cluster, name):
        master, replica = cluster.masters[0], cluster.replica_of(cluster.masters[0])
        replica.pause()
        time.sleep(1.0)  # shorter than the others would wait until they take it for gone
        master.kill()
        replica.resume()
        is_elsewhere(cluster, name, one, master)
        master.start()
        assert MOMENT > goes_on(one)
        one.finish(170.0, settings=SETTINGS)
        seen = judge_machines(one, may_reset=True)
        judge.happened(seen, "accepted")


def test_the_whole_cluster_is_restarted(tmp_path: Path) -> None:
    with a_scene(tmp_path, durable=True) as (one, cluster, name):
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        wait_for(lambda: cluster.master_of(name), "its slot has a master again")
        assert 2 * MOMENT > goes_on(one)
        one.books = Books(cluster.master_of(name), name)
        ends_well(one)


# ── Sentinels ──


@contextmanager
def a_watched_scene(tmp_path: Path, replicas: int) -> Iterator[tuple[RedisHost, Watched]]:
    with (
        emulator_process("--latency", "0.01", "--speed", "20") as url,
        watched(replicas) as servers,
        at_work(tmp_path, url, "shop", servers.servers[0], servers.url()) as one,
    ):
        yield one, servers


def killed(servers: Watched) -> None:
    """Kill the master, and wait for another."""
    before = servers.master()
    before.kill()
    servers.wait_other_master(before)


def paused(servers: Watched) -> None:
    """A replica does not answer; then the master dies, and the other replica has it all, alone for a while."""
    replica = servers.servers[2]
    replica.pause()
    time.sleep(1.0)
    killed(servers)
    replica.resume()


def sentinel_killed(servers: Watched) -> None:
    """The Sentinel that is asked first dies, and the master with it, as where they are on one host."""
    servers.sentinels[0].kill()
    killed(servers)


def test_a_planned_failover_behind_sentinels(tmp_path: Path) -> None:
    """With one replica: of two, the other one would follow the deposed master for a moment, and acknowledge calls."""
    with a_watched_scene(tmp_path, 1) as (one, servers):
        servers.fail_over()
        one.books = Books(servers.master(), "shop")
        assert DEPOSED + MOMENT > goes_on(one)
        ends_well(one)


@pytest.mark.parametrize("happens", [killed, paused, sentinel_killed])
def test_sentinels_make_another_server_the_master(tmp_path: Path, happens: Callable[[Watched], None]) -> None:
    with a_watched_scene(tmp_path, 2) as (one, servers):
        happens(servers)
        one.books = Books(servers.master(), "shop")
        assert MOMENT + DEPOSED > goes_on(one)
        ends_well(one)


@pytest.mark.anyio
@ON_ASYNCIO
@pytest.mark.parametrize("guard", ["none", "min-replicas-to-write 1", "?replicas=1"])
async def test_what_a_planned_failover_costs(guard: str) -> None:
    """The numbers of the guide: of 2,000 calls that are put meanwhile, how many the new master does not know."""
    name, _, value = guard.partition(" ")
    with watched(1, config={name: value} if value else {}) as servers:
        url, told = servers.url(), []
        outbox = {"replicas": 1} if guard.startswith("?") else {}
        async with (
            with_redis(url, max_wait=None, timeout=1.0, **outbox) as userpilot,
            anyio.create_task_group() as tasks,
        ):

            async def use(user: str) -> None:
                for number in range(200):
                    receipt = await userpilot.track(user, "clicked", {"mark": f"{user}.{number}"})
                    if receipt.status == "pending":
                        told.append(f"{user}.{number}")
                    await anyio.sleep(0.05)

            for user in range(10):
                tasks.start_soon(use, f"u{user}")
            await anyio.sleep(2.0)
            begun = time.monotonic()
            await anyio.to_thread.run_sync(servers.fail_over)
            switched = time.monotonic() - begun
        there = set(Books(servers.master()).held())
        resets = userpilot.statistics().outbox_resets

    unknown = len(set(told) - there)
    print(f"{guard}: named after {switched:.1f} s; of {len(told)} calls {unknown} are unknown there; resets: {resets}")
    assert 2_000 == len(told)
    assert (unknown > 0) is (resets > 0), "calls are gone, and nobody says so"
    if outbox:
        assert 0 == unknown


# ── TLS, with the user that the guide prints ──


def test_a_cluster_with_tls_and_the_user_of_the_guide_fails_over(tmp_path: Path) -> None:
    secret = "canary-of-redis-77aa"
    user = redis_user().replace("PASSWORD", secret)
    with (
        emulator_process("--latency", "0.01", "--speed", "20") as url,
        a_cluster(3, replicas=1, node_timeout=NODE_TIMEOUT, tls=True, users=[user]) as cluster,
    ):
        before = cluster.master_of("shop")
        place = cluster.url(*cluster.nodes[:2], user="pods", password=secret)
        with at_work(tmp_path, url, "shop", before, f"{place}/?ssl_ca_certs={before.ca_file}") as one:
            before.kill()
            is_elsewhere(cluster, "shop", one, before)
            before.start()
            assert MOMENT > goes_on(one)
            ends_well(one)
        judge.no_canary({"output": one.output()}, [secret])

"""Several Redis servers that belong together, on the loopback: a cluster, and a master that Sentinels watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.harness.processes import ProgramFailed
from tests.harness.redis_server import HOST, ClusterNode, RedisServer, Replica, Sentinel

SLOTS = 16_384
WITHIN = 30.0  # real seconds, on a machine that others use; a cluster takes 2.5, most of them its own delay
POLL_EVERY = 0.02


def wait_for(condition: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
    """What the condition gives, once that is something; a server that does not answer is none yet."""
    import redis

    deadline = time.monotonic() + within
    while True:
        with suppress(redis.RedisError):
            if found := condition():
                return found
        if time.monotonic() >= deadline:
            raise ProgramFailed(f"not within {within:g} s: {what}")
        time.sleep(POLL_EVERY)


class Cluster:
    """Masters that share the slots out evenly, in order; then the replicas, of each master in turn."""

    def __init__(self, nodes: list[ClusterNode], masters: int) -> None:
        self.nodes = nodes
        self._masters = masters

    @property
    def masters(self) -> list[ClusterNode]:
        """The servers that began as masters."""
        return self.nodes[: self._masters]

    def url(self, *nodes: ClusterNode, user: str = "", password: str | None = None) -> str:
        """Of an outbox there, which is told of these nodes only; all of them by default."""
        login = (
            nodes[0].url_of(user=user, password=password)
            if nodes
            else self.nodes[0].url_of(user=user, password=password)
        )
        scheme, _, rest = login.partition("://")
        before, at, _ = rest.rpartition("@")
        hosts = ",".join(f"{HOST}:{node.port}" for node in nodes or self.nodes)
        return f"{scheme}+cluster://{before}{at}{hosts}"

    def name_at(self, master: ClusterNode) -> str:
        """The name of an outbox whose slot this master had in the beginning."""
        share = self.masters.index(master)
        names = (f"outbox-{number}" for number in count())
        return next(name for name in names if share == self._share_of(slot_of(name)))

    def _share_of(self, slot: int) -> int:
        return slot * self._masters // SLOTS

    def master_of(self, name: str) -> ClusterNode:
        """The node that has this outbox now, in its own eyes; waits until one has it."""
        node: ClusterNode = wait_for(lambda: self._master_of(slot_of(name)), f"a node has the slot of {name}")
        return node

    def _master_of(self, slot: int) -> ClusterNode | None:
        for node in self.nodes:
            if node.running:
                with suppress(OSError), node.client(socket_timeout=1.0) as client:
                    if any(slot in range(one[0], one[1] + 1) for one in _own_slots(client)):
                        return node
        return None

    def replica_of(self, master: ClusterNode) -> ClusterNode:
        """The first replica of a server, by the order in which they were started."""
        return self.nodes[self._masters + self.masters.index(master)]

    def fail_over(self, name: str) -> ClusterNode:
        """As for planned maintenance: the outbox' master and its replica change places. The new master."""
        before = self.master_of(name)
        share = self._share_of(slot_of(name))
        (other,) = {self.masters[share], self.replica_of(self.masters[share])} - {before}
        self.wait_replicas(other)
        deadline = time.monotonic() + WITHIN
        with other.client() as client:
            while self.master_of(name) is before:  # a node that is too slow gives up after five seconds
                if time.monotonic() >= deadline:
                    raise ProgramFailed(f"{other.port} did not become the master")
                with suppress(Exception):  # one is under way
                    client.execute_command("CLUSTER", "FAILOVER")
                time.sleep(POLL_EVERY)
        return self.master_of(name)

    def move(self, name: str, target: ClusterNode, *, pause: Callable[[], object] = lambda: None) -> None:
        """Move an outbox' slot to another master, key by key; ``pause`` is called when half of them are there.

        Source: redis.io, "CLUSTER SETSLOT", "Redis Cluster live resharding explained".
        """
        source, slot = self.master_of(name), slot_of(name)
        with source.client() as old, target.client() as new:
            old_id, new_id = (_own_id(one) for one in (old, new))
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            keys = old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                pause()
                for key in half:
                    login = ("AUTH", target.password) if target.password else ()
                    old.execute_command("MIGRATE", HOST, target.port, key, 0, 5_000, *login)
            new.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)
            old.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)

    def wait_ok(self, *nodes: ClusterNode) -> None:
        """Until the cluster is well in the eyes of these nodes; of all by default."""
        for node in nodes or self.nodes:
            with node.client() as client:
                wait_for(
                    lambda client=client: "cluster_state:ok" in _text(client.execute_command("CLUSTER", "INFO")),
                    f"{node.port} is part of a cluster that is well",
                )

    def wait_replicas(self, *replicas: ClusterNode) -> None:
        """Until each of these follows its master; all that began as replicas by default."""
        for replica in replicas or self.nodes[self._masters :]:
            with replica.client() as client:
                wait_for(
                    lambda client=client: client.info("replication").get("master_link_status") == "up",
                    f"{replica.port} follows",
                )


def slot_of(name: str) -> int:
    """Of an outbox with this name: of the word in braces, as all its keys have it."""
    from redis.crc import key_slot

    return int(key_slot(name.encode()))


@contextmanager
def a_cluster(masters: int = 3, replicas: int = 0, node_timeout: int = 5_000, **options: Any) -> Iterator[Cluster]:
    """Running while the block does; each master with so many ``replicas``. ``options`` are for every node.

    ``node_timeout`` (ms) is how long a node may be silent until the others elect a replica of it.
    """
    config = {"cluster-node-timeout": str(node_timeout), **options.pop("config", {})}
    with TemporaryDirectory(prefix="redis-of-tests-") as folder, ExitStack() as stack:
        if options.get("tls"):
            config |= {"tls-cluster": "yes", "tls-replication": "yes"}
        nodes = [
            ClusterNode(Path(folder) / str(number), is_alone=False, config=config, **options)
            for number in range(masters * (1 + replicas))
        ]
        for node in nodes:
            node.trust(nodes[0])
            stack.enter_context(node)
        cluster = Cluster(nodes, masters)
        _join(cluster, masters)
        yield cluster


def _join(cluster: Cluster, masters: int) -> None:
    with ExitStack() as stack:
        clients: list[Any] = [stack.enter_context(node.client(decode_responses=True)) for node in cluster.nodes]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < masters:
                first, last = (-(-SLOTS * one // masters) for one in (number, number + 1))
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            for other in cluster.nodes[:number]:  # each the others, or gossip takes its time
                client.execute_command("CLUSTER", "MEET", HOST, other.port)
        for client in clients:
            wait_for(lambda client=client: len(_links(client)) == len(clients), "all nodes know each other")
        for number, client in enumerate(clients[masters:]):
            client.execute_command("CLUSTER", "REPLICATE", _own_id(clients[number % masters]))
    cluster.wait_ok()
    cluster.wait_replicas()


def _links(client: Any) -> list[str]:
    lines = _text(client.execute_command("CLUSTER", "NODES")).splitlines()
    return [line for line in lines if "handshake" not in line and ("connected" in line.split() or "myself" in line)]


@contextmanager
def watched(replicas: int = 2, sentinels: int = 3, **options: Any) -> Iterator[Watched]:
    """A master with replicas and Sentinels, of which two have to agree. ``options`` are for the servers."""
    with TemporaryDirectory(prefix="redis-of-tests-") as folder, ExitStack() as stack:
        master = stack.enter_context(RedisServer(Path(folder) / "0", **options))
        followers = [
            stack.enter_context(Replica(Path(folder) / str(number + 1), master=master, **options))
            for number in range(replicas)
        ]
        for one in followers:
            one.wait_synced()
        watching = [
            stack.enter_context(Sentinel(Path(folder) / f"s{number}", master=master, quorum=sentinels // 2 + 1))
            for number in range(sentinels)
        ]
        for sentinel in watching:
            sentinel.wait_replicas(replicas)
            sentinel.wait_sentinels(sentinels - 1)
        yield Watched([master, *followers], watching)


class Watched:
    """Servers, of which the first began as the master, and the Sentinels that watch them."""

    def __init__(self, servers: list[RedisServer], sentinels: list[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    def url(self, *sentinels: Sentinel) -> str:
        """Of an outbox there, which is told of these Sentinels only; all of them by default."""
        server = self.servers[0]
        before, at, _ = server.url.partition("://")[2].rpartition("@")
        hosts = ",".join(f"{HOST}:{one.port}" for one in sentinels or self.sentinels)
        return f"redis+sentinel://{before}{at}{hosts}/{self.sentinels[0].name}/0"

    def master(self) -> RedisServer:
        """The master that the running Sentinels name."""
        ports = {sentinel.master_port() for sentinel in self.sentinels if sentinel.running}
        if len(ports) != 1:
            raise ProgramFailed(f"the Sentinels do not agree: {ports}")
        return next(server for server in self.servers if server.port in ports)

    def fail_over(self) -> RedisServer:
        """As for planned maintenance; the new master, when all Sentinels name it."""
        before = self.master()
        with self.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self.sentinels[0].name)
        return self.wait_other_master(before)

    def wait_other_master(self, before: RedisServer) -> RedisServer:
        """The new one, when all Sentinels that run name it."""
        ports = lambda: {one.master_port() for one in self.sentinels if one.running}  # noqa: E731
        wait_for(lambda: len(ports()) == 1 and before.port not in ports(), "the Sentinels name another master")
        return self.master()


def _own_slots(client: Any) -> list[tuple[int, int]]:
    lines = _text(client.execute_command("CLUSTER", "NODES")).splitlines()
    (own,) = [line.split() for line in lines if "myself" in line.split()[2]]
    if "master" not in own[2]:
        return []
    ranges = [one.partition("-") for one in own[8:] if not one.startswith("[")]
    return [(int(first), int(last or first)) for first, _, last in ranges]


def _own_id(client: Any) -> str:
    return _text(client.execute_command("CLUSTER", "MYID"))


def _text(answer: Any) -> str:
    if isinstance(answer, dict):  # CLUSTER INFO, as redis-py reads it
        return "\n".join(f"{name}:{value}" for name, value in answer.items())
    return answer.decode() if isinstance(answer, bytes) else str(answer)

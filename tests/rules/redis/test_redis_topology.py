"""Which server has the outbox: what nodes and Sentinels say, some of them wrong, silent or gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    ResponseError,
)

from userpilot_async.redis._cluster import LEARN_EVERY, Cluster
from userpilot_async.redis._sentinels import Sentinels
from userpilot_async.redis._topology import Node, packed

KEY = "{shop}:about"
A, B, C, D = (("10.0.0.1", 7001), ("10.0.0.2", 7002), ("10.0.0.3", 7003), ("10.0.0.4", 7004))
ON_A, GIVE_B = MovedError("7 10.0.0.1:7001"), MovedError("7 10.0.0.2:7002")
DEADLINE = 2.0


@attrs.define
class Network:
    """Nodes that answer: to each command by its second word, if it has one, or an exception to be raised."""

    answers: dict[Node, dict[bytes, Any] | Exception]
    now: float = 0.0
    dialled: list[Node] = attrs.field(factory=list)

    def dial(self, node: Node, seconds: float) -> Connection:
        self.dialled.append(node)
        said = self.answers.get(node, ConnectionError("refused"))
        if isinstance(said, Exception):
            raise said
        return Connection(node, said)


@attrs.define
class Connection:
    node: Node
    said: dict[bytes, Any]
    asked: list[bytes] = attrs.field(factory=list)
    silent: bool = False
    open: bool = True

    def send_packed_command(self, command: list[bytes]) -> None:
        words = b"".join(command).split(b"\r\n")
        self.asked += [word for word in words if word in self.said]

    def can_read(self, timeout: float) -> bool:
        return not self.silent and bool(self.asked)

    def read_response(self) -> Any:
        answer = self.said[self.asked.pop(0)]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def disconnect(self) -> None:
        self.open = False


# ── a cluster ──


def slots(*nodes: tuple[Any, ...]) -> list[Any]:
    """CLUSTER SLOTS of one stretch that these have."""
    return [[0, 16383, *([host, port, b"id", *more] for host, port, *more in nodes)]]


def has_it(*nodes: tuple[Any, ...]) -> dict[bytes, Any]:
    return {b"EXISTS": 1, b"SLOTS": slots(*nodes)}


def cluster(network: Network, *given: Node) -> Cluster:
    return Cluster(given, KEY, network.dial, DEADLINE, lambda: network.now)


def test_a_node_says_who_has_the_slot_and_the_connection_is_to_that_one() -> None:
    network = Network({A: {b"EXISTS": GIVE_B}, B: has_it()})

    assert B == cluster(network, A).find().node


def test_a_node_without_an_address_of_its_own_to_announce_is_the_one_that_was_asked_by_another_port() -> None:
    network = Network({A: {b"EXISTS": MovedError("7 :7009")}, (A[0], 7009): has_it()})

    assert (A[0], 7009) == cluster(network, A).find().node


def test_where_the_announced_address_cannot_be_reached_a_given_node_that_has_the_slot_is_found() -> None:
    unreachable = MovedError("7 172.17.0.2:7002")
    network = Network({A: {b"EXISTS": unreachable}, C: {b"EXISTS": unreachable}, B: has_it()})

    assert B == cluster(network, A, C, B).find().node
    assert 1 == network.dialled.count(("172.17.0.2", 7002)), "each try may take long"


@pytest.mark.parametrize("wrong", [ConnectionError("refused"), OSError("no route"), ClusterDownError("down")])
def test_one_node_that_is_gone_or_does_not_know_is_none_that_is_needed(wrong: Exception) -> None:
    said = wrong if not isinstance(wrong, ClusterDownError) else {b"EXISTS": wrong}
    network = Network({A: said, B: has_it()})

    assert B == cluster(network, A, B).find().node


def test_nodes_that_were_learned_are_known_when_those_that_were_given_are_gone() -> None:
    network = Network({A: has_it((b"10.0.0.1", 7001), (b"10.0.0.2", 7002)), B: {b"EXISTS": ON_A}})
    outbox = cluster(network, A)
    outbox.find()
    network.answers = {B: {b"EXISTS": MovedError("7 10.0.0.3:7003")}, C: has_it()}

    assert C == outbox.find().node


def test_learned_nodes_come_from_every_way_to_announce_one() -> None:
    announced = slots((None, 7005), (b"", 7006), (b"?", 7007, [b"ip", b"10.0.0.7"]), (b"?", 7008, []), (b"host", 7009))
    network = Network({A: {b"EXISTS": 1, b"SLOTS": announced}})
    outbox = cluster(network, A)
    outbox.find()
    network.answers, network.dialled = {}, []
    with pytest.raises(ConnectionError):
        outbox.find()

    assert {A, (A[0], 7005), (A[0], 7006), ("10.0.0.7", 7007), ("host", 7009)} == set(network.dialled)


def test_nodes_are_learned_anew_once_a_minute_while_all_is_well() -> None:
    network = Network({A: has_it()})
    outbox = cluster(network, A)
    connection = outbox.find()
    connection.said[b"SLOTS"] = slots((b"10.0.0.2", 7002))
    network.now = LEARN_EVERY
    outbox.has_moved(connection)
    network.answers = {B: has_it()}

    assert B == outbox.find().node


def test_a_user_who_may_not_ask_for_the_nodes_is_served_all_the_same_and_that_is_known() -> None:
    network = Network({A: {b"EXISTS": 1, b"SLOTS": NoPermissionError("no permissions")}})
    outbox = cluster(network, A)

    assert A == outbox.find().node
    assert not outbox.learns


def test_who_was_silent_is_asked_last_the_next_time() -> None:
    network = Network({B: has_it()})
    outbox = cluster(network, A, B)

    assert [B, B] == [outbox.find().node for _ in range(2)]
    assert [A, B, B] == network.dialled


def test_two_nodes_that_each_say_the_other_has_it_are_not_asked_for_ever() -> None:
    network = Network({A: {b"EXISTS": GIVE_B}, B: {b"EXISTS": ON_A}})
    with pytest.raises(ConnectionError, match="the master of its slot"):
        cluster(network, A).find()

    assert len(network.dialled) < 10


def test_that_we_are_not_let_in_is_said_rather_than_that_another_node_is_gone() -> None:
    network = Network({A: ConnectionError("refused"), B: AuthenticationError("invalid password")})
    with pytest.raises(AuthenticationError):
        cluster(network, A, B).find()


# ── Sentinels ──


def names(node: Node, epoch: int, *others: Node) -> dict[bytes, Any]:
    """The answer of a Sentinel that names this node."""
    host, port = node[0].encode(), str(node[1]).encode()
    known = [[b"ip", one[0].encode(), b"port", str(one[1]).encode()] for one in others]
    about = [b"name", b"main", b"config-epoch", str(epoch).encode()]
    return {b"GET-MASTER-ADDR-BY-NAME": [host, port], b"MASTER": about, b"SENTINELS": known}


S1, S2, S3 = ("s1", 26379), ("s2", 26379), ("s3", 26379)


def sentinels(network: Network, *given: Node) -> Sentinels:
    return Sentinels(given, "main", network.dial, lambda node, _: node, DEADLINE, lambda: network.now)


def test_of_several_sentinels_the_one_that_knows_of_the_latest_failover_is_believed() -> None:
    network = Network({S1: names(A, 1), S2: names(B, 2), S3: names(A, 1)})

    assert B == sentinels(network, S1, S2, S3).find()


@pytest.mark.parametrize(
    "wrong",
    [
        ConnectionError("refused"),
        names(A, 9) | {b"MASTER": ResponseError("No such master with that name")},
        names(A, 9) | {b"GET-MASTER-ADDR-BY-NAME": None},
        names(A, 9) | {b"MASTER": b"OK"},
        names(A, 9) | {b"GET-MASTER-ADDR-BY-NAME": [b"host", b"port"]},
    ],
)
def test_a_sentinel_that_is_gone_or_odd_is_none_that_is_needed(wrong: Any) -> None:
    network = Network({S1: wrong, S2: names(B, 2)})

    assert B == sentinels(network, S1, S2).find()


def test_further_sentinels_are_learned_for_when_the_given_ones_are_gone() -> None:
    network = Network({S1: names(A, 1, S2)})
    outbox = sentinels(network, S1)
    outbox.find()
    network.answers = {S2: names(B, 2)}

    assert B == outbox.find()


def watch(network: Network, outbox: Sentinels, seconds: float = 1.0) -> bool:
    """Is asked a while later, twice: the answer is read the second time."""
    network.now += seconds
    return outbox.has_moved(None) or outbox.has_moved(None)


def test_a_planned_failover_is_noticed_a_second_later_though_the_deposed_master_answers() -> None:
    network = Network({S1: names(A, 1)})
    outbox = sentinels(network, S1)
    outbox.find()
    assert not watch(network, outbox)
    outbox._sentinel.said = names(B, 2)

    assert not watch(network, outbox, 0.5), "asked twice a second"
    assert watch(network, outbox, 0.5)


def test_a_sentinel_that_is_behind_moves_nobody_back() -> None:
    network = Network({S1: names(B, 2)})
    outbox = sentinels(network, S1)
    outbox.find()
    outbox._sentinel.said = names(A, 1)

    assert not watch(network, outbox)


@pytest.mark.parametrize("wrong", ["silent", "gone", "odd"])
def test_a_sentinel_that_fails_meanwhile_is_replaced_by_another_one(wrong: str) -> None:
    network = Network({S1: names(A, 1), S2: names(A, 1)})
    outbox = sentinels(network, S1, S2)
    outbox.find()
    first = outbox._sentinel
    first.silent = wrong == "silent"
    first.said = {
        "silent": first.said,
        "gone": dict.fromkeys(first.said, OSError()),
        "odd": dict.fromkeys(first.said, 7),
    }[wrong]
    network.answers[S2] = names(B, 2)
    noticed: list[Callable[[], bool]] = [lambda: watch(network, outbox, DEADLINE)] * 4

    assert any(one() for one in noticed)
    assert not first.open
    assert S2 == network.dialled[-1]


def test_a_command_is_one_piece_of_bytes() -> None:
    assert b"*3\r\n$3\r\nGET\r\n$2\r\n\xff\x00\r\n$3\r\n1.5\r\n" == packed("GET", b"\xff\x00", 1.5)

"""The master of a cluster's slot, found by going where nodes say, and the other nodes, learned for when it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ClusterDownError, ConnectionError, MovedError, NoPermissionError, TimeoutError

from ._failures import Unreachable
from ._shapes import listed, number, pairs, text
from ._topology import Dial, Node, Nodes, ask, graver, hang_up, packed

LEARN_EVERY = 60.0  # seconds between two readings of which nodes a cluster has
MOST_HOPS = 5  # from one node of a cluster to the next one
UNREACHABLE = (ConnectionError, TimeoutError, OSError, ClusterDownError)  # here; another node may know more


class Cluster:
    """The master of the slot that ``key`` is in."""

    def __init__(
        self, given: Sequence[Node], key: str, dial: Dial, deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._nodes = Nodes(given, deadline, clock)
        self._clock = clock
        self._key = key
        self._dial = dial
        self._learn_at = 0.0
        self._node: Node = ("", 0)
        self.learns = True
        """The other nodes are known; false where this user may not ask for them."""

    def find(self) -> Any:
        """Ask one node after the other, and go where it says. Raises what redis-py raises."""
        failure: Exception | None = None
        unreachable: set[Node] = set()
        for node in self._nodes:
            try:
                connection = self._follow(node, unreachable)
            except (*UNREACHABLE, MovedError) as error:
                failure = graver(failure, error)
            else:
                self._learn(connection)
                return connection
        raise failure or TimeoutError("no node of the cluster answers")

    def has_moved(self, connection: Any) -> bool:
        """The cluster says so itself, by MOVED; here only its nodes are learned. Raises what redis-py raises."""
        if self._clock() >= self._learn_at:
            self._learn(connection)
        return False

    def close(self) -> None:
        """Nothing to let go of."""

    def _follow(self, node: Node, unreachable: set[Node]) -> Any:
        """Beginning with this node: a connection to the one that has the slot.

        An announced address need not be one that we can reach: then another node that was given may have the slot.
        """
        for _ in range(MOST_HOPS):
            if node in unreachable:
                break
            connection = None
            try:
                connection = self._dial(node, self._nodes.share)
                ask(connection, packed("EXISTS", self._key))
            except MovedError as moved:
                hang_up(connection)
                node = (moved.host or node[0], moved.port)  # no host: the one that was asked, by another port
            except Exception as error:
                hang_up(connection)
                if isinstance(error, UNREACHABLE):
                    unreachable.add(node)
                    self._nodes.was_silent(node)
                raise
            else:
                self._node = node
                return connection
        raise Unreachable(f"the master of its slot, {node[0]}:{node[1]}, cannot be reached")

    def _learn(self, connection: Any) -> None:
        self._learn_at = self._clock() + LEARN_EVERY
        others: list[Node] = []
        try:
            (answer,) = ask(connection, packed("CLUSTER", "SLOTS"))
            for slots in listed(answer):
                others += [node for one in listed(slots)[2:] if (node := self._announced(listed(one))) is not None]
            self.learns = True
        except NoPermissionError:
            self.learns = False
        self._nodes.learn([self._node], others)

    def _announced(self, node: Sequence[object]) -> Node | None:
        """As in the answer of CLUSTER SLOTS, ``[host, port, id, more]``. Source: redis.io, "CLUSTER SLOTS"."""
        host = text(node[0]) if node[0] is not None else ""
        if host == "?":  # a name was to be announced, and there is none
            host = text(dict(pairs(node[3])).get(b"ip", b"")) if len(node) > 3 else ""
            if not host:
                return None
        return host or self._node[0], number(node[1])

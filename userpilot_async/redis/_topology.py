"""Which server has the outbox: the one in the URL, the master that Sentinels name, or the master of a cluster's slot.

`find` gives an open connection to it, and each connection after a failure begins there. The nodes that were given and
those that were learned from them are all asked, so that none of them is needed for the others to be found. Asking takes
no longer than a deadline and one more answer: a node that is silent goes to the end of the line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import attrs
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    ResponseError,
    TimeoutError,
)

from ._failures import Unreachable
from ._shapes import listed, number, pairs, text, whole

Node = tuple[str, int]
"""Host, port."""
Dial = Callable[[Node, float], Any]
"""An open connection to a node, to which connecting takes so many seconds at most. Raises what redis-py raises."""

ASK_EVERY = 1.0  # seconds between two questions who the master is, while nothing is wrong
LEARN_EVERY = 60.0  # seconds between two looks at which nodes a cluster has
RARELY = 10  # times as long as it took in vain to connect to a Sentinel, which holds up the outbox meanwhile
ENOUGH_SENTINELS = 3  # answers: one of them may be behind, and says so by its epoch
MOST_SHARES = 4  # of the deadline, at least a quarter of it for each node
MOST_HOPS = 5  # from one node of a cluster to the next one
UNREACHABLE = (ConnectionError, TimeoutError, OSError, ClusterDownError)  # here; another node may know more


class Topology(Protocol):
    """Where the outbox is. Used by one thread, as `Link` is."""

    def find(self) -> Any:
        """An open connection to the server that has it now. Raises what redis-py raises."""
        ...

    def has_moved(self, connection: Any) -> bool:
        """Another server has it by now. To be asked every now and then, while all is well on this connection."""
        ...

    def close(self) -> None:
        """Let go of connections of its own, and keep what was learned."""
        ...


def packed(*words: str | bytes | float) -> bytes:
    """A command as one piece of bytes: redis-py makes many of a large one, and each costs the thread its turn."""
    pieces = [b"*%d\r\n" % len(words)]
    for word in words:
        encoded = word if isinstance(word, bytes) else str(word).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(encoded), encoded))
    return b"".join(pieces)


def ask(connection: Any, *commands: bytes) -> list[Any]:
    """The answers to packed commands, in one round trip. Raises the first that is an error, when all have come."""
    connection.send_packed_command([b"".join(commands)])
    answers: list[Any] = []
    refused: ResponseError | None = None
    for _ in commands:
        try:
            answers.append(connection.read_response())
        except ResponseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return answers


def _close(connection: Any) -> None:
    with suppress(Exception):  # whatever redis-py raises: nobody uses it any more
        connection.disconnect()


class OneServer:
    """What the URL says."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    def find(self) -> Any:
        """Raises what redis-py raises."""
        return self._connect()

    def has_moved(self, connection: Any) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""


class Nodes:
    """Those that may be asked, in order: who was silent comes last. ``deadline`` is for one round of questions."""

    def __init__(self, given: Sequence[Node], deadline: float, clock: Callable[[], float]) -> None:
        self._given = list(dict.fromkeys(given))
        self._clock = clock
        self._line = list(self._given)
        self._deadline = deadline

    @property
    def share(self) -> float:
        """Of the deadline, in seconds: what one of them gets."""
        return self._deadline / min(len(self._line), MOST_SHARES)

    @property
    def first(self) -> Node:
        """Who is asked first."""
        return self._line[0]

    def __iter__(self) -> Iterator[Node]:
        """One round, as long as there is time."""
        until = self._clock() + self._deadline
        for node in list(self._line):
            if self._clock() >= until:
                return
            yield node

    def learn(self, first: Sequence[Node], others: Sequence[Node]) -> None:
        """There are these, and no others but those that were given."""
        there = dict.fromkeys((*self._given, *others))
        kept = [node for node in self._line if node in there]
        self._line = list(dict.fromkeys((*first, *kept, *there)))

    def was_silent(self, node: Node) -> None:
        """Ask it last."""
        if node in self._line:
            self._line.remove(node)
            self._line.append(node)


# ── Sentinels ──


@attrs.frozen
class Named:
    """What a Sentinel says of the master."""

    master: Node
    epoch: int
    """Of the failover that made it the master; the highest is the latest."""


class Sentinels:
    """The master of a service. ``dial`` is for Sentinels, ``dial_master`` for the server they name."""

    def __init__(
        self, given: Sequence[Node], service: str, dial: Dial, dial_master: Dial, deadline: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._nodes = Nodes(given, deadline, clock)
        self._clock = clock
        self._service = service
        # The first knows of a failover as soon as there is a new master, the second only says which failover it was.
        self._questions = [packed("SENTINEL", what, service) for what in ("GET-MASTER-ADDR-BY-NAME", "MASTER")]
        self._dial = dial
        self._dial_master = dial_master
        self._deadline = deadline
        self._known: Named | None = None
        self._sentinel: Any = None
        """A connection that is kept for questions while nothing is wrong,"""
        self._node: Node = self._nodes.first
        """to this one."""
        self._is_asked = False
        """An answer is due on it."""
        self._asked_at = 0.0
        self._ask_at = 0.0

    def find(self) -> Any:
        """Of several Sentinels the one that knows of the latest failover is believed. Raises what redis-py raises."""
        self.close()
        answers, failure = 0, None
        best: Named | None = None
        for node in self._nodes:
            sentinel = None
            try:
                sentinel = self._dial(node, self._nodes.share)
                named = _named(*ask(sentinel, *self._questions))
            except Exception as error:  # whatever is wrong with this one, the next one may know
                _close(sentinel)
                self._nodes.was_silent(node)
                failure = _graver(failure, error)
                continue
            answers += 1
            if best is None or named.epoch > best.epoch:
                _close(self._sentinel)
                best, self._sentinel, self._node = named, sentinel, node
            else:
                _close(sentinel)
            if answers == ENOUGH_SENTINELS:
                break
        if best is None:
            raise failure or TimeoutError("no Sentinel answers")
        self._known, self._ask_at = best, self._clock() + ASK_EVERY
        self._learn()
        return self._dial_master(best.master, self._deadline)

    def has_moved(self, connection: Any) -> bool:
        """Ask a Sentinel once a second, and do not wait for the answer: it is read the next time.

        A planned failover leaves the deposed master as it is, and in use, for about ten seconds.
        Source: redis.io, "Redis Sentinel", "Handling of Sentinel failover": clients must ask again when they reconnect.
        """
        now = self._clock()
        try:
            if self._is_asked:
                return self._answered(now)
            if now >= self._ask_at:
                self._ask(now)
        except Exception:  # whatever a Sentinel says or does, the master is still there
            self._ask_another(now)
        return False

    def close(self) -> None:
        """Let go of the connection to a Sentinel."""
        _close(self._sentinel)
        self._sentinel, self._is_asked = None, False

    def _ask(self, now: float) -> None:
        self._ask_at = now + ASK_EVERY
        if self._sentinel is None:
            self._node = self._nodes.first
            self._sentinel = self._dial(self._node, self._nodes.share)
        self._sentinel.send_packed_command(self._questions)
        self._is_asked, self._asked_at = True, now

    def _answered(self, now: float) -> bool:
        if not self._sentinel.can_read(timeout=0):
            if now - self._asked_at >= self._deadline:
                self._ask_another(now)
            return False
        self._is_asked = False
        named, known = _named(self._sentinel.read_response(), self._sentinel.read_response()), self._known
        return known is not None and named.master != known.master and named.epoch >= known.epoch

    def _ask_another(self, now: float) -> None:
        self.close()
        self._nodes.was_silent(self._node)
        self._ask_at = now + max(ASK_EVERY, RARELY * (self._clock() - now))

    def _learn(self) -> None:
        """Further Sentinels, for when those that were given are gone."""
        with suppress(Exception):  # it may not be allowed, and is a help, no need
            (others,) = ask(self._sentinel, packed("SENTINEL", "SENTINELS", self._service))
            said = [dict(pairs(one)) for one in listed(others)]
            self._nodes.learn((), [(text(one[b"ip"]), whole(one[b"port"])) for one in said])


def _named(address: object, about: object) -> Named:
    host, port = listed(address, 2)
    return Named((text(host), whole(port)), whole(dict(pairs(about)).get(b"config-epoch", b"0")))


# ── a cluster ──


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
                failure = _graver(failure, error)
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
                _close(connection)
                node = (moved.host or node[0], moved.port)  # no host: the one that was asked, by another port
            except Exception as error:
                _close(connection)
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

    def _announced(self, said: Sequence[object]) -> Node | None:
        """As in the answer of CLUSTER SLOTS, ``[host, port, id, more]``. Source: redis.io, "CLUSTER SLOTS"."""
        host = text(said[0]) if said[0] is not None else ""
        if host == "?":  # a name was to be announced, and there is none
            host = text(dict(pairs(said[3])).get(b"ip", b"")) if len(said) > 3 else ""
            if not host:
                return None
        return host or self._node[0], number(said[1])


def _graver(before: Exception | None, error: Exception) -> Exception:
    """Which of two failures is said: that we are not let in, rather than that somebody does not answer."""
    grave = isinstance(error, AuthenticationError) and not isinstance(before, AuthenticationError)
    return error if before is None or grave else before

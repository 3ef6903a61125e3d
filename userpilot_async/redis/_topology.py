"""The server that has the outbox: what is asked, of which nodes, and the one server of a URL that names one.

`find` gives an open connection to it, and each connection after a failure begins there. `_sentinels` finds the master
of a service, `_cluster` that of a slot. The nodes that were given and those that were learned from them are all asked,
so that none of them is needed for the others to be found. Asking takes no longer than a deadline and one more answer: a
node that is silent goes to the end of the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from redis.exceptions import AuthenticationError, ResponseError

Node = tuple[str, int]
"""Host and port of a server."""
Dial = Callable[[Node, float], Any]
"""An open connection to a node, to which connecting takes so many seconds at most. Raises what redis-py raises."""

MOST_SHARES = 4  # of the deadline, at least a quarter of it for each node


class Topology(Protocol):
    """Where the outbox is. Used by one thread, as `Link` is."""

    def find(self) -> Any:
        """An open connection to the server that has it now. Raises what redis-py raises."""
        ...

    def has_moved(self, connection: Any) -> bool:
        """True if another server has it by now. To be asked every now and then, while all is well here."""
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


def hang_up(connection: Any) -> None:
    """Close a connection that is used no more, or none; never raises."""
    with suppress(Exception):  # whatever redis-py raises: it is not used any more
        connection.disconnect()


def graver(before: Exception | None, error: Exception) -> Exception:
    """The failure of two that is reported: that we are not let in, rather than that a server does not answer."""
    grave = isinstance(error, AuthenticationError) and not isinstance(before, AuthenticationError)
    return error if before is None or grave else before


class OneServer:
    """The one server that the URL names."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect

    def find(self) -> Any:
        """Connect to the one server. Raises what redis-py raises."""
        return self._connect()

    def has_moved(self, connection: Any) -> bool:
        """Always false: there is no other server."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""


class Nodes:
    """Nodes that may be asked, in order: a silent one comes last. ``deadline`` is for one round of questions."""

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
        """The node that is asked first."""
        return self._line[0]

    def __iter__(self) -> Iterator[Node]:
        """The nodes of one round, as long as there is time."""
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
        """Ask this node last from now on."""
        if node in self._line:
            self._line.remove(node)
            self._line.append(node)

"""The master that Sentinels name, found when connecting, and watched while it is used.

Several Sentinels are asked, and the one that knows of the latest failover is believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
from redis.exceptions import TimeoutError

from ._shapes import listed, pairs, text, whole
from ._topology import Dial, Node, Nodes, ask, graver, hang_up, packed

ASK_EVERY = 1.0  # seconds between two questions who the master is, while nothing is wrong
RARELY = 10  # times as long as it took in vain to connect to a Sentinel, which holds up the outbox meanwhile
ENOUGH_SENTINELS = 3  # answers: one of them may be behind, and says so by its epoch


@attrs.frozen
class Named:
    """The master, as a Sentinel names it."""

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
                hang_up(sentinel)
                self._nodes.was_silent(node)
                failure = graver(failure, error)
                continue
            answers += 1
            if best is None or named.epoch > best.epoch:
                hang_up(self._sentinel)
                best, self._sentinel, self._node = named, sentinel, node
            else:
                hang_up(sentinel)
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
        hang_up(self._sentinel)
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
            sentinels = [dict(pairs(one)) for one in listed(others)]
            self._nodes.learn((), [(text(one[b"ip"]), whole(one[b"port"])) for one in sentinels])


def _named(address: object, about: object) -> Named:
    host, port = listed(address, 2)
    return Named((text(host), whole(port)), whole(dict(pairs(about)).get(b"config-epoch", b"0")))

"""Posts that a server takes once: one said again is recognised, and not sent again."""

from __future__ import annotations

from .._calls.outcome import Outcome
from .key_queue import Post

MAX_REMEMBERED = 100_000  # delivered ones, about 20 MB; of older ones the server itself knows that it has had them


class Dedup:
    """Remembers each by its body: while it is on its way, and after it was delivered."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Post] = {}
        self._delivered: dict[bytes, None] = {}
        self._prefaces: dict[bytes, None] = {}

    def waiting(self, body: bytes) -> Post | None:
        """The post on its way that says this; ``None`` if there is none."""
        return self._waiting.get(body)

    def was_delivered(self, body: bytes) -> bool:
        """The server has this; it is remembered the longer for having been asked about."""
        if body not in self._delivered:
            return False
        del self._delivered[body]
        self._delivered[body] = None
        return True

    def was_prefaced(self, body: bytes) -> bool:
        """A preface that says this went before a call, or waits to.

        A call of its own that said so does not count: the server may have had nobody then to apply it to.
        """
        return body in self._prefaces

    def came_in(self, post: Post) -> None:
        """A post is on its way from now on."""
        self._waiting[post.body] = post
        if not post.ids:
            _remember(self._prefaces, post.body)

    def left(self, post: Post, outcome: Outcome) -> None:
        """A post has its outcome. One that was lost may be said again; of others there is nothing to remember."""
        if self._waiting.pop(post.body, None) is not None and outcome.is_delivered:
            _remember(self._delivered, post.body)
        elif not outcome.is_delivered:
            self._prefaces.pop(post.body, None)


def _remember(bodies: dict[bytes, None], body: bytes) -> None:
    if len(bodies) >= MAX_REMEMBERED:
        del bodies[next(iter(bodies))]
    bodies[body] = None

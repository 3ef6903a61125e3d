"""Posts that a server takes once: one said again is recognised, and not sent again."""

from __future__ import annotations

from .._calls.outcome import Outcome
from .posts import Post

MAX_REMEMBERED = 100_000  # delivered ones, about 20 MB; of older ones the server itself knows that it has had them


class Dedup:
    """Remembers each by its body: while it is on its way, and after it was delivered."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Post] = {}
        self._delivered: dict[bytes, None] = {}
        self._early: dict[str, bytes] = {}

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

    def came_in(self, post: Post, unmet: str | None = None) -> None:
        """A post is on its way from now on. ``unmet`` is the key by which it does nothing, if the server is to meet it
        only later.
        """
        self._waiting[post.body] = post
        if unmet is not None:
            if len(self._early) >= MAX_REMEMBERED:
                del self._early[next(iter(self._early))]
            self._early[unmet] = post.body

    def came_too_early(self, unmet: str) -> None:
        """A call by this key comes in, perhaps the first that the server sees: what it needs before may do nothing."""
        body = self._early.pop(unmet, None)
        if body is not None:
            self._waiting.pop(body, None)
            self._delivered.pop(body, None)

    def left(self, post: Post, outcome: Outcome) -> None:
        """A post has its outcome. One that was lost may be said again; of others there is nothing to remember."""
        if self._waiting.get(post.body) is not post:
            return  # of another kind, or it came too early to count
        del self._waiting[post.body]
        if outcome.is_delivered:
            if len(self._delivered) >= MAX_REMEMBERED:
                del self._delivered[next(iter(self._delivered))]
            self._delivered[post.body] = None

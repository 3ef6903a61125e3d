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

    def came_in(self, post: Post) -> None:
        """A post is on its way from now on."""
        self._waiting[post.body] = post

    def left(self, post: Post, outcome: Outcome) -> None:
        """A post has its outcome. One that was lost may be said again; of others there is nothing to remember."""
        if self._waiting.pop(post.body, None) is not None and outcome.is_delivered:
            if len(self._delivered) >= MAX_REMEMBERED:
                del self._delivered[next(iter(self._delivered))]
            self._delivered[post.body] = None

"""An outbox in Redis without a loop and without a thread. Apart from the others, which need no redis-py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import Any

import redis

from tests.contract.inline import Client, Inline, at_once, open_now
from tests.harness.redis_server import RedisServer
from userpilot_async.redis import RedisOutbox


class InlineRedisOutbox(Inline, RedisOutbox):
    """An outbox in Redis, without a thread."""

    def die(self) -> None:
        """As the process would: nothing more is written. Its lease has ended, too."""
        self.writer.kill()
        self._in_use = False
        self.end_lease()
        self.store.access.link.close()

    def end_lease_of(self, server: RedisServer) -> None:
        """The same, while this outbox has no connection."""
        with closing(server.client()) as client:
            client.delete(f"{{{self.name}}}:lease")

    def end_lease(self) -> None:
        """As the server's clock does."""
        self.redis.delete(f"{{{self.name}}}:lease")

    @cached_property
    def redis(self) -> Any:
        """Anybody's hand in the database: a client of redis-py's."""
        return redis.Redis.from_url(self._address.url)


NewProcess = Callable[..., InlineRedisOutbox]


@contextmanager
def processes(url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would; all of them are closed at the end."""
    made: list[InlineRedisOutbox] = []

    def process(client: Client | None = None, **options: Any) -> InlineRedisOutbox:
        outbox = InlineRedisOutbox(url, **options)
        made.append(outbox)
        open_now(outbox, (client or Client()).opening())
        return outbox

    yield process
    for outbox in made:
        at_once(outbox.aclose())
        outbox.redis.close()

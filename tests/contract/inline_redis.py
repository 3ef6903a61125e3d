"""An outbox in Redis without a loop and without a thread. Apart from the others, which need no redis-py."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import cached_property, partial
from typing import Any

import redis

from tests.contract.inline_remote import InlineRemote, processes_of
from tests.harness.redis_server import RedisServer
from userpilot_async.redis import RedisOutbox


class InlineRedisOutbox(InlineRemote, RedisOutbox):
    """An outbox in Redis, without a thread."""

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

    def clean_up(self) -> None:
        """As in every outbox."""
        super().clean_up()
        self.redis.close()


NewProcess = Callable[..., InlineRedisOutbox]


def processes(url: str) -> AbstractContextManager[NewProcess]:
    """Opens the same outbox with each call, as another process would; all of them are closed at the end."""
    return processes_of(partial(InlineRedisOutbox, url))

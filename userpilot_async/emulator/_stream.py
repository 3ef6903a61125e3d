"""A stream of server-sent events to one browser: as fast as it reads, and never more than one message ahead of it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

INTERVAL = 0.25  # seconds between two messages: what comes in between is told together
SILENCE = 15.0  # seconds after which a stream says that it is alive
STUCK = 30.0  # seconds for a browser to take a message, before its stream is ended
ALIVE = ": alive\n\n"  # a comment of the protocol. Source: HTML Living Standard, 9.2


class Stream(Response):
    """An answer that goes on until the browser leaves, or does not read for `STUCK` seconds."""

    media_type = "text/event-stream"

    def __init__(self, next_message: Callable[[], str], on_end: Callable[[], object]) -> None:
        """`next_message` gives what there is to tell by now, "" if nothing; `on_end` is called once, at the end."""
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._next_message = next_message
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, receive, group.cancel_scope)
                await self._tell(send)
                group.cancel_scope.cancel()
        finally:
            self._on_end()

    async def _tell(self, send: Send) -> None:
        silent = 0.0
        while True:
            text = self._next_message() or (ALIVE if silent >= SILENCE else "")
            if text:
                silent = 0.0
                with anyio.move_on_after(STUCK) as patience:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                if patience.cancelled_caught:
                    return  # the page connects again when somebody looks at it
            await anyio.sleep(INTERVAL)
            silent += INTERVAL

    @staticmethod
    async def _watch(receive: Receive, scope: anyio.CancelScope) -> None:
        """End the stream when the browser has left."""
        while (await receive())["type"] != "http.disconnect":
            continue
        scope.cancel()

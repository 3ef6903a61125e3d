"""A server on the loopback with a thread and a loop of its own, so that a test may run on any backend."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.harness.wire import Wire

if TYPE_CHECKING:
    from typing import Self

# Real seconds for the thread to end its connections; they only have to be cancelled.
STOP_WITHIN = 5.0


class LoopbackServer:
    """Listens on 127.0.0.1 while its `with` block runs; a subclass says what a connection gets.

    A peer that leaves is part of the game. Any other exception in the server's thread, such as a script's
    own bug, is kept in `errors` and raised at the end of the block.
    """

    scheme = "http"

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.connections = 0  # accepted so far
        self.open_connections = 0
        self.port = 0

    async def handle(self, wire: Wire, connection: int) -> None:
        """Serve one connection, numbered from 0. It is closed when this returns."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.SelectorEventLoop()
        self._loop.set_exception_handler(self._note)
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"{type(self).__name__}:{self.port}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_WITHIN)
        assert not self._thread.is_alive(), f"{self._thread.name} did not stop within {STOP_WITHIN:g} s"
        if error is None and self.errors:
            raise self.errors[0]

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:  # nobody else would see it: raised where the block ends
            self.errors.append(error)
        finally:
            self._listener.close()
            self._loop.close()

    async def _main(self) -> None:
        handlers: set[asyncio.Task[None]] = set()
        accepting = asyncio.ensure_future(self._accept(handlers))
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({accepting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # Before the connections end, so that a client's last attempt is refused rather than left hanging.
        accepting.cancel()
        stopping.cancel()
        await asyncio.gather(accepting, stopping, return_exceptions=True)
        self._listener.close()
        for handler in list(handlers):
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        if not accepting.cancelled() and (error := accepting.exception()) is not None:
            raise error

    async def _accept(self, handlers: set[asyncio.Task[None]]) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED):
                    raise
                # Descriptors ran out, which some tests do on purpose: the client's end may free one.
                await asyncio.sleep(0.01)
                continue
            handler = asyncio.ensure_future(self._serve(Wire(sock), self.connections))
            self.connections += 1
            handlers.add(handler)
            handler.add_done_callback(handlers.discard)

    async def _serve(self, wire: Wire, connection: int) -> None:
        self.open_connections += 1
        try:
            await self.handle(wire, connection)
        except ConnectionError:
            pass
        except Exception as error:  # likewise
            self.errors.append(error)
            wire.reset()
        finally:
            wire.close()
            self.open_connections -= 1

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))

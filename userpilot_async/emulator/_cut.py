"""Cutting the connection: no status line, no byte, whatever the server had already done."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

CUT = "userpilot_emulator.cut"


class ConnectionCut(Exception):
    """Raised in process, where there is no connection to cut: what a test's transport makes a `ReadError` of."""


class CuttableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a way for the app to abort the connection.

    ASGI has no word for it: an app that raises gets a 500 sent in its name, one that returns without an answer as well.
    So the abort travels to the app in `scope["state"]`, of which uvicorn makes a copy for each request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # narrowed by uvicorn
        super().connection_made(transport)
        # asyncio does it for sockets that name their protocol, which those of `socket.create_server` do not: without
        # it the second half of an answer waits for the client's delayed acknowledgement, 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, CUT: self.cut}

    def cut(self) -> None:
        """Reset the connection. `abort` alone would close it in good order, with a FIN."""
        if self.transport.is_closing():
            return
        linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # on, for no time: RST
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


async def cut_connection(scope: Scope, receive: Receive) -> None:
    """Leave the caller without an answer; raises `ConnectionCut` if there is no `CuttableProtocol` below."""
    state: dict[str, Any] = scope.get("state", {})  # `Any`: ASGI's own type for it
    if CUT not in state:
        raise ConnectionCut("a fault cut the connection")
    state[CUT]()
    # uvicorn takes an app that returns unanswered for a broken one, unless it has seen the connection end.
    while (await receive())["type"] != "http.disconnect":
        continue

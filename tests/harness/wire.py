"""A connection and the HTTP/1.1 on it, byte by byte, for servers that must be able to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

import attrs

# A client that sends more head than this in a test has gone wrong itself.
MAX_HEAD_BYTES = 1 << 20

_TCP_ESTABLISHED = 1  # the first byte of Linux's struct tcp_info


class PeerLeft(ConnectionError):
    """The other side closed where more bytes were due."""


@attrs.frozen
class Head:
    """The first line and the headers of a message, and the bytes they came in."""

    start_line: str
    headers: Mapping[str, str]  # names in lower case; repeated headers joined by a comma
    raw: bytes


class Wire:
    """A raw, non-blocking socket. Closing sends FIN, or RST if bytes were left unread; `reset` sends RST."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._held = bytearray()
        self.closed = False

    async def readable(self) -> bool:
        """Wait for the next byte, without taking it from the kernel. False if the peer left instead."""
        loop = asyncio.get_running_loop()
        while not self._held:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(self._sock, _settle, ready)
            try:
                await ready
            finally:
                loop.remove_reader(self._sock)
            try:
                return bool(self._sock.recv(1, socket.MSG_PEEK))
            except BlockingIOError:
                continue
            except ConnectionError:
                return False
        return True

    async def read_head(self) -> Head:
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if len(self._held) > MAX_HEAD_BYTES:
                raise ValueError(f"no end of the headers within {MAX_HEAD_BYTES} bytes")
            await self._fill()
        raw = self._take(end + 4)
        start_line, *lines = raw[:-4].decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Head(start_line, headers, raw)

    async def read_body(self, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
        """A request's body, and the bytes it came in."""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._read_chunks()
        body = await self._exactly(int(headers.get("content-length", "0")))
        return body, body

    async def read_answer(self, method: str) -> tuple[int, bytes]:
        """An honest server's final answer to a request of this method: its status and all its bytes."""
        before = b""
        while True:
            head = await self.read_head()
            status = int(head.start_line.split(" ", 2)[1])
            if status >= 200:
                break
            before += head.raw
        if method == "HEAD" or status in (204, 304):
            raw = b""
        elif "transfer-encoding" in head.headers or "content-length" in head.headers:
            _, raw = await self.read_body(head.headers)
        else:
            raw = await self._until_end()
        return status, before + head.raw + raw

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def wait_until_left(self, *, reading: bool = True) -> None:
        """Wait until the peer closes or resets; swallow what comes till then, or leave it unread."""
        try:
            if reading:
                await self._until_end()
            while not self.peer_has_left():
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass

    def peer_has_left(self) -> bool:
        """What TCP itself knows: whether a FIN or RST has come, be it behind bytes that nobody has read."""
        return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _TCP_ESTABLISHED

    def reset(self) -> None:
        """RST: the peer's next read or write fails with "connection reset"."""
        if not self.closed:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._sock.close()

    def hand_over(self) -> socket.socket:
        """The socket, for somebody else to read, write and close."""
        self.closed = True
        return self._sock

    async def _read_chunks(self) -> tuple[bytes, bytes]:
        body, raw = bytearray(), bytearray()
        while True:
            line = await self._line()
            size = int(line.split(b";")[0], 16)
            raw += line
            if size == 0:
                break
            chunk = await self._exactly(size + 2)
            raw += chunk
            body += chunk[:-2]
        while (trailer := await self._line()) != b"\r\n":
            raw += trailer
        return bytes(body), bytes(raw + b"\r\n")

    async def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            await self._fill()
        return self._take(end + 2)

    async def _exactly(self, count: int) -> bytes:
        while len(self._held) < count:
            await self._fill()
        return self._take(count)

    async def _until_end(self) -> bytes:
        try:
            while True:
                await self._fill()
        except PeerLeft:
            return self._take(len(self._held))

    async def _fill(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 16)
        if not data:
            raise PeerLeft("the peer closed the connection")
        self._held += data
        # A peer that sends without end is always ready, and sock_recv then never lets another task run.
        await asyncio.sleep(0)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

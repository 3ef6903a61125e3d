"""A server that takes everything: in a process of its own, so that its CPU is not the client's.

It answers as each vendor would, counts requests by path, and counts events. A mute one never answers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from benchmarks.cores import for_the_rest
from benchmarks.fresh import ROOT
from benchmarks.payloads import MARK

JOB = "bulk:jobs:NX-00000000:00000000-0000-0000-0000-000000000000"


class Connection(asyncio.Protocol):
    """HTTP/1.1 with a Content-Length, and nothing else."""

    mute = False
    requests: ClassVar[Counter[str]] = Counter()
    events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = bytearray()
        self.awaited = 0  # bytes of the request that is coming in, once they are known

    def data_received(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= max(self.awaited, 1):
            if not self.awaited:
                end = self.received.find(b"\r\n\r\n")
                if end < 0:
                    return
                head = bytes(self.received[:end]).lower()
                _, found, rest = head.partition(b"content-length:")
                self.awaited = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
                continue
            request = bytes(self.received[: self.awaited])
            del self.received[: self.awaited]
            self.awaited = 0
            self.answer(request)

    def answer(self, request: bytes) -> None:
        method, path, _ = request.split(b" ", 2)
        if path == b"/counts":
            self.reply(200, {"requests": Connection.requests, "events": Connection.events})
            return
        Connection.requests[path.decode().split("?")[0]] += 1
        Connection.events += request.count(MARK)
        if self.mute:
            return
        if method == b"GET":
            self.reply(200, {"job_id": JOB, "status": "completed"})
        elif path.endswith(b"/bulk_identify"):
            self.reply(202, {"job_id": JOB, "status": "queued"})
        elif path.startswith(b"/v1/track") or path.startswith(b"/v1/identify"):
            self.reply(202, {})
        elif path.startswith(b"/api/client/"):
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            self.reply(200, {"status": 1, "error": None})  # what mixpanel looks for; the others read the 200

    def reply(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve() -> None:
    for_the_rest()
    Connection.mute = "--mute" in sys.argv
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def running_sink(*, mute: bool = False) -> Iterator[str]:
    """The URL of a new sink."""
    command = [sys.executable, "-m", "benchmarks.sink", *(["--mute"] if mute else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def counts(url: str) -> dict[str, Any]:
    """The requests that a sink has received: ``{"requests": {path: count}, "events": count}``."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}/counts", timeout=10) as answer:
        return dict(json.load(answer))


if __name__ == "__main__":
    asyncio.run(serve())

"""A server in the same process: it never answers, refuses everything, or takes everything, as it is told."""

from __future__ import annotations

import asyncio
import json

import httpx

from benchmarks.payloads import MARK
from benchmarks.sink import JOB

LIFTED = 10_000_000  # requests a minute: the limit is not what is asked for


class Answers(httpx.AsyncBaseTransport):
    """The way to such a server; all requests that wait are answered as soon as it is told how."""

    def __init__(self) -> None:
        self.requests = self.events = 0
        self.asked = asyncio.Event()
        """Set once a request has come."""
        self._told = asyncio.Event()
        self._status = 0
        self._headers: dict[str, str] = {}

    def tell(self, status: int, **headers: str) -> None:
        """Answer so from now on; 200 is that everything is taken."""
        self._status, self._headers = status, headers
        self._told.set()

    def hush(self) -> None:
        """Answer no more, until told again."""
        self._told.clear()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        self.asked.set()
        await self._told.wait()
        if self._status != 200:
            return httpx.Response(self._status, headers=self._headers)
        path = request.url.path
        self.events += request.content.count(MARK) if path.endswith(("/track", "/events")) else 0
        if request.method == "GET":
            return httpx.Response(200, content=json.dumps({"job_id": JOB, "status": "completed"}))
        if path.endswith("/bulk_identify"):
            return httpx.Response(202, content=json.dumps({"job_id": JOB, "status": "queued"}))
        return httpx.Response(204 if path.startswith("/api/client/") else 202)

"""The servers that `send` can deliver to: how their lines are read, and how each is probed before anything is sent."""

from __future__ import annotations

from typing import Protocol

import anyio
import attrs
import click

from .._client import UserpilotClient
from .._delivery.client import DeliveryClient
from .._errors.tree import DeliveryError
from .._outbox.protocol import Outbox
from .._protocol.backoff import backoff
from .._protocol.verdict import Meaning, Verdict
from .._settings import Settings
from .._userpilot.calls import from_bytes
from ..parcelvoy import ParcelvoyClient, ParcelvoySettings, from_line
from ._exits import Failed, Refused, Unreachable, failure_of_listing
from ._server import Server

ATTEMPTS = 3  # as many as `UserpilotAPI` makes; they take three seconds where nothing listens
PASSING = (Meaning.UNSENT, Meaning.LOST, Meaning.AGAIN, Meaning.LIMITED)  # may be otherwise in a second
NO_SUCH_PROJECT = 6000  # github.com/parcelvoy/platform, `ProjectError.ts`, read 2026-11


class Recipient(Protocol):
    """A server, and the client for it."""

    @property
    def client(self) -> DeliveryClient:
        """Not open yet; a delivery opens it."""
        ...

    async def enqueue(self, line: bytes) -> None:
        """Hand in the call on a line of the file; raises `InvalidCall`."""
        ...

    async def probe(self) -> Failed | None:
        """Make one harmless request; returns why nothing can be delivered, or ``None``."""
        ...


@attrs.frozen
class Userpilot:
    """Userpilot, probed by its job list, which is cheap and wants the same key."""

    client: UserpilotClient

    async def enqueue(self, line: bytes) -> None:
        await self.client.enqueue(from_bytes(line))

    async def probe(self) -> Failed | None:
        try:
            await self.client.api.jobs()
        except DeliveryError as error:
            return failure_of_listing(error)
        return None


@attrs.frozen
class Parcelvoy:
    """Parcelvoy, probed by a request that it refuses: it has nothing that a public key may read.

    The server checks the key, then the project, then the body, and an array of no events is 422 before
    anything is queued (github.com/parcelvoy/platform, `ClientController.ts`, read 2026-11): a 422 says that key and
    URL are right. Not `GET /api/health`, which knows no keys. Nor `Statistics.paused` of the first calls: it tells a
    key from a URL in words only, and what is answered 400 would be lost by then, where this stops before the first.
    """

    client: ParcelvoyClient

    async def enqueue(self, line: bytes) -> None:
        await self.client.enqueue(from_line(line))

    async def probe(self) -> Failed | None:
        # The client's own connection: what is found out with another URL, key or certificate store proves nothing.
        connection, attempts = self.client._connection, 0
        while True:
            verdict = await connection.exchange("probe", "POST", "/api/client/events", b"[]")
            attempts += 1
            if attempts == ATTEMPTS or verdict.meaning not in PASSING:
                return failure_of_probe(verdict)
            await anyio.sleep(max(verdict.delay, backoff(attempts, 1.0)))


def failure_of_probe(verdict: Verdict) -> Failed | None:
    """The failure for Parcelvoy's answer to an array of no events; ``None`` if key and URL are right."""
    status = verdict.status
    if status is None:
        return Unreachable(f"the server is unavailable: no answer: {verdict.detail}")
    if status in (204, 422):  # 204 is its word for success, should a version come that minds no empty array
        return None
    if verdict.meaning is Meaning.DENIED or _knows_no_project(verdict.body):
        words = f" ({verdict.detail})" if verdict.detail else ""
        return Refused(f"the server answered {status}: is it the public key of this project?{words}")
    if verdict.meaning in (Meaning.MISCONFIGURED, Meaning.ACCEPTED):  # a website's 200 would swallow every call
        return Unreachable(f"this does not look like a Parcelvoy server: it answered {status}")
    # 400 too: its answer to whatever breaks inside it (`api.ts`), as until 2023 an unknown key did.
    return Unreachable(f"the server is unavailable: it answered {status}")


def _knows_no_project(body: object) -> bool:
    """Whether a 404 is about an unknown key; the 404 of an unknown path has another body."""
    return isinstance(body, dict) and body.get("code") == NO_SUCH_PROJECT


def recipient_at(server: Server, to: str, outbox: Outbox | str | None, late_after: float | None = None) -> Recipient:
    """The server that the options name. Its client waits without end for room in a full queue, as a script should."""
    if to == "parcelvoy" and late_after is not None:
        raise click.UsageError("--late-after is for Userpilot: Parcelvoy has no imports")
    if to == "parcelvoy":
        return Parcelvoy(server.parcelvoy(ParcelvoySettings(when_full="wait", max_wait=None), outbox))
    settings = Settings(when_full="wait", max_wait=None)
    if late_after is not None:
        settings = attrs.evolve(settings, imports="when_late", late_after=late_after)
    return Userpilot(server.client(settings, outbox))

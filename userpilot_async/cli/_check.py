"""`userpilot-async check`: whether key, region and clock are right, and what is left of the rate limit.

With ``--live`` it is another conversation, which is in `live`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import attrs
import click

from .._errors.tree import DeliveryError
from .._protocol.headers import Rate, rate_of
from .._runtime.http import httpx, tls_context
from .._userpilot.api import BASE_URLS, UserpilotAPI
from ._console import echo, echo_json
from ._exits import Exit, Failed, failure_of_listing
from ._server import Server, ask, json_option, talks_to_server
from .live._live import check_live

UNSURE = 1.0  # seconds: a Date header has whole ones


@attrs.frozen
class Heard:
    """The last answer's status and headers (lower-case names), and when it came."""

    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    at: float = 0.0


class Listening(httpx.AsyncBaseTransport):
    """httpx's own transport, which remembers what the API has no words for."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport(verify=tls_context(), trust_env=False)
        self.heard = Heard()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = time.time()  # the calendar, which is what is compared with the server's
        response = await self._inner.handle_async_request(request)
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.heard = Heard(response.status_code, headers, (sent + time.time()) / 2)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.frozen
class Finding:
    """The result of one request: server, key, clock and rate limit."""

    base_url: str
    heard: Heard
    failure: Failed | None
    """Why the command fails, if it does."""

    @property
    def region(self) -> str | None:
        """The region, ``us`` or ``eu``; ``None`` for a host of one's own."""
        return next((region for region, url in BASE_URLS.items() if url == self.base_url), None)

    @property
    def key(self) -> str:
        """``accepted``, ``refused``, or ``unknown`` if the server did not get as far."""
        if self.failure is None:
            return "accepted"
        return "refused" if self.failure.exit_code == Exit.REFUSED else "unknown"

    @property
    def rate(self) -> Rate:
        """The rate limit, as the response headers have it."""
        return rate_of(self.heard.headers)

    @property
    def skew(self) -> float | None:
        """Seconds that this machine's clock is ahead of the server's."""
        return skew(self.heard.at, self.heard.headers.get("date"))


@click.command(short_help="Try the key, the server and the clock.")
@click.option("--live", is_flag=True, help="Ask what the documents leave open. For a test environment: it makes users.")
@click.option("--yes", is_flag=True, help="With --live: send without asking, and look at no dashboard.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="With --live: write what was learned, without key, ids and values; Markdown, or JSON for a name in .json.",
)  # fmt: skip
@json_option
@talks_to_server
def check(server: Server, as_json: bool, live: bool, yes: bool, report: Path | None) -> None:
    """Make one cheap request, and show what it says about the key, the region, the clock and the rate limit.

    With --live, ask what only a real key can tell: how the job list pages, what a deletion answers, whether an import
    blanks properties. It says what that costs before it sends anything, and deletes its users at the end.
    """
    if live:
        check_live(server, yes=yes, file=report, as_json=as_json)
        return
    if yes or report is not None:
        raise click.UsageError("--yes and --report belong to --live")
    listening = Listening()

    async def probe(api: UserpilotAPI) -> Finding:
        failure = None
        try:
            await api._read_jobs(most_pages=1)  # one request is enough
        except DeliveryError as error:
            failure = failure_of_listing(error)
        return Finding(api.base_url, listening.heard, failure)

    finding = ask(server.api(listening, attempts=1), probe)
    if as_json:
        echo_json(as_dict(finding))
    else:
        echo(*as_text(finding).split("\n"))
    if finding.failure is not None:
        raise finding.failure


def as_text(finding: Finding) -> str:
    """The finding in four lines; what is unknown is shown as unknown."""
    rate, clock, budget = finding.rate, "unknown", "unknown"
    if finding.skew is not None:
        ahead = "ahead of" if finding.skew > 0 else "behind"
        right = abs(finding.skew) <= UNSURE
        clock = "agrees with the server's" if right else f"{abs(finding.skew):,.0f} s {ahead} the server's"
    if rate.remaining is not None:
        budget = f"{rate.remaining:,} of {rate.limit or '?'} requests left"
        budget += f" for {rate.reset:.0f} s" if rate.reset is not None else ""
    region = finding.region or "a host of its own"
    return f"server   {finding.base_url} ({region})\nkey      {finding.key}\nclock    {clock}\nbudget   {budget}"


def as_dict(finding: Finding) -> dict[str, Any]:
    """The finding as a JSON object."""
    rate = finding.rate
    return {
        "base_url": finding.base_url,
        "region": finding.region,
        "status": finding.heard.status,
        "key": finding.key,
        "clock_skew": None if finding.skew is None else round(finding.skew, 1),
        "budget": {"limit": rate.limit, "remaining": rate.remaining, "reset": rate.reset},
        "error": None if finding.failure is None else finding.failure.message,
    }


def skew(here: float, date: str | None) -> float | None:
    """Seconds that ``here`` is ahead of the server's Date, whose half a second that it leaves out is added."""
    try:
        there = parsedate_to_datetime(date or "")
        return here - (there.replace(tzinfo=there.tzinfo or UTC).timestamp() + 0.5)
    except (ValueError, TypeError, IndexError, OverflowError):  # what the parser raises on garbage
        return None

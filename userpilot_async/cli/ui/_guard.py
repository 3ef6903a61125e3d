"""The requests that the console answers, and the headers of every answer.

Any page in a browser can send requests to a loopback address, and any program on this machine can reach its port. A
page of another origin gives itself away by headers that it cannot forge: `Host` is the name by which it has reached
this server (DNS rebinding: a name of its own that now leads here), `Origin` and `Sec-Fetch-Site` say whose page it is.
A program of another user lacks the token. Sources: RFC 9110, 7.2; RFC 6454, 7; W3C "Fetch Metadata Request Headers".
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from ipaddress import ip_address

Headers = Iterable[tuple[bytes, bytes]]
"""Of a request, as ASGI has them: names in lower case."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of every answer; the page has a policy of its own, which lets its own script run."""


def is_loopback(host: str) -> bool:
    """The host, a name or an address without a port, is this machine, seen by itself only."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """The console's token, and the check of each request for it."""

    def __init__(self, token: str) -> None:
        self._authorization = f"Bearer {token}".encode()

    def refusal(self, headers: Headers, *, needs_token: bool) -> str | None:
        """Why a request is not answered, in a sentence; ``None`` if it is."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name.lower(), []).append(value)
        host = found.get(b"host", [])
        known = _HOST.fullmatch(host[0].decode("latin-1")) if len(host) == 1 else None
        if known is None or not is_loopback(known[1]):
            return "this console answers for localhost and loopback addresses only"
        if not needs_token:
            return None
        if not _is_own(found, host[0]):
            return "this console takes no requests from web pages of another origin"
        given = found.get(b"authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0], self._authorization):
            return "the token is missing or wrong: open the URL that the command has printed"
        return None


def _is_own(headers: dict[bytes, list[bytes]], host: bytes) -> bool:
    """No browser says that a page of another origin has made the request. Programs say nothing of the kind."""
    sites = headers.get(b"sec-fetch-site", [])
    origins = headers.get(b"origin", [])
    return all(one in (b"same-origin", b"none") for one in sites) and all(one == b"http://" + host for one in origins)

"""The check of hosts and origins: no web page in a developer's browser may change or read an emulator beside it.

Any page can send requests to a loopback address. What gives it away are headers that no page can forge: `Host` is the
name by which the page has reached the server (DNS rebinding: a name of its own that now leads here), `Origin` and
`Sec-Fetch-Site` say whose page it is. Sources: RFC 9110, 7.2; RFC 6454, 7; W3C "Fetch Metadata Request Headers".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

from starlette.types import Message, Scope, Send

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1; TRACE is never answered
DEFAULT_PORTS = {"http": 80, "https": 443}

HEADERS = {
    # Whatever is in an answer, also a fault's HTML, is no page: no script, no form, no frame around it.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
"""Of every answer, over those of a fault: a browser keeps the answer from pages of other origins."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{0,5}))?", re.ASCII | re.IGNORECASE)


class Guard:
    """Tells requests that are meant for this server from those that a foreign web page has made."""

    def __init__(self, allow_hosts: Iterable[str] = ()) -> None:
        """`allow_hosts`: names or addresses, without a port, by which the server may be asked besides its own."""
        if isinstance(allow_hosts, str):
            raise TypeError("allow_hosts must be a collection of names, not one name")
        self._allowed = {"localhost"}
        for host in allow_hosts:
            self.allow(host)

    def allow(self, host: str) -> None:
        """Answer requests for this name or address; ValueError if it is neither."""
        plain = host.partition("%")[0] if ":" in host else host  # an address without its zone, as in URLs
        name, port = _split(f"[{plain}]" if plain.count(":") > 1 and not plain.startswith("[") else plain)
        if not name or port is not None:
            raise ValueError(f"an allowed host must be a name or an address, without a port: {host!a}")
        self._allowed.add(name)

    def refusal(self, scope: Scope, *, changes: bool) -> str | None:
        """Why a request is not to be served, in a sentence; None if it is. `changes`: it may leave something behind."""
        hosts = _values(scope, b"host")
        name, port = _split(hosts[0]) if len(hosts) == 1 else ("", None)
        if not name:
            return "a request must have one Host header, with a host's name or address"
        if not (name in self._allowed or _is_loopback(name) or name == _bound_address(scope)):
            return (
                f"this emulator does not answer for the host {name}, so that no web page gets in by a name of its own: "
                f"start it with --allow-host {name}, or as Emulator(allow_hosts=[{name!r}])"
            )
        if changes and _is_foreign(scope, name, port):
            return (
                "this emulator takes no calls from web pages of another origin: make them from a program, "
                "without the headers Origin and Sec-Fetch-Site"
            )
        return None


def guarded(send: Send, policy: str | None = None) -> Send:
    """`send`, which puts `HEADERS` on each answer, in place of the answer's own; for a page with another policy."""
    headers = HEADERS if policy is None else {**HEADERS, "content-security-policy": policy}
    own = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def send_guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [one for one in message.get("headers", ()) if one[0].lower().decode("latin-1") not in HEADERS]
            message = {**message, "headers": kept + own}
        await send(message)

    return send_guarded


def _is_foreign(scope: Scope, name: str, port: int | None) -> bool:
    """A browser says that a page of another origin has made the request. Programs say nothing of the kind."""
    scheme = scope.get("scheme", "http")
    own = (scheme, name, port or DEFAULT_PORTS.get(scheme))
    if any(site.strip() not in ("same-origin", "none") for site in _values(scope, b"sec-fetch-site")):
        return True
    return any(_origin(origin) != own for origin in _values(scope, b"origin"))


def _origin(text: str) -> tuple[str, str, int | None] | None:
    """Scheme, host and port of an `Origin`; None for `null`, and for what is none."""
    scheme, separator, authority = text.strip().lower().partition("://")
    name, port = _split(authority)
    return (scheme, name, port or DEFAULT_PORTS.get(scheme)) if separator and name else None


def _split(authority: str) -> tuple[str, int | None]:
    """The host in lower case, an address as it is usually written, and the port if there is one; "" for no host."""
    found = _AUTHORITY.fullmatch(authority.strip())
    if found is None:
        return "", None
    host, port = found[1].lower(), int(found[2]) if found[2] else None
    if host.startswith("["):
        return _address(host[1:-1]), port
    return _address(host) or host.removesuffix("."), port


def _address(text: str) -> str:
    """An IP address as it is usually written, one of IPv4 within IPv6 as IPv4; "" if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _is_loopback(name: str) -> bool:
    return bool(_address(name)) and ip_address(name).is_loopback


def _bound_address(scope: Scope) -> str:
    """The address at which the connection came in. In process it is whatever host the request's URL names."""
    host = (scope.get("server") or ("",))[0] or ""
    return _address(host.partition("%")[0]) or host.lower().removesuffix(".")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for one, value in scope["headers"] if one.lower() == name]

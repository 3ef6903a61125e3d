"""Where PostgreSQL is: a URL, or libpq's ``host=… dbname=…``, read into what libpq is given and what may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import attrs
import psycopg
from psycopg.conninfo import conninfo_to_dict

from .._errors.foreign import must_be
from .._errors.printable import printable
from .._errors.tree import ConfigurationError, without_frames
from .._outbox.url import Readers, split_query

SCHEMES = ("postgresql", "postgres")
FORMS = "postgresql://user@host:5432/database, postgresql:///database?host=/run/postgresql, or host=… dbname=…"
SECRET = ("password", "sslpassword", "passfile", "oauth_client_secret")
ENCRYPTED = ("require", "verify-ca", "verify-full")
IDLE, INTERVAL, COUNT = 5, 2, 3  # seconds, seconds, probes: a machine that is gone is noticed after eleven seconds


@attrs.frozen
class Address:
    """``options`` are libpq's, by name; ``shown`` is what may be said aloud."""

    options: Mapping[str, str] = attrs.field(repr=False)
    shown: str

    @property
    def secrets(self) -> list[str]:
        """Passwords, as they are meant; the longest first."""
        return sorted({self.options[one] for one in SECRET if self.options.get(one)}, key=len, reverse=True)

    @property
    def is_overheard(self) -> bool:
        """On the way there others may read the password: it is another machine, and TLS is not insisted on."""
        hosts = self.options.get("hostaddr") or self.options.get("host", "")
        elsewhere = [host for host in hosts.split(",") if not _is_here(host)]
        return bool(elsewhere and self.secrets) and self.options.get("sslmode") not in ENCRYPTED

    def parameters(self, timeout: float) -> dict[str, str | int]:
        """Parameters for `psycopg.connect`: those that were given, and what an outbox needs besides."""
        milliseconds = round(timeout * 2_000)
        ours: dict[str, str | int] = {
            "fallback_application_name": "userpilot_async",
            "connect_timeout": max(2, round(timeout)),  # libpq takes 1 for 2
            "keepalives_idle": IDLE,
            "keepalives_interval": INTERVAL,
            "keepalives_count": COUNT,
            "tcp_user_timeout": milliseconds,
        }
        if "," in self.options.get("host", "") or "," in self.options.get("hostaddr", ""):
            ours["target_session_attrs"] = "read-write"  # of a primary and its replicas, it is the primary
        return {**ours, **self.options, "client_encoding": "utf8"}


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost") or host.startswith(("/", "@"))


def address_of(dsn: str, own: Readers) -> tuple[Address, dict[str, Any]]:
    """The address, and those options of a URL's query that are ours, by name; all the rest is libpq's.

    Raises `ConfigurationError`: what was given is neither in its words, nor in the locals of a frame of ours.
    """
    if not isinstance(dsn, str):
        raise ConfigurationError(f"dsn {must_be('a str', dsn)}")
    try:
        return _read(dsn.strip(), own)
    except ConfigurationError as error:
        refusal = without_frames(error)
    del dsn
    raise refusal


def _read(dsn: str, own: Readers) -> tuple[Address, dict[str, Any]]:
    if not dsn.isprintable():
        raise ConfigurationError("the URL of a PostgreSQL outbox has a line's end, or what cannot be printed, in it")
    options: dict[str, Any] = {}
    scheme, is_url, _ = dsn.partition("://")
    if is_url and "=" not in scheme:
        dsn, options = _without_ours(dsn, own)
    theirs = _libpqs(dsn)
    if "name" in theirs or not theirs:
        raise ConfigurationError(f"a PostgreSQL outbox is at {FORMS}")
    return Address(theirs, _shown(theirs)), options


def _without_ours(url: str, own: Readers) -> tuple[str, dict[str, Any]]:
    """The URL without our options in its query, and those."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whose words may have a part of the password
        raise ConfigurationError(f"the URL of a PostgreSQL outbox is not one; those are {FORMS}") from None
    if parts.scheme not in SCHEMES or parts.fragment:
        raise ConfigurationError(f"a PostgreSQL outbox is at {FORMS}; a # in user or password is written %23")
    if "@" in parts.path + parts.query:
        raise ConfigurationError(
            "in the URL of a PostgreSQL outbox, / and ? within user or password are written %2F and %3F, and an @ "
            "behind the host %40"
        )
    options, theirs = split_query(parts.query, own)
    query = urlencode(theirs, quote_via=quote)  # libpq takes no + for a space
    plain = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
    if "://" not in plain:  # of a URL without a host, Python leaves out the slashes
        plain = f"{parts.scheme}://{plain.partition(':')[2].lstrip('/').join(('/', ''))}"
    return plain, options


def _libpqs(dsn: str) -> dict[str, str]:
    """The parameters as libpq reads them. Raises `ConfigurationError`: libpq's words quote what is wrong."""
    try:
        return {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    except psycopg.Error:
        raise ConfigurationError(
            f"what is given for a PostgreSQL outbox is none of {FORMS}; or an option in it is neither the outbox's nor "
            "libpq's, as they are spelled"
        ) from None


def _shown(theirs: Mapping[str, str]) -> str:
    """A URL without user, password and options."""
    hosts = (theirs.get("host") or theirs.get("hostaddr") or "").split(",")
    ports = theirs.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    database = theirs.get("dbname", "")
    if hosts[0].startswith(("/", "@")):
        return printable(f"postgresql:///{database}?host={','.join(hosts)}")
    where = ",".join(
        (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    )
    return printable(f"postgresql://{where}/{database}")

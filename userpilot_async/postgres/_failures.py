"""Failures of PostgreSQL, in words of our own.

The text of an error may hold anything: a value that was sent, the whole of what libpq was given. So the SQLSTATE says
what has happened; of what the server itself has said, the first line is quoted, cleaned, and nothing of libpq's words.
"""

from __future__ import annotations

import re

import psycopg

from .._errors.printable import printable
from .._errors.tree import OutboxError
from .._outbox.away import Away, Full
from ._address import Address

MOST_WORDS = 200  # characters of the server's words: a log line stays readable
LOGIN = re.compile(r"\b\w+://\S*|\b\w*pass\w*\s*=\s*\S*", re.IGNORECASE)  # a URL, or libpq's password=…

# By SQLSTATE. Source: postgresql.org, "Appendix A. PostgreSQL Error Codes", read 2026-11.
AGAIN = {"40001", "40P01"}  # serialization failure, deadlock: our transaction is made again
NO_TABLE, NO_SCHEMA, NO_COLUMN = "42P01", "3F000", "42703"
DENIED = "42501"
LOGIN_REFUSED = {"28000", "28P01", "3D000"}  # no such role, a wrong password, no such database
READ_ONLY = {"25006"}  # a replica, or a primary that is to become one
FULL = {"53100", "53200", "53400"}  # disk, memory, a limit that is configured
SLOW = {"57014", "55P03"}  # cancelled for its time, or no lock in time


class TryAgain(Exception):
    """The transaction was undone for another's sake, and may be made again at once."""


def meaning_of(error: psycopg.Error, address: Address, name: str) -> Exception:
    """The meaning of a failure that psycopg has raised: one of those above, or `OutboxError`.

    ``name`` is the outbox's. The meaning holds nothing of the error itself, whose frames have passwords.
    """
    code = error.sqlstate or ""
    if code in AGAIN:
        return TryAgain("its transaction was undone for another's sake")
    if code == NO_SCHEMA:
        return OutboxError(f"{address.shown}: {words_of(error, address)}; make the schema first, or name another one")
    if code in (NO_TABLE, NO_COLUMN):
        return OutboxError(not_migrated(address.shown, name))
    if code == DENIED:
        return OutboxError(f"{address.shown} does not let us do that: {words_of(error, address)}; see its grants")
    if code in LOGIN_REFUSED:
        return OutboxError(f"{address.shown} does not let us in: {words_of(error, address)}")
    if code in READ_ONLY:
        return Away("it takes no writes: a replica, or a failover is going on", "cannot serve us at present")
    if code in FULL or code.startswith("58"):
        return Full(words_of(error, address))
    if code in SLOW:
        return Away("no answer in time")
    if not code or code.startswith(("08", "53", "55", "57")):
        return Away(_trouble_of(error, address))
    return OutboxError(f"{address.shown}: {words_of(error, address)}")


def not_migrated(place: str, name: str) -> str:
    """The message where the tables are missing."""
    made = "`userpilot-async outbox migrate` makes them"
    return f"{place} has no tables of an outbox named {name}: {made}"


# What libpq says of a connection that cannot be had, or has ended; of its other words, nothing is quoted.
_TROUBLES = {
    "Connection refused": "connection refused",
    "timeout expired": "no answer in time",
    "timed out": "no answer in time",
    "could not translate host name": "its name cannot be resolved",
    "failed to resolve": "its name cannot be resolved",
    "No such file": "there is no such socket",
    "certificate": "its certificate is not accepted",
    "SSL": "no TLS",
    "read-only": "it takes no writes: a replica, or a failover is going on",
    "remaining connection slots": "it has no connection left",
    "too many clients": "it has no connection left",
    "starting up": "it is starting up",
    "shutting down": "it is shutting down",
    "not yet accepting connections": "it is starting up",
    "recovery mode": "it is starting up",
}
# What refuses us for good, where libpq has no SQLSTATE of it: before a connection is there, psycopg has none.
_REFUSALS = {
    "password authentication failed": "the password is wrong, or there is no such role",
    "no password supplied": "a password is wanted, and none is given",
    "no pg_hba.conf entry": "no line of its pg_hba.conf lets us in",
    "is not permitted to log in": "this role may not log in",
    "permission denied for database": "this role may not connect to the database",
}
# Nor is there one where TLS was insisted on, and what would be sent might go to anybody.
_UNTRUSTED = {
    "root certificate file": "the file that sslrootcert names is missing, or cannot be read",
    "does not match host name": "its certificate is for another name",
    "certificate verify failed": "its certificate is not accepted; see sslrootcert, and whether it has expired",
}
_WRONG_OPTION = re.compile(
    r"invalid (\w+ value|port number|integer value)|could not match|bad value for|invalid connection option"
)
_NO_DATABASE = re.compile(r"(database|role) \"[^\"]*\" does not exist")


def meaning_of_no_connection(error: psycopg.Error, address: Address) -> Exception:
    """The meaning of a connection that could not be made. libpq's words quote what it was given, so ours are said."""
    text = str(error)
    for says, meant in _REFUSALS.items():
        if says in text:
            return OutboxError(f"{address.shown} does not let us in: {meant}")
    for says, meant in _UNTRUSTED.items():
        if says in text:
            return OutboxError(f"{address.shown}: {meant}")
    if _WRONG_OPTION.search(text):
        return OutboxError(f"{address.shown}: an option of libpq's has a value there that it cannot have")
    missing = _NO_DATABASE.search(text)
    if missing is not None:
        return OutboxError(f"{address.shown} does not let us in: there is no such {missing[1]}")
    return Away(_trouble_of(error, address))


def _trouble_of(error: psycopg.Error, address: Address) -> str:
    if error.sqlstate:
        return words_of(error, address)
    text = str(error)
    return next((meant for says, meant in _TROUBLES.items() if says in text), "the connection was lost")


def words_of(error: psycopg.Error, address: Address) -> str:
    """The server's own words, the first line of them: without a URL, or a secret of ours."""
    words = LOGIN.sub("(…)", (error.diag.message_primary or type(error).__name__).partition("\n")[0])
    for secret in address.secrets:
        words = words.replace(secret, "(secret)")
    return printable(words[:MOST_WORDS], "?").rstrip(" ,") or type(error).__name__

"""Failures of Redis, in words of our own.

The text of an error of redis-py's may hold anything: what was sent, a URL, the repr of a pool with its password. So the
type of an error says what has happened, and only what the server itself has said is quoted, cleaned.
"""

from __future__ import annotations

import builtins
import os
import re
import socket
import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,
    DataError,
    InvalidResponse,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from .._errors.printable import printable
from .._errors.tree import OutboxError
from .._outbox.away import Away, Full, OtherGeneration
from ._address import Address

SERVER_ERRORS = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
"""Errors whose text is what the server has said."""
# By their types, and by what the words begin with where redis-py has no type for it, or a script has failed by it.
REFUSED, REFUSED_CODES = (AuthenticationError, AuthorizationError, NoPermissionError), ("NOPERM", "NOAUTH", "WRONGPASS")
FULL_CODES = ("OOM", "MISCONF")
UNSERVED, UNSERVED_CODES = (
    (TryAgainError, ClusterCrossSlotError, ClusterDownError), ("TRYAGAIN", "CLUSTERDOWN", "CROSSSLOT", "MASTERDOWN"),
)  # fmt: skip
PASSING, PASSING_CODES = (
    (BusyLoadingError, NoScriptError, ReadOnlyError),
    ("BUSY", "LOADING", "NOREPLICAS", "NOSCRIPT", "READONLY", "UNBLOCKED"),
)  # fmt: skip
CODE = re.compile(r"[A-Z]{2,}\b")
# Redis 6.2: "Error running script (call to f_…): @user_script:33: @user_script: 33: -OOM command not allowed …"
IN_SCRIPT = re.compile(r".*@user_script: ?\d+: -?(.*)", re.DOTALL)
OF_A_SCRIPT = "The user executing the script can't"  # run this command, or access one of the keys
NOT_HERE = "non local key"  # what a script says of a key whose slot has just moved
OTHER_KINDS = {  # what answers there is something else than the URL says
    "unknown command .SENTINEL": "what answers there is no Sentinel",
    "No such master": "the Sentinels have no master of that name",
    ".*cluster support disabled": "what answers there is no node of a cluster",
}

UNSERVED_NOW = "cannot serve us at present"
NO_ANSWER = "no answer in time"
MOST_CLIENTS = "max number of clients reached"  # the server's words, for which redis-py has no type of its own
MOST_WORDS = 200  # characters of an error's text: what Redis itself says is shorter, and a log line stays readable
ECHO = "with args"  # "ERR unknown command 'AUTH', with args beginning with: 'secret'": behind this is what was sent
LOGIN = re.compile(r"\b\w+://\S*")  # not from within a word: what is searched may have megabytes


class OddAnswer(Away):
    """Something came that is no answer to what was asked.

    Every later answer on this connection may be another command's, so the connection is dropped. The step is
    in doubt, as if no answer had come.
    """

    does = "gives an answer that cannot be read"


class OtherServer(OtherGeneration):
    """The outbox is another server's by now: a failover, or its slot of a cluster was moved."""


class Unreachable(ConnectionError):
    """A connection that cannot be had, in words of our own."""


def meaning_of(error: Exception, address: Address) -> Exception:
    """The meaning of a failure that redis-py has raised: one of those above, or `OutboxError`.

    It holds nothing of the error itself, whose frames have passwords in their locals.
    """
    if isinstance(error, AskError):  # MOVED is one, too
        return _meaning_of_redirection(error, address)
    if isinstance(error, SERVER_ERRORS):
        return _meaning_of_answer(error, address)
    if isinstance(error, DataError):
        return OutboxError(f"{address.shown}: redis-py cannot send what it was given")
    if isinstance(error, InvalidResponse) or not isinstance(error, (RedisError, RedisClusterException, OSError)):
        return OddAnswer(f"{type(error).__name__}: redis-py cannot read what came")
    return Away(_trouble_of(error))


def _meaning_of_redirection(error: AskError, address: Address) -> Exception:
    if not address.is_cluster:
        meant = address.shown.replace("://", "+cluster://")
        return OutboxError(f"{address.shown} is a node of a cluster: write {meant}")
    return OtherServer() if isinstance(error, MovedError) else Away("its slot is being moved", UNSERVED_NOW)


def _meaning_of_answer(error: Exception, address: Address) -> Exception:
    text, words = _text_of(error), words_of(error, address)
    begins = CODE.match(text)
    code = begins[0] if begins else ""
    if code == "GENERATION":
        return OtherGeneration()
    if isinstance(error, REFUSED) or code in REFUSED_CODES or text.startswith(OF_A_SCRIPT):
        return OutboxError(f"{address.shown} does not let us in: {words}")
    if isinstance(error, OutOfMemoryError) or code in FULL_CODES:
        return Full(words)
    if isinstance(error, UNSERVED) or code in UNSERVED_CODES or NOT_HERE in text:
        return Away(words, UNSERVED_NOW)
    if isinstance(error, PASSING) or code in PASSING_CODES:
        return Away(words)
    for pattern, meant in OTHER_KINDS.items():
        if re.match(pattern, text):
            return OutboxError(f"{address.shown}: {meant}")
    return OutboxError(f"{address.shown}: {words}")


def _trouble_of(error: Exception) -> str:
    """The end of a connection: in our words, and in those of this machine and its OpenSSL."""
    beneath: BaseException | None = error
    while beneath is not None and not isinstance(beneath, OSError):
        if isinstance(beneath, TimeoutError):
            return NO_ANSWER
        beneath = beneath.__cause__ or beneath.__context__
    if isinstance(beneath, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {getattr(beneath, 'verify_message', '')}"  # OpenSSL sets these
    if isinstance(beneath, ssl.SSLError):
        return f"no TLS: {getattr(beneath, 'reason', None) or type(beneath).__name__}"
    if isinstance(beneath, builtins.TimeoutError):
        return NO_ANSWER
    if isinstance(beneath, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(beneath, OSError):
        return os.strerror(beneath.errno) if type(beneath.errno) is int else type(beneath).__name__
    if isinstance(error, Unreachable) or str(error) == MOST_CLIENTS:
        return str(error)
    return "the connection was lost" if isinstance(error, ConnectionError) else type(error).__name__


def words_of(error: Exception, address: Address) -> str:
    """The server's words, one line of them: without what was sent, a URL, or a part of ours that is secret."""
    words = LOGIN.sub("(a URL)", _text_of(error).partition(ECHO)[0])
    for secret in _secrets(address.url):
        words = words.replace(secret, "(secret)")
    return printable(words[:MOST_WORDS], "?").rstrip(" ,") or type(error).__name__


def _text_of(error: Exception) -> str:
    """The server's words; those of a command, where a script has failed by it."""
    text = str(error)
    of_command = IN_SCRIPT.fullmatch(text)
    return of_command[1] if of_command else text


def _secrets(url: str) -> list[str]:
    """Passwords in a URL, as they are written there and as they are meant; the longest first."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0].partition(":")[2]
    asked = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return sorted({one for one in (login, unquote(login), *asked) if one}, key=len, reverse=True)

"""What Redis' failures mean, in words of our own: an error's text may hold what was sent, a password, or anything."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    DataError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from .._errors import OutboxError
from ._address import Address

PASSING = (
    ConnectionError, TimeoutError, ReadOnlyError, NoScriptError, ClusterDownError, MasterDownError, TryAgainError,
)  # fmt: skip
MOST_WORDS = 200  # characters of an error's text: what Redis itself says is shorter, and a log line stays readable
ECHO = "with args"  # "ERR unknown command 'AUTH', with args beginning with: 'secret'": behind this is what was sent
LOGIN = re.compile(r"\w+://\S*")


class Away(Exception):
    """Redis does not answer, or not now. A step that was under way may have been done."""


class OddAnswer(Away):
    """Something came that is no answer to what was asked.

    Every later answer on this connection may be another command's: whoever meets this drops the connection. The step is
    in doubt, as if no answer had come.
    """


class Full(Away):
    """Redis has no memory left, or may not use more."""


class OtherGeneration(Exception):
    """Redis has started again, or was emptied."""


class OtherServer(OtherGeneration):
    """Another server has the outbox by now: a failover, or its slot of a cluster was moved."""


FAILURES = (Away, OtherGeneration, OutboxError, OSError, MemoryError)
"""By what a step of ours fails, and is made again: also this machine's own troubles. All else is a bug."""


def meaning_of(error: Exception, address: Address) -> Exception:
    """What a failure means that redis-py has raised: one of those above, or `OutboxError`."""
    if isinstance(error, OSError):
        return Away(str(error.strerror or type(error).__name__))
    if isinstance(error, AskError):  # MOVED is one, too
        return _meaning_of_redirection(error, address)
    if isinstance(error, InvalidResponse) or not isinstance(error, RedisError):
        return OddAnswer(f"{type(error).__name__}: redis-py cannot read what came")
    return _meaning_of_words(error, str(error), words_of(error, address), address.shown)


def _meaning_of_redirection(error: AskError, address: Address) -> Exception:
    if not address.is_cluster:
        return OutboxError(
            f"{address.shown} is a node of a cluster: write {address.shown.replace('://', '+cluster://')}"
        )
    if isinstance(error, MovedError):
        return OtherServer()
    return Away("its slot is being moved to another node")


def _meaning_of_words(error: RedisError, text: str, words: str, shown: str) -> Exception:
    if isinstance(error, ResponseError) and text.startswith("GENERATION"):
        return OtherGeneration()
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return OutboxError(f"{shown} does not let us in: {words}")
    if isinstance(error, OutOfMemoryError) or text.startswith(("OOM", "MISCONF")):
        return Full(words)
    if isinstance(error, PASSING) or text.startswith(("BUSY", "NOREPLICAS")):
        return Away(words)
    if "cluster support disabled" in text:
        return OutboxError(f"{shown} is no node of a cluster")
    if "unknown command 'SENTINEL'" in text:
        return OutboxError(f"{shown}: what answers there is no Sentinel")
    if isinstance(error, (ResponseError, DataError)):
        return OutboxError(f"{shown}: {words}")
    return Away(words)


def words_of(error: Exception, address: Address) -> str:
    """An error's own words, one line of them: without what was sent, a URL, or a part of ours that is secret."""
    words = LOGIN.sub("(a URL)", str(error).partition(ECHO)[0])
    for secret in _secrets(address.url):
        words = words.replace(secret, "(secret)")
    words = "".join(one if one.isprintable() else "?" for one in words)
    return words[:MOST_WORDS].rstrip(" ,") or type(error).__name__


def _secrets(url: str) -> list[str]:
    """Passwords in a URL, as they are written there and as they are meant; the longest first."""
    parts = urlsplit(url)
    login = parts.netloc.rpartition("@")[0].partition(":")[2]
    asked = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return sorted({one for one in (login, unquote(login), *asked) if one}, key=len, reverse=True)

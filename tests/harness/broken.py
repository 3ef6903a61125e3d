"""Answers that break the grammar, and headers that lie: more behaviours for a `RawServer`'s script."""

from __future__ import annotations

import time

from tests.harness.behaviours import Behaviour, Exchange, http_answer


def raw(data: bytes, *, applied: bool = False, close: bool = True, name: str = "raw") -> Behaviour:
    """Exactly these bytes; then FIN, or with `close=False` the connection stays open."""

    async def play(exchange: Exchange) -> None:
        await exchange.write(data)
        if close:
            exchange.wire.close()

    return Behaviour(name, play, applied, "everything")


def truncated(body: bytes = b'{"ok": true}', missing: int = 1, status: int = 202) -> Behaviour:
    """A body that ends (FIN) `missing` bytes before its content-length."""
    return raw(http_answer(status, body)[:-missing], applied=True, name="truncated")


def cut_in_headers(after_bytes: int = 20) -> Behaviour:
    """FIN in the middle of the status line or the headers."""
    return raw(http_answer()[:after_bytes], applied=True, name="cut_in_headers")


def wrong_length(by: int, body: bytes = b'{"ok": true}') -> Behaviour:
    """A content-length that is off `by` so many bytes, on a connection that stays open.

    More than was sent leaves the client waiting; less leaves the rest to poison the next answer.
    """
    data = http_answer(202, body, {"content-length": str(len(body) + by)})
    return raw(data, applied=True, close=False, name="wrong_length")


BAD_CHUNKS: dict[str, bytes] = {
    "size is no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "size is negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "size is huge": b"ffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "chunk longer than its size": b"2\r\nhello\r\n0\r\n\r\n",
    "no last chunk": b"5\r\nhello\r\n",
    "cut in a chunk": b"50\r\nhello",
}


def bad_chunking(kind: str = "size is no number") -> Behaviour:
    """A chunked body with one of the `BAD_CHUNKS`, then FIN."""
    head = http_answer(202, headers={"content-length": None, "transfer-encoding": "chunked"})
    return raw(head + BAD_CHUNKS[kind], applied=True, name=f"bad_chunking ({kind})")


GARBAGE: dict[str, bytes] = {
    "binary": bytes(range(256)) * 4,
    "ssh banner": b"SSH-2.0-OpenSSH_9.6\r\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "http 0.9": b"<html>hello</html>",
    "status is no number": b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n",
    "status 99999": b"HTTP/1.1 99999 OK\r\ncontent-length: 0\r\n\r\n",
    "header without a colon": b"HTTP/1.1 202 OK\r\nnonsense\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 202 OK\r\nx: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 202 OK\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\nhello",
    "length is no number": b"HTTP/1.1 202 OK\r\ncontent-length: five\r\n\r\nhello",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "nothing but line ends": b"\r\n\r\n\r\n\r\n",
}

# Wrong as well, but h11 takes them for a 202.
TOLERATED_GARBAGE: dict[str, bytes] = {
    "version 9": b"HTTP/9.0 202 OK\r\ncontent-length: 0\r\n\r\n",
    "length and chunked": b"HTTP/1.1 202 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
}


def garbage(kind: str = "binary") -> Behaviour:
    """Send one of the `GARBAGE`, or of the `TOLERATED_GARBAGE`, then FIN."""
    return raw({**GARBAGE, **TOLERATED_GARBAGE}[kind], applied=True, name=f"garbage ({kind})")


# ── headers that lie: for `answer(headers=…)` ──


def rate_headers(remaining: object = 599, reset: object = None, limit: object = 600) -> dict[str, str]:
    """The server's rate headers. `reset` is milliseconds since the epoch; None means the end of this minute."""
    if reset is None:
        reset = (int(time.time()) // 60 + 1) * 60_000
    return {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": str(reset)}


def lying_rate_headers(now: float | None = None) -> dict[str, dict[str, str]]:
    """The lies by name; `now` is calendar time in seconds since the epoch."""
    now = time.time() if now is None else now
    end_of_minute = (int(now) // 60 + 1) * 60_000
    return {
        "remaining 0": rate_headers(0, end_of_minute),
        "remaining 1e9": rate_headers("1e9", end_of_minute),
        "remaining 1000000000": rate_headers(10**9, end_of_minute),
        "remaining -5": rate_headers(-5, end_of_minute),
        "remaining NaN": rate_headers("NaN", end_of_minute),
        "remaining empty": rate_headers("", end_of_minute),
        "missing": {},
        "limit 0": rate_headers(0, end_of_minute, limit=0),
        "limit 300": rate_headers(299, end_of_minute, limit=300),
        "reset in seconds": rate_headers(0, int(now) + 30),
        "reset as a delay": rate_headers(0, 30),
        "reset in the past": rate_headers(0, int(now * 1000) - 3_600_000),
        "reset in 2100": rate_headers(0, 4_102_444_800_000),
        "reset Infinity": rate_headers(0, "Infinity"),
        "reset of 400 digits": rate_headers(0, "9" * 400),
        "reset is no number": rate_headers(0, "soon"),
    }


# As in the matrix, and two forms that parsers trip over.
RETRY_AFTER_LIES = ("0", "5", "1e9", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT", "", "9" * 400)

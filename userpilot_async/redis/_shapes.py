"""The pieces of an answer, checked one by one: numbers, texts, and lists of these. Nothing is taken on trust.

Each gives what it was given, with its type, or raises `OddAnswer`: in words of our own, without a piece of the answer.
"""

from __future__ import annotations

import math
import re

from ._failures import OddAnswer

WHOLE = re.compile(rb"-?\d{1,20}")  # of 64 bits
ENTRY = re.compile(rb"\d{1,20}-\d{1,20}")  # the name of an entry: two numbers of 64 bits


def number(value: object) -> int:
    """A whole number, as Redis writes it by itself."""
    if type(value) is not int:
        raise odd("a number", value)
    return value


def raw(value: object) -> bytes:
    """Bytes, whatever is in them."""
    if type(value) is not bytes:
        raise odd("text", value)
    return value


def text(value: object) -> str:
    """A text of bytes that are UTF-8."""
    try:
        return raw(value).decode()
    except UnicodeDecodeError:
        raise OddAnswer("text was expected, and other bytes came") from None


def whole(value: object) -> int:
    """A whole number, as a text."""
    if not WHOLE.fullmatch(raw(value)):
        raise OddAnswer("a whole number was expected, and another text came")
    return int(raw(value))


def measured(value: object) -> float:
    """A number that is finite, as a text."""
    try:
        found = float(raw(value))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise OddAnswer("a number was expected, and another text came")
    return found


def listed(value: object, length: int | None = None) -> list[object]:
    """A list, of so many pieces."""
    if type(value) is not list:
        raise odd("a list", value)
    if length is not None and len(value) != length:
        raise odd(f"a list of {length}", value)
    return value


def texts(value: object) -> list[bytes]:
    """A list of texts, each of any bytes."""
    return [raw(one) for one in listed(value)]


def pairs(value: object) -> list[tuple[bytes, bytes]]:
    """A hash, or a sorted set with its scores: names and values by turns."""
    flat = texts(value)
    if len(flat) % 2:
        raise OddAnswer("pairs were expected, and a list of an odd length came")
    return list(zip(flat[::2], flat[1::2], strict=True))


def entry_name(value: object) -> bytes:
    """The name of an entry of a stream."""
    if not ENTRY.fullmatch(raw(value)):
        raise OddAnswer("the name of an entry was expected, and another text came")
    return raw(value)


def odd(expected: str, value: object) -> OddAnswer:
    """The error that something else came."""
    return OddAnswer(f"{expected} was expected, and {_kind_of(value)} came")


def _kind_of(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    kinds = {type(None): "nothing", int: "a number", bytes: "text", str: "text"}
    return "an error" if isinstance(value, Exception) else kinds.get(type(value), "something else")

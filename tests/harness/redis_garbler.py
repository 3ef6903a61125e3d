"""Stands between Redis clients and a server, and answers instead of it: other shapes, too much, too little."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import attrs

from tests.harness.redis_proxy import Link, RedisProxy

Tree = Any
"""A value of RESP2: an int, bytes, `None`, `Plain`, or a list of these."""

# Real seconds until an answer too many comes, for one that is not in the same packet.
LATE = 0.003
DEEP = 5_000  # lists within lists: more than Python's own stack
KINDS_OF_WHOLE = 9


@attrs.frozen
class Plain:
    """A line of its own: a status, or an error."""

    line: bytes


@attrs.frozen
class Said:
    """What a client gets instead of an answer."""

    now: bytes
    later: bytes = b""
    ends: bool = False
    """The connection ends after that."""


WHOLE: dict[str, bytes] = {
    "an empty list": b"*0\r\n",
    "no list": b"*-1\r\n",
    "nothing": b"$-1\r\n",
    "a number that is none": b":abc\r\n",
    "a length that is none": b"$abc\r\n",
    "a list of a length that is none": b"*x\r\n",
    "a number": b":1\r\n",
    "a number of five thousand digits": b":" + b"9" * 5_000 + b"\r\n",
    "a status": b"+OK\r\n",
    "a status in other bytes": b"+\xff\xfe\x00\r\n",
    "text": b"$3\r\nabc\r\n",
    "text that is longer than it says": b"$1\r\nabc\r\n",
    "text that does not come": b"$100\r\nabc\r\n",
    "a negative length": b"$-7\r\nabc\r\n",
    "a list that does not come": b"*3\r\n:1\r\n",
    "lists within lists": b"*1\r\n" * DEEP + b":1\r\n",
    "an error": b"-ERR something odd\r\n",
    "an error without words": b"-\r\n",
    "an error of other bytes": b"-\xff\x00\x1b[31m\r\n",
    "an error with a URL": b"-ERR see redis://user:secret@host/ for more\r\n",
    "another generation": b"-GENERATION this is not what was here before\r\n",
    "no such script": b"-NOSCRIPT No matching script\r\n",
    "no memory": b"-OOM command not allowed\r\n",
    "no disk": b"-MISCONF Redis is configured to save\r\n",
    "still loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "elsewhere": b"-MOVED 1 127.0.0.1:1\r\n",
    "elsewhere, nobody knows where": b"-MOVED\r\n",
    "a wrong type": b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "a busy server": b"-BUSY Redis is busy running a script\r\n",
    "a replica": b"-READONLY You can't write against a read only replica\r\n",
    "a push": b">2\r\n+invalidate\r\n*0\r\n",
    "a map": b"%1\r\n+a\r\n:1\r\n",
    "nothing of RESP3": b"_\r\n",
    "a truth": b"#t\r\n",
    "a big number": b"(349999999\r\n",
    "a page": b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    "line ends": b"\r\n\r\n",
    "no RESP": b"\x15\x03\x01\x00\x02\x02\x46\r\n",
}


def instead(value: bytes, chance: random.Random) -> tuple[str, Said]:
    """Something else than this answer, and what that is."""
    kind = chance.randrange(KINDS_OF_WHOLE)
    if kind == 0:
        return "cut off", Said(value[: chance.randrange(len(value))], ends=True)
    if kind == 1:
        return "cut off, and the line stays open", Said(value[: chance.randrange(len(value))])
    if kind == 2:
        return "twice", Said(value * 2)
    if kind == 3:
        name = chance.choice(list(WHOLE))
        return f"and {name}", Said(value + WHOLE[name])
    if kind == 4:
        return "and late an answer too many", Said(value, later=chance.choice([value, b"+OK\r\n", b"*0\r\n"]))
    if kind == 5:
        return "bytes", Said(chance.randbytes(chance.randrange(1, 40)) + b"\r\n")
    if kind == 6:
        return "other pieces", Said(encoded(_with_another_piece(decoded(value), chance)))
    name = chance.choice(list(WHOLE))
    return name, Said(WHOLE[name])


def decoded(value: bytes) -> Tree:
    """A whole value of RESP2."""
    return _read(value, 0)[0]


def _read(data: bytes, at: int) -> tuple[Tree, int]:
    end = data.index(b"\r\n", at)
    kind, line = data[at : at + 1], data[at + 1 : end]
    at = end + 2
    if kind == b":":
        return int(line), at
    if kind not in (b"$", b"*"):
        return Plain(kind + line), at
    if int(line) < 0:
        return None, at
    if kind == b"$":
        return data[at : at + int(line)], at + int(line) + 2
    pieces = []
    for _ in range(int(line)):
        piece, at = _read(data, at)
        pieces.append(piece)
    return pieces, at


def encoded(tree: Tree) -> bytes:
    """The bytes of a value in RESP2."""
    if isinstance(tree, list):
        return b"*%d\r\n" % len(tree) + b"".join(map(encoded, tree))
    if isinstance(tree, Plain):
        return tree.line + b"\r\n"
    if tree is None:
        return b"$-1\r\n"
    return b":%d\r\n" % tree if isinstance(tree, int) else b"$%d\r\n%b\r\n" % (len(tree), tree)


def _with_another_piece(tree: Tree, chance: random.Random) -> Tree:
    """Change the type of one piece: another value of its own type could not be told from the truth."""
    if isinstance(tree, list) and tree and chance.random() < 0.8:
        places = [place for place, piece in enumerate(tree) if piece is not None]
        if places:
            place = chance.choice(places)
            return [*tree[:place], _with_another_piece(tree[place], chance), *tree[place + 1 :]]
    others: list[Tree] = [7, [], [tree], [tree, tree], Plain(b"-ERR within")]
    others += [b"text"] if not isinstance(tree, (bytes, Plain)) else []
    return chance.choice([one for one in others if type(one) is not type(tree) or one == [tree]])


class RedisGarbler(RedisProxy):
    """A proxy that answers instead of the server as often as `garble` says, and honestly again after that."""

    def __init__(self, upstream_port: int, chance: random.Random) -> None:
        super().__init__(upstream_port)
        self.said: list[str] = []
        """What it has answered instead."""
        self._chance = chance
        self._left = 0
        self._likely = 1.0

    def garble(self, answers: int, likely: float = 1.0) -> None:
        """So many of the answers to come, each with this likelihood."""
        self._likely, self._left = likely, answers

    @property
    def is_done(self) -> bool:
        """All that were asked for have been given."""
        return not self._left

    async def _pass_answers(self, link: Link) -> None:
        while data := await link.server.read():
            for value in link.answers.feed(data):
                link.unanswered = max(0, link.unanswered - 1)
                said = self._instead(value)
                if said.now:
                    await self._give(link, said.now)
                if said.later:
                    await asyncio.sleep(LATE)
                    await self._give(link, said.later)
                if said.ends:
                    return

    def _instead(self, value: bytes) -> Said:
        if not self._left or self._chance.random() >= self._likely:
            return Said(value)
        self._left -= 1
        what, said = instead(value, self._chance)
        self.said.append(what)
        return said

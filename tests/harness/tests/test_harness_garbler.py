from __future__ import annotations

import random
import socket

import pytest

from tests.harness.redis_garbler import RedisGarbler, decoded, encoded, instead
from tests.harness.redis_server import missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

ANSWER = b"*4\r\n:7\r\n$3\r\nabc\r\n*2\r\n$-1\r\n*0\r\n-ERR within\r\n"


def test_a_value_is_the_same_after_it_was_read_and_written() -> None:
    assert ANSWER == encoded(decoded(ANSWER))


def test_what_comes_instead_is_never_the_answer_alone() -> None:
    """Or a test would believe that it had shown something."""
    chance = random.Random(1)
    for _ in range(2_000):
        what, said = instead(ANSWER, chance)
        assert (said.now, said.later) != (ANSWER, b""), what


def test_it_answers_honestly_but_for_as_many_answers_as_it_was_told(redis_url: str, redis_server: object) -> None:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with RedisGarbler(port, random.Random(4)) as garbler:
        garbler.garble(1)
        got = []
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", garbler.port), timeout=2.0) as sock:
                sock.sendall(b"PING\r\n")
                got.append(sock.recv(100))

    assert 1 == len(garbler.said)
    assert garbler.is_done
    assert b"+PONG\r\n" != got[0]
    assert [b"+PONG\r\n"] * 2 == got[1:]

"""Whatever Redis answers, it is an answer that is ours to use, or an odd one: nothing else comes of reading it."""

from __future__ import annotations

import builtins
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from userpilot_async import OutboxError
from userpilot_async._outbox.window import Reading

redis = pytest.importorskip("redis")

from redis import exceptions as errors  # noqa: E402  # only where redis-py is
from redis.exceptions import (  # noqa: E402  # only where redis-py is
    AuthenticationError,
    InvalidResponse,
    OutOfMemoryError,
    RedisClusterException,
    ResponseError,
    TimeoutError,
)

from userpilot_async._outbox.away import Away, Full, OtherGeneration  # noqa: E402
from userpilot_async.redis import _answers, _shapes  # noqa: E402
from userpilot_async.redis._address import address_of  # noqa: E402
from userpilot_async.redis._codec import State, concluded, read_of  # noqa: E402
from userpilot_async.redis._failures import OddAnswer, OtherServer, meaning_of, words_of  # noqa: E402

STATE = [[b"next_id", b"3", b"accepted", b"3", b"revision", b"7"], b"1-1", [b"[]"], b"1700000000.5", b"7"]
ENTRY = [b"5-1", [b"c", b"a call", b"s", b"2", b"t", b"1700000000.5"]]
READING = Reading(0, 10, 10)

READERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "open": (_answers.opened_of, [b"g", b"lost", 3, 1, 7, [b"here", b"00ff", b"f"], b"1", STATE]),
    "write": (_answers.written_of, [3, 4, 0, 1, STATE, [[1, 2, b"delivered realtime"]]]),
    "resolve": (_answers.resolved_of, [3, 4, 1, [[0, 2, b""]]]),
    "poll": (State, STATE),
    "lease": (_shapes.text, b"1 client"),
    "inherit": (_answers.left_of, [[b"c:1 track", b"1700000060.5"], [b"f", b'["user",[1]]'], None, STATE]),
    "read": (
        lambda answer: read_of(READING, answer),
        [[b"1-1", b'track\n\n0.1\n"u"\n{}', b"1700000000.5"], [b"1"], [b'[1,"user","u"]'], 1],
    ),
    "reconcile": (_answers.reconciled_of, [1, b"2-1"]),
    "aside, finish, forget, purge, sweep": (_shapes.number, 1),
    "retry": (_answers.retried_of, [3, 2]),
    "scan": (_answers.scanned_of, [b"5-1", 1, [ENTRY]]),
    "show": (
        _answers.snapshot_of,
        [
            [b"version", b"1"],
            [b"accepted", b"3"],
            [ENTRY],
            b"1 c {}",
            1,
            0,
            None,
            b"1.5",
            [b"c:1 track"],
            [b'["track",[[1,1]]]'],
            [b"f", b'["user",[1]]'],
        ],
    ),
    "rebind": (_answers.sender_of, b"1 client {}"),
    "XRANGE": (lambda answer: _answers.found_of(5, answer), [ENTRY]),
    "WAIT": (_answers.replicas_of, 1),
    "INFO server": (_answers.server_of, {"redis_version": "7.0.15", "run_id": "0c" * 20}),
}
LENIENT = {"resolve", "write", "inherit", "rebind"}
"""Nothing is an answer, too: it was not done, or nobody has it."""
ODD: dict[str, Any] = {
    "nothing": None, "an empty list": [], "a list of nothing": [None] * 5, "a number": 7, "some numbers": [1, 2, 3, 4],
    "a status": b"OK", "no bytes": b"", "a str": "OK", "a truth": True, "a float": 1.5, "other bytes": b"\xff\x00",
    "an error": ResponseError("odd"), "a list of errors": [ResponseError("odd")] * 4, "a map": {b"a": 1},
    "a list too deep": [[[[1]]]], "a list of eight": [b"x"] * 8, "a set": {1},
}  # fmt: skip


def pieces_of(answer: Any) -> list[Any]:
    """The same answer with each piece, one at a time, of another type."""
    if not isinstance(answer, list):
        return []
    changed = []
    for place, piece in enumerate(answer):
        others = [other for other in (7, b"\xff", [[7]], ResponseError("odd"), 1.5) if type(other) is not type(piece)]
        if isinstance(piece, list):
            others += pieces_of(piece)
        changed += [[*answer[:place], other, *answer[place + 1 :]] for other in others if piece is not None]
    return [*changed, *([answer[:-1], [*answer, 1]] if answer else [])]


@pytest.mark.parametrize("command", READERS)
def test_an_answer_of_the_right_shape_is_read(command: str) -> None:
    read, answer = READERS[command]

    assert read(answer) is not None


def is_answer(command: str, odd: str) -> bool:
    """True if the odd shape is one that this command may answer with."""
    right = READERS[command][1]
    if odd in ("nothing", "other bytes") and command == "rebind":
        return True
    if odd == "other bytes" or isinstance(right, (list, dict)):
        return (command, odd) == ("XRANGE", "an empty list") or (odd == "nothing" and command in LENIENT)
    return type(ODD[odd]) is type(right)


@pytest.mark.parametrize(("command", "odd"), [(one, odd) for one in READERS for odd in ODD if not is_answer(one, odd)])
def test_an_answer_of_another_shape_is_odd_and_nothing_worse(command: str, odd: str) -> None:
    with pytest.raises(OddAnswer) as raised:
        READERS[command][0](ODD[odd])

    assert "odd" not in str(raised.value) and "xff" not in str(raised.value), "it says what came in words of our own"


@pytest.mark.parametrize("command", READERS)
def test_an_answer_with_one_odd_piece_is_odd_or_that_piece_is_passed_over(command: str) -> None:
    """What the database holds may be damaged by other programs; what Redis itself writes around that may not be odd."""
    read, answer = READERS[command]
    for changed in pieces_of(answer):
        try:
            read(changed)
        except OddAnswer:
            continue


RESP = st.recursive(
    st.none() | st.integers() | st.binary(max_size=12) | st.sampled_from([b"1-1", b"12", b"1.5", b"track\n\n0\n1\n2"]),
    lambda inner: st.lists(inner, max_size=9),
    max_leaves=40,
)


@pytest.mark.parametrize("command", READERS)
def test_whatever_comes_is_read_or_odd(command: str) -> None:
    read, _ = READERS[command]

    @given(RESP)
    def judge(answer: Any) -> None:
        try:
            read(answer)
        except OddAnswer as error:
            assert str(error)

    judge()


def test_a_script_answers_its_own_question_only() -> None:
    assert b"said" == _answers.echoed([b"7", b"said"], b"7")
    for other in ([b"6", b"said"], [7, b"said"], [b"said"], b"said", None, [], [None, None], [b"7", b"said", b"more"]):
        with pytest.raises(OddAnswer):
            _answers.echoed(other, b"7")


@pytest.mark.parametrize(
    "about", [None, [], b"", {}, {"redis_version": "7"}, {"redis_version": "seven", "run_id": "x"}, {"run_id": "x"},
              {"redis_version": None, "run_id": "x"}, {"redis_version": ["7"], "run_id": "x"}, 7,
              {"redis_version": "9" * 5_000, "run_id": "x"}]
)  # fmt: skip
def test_a_server_that_says_nothing_of_itself_is_odd(about: Any) -> None:
    with pytest.raises(OddAnswer):
        _answers.server_of(about)
    assert _answers.evicts(about) is False


# ── what the database holds ──

CALLS = {
    "no call": b"bogus", "nothing": b"", "no JSON": b'track\n\n0\nu\n{}', "no moment": b'track\nsoon\n0\n"u"\n{}',
    "a moment without a zone": b'track\n2026-11-21T09:30:15\n0\n"u"\n{}', "no age": b'track\n\nold\n"u"\n{}',
    "an endless age": b'track\n\ninf\n"u"\n{}', "no age at all": b'track\n\nnan\n"u"\n{}',
    "a number as key": b"track\n\n0\n7\n{}",
    "an object as key": b"track\n\n0\n{}\n{}", "no keys": b"user\n\n0\n[]\n[{},null,2,null]",
    "a key that is none": b'user\n\n0\n["a",7]\n[{},null,2,null]', "too little": b'user\n\n0\n"u"\n[{},null,2]',
    "numbers": b'user\n\n0\n"u"\n[1,2,3,4]', "no properties": b'user\n\n0\n"u"\n[null,null,2,null]',
    "a company that is none": b'user\n\n0\n"u"\n[{},null,2,["company"]]',
    "a company without a size": b'user\n\n0\n"u"\n[{},null,2,["company","c",{},null]]',
    "an identify that says an event": b'user\n\n0\n"u"\n{}',
    "an event that says facts": b'track\n\n0\n"u"\n[{},null,2,null]',
    "lists within lists": b'user\n\n0\n"u"\n' + b"[" * 100_000, "a kind in other bytes": b'\xff\n\n0\n"u"\n{}',
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_somebody_else_has_written_is_set_aside_and_those_beside_it_are_read(call: str) -> None:
    good = b'track\n\n0.1\n"u"\n{}'
    flat = [b"1-1", good, b"1700000000.5", b"2-1", CALLS[call], b"1700000000.5", b"3-1", good, b"1700000000.5"]
    read, damaged = read_of(READING, [flat, [b"x", b"1"], [b"no JSON", b"[1]", b"7", b'{"a":1}'], 0])

    assert ([1, 3], [2], 4) == ([one.ticket[0] for one in read.found], damaged, read.read_to)


def test_a_second_entry_of_one_number_is_no_second_call() -> None:
    """The window would be told twice that it is settled, which is a bug."""
    good = b'track\n\n0.1\n"u"\n{}'
    read, damaged = read_of(READING, [[b"1-1", good, b"1.5", b"1-2", good, b"1.5"], [], [], 0])

    assert ([1], [1]) == ([one.ticket[0] for one in read.found], damaged)


@pytest.mark.parametrize(
    "said", [[], 7, None, "x", [[]], [7], [["delivered"]], [["pending", None, [], []]], [["dead", 7, [], []]],
             [["dead", "x", [-1], []]], [["dead", "x", [[3, 2]], []]], [["dead", "x", [[1]], []]],
             [["dead", "x", ["1"], []]], [["dead", "x", [2**70], []]], [["dead", "x", 7, []]], {"a": 1}]
)  # fmt: skip
def test_news_that_somebody_else_has_written_tell_nothing(said: Any) -> None:
    assert [] == list(concluded(json.dumps(said).encode()))
    assert [] == list(concluded(b"no JSON \xff"))


def test_files_and_tokens_that_somebody_else_has_noted_are_passed_over() -> None:
    files = [b"good", b'["user",[1,2]]', b"bad", b"no JSON", b"odd", b"[7,8]", b"deep", b"[" * 100_000, b"\xff", b"[]"]
    left = _answers.left_of([[b"odd", b"1.5"], files, b"soon", STATE])

    assert left is not None
    assert [("good", "user", [1, 2])] == left.files
    assert 0.0 == left.unknown_until


# ── failures, and their words ──

PLACE, _ = address_of("redis://anna:s%C3%A9cret@localhost:6379/0", {})
CLUSTER, _ = address_of("redis+cluster://localhost:6379", {})
OF_6_2 = "Error running script (call to f_982db8): @user_script:33: @user_script: 33: "


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("x"), OddAnswer), (IndexError("x"), OddAnswer), (TypeError("x"), OddAnswer),
        (AttributeError("x"), OddAnswer), (RecursionError(), OddAnswer), (MemoryError(), OddAnswer),
        (InvalidResponse("Protocol Error: b'anna'"), OddAnswer),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), OddAnswer),
        (OSError(111, "Connection refused"), Away), (OSError(), Away), (TimeoutError("slow"), Away),
        (RedisClusterException("unreachable"), Away), (redis.RedisError("odd"), Away),
        (OutOfMemoryError("no memory"), Full), (ResponseError("MISCONF no disk"), Full),
        (ResponseError("GENERATION x"), OtherGeneration), (ResponseError("odd"), OutboxError),
        (ResponseError(""), OutboxError), (AuthenticationError("no"), OutboxError),
    ],
)  # fmt: skip
def test_whatever_redis_py_raises_is_one_of_ours(error: Exception, kind: type[Exception]) -> None:
    meaning = meaning_of(error, PLACE)

    assert kind is type(meaning)
    assert "anna" not in str(meaning)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        # what Redis 6.2 says where a script has failed by a command
        (ResponseError(OF_6_2 + "-OOM command not allowed when used memory > 'maxmemory'."), Full, "OOM command not"),
        (ResponseError(OF_6_2 + "-MISCONF Redis is configured to save RDB snapshots"), Full, "MISCONF Redis is"),
        (ResponseError(OF_6_2 + "-READONLY You can't write against a read only replica."), Away, "READONLY You"),
        (ResponseError(OF_6_2 + "The user executing the script can't run this command"), OutboxError, "not let us in"),
        (ResponseError(OF_6_2 + "-NOREPLICAS Not enough good replicas to write."), Away, "NOREPLICAS Not"),
        (ResponseError(OF_6_2 + "attempt to index a nil value"), OutboxError, "attempt to index"),
        # a cluster whose slots change hands
        (errors.MovedError("1234 10.0.0.7:7000"), OtherServer, ""),
        (errors.AskError("1234 10.0.0.7:7000"), Away, "its slot is being moved"),
        (errors.TryAgainError("Multiple keys request during rehashing of slot"), Away, "rehashing"),
        (errors.ClusterDownError("Hash slot not served"), Away, "Hash slot not served"),
        (errors.ClusterDownError("The cluster is down"), Away, "The cluster is down"),
        (errors.ClusterCrossSlotError("Keys in request don't hash to the same slot"), Away, "same slot"),
        (ResponseError(OF_6_2 + "Script attempted to access a non local key in a cluster node"), Away, "non local key"),
        # somebody else answers
        (ResponseError("This instance has cluster support disabled"), OutboxError, "is no node of a cluster"),
        (ResponseError("unknown command 'SENTINEL', with args beginning with: 'x'"), OutboxError, "is no Sentinel"),
        (ResponseError("unknown command `SENTINEL`, with args beginning with: `x`"), OutboxError, "is no Sentinel"),
        (ResponseError("No such master with that name"), OutboxError, "have no master of that name"),
        (errors.NoPermissionError("User x has no permissions to run the 'info' command"), OutboxError, "'info'"),
        # it says that it cannot, or does not answer
        (errors.BusyLoadingError("Redis is loading the dataset in memory"), Away, "loading"),
        (errors.ConnectionError("max number of clients reached"), Away, "max number of clients reached"),
        (ResponseError("BUSY Redis is busy running a script."), Away, "busy"),
        (errors.MasterDownError("Link with MASTER is down"), Away, "Link with MASTER"),
        (TimeoutError("Timeout reading from redis://:other@host"), Away, "no answer in time"),
    ],
)
def test_what_the_server_says_is_understood_and_told(error: Exception, kind: type[Exception], words: str) -> None:
    meaning = meaning_of(error, CLUSTER)

    assert kind is type(meaning)
    assert words in str(meaning)


@pytest.mark.parametrize("error", [errors.MovedError("1234 10.0.0.7:7000"), errors.AskError("1234 10.0.0.7:7000")])
def test_a_node_of_a_cluster_that_is_taken_for_a_server_is_called_by_its_name(error: Exception) -> None:
    meaning = meaning_of(error, PLACE)

    assert isinstance(meaning, OutboxError)
    assert "is a node of a cluster: write redis+cluster://localhost:6379" in str(meaning)


REPR = "<ConnectionPool(<Connection(host=h,password=an0ther)>)> redis://:an0ther@h"


@pytest.mark.parametrize(
    "kind",
    [
        errors.ConnectionError, TimeoutError, errors.RedisError, errors.DataError, errors.InvalidResponse,
        errors.WatchError, errors.LockError, RedisClusterException, errors.SlotNotCoveredError, errors.ClusterError,
        redis.sentinel.MasterNotFoundError, redis.sentinel.SlaveNotFoundError, ValueError, KeyError, OSError,
        ssl.SSLError, socket.gaierror, ConnectionResetError,
    ],
)  # fmt: skip
def test_no_word_of_redis_py_is_repeated_it_may_hold_a_pool(kind: type[Exception]) -> None:
    """Not even words with which nothing seems to be wrong: by the next version they may have a password in them."""
    assert "an0ther" not in str(meaning_of(kind(REPR), PLACE))
    assert "an0ther" not in str(meaning_of(kind(7, REPR), PLACE))


@pytest.mark.parametrize(
    ("beneath", "words"),
    [
        (ConnectionRefusedError(111, "x"), "Connection refused"),
        (socket.gaierror(-2, "x"), "its name cannot be resolved"),
        (builtins.TimeoutError("x"), "no answer in time"),
        (ssl.SSLError(1, "x"), "no TLS: SSLError"),
    ],
)
def test_why_there_is_no_connection_is_said_in_the_words_of_this_machine(beneath: Exception, words: str) -> None:
    error = errors.ConnectionError("x")
    error.__context__ = beneath

    assert words == str(meaning_of(error, PLACE))
    assert "the connection was lost" == str(meaning_of(errors.ConnectionError("x"), PLACE))


def test_what_nobody_foresaw_is_said_by_its_type() -> None:
    assert "ZeroDivisionError" in str(meaning_of(ZeroDivisionError("of u1"), PLACE))
    assert "u1" not in str(meaning_of(ZeroDivisionError("of u1"), PLACE))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unknown command 'AUTH', with args beginning with: 'anna' 'other' ", "unknown command 'AUTH'"),
        ("wrong: sécret", "wrong: (secret)"),
        ("wrong: s%C3%A9cret", "wrong: (secret)"),
        ("see redis://anna:other@host/0 for more", "see (a URL) for more"),
        ("two\nlines\x1b[31m", "two?lines?[31m"),
        ("x" * 100_000, "x" * 200),
        ("", "ResponseError"),
    ],
)
def test_an_errors_words_hold_no_secret_and_nothing_that_was_sent(text: str, words: str) -> None:
    assert words == words_of(ResponseError(text), PLACE)

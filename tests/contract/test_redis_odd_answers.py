"""An outbox that gets odd answers from Redis, or odd exceptions from redis-py: a lost answer, and nothing worse."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import attrs
import pytest

from tests.contract.inline import Client, at_once, open_now
from tests.contract.inline_redis import InlineRedisOutbox, NewProcess, processes
from tests.harness.redis_server import RedisServer
from userpilot_async import OutboxError
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._outbox.admin import Subject
from userpilot_async._outbox.owner import Claim
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.redis import RedisOutbox
from userpilot_async.redis._link import Connection, _sha

redis = pytest.importorskip("redis")

NAME = "userpilot_async"
LOG = f"{{{NAME}}}:log"
NO_ROOM = Outcome("dropped", "queue_full")


@attrs.define
class Tampering:
    """Stands before redis-py's connection: the next answer of one script is another one, or an exception."""

    link: Connection
    script: str
    instead: Any
    echoes: bool
    """The answer names the right question."""
    met: int = 0
    _real: Any = None
    _asked: bytes | None = None

    def install(self) -> None:
        self._real, self.link._connection = self.link._connection, self

    def send_packed_command(self, packed: Any, **more: Any) -> None:
        (command,) = packed
        words = command.split(b"\r\n")[2::2]
        is_meant = words[0] == b"EVALSHA" and words[1].decode() == _sha(self.link._texts[self.script])
        self._asked = words[-1] if is_meant and not self.met else None
        self._real.send_packed_command(packed, **more)

    def read_response(self, **more: Any) -> Any:
        answer = self._real.read_response(**more)
        if self._asked is None:
            return answer
        self.met += 1
        if isinstance(self.instead, Exception):
            raise self.instead
        return [self._asked, self.instead] if self.echoes else self.instead

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.fixture
def process(redis_url: str) -> Iterator[NewProcess]:
    """Opens the same outbox with each call, as another process would."""
    with processes(redis_url) as process:
        yield process


def link_of(outbox: InlineRedisOutbox) -> Connection:
    link: Connection = outbox.store.access.link
    return link


def put(outbox: InlineRedisOutbox, count: int = 1) -> list[Receipt]:
    return [outbox.put("track", f"u{n}", b"{}", 2, 0.0) for n in range(count)]


def poll(outbox: InlineRedisOutbox) -> None:
    """At once, though it would have waited for a while."""
    outbox.store.reach.retry_at = 0.0
    outbox.store.lease.renew_at = 0.0
    outbox.poll()


def recover(outbox: InlineRedisOutbox) -> None:
    for _ in range(4):
        poll(outbox)


# ── one scene for each script ──


def writes(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    put(outbox)


def notes(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    ids = [ticket[0] for ticket in outbox.take(1)]
    outbox.settle(Settlement(ids, (), DELIVERED, 2, None))


def polls(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    poll(outbox)


def takes_over(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    outbox.end_lease_of(server)
    poll(outbox)


def reads(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    takes_over(outbox, server)
    outbox.writer.wake()


def reconciles(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    with closing(server.client()) as client:
        client.xdel(LOG, "0-1")
    outbox.take(10)
    outbox.settle(Settlement([0, 1], (), DELIVERED, 4, None))
    poll(outbox)
    poll(outbox)


def forgets(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    outbox.store._forget_at = 0.0
    poll(outbox)


def sets_aside(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    with closing(server.client()) as client:
        client.xadd(LOG, {"c": "somebody else's"}, id="7-1")
    put(outbox)
    reads(outbox, server)


def finishes(outbox: InlineRedisOutbox, server: RedisServer) -> None:
    assert at_once(outbox.send_log.sending(RequestNote("track", [], filename="f", kind="user", last_calls=[77])))
    takes_over(outbox, server)


SCENES: dict[str, Callable[[InlineRedisOutbox, RedisServer], None]] = {
    "write": writes, "note": notes, "poll": polls, "lease": polls, "inherit": takes_over, "read": reads,
    "reconcile": reconciles, "forget": forgets, "aside": sets_aside, "finish": finishes,
}  # fmt: skip
NEEDS = {"lease", "note", "inherit", "read", "reconcile", "forget", "aside", "finish"}

ODD: dict[str, Any] = {
    "nothing": None, "an empty list": [], "a list of nothing": [None] * 5, "a number": 7, "a status": b"OK",
    "other bytes": b"\xff", "too deep": [[[[1]]]], "numbers": [1, 2, 3, 4, 5], "texts": [b"x"] * 6,
    "an error within": [redis.ResponseError("odd")] * 5, "a str": "OK",
}  # fmt: skip
RAISED: dict[str, Exception] = {
    "ValueError": ValueError("invalid literal"), "IndexError": IndexError(), "TypeError": TypeError(),
    "AttributeError": AttributeError(), "KeyError": KeyError("x"), "RecursionError": RecursionError(),
    "MemoryError": MemoryError(), "OSError": OSError(5, "Input/output error"),
    "InvalidResponse": redis.InvalidResponse("Protocol Error"), "an odd error": redis.ResponseError("odd"),
    "no words": redis.ResponseError(""), "no room": redis.exceptions.OutOfMemoryError("OOM"),
    "loading": redis.BusyLoadingError("loading"), "no script": redis.exceptions.NoScriptError("none"),
}  # fmt: skip


def judge(outbox: InlineRedisOutbox, accepted: int, process: NewProcess) -> None:
    """No caller saw an error, a fresh call is held, each call is there once, and the account is right."""
    recover(outbox)
    (fresh,) = put(outbox)
    recover(outbox)
    ledger = outbox.ledger

    assert outbox.bug is None
    assert not outbox.away
    assert fresh.id >= 0, "it is not held"
    assert 0 == outbox.unheld
    assert accepted + 1 == ledger.accepted
    assert ledger.accepted == ledger.delivered + ledger.pending + ledger.merged + sum(ledger.losses().values())
    outbox.die()
    left = []
    other = process()
    while tickets := other.take(100):
        left += [ticket[0] for ticket in tickets]
    assert ledger.pending == len(left) == len(set(left))


@pytest.mark.parametrize("echoes", [False, True], ids=["of another question", "of this question"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("script", SCENES)
def test_an_odd_answer_is_a_lost_one(
    process: NewProcess, redis_server: RedisServer, script: str, odd: str, echoes: bool
) -> None:
    _play(process, redis_server, script, ODD[odd], echoes)


@pytest.mark.parametrize("raised", RAISED)
@pytest.mark.parametrize("script", SCENES)
def test_whatever_redis_py_raises_is_a_lost_answer(
    process: NewProcess, redis_server: RedisServer, script: str, raised: str
) -> None:
    _play(process, redis_server, script, RAISED[raised], echoes=False)


def _play(process: NewProcess, server: RedisServer, script: str, instead: Any, echoes: bool) -> None:
    outbox = process()
    put(outbox, 2)
    tampering = Tampering(link_of(outbox), script, instead, echoes)
    tampering.install()
    SCENES[script](outbox, server)

    assert tampering.met, "the script was not run"
    judge(outbox, _accepted(server), process)


def _accepted(server: RedisServer) -> int:
    with closing(server.client()) as client:
        return int(client.hget(f"{{{NAME}}}:account", "accepted"))


# ── out of step ──


@attrs.define
class OneTooMany:
    """A connection on which one answer came twice: from then on each command gets the answer of the one before."""

    real: Any
    answers: deque[Any] = attrs.field(factory=deque)
    doubled: bool = False

    def read_response(self, **more: Any) -> Any:
        self.answers.append(self.real.read_response(**more))
        if not self.doubled:
            self.doubled = True
            self.answers.append(self.answers[-1])
        return self.answers.popleft()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_a_connection_that_is_out_of_step_is_dropped_though_its_answers_look_right(process: NewProcess) -> None:
    """Two calls would have one number otherwise, and what is said of one be said of the other."""
    outbox = process()
    link = link_of(outbox)
    shifted = link._connection = OneTooMany(link._connection)
    first, second = put(outbox), put(outbox)

    assert shifted.doubled
    assert ([0], [-1]) == ([one.id for one in first], [one.id for one in second])
    recover(outbox)
    assert link._connection is not shifted
    assert [1] == [one.id for one in second]


# ── opening ──


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("script", ["open", "lease", "inherit"])
def test_a_client_opens_though_the_answers_are_odd_and_goes_on_when_they_are_right(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, script: str, odd: str
) -> None:
    connect, installed = Connection.connect, []

    def connected(link: Connection) -> str:
        run_id = connect(link)
        if not installed:
            installed.append(Tampering(link, script, ODD[odd], echoes=True))
            installed[0].install()
        return run_id

    monkeypatch.setattr(Connection, "connect", connected)
    outbox = process()
    put(outbox, 2)
    recover(outbox)

    assert [1] == [one.met for one in installed]
    judge(outbox, 2, process)


@pytest.mark.parametrize("about", [None, [], 7, b"OK", b"", b"redis_version:x\r\nrun_id:y", b"\xff", ValueError("x")])
def test_a_server_that_is_odd_about_itself_is_waited_for(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch, about: Any
) -> None:
    def odd(*_: Any) -> list[Any]:
        if isinstance(about, Exception):
            raise about
        return [about]

    with monkeypatch.context() as patched:
        patched.setattr("userpilot_async.redis._link.ask", odd)
        outbox = process()
        put(outbox)
        assert outbox.away

    recover(outbox)
    assert not outbox.away
    assert (1, 0) == (outbox.ledger.accepted, outbox.unheld)


def test_a_refusal_that_comes_after_the_opening_has_given_up_waiting_does_not_end_the_outbox(
    process: NewProcess, redis_url: str, redis_server: RedisServer
) -> None:
    """No caller hears of it any more: calls would wait in this process for ever, without a word."""
    process(Client(key="of somebody else"))

    class Late(InlineRedisOutbox):
        def _start(self, session: Any) -> None:
            session.began_away()
            super()._start(session)

    late = Late(redis_url)
    open_now(late, Client().opening())
    put(late)
    redis_server.flushall()
    recover(late)

    assert (1, 0) == (late.ledger.accepted, late.unheld)
    at_once(late.aclose())


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
def test_trouble_of_this_machine_is_a_step_that_is_made_again(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, error: Exception
) -> None:
    def fail(*_: object) -> bytes:
        raise error

    outbox = process()
    with monkeypatch.context() as patched:
        patched.setattr("userpilot_async.redis._steps.encoded", fail)
        put(outbox)
        assert outbox.away
    with monkeypatch.context() as patched:
        patched.setattr("socket.gethostname", fail)
        poll(outbox)

    judge(outbox, 1, process)


# ── what is said ──


def test_one_line_says_what_came_and_none_of_it_holds_what_was_sent_or_a_repr(
    process: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = process()
    for _ in range(3):
        Tampering(link_of(outbox), "write", ValueError("of u1"), echoes=False).install()
        put(outbox)
        recover(outbox)
    lines = [record.getMessage() for record in caplog.records if record.name == "userpilot_async"]

    assert 1 == len([line for line in lines if "ValueError" in line]), lines
    assert not [line for line in lines if "u1" in line]


def test_a_refusal_of_redis_that_is_not_true_tells_nobody_that_his_call_is_not_there(process: NewProcess) -> None:
    """ "No memory" may be the answer to another question: the step is asked about before anybody is told."""
    outbox = process()
    Tampering(link_of(outbox), "write", redis.exceptions.OutOfMemoryError("OOM"), echoes=False).install()
    (receipt,) = put(outbox)

    assert (0, {}) == (receipt.id, dict(outbox.ledger.losses()))


# ── visits of people ──


@pytest.mark.parametrize("script", ["show", "scan", "retry", "purge", "sweep", "open", "rebind"])
@pytest.mark.parametrize("odd", ["nothing", "a number", "other bytes", "numbers"])
def test_people_are_told_that_the_answer_was_odd(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch, redis_url: str, script: str, odd: str
) -> None:
    sender = process()
    put(sender, 2)
    sender.take(1)
    sender.settle(Settlement([0], (), Outcome("dead", "rejected"), 2, None))
    sender.die()
    run, met = Connection.run, []

    def tampered(link: Connection, step: Any, **more: Any) -> Any:
        answer = run(link, step, **more)
        if step.name != script:
            return answer
        met.append(step.name)
        return ODD[odd]

    monkeypatch.setattr(Connection, "run", tampered)
    outbox = RedisOutbox(redis_url)
    visit: dict[str, Callable[[], Any]] = {
        "show": lambda: outbox.admin().inspect(), "scan": lambda: outbox.admin().dead_letters(),
        "retry": lambda: outbox.admin().retry(), "open": lambda: outbox.admin().retry(),
        "rebind": lambda: outbox.admin().rebind(Claim("a server", lambda salt: "x")),
        "purge": lambda: outbox.admin().purge(Subject("user", "u1")),
        "sweep": lambda: outbox.admin().purge(Subject("user", "u1")),
    }  # fmt: skip
    is_one = {("purge", "a number"), ("sweep", "a number"), ("rebind", "nothing")}  # an answer, and none that is odd
    if (script, odd) in is_one:
        visit[script]()
    else:
        with pytest.raises(OutboxError):
            visit[script]()

    assert met


@pytest.mark.parametrize(
    "fields", [{"x": "y"}, {"i": "7"}, {"i": "x", "t": "1", "l": "1"}, {"i": "7", "t": "nan", "l": "inf"}]
)
def test_entries_of_somebody_else_among_the_lost_calls_are_passed_over(
    process: NewProcess, redis_server: RedisServer, fields: dict[str, str]
) -> None:
    outbox = process()
    put(outbox)
    outbox.take(1)
    outbox.settle(Settlement([0], (), Outcome("dead", "rejected"), 2, None))
    with closing(redis_server.client()) as client:
        client.xadd(f"{{{NAME}}}:lost", fields)  # type: ignore[arg-type]  # it takes these
    found = outbox.admin().dead_letters().kept

    assert [0] == [one.id for one in found]
    assert 1 == outbox.admin().retry().calls


def test_what_a_visit_cannot_read_is_said_without_the_url(redis_url: str) -> None:
    with pytest.raises(OutboxError, match="no outbox") as raised:
        InlineRedisOutbox(redis_url).admin().inspect()
    assert "@" not in str(raised.value)


@pytest.fixture(autouse=True)
def all_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)

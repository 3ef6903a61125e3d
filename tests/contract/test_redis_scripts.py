"""The scripts of the outbox in Redis, in all kinds of orders, against `redis_books`: all that is there after each."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.contract.redis_books import PAGE, Books, Done, Unknown
from tests.harness import length
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.stored import runs

redis = pytest.importorskip("redis")

from userpilot_async._outbox.away import OtherGeneration  # noqa: E402
from userpilot_async.redis._address import address_of  # noqa: E402  # only where redis-py is
from userpilot_async.redis._codec import State, counts_of  # noqa: E402
from userpilot_async.redis._link import Connection, Step  # noqa: E402
from userpilot_async.redis._notes import SenderNotes  # noqa: E402

LONG = 600_000  # ms: a lease that does not end by itself here
HUGE = 40 * 1024 * 1024  # bytes, as a call is said to have: two of them are more than is kept of the lost
BUDGETS = ("track", "identify")
REASONS = ("rejected", "too_old", "deleted")
_names = count()


@attrs.define
class Doubt:
    """A step whose answer did not come."""

    step: Step
    seq: int
    calls: int
    do: Callable[[], Any]
    """The same step, in the books."""


@attrs.define
class Actor:
    """A client, and what it knows."""

    name: str
    link: Connection
    generation: str = ""
    revision: int = 0
    heard: int = 0
    token: str = ""
    ambiguous: int = 0
    since: int | None = None
    before: list[str] = attrs.field(factory=list)
    """Generations that it knew before this one."""
    seq: int = 0
    made: int | str = ""
    """The last step that was answered; "" where that may be forgotten."""
    requests: int = 0
    cut: bool = False
    """The server was started again: it must open before anything else."""
    doubt: Doubt | None = None
    late: Step | None = None
    """A step that was resolved, and may still arrive."""
    held: set[bytes] = attrs.field(factory=set)
    """Calls that it was told are there."""


class Desk:
    """A server, books about the same, and clients that do everything on both."""

    def __init__(self, url: str, clients: int = 3) -> None:
        self.name = f"outbox{next(_names)}"
        self.redis = redis.Redis.from_url(url)
        self.books = Books()
        self.actors = []
        for number in range(clients):
            link = Connection(address_of(url, {})[0], self.name, f"c{number}", deadline=10.0)
            link.connect()
            self.actors.append(Actor(f"c{number}", link))
        self.run_id = "run0"
        self.generations = count(1)
        self.calls = count()
        self.seen: set[bytes] = set()
        """Calls that are in this history of the server: those in an older one are not."""
        self.budget_of: dict[str, str] = {}

    def close(self) -> None:
        for actor in self.actors:
            actor.link.close()
        self.redis.close()

    def key(self, name: str) -> str:
        return f"{{{self.name}}}:{name}"

    # ── running ──

    def run(self, actor: Actor, step: Step, do: Callable[[], Any]) -> tuple[Any, Any] | None:
        """The script's answer and that of the books, or ``None`` where it is refused for its generation."""
        if actor.cut:
            return None
        if actor.generation != self.books.generation:
            with pytest.raises(OtherGeneration):
                actor.link.run(step)
            return None
        expected = do()
        return expected, actor.link.run(step)

    def check_state(self, actor: Actor, answer: Any, heard: int) -> None:
        """What it says of account, first call and news; the client knows it then."""
        counts, oldest, *_ = answer
        state = State(answer)
        assert {name: n for name, n in self.books.account.items() if n} == _without_zeros(counts)
        assert min(self.books.log, default=None) == (int(oldest.partition(b"-")[0]) if oldest else None)
        told = [one for revision, said in sorted(self.books.news.items()) if revision > heard for one in said]
        found = [[one.status, one.label, _lists(one.carriers), _lists(one.merged)] for one in state.committed().heard]
        assert told == found
        assert abs(state.time - time.time()) < 60
        actor.revision, actor.heard = state.revision, state.heard
        actor.ambiguous = self.books.account["ambiguous"]

    def check(self) -> None:
        """Everything that Redis holds is what the books say."""
        pipe = self.redis.pipeline(transaction=False)
        for name in ("account", "requests", "files"):
            pipe.hgetall(self.key(name))
        for name in ("log", "news", "lost"):
            pipe.xrange(self.key(name))
        for name in ("spent", "sent", "again", "parts", "pairs"):
            pipe.zrange(self.key(name), 0, -1, withscores=True)
        pipe.get(self.key("lease"))
        pipe.hmget(self.key("about"), "generation", "unknown_until", "doubt", "fence", "resent")
        account, requests, files, log, news, lost, spent, sent, again, parts, pairs, lease, about = pipe.execute()
        books = self.books
        assert {name: n for name, n in books.account.items() if n} == _without_zeros(
            [one for pair in account.items() for one in pair]
        )
        assert int(account.get(b"news_bytes", 0)) == sum(len(fields[b"s"]) for _, fields in news)
        assert books.log == {_id(entry): (fields[b"c"], int(fields[b"s"])) for entry, fields in log}
        assert all(entry.endswith(b"-1") for entry, _ in log)
        assert books.requests == {k.decode(): _request(v) for k, v in requests.items()}
        assert books.files == {k.decode(): _request(v) for k, v in files.items()}
        assert books.news == {_id(entry): _said(fields[b"s"]) for entry, fields in news}
        assert set(books.spent) == {name.decode() for name, _ in spent}
        assert books.sent == {int(one) for one, score in sent if int(one) == score}
        assert len(books.sent) == len(sent)
        assert {f"{below}:{call_id}".encode() for below, call_id in books.again} == {name for name, _ in again}
        assert books.parts == {text.decode(): int(score) for text, score in parts}
        assert books.pairs == {text.decode(): int(score) for text, score in pairs}
        assert [(one.call_id, one.call, one.size, one.status, one.reason, one.detail) for one in books.lost] == [
            (int(f[b"i"]), f[b"c"], int(f[b"s"]), f[b"u"].decode(), f[b"r"].decode(), f[b"d"].decode()) for _, f in lost
        ]
        for one, (entry, _) in zip(books.lost, lost, strict=True):
            one.ms = _id(entry)
        assert books.lease == b" ".join((lease or b"").split(b" ")[:2]).decode()
        assert (books.generation, books.unknown.requests) == (about[0] and about[0].decode(), bool(about[1]))
        assert (books.unknown.below, books.fence, books.resent) == tuple(int(one or 0) for one in about[2:])

    # ── steps ──

    def open(self, actor: Actor) -> str:
        """Open the outbox; gives what became of the client's knowledge."""
        new = f"generation{next(self.generations)}"
        before = actor.generation
        arguments = (actor.generation, actor.revision, actor.token, self.run_id, new, 1, "server", "00", "key", 0, PAGE)
        era, done = self.books.era, self.books.clients.get(actor.name, Done())
        generation, fate, *said = self.books.open(
            actor.name, actor.generation, actor.revision, actor.token, self.run_id, new, ambiguous=actor.ambiguous,
            since=actor.since, before=actor.before, set_back=actor.made != "" and done.seq < int(actor.made),
        )  # fmt: skip
        since = "" if actor.since is None else actor.since
        told = (actor.heard, actor.ambiguous, since, actor.made, *actor.before)
        answer = actor.link.run(Step("open", *arguments, *told))

        assert [generation.encode(), fate.encode(), *said, [b"server", b"00", b"key"], b"1"] == answer[:7]
        if era != self.books.era:
            seconds, micros = self.redis.time()
            self._tick(seconds * 1_000 + micros // 1_000)
        if generation != before:
            actor.before[:0], actor.made = [before] if before else [], ""
        actor.generation, actor.cut = generation, False
        if fate == "lost":
            actor.token, actor.held, actor.revision, actor.heard = "", set(), 0, 0
        elif before:
            assert actor.held <= self.seen, "calls are gone, and the client is not told"
        knows_nothing = not before or fate == "lost"  # and begins with what comes now
        self.check_state(actor, answer[7], self.books.account["revision"] if knows_nothing else actor.heard)
        return fate

    def write(
        self, actor: Actor, calls: int = 0, notes: SenderNotes | None = None, *, size: int = 20, oldest: int = 0,
        arrives: bool = True, answered: bool = True,
    ) -> Any:  # fmt: skip
        """A step; its answer, if it is answered."""
        assert actor.doubt is None
        actor.seq += 1
        text = notes.as_json() if notes is not None else ""
        payloads = [f"call {next(self.calls)}".encode() for _ in range(calls)]
        flat = [one for call in payloads for one in (size, call)]
        name = "write" if calls else "note"
        step = Step(name, actor.generation, actor.seq, actor.heard, actor.token, oldest, text, actor.made, *flat)
        seq, token, said = actor.seq, actor.token, json.loads(text) if text else None
        if notes is not None and oldest:
            self._tick(oldest)

        def do() -> Any:
            done = self.books.write(actor.name, seq, token, oldest, said, payloads, [size] * calls)
            if done is not None:
                self.seen.update(payloads)
            return done

        actor.doubt = Doubt(step, seq, calls, do)
        if not arrives:
            return None
        heard = actor.heard
        both = self.run(actor, step, do)
        if both is None or not answered:
            return None
        expected, answer = both
        actor.doubt, actor.made = None, seq
        assert [*expected] == answer[:4]
        self.check_state(actor, answer[4], heard)
        actor.held.update(payloads)
        return answer

    def resolve(self, actor: Actor, gone: Sequence[int] = ()) -> Any:
        assert actor.doubt is not None
        doubt = actor.doubt
        both = self.run(
            actor,
            Step("resolve", actor.generation, doubt.seq, actor.made, *gone),
            lambda: self.books.resolve(actor.name, doubt.seq, gone),
        )
        if both is None:
            return None
        expected, answer = both
        assert (None if expected is None else [*expected, []]) == answer  # no call had a key
        actor.doubt, actor.late, actor.made = None, doubt.step, doubt.seq
        return answer

    def arrive_late(self, actor: Actor, step: Step, do: Callable[[], Any]) -> None:
        """Whatever it does, nobody hears of it."""
        both = self.run(actor, step, do)
        if both is not None:
            expected, answer = both
            assert (expected is None) == (answer is None)

    def take_lease(self, actor: Actor, *, wants: bool = True, ms: int = LONG) -> str:
        step = Step("lease", actor.generation, actor.token, actor.name, ms, '{"pid": 1}', int(wants))
        both = self.run(actor, step, lambda: self.books.take_lease(actor.token, actor.name, wants))
        if both is not None:
            assert both[0] == both[1].decode()
            actor.token = both[0]
        return actor.token

    def inherit(self, actor: Actor) -> Any:
        step = Step("inherit", actor.generation, actor.token, actor.heard)
        both = self.run(actor, step, lambda: self.books.inherit(actor.token))
        if both is None:
            return None
        assert both[0] == (both[1] is not None)
        if both[1] is None:
            return None
        spent, files, unknown, state = both[1]
        assert set(self.books.spent) == {one.decode() for one in spent[::2]}
        assert self.books.files == {k.decode(): _request(v) for k, v in zip(files[::2], files[1::2], strict=True)}
        assert self.books.unknown.requests == bool(unknown)
        self.check_state(actor, state, actor.heard)
        actor.since = actor.seq
        return both[1]

    def end_lease(self) -> None:
        """As the server's clock would."""
        self.redis.pexpire(self.key("lease"), 0)
        self.books.lease = ""

    def leader(self, actor: Actor) -> Actor:
        """A client that has the lease, and has taken over."""
        assert self.take_lease(actor)
        assert self.inherit(actor) is not None
        return actor

    def new_request(self, actor: Actor, budget: str) -> str:
        actor.requests += 1
        number = f"{actor.name}:{actor.requests}"
        self.budget_of[number] = budget
        return number

    # ── the server ──

    def restart(self, *, saved: tuple[dict[str, bytes], Books, set[bytes]] | None = None) -> None:
        """With what it has, or with what it had then."""
        self.run_id = f"run{next(self.generations)}"
        for actor in self.actors:
            actor.cut = True
        if saved is not None:
            dump, books, seen = saved
            keys = self.redis.keys(f"{{{self.name}}}:*".replace("{", "\\{"))
            if keys:
                self.redis.delete(*keys)
            for key, value in dump.items():
                self.redis.restore(key, 0, value)
            self.books, self.seen = copy.deepcopy(books), set(seen)

    def save(self) -> tuple[dict[str, bytes], Books, set[bytes]]:
        keys = [key.decode() for key in self.redis.keys(f"{{{self.name}}}:*")]
        dump = {key: self.redis.dump(key) for key in keys}
        return {key: value for key, value in dump.items() if value}, copy.deepcopy(self.books), set(self.seen)

    def flush(self) -> None:
        self.redis.flushall()
        self.books, self.seen = Books(), set()

    def _tick(self, ms: int) -> None:
        """What is noted from now on is noted later than that."""
        while True:
            seconds, micros = self.redis.time()
            if seconds * 1_000 + micros // 1_000 > ms:
                return


def _without_zeros(flat: Any) -> dict[str, int]:
    """What the books have, too: how much room the news take is Redis' own affair."""
    return {name: n for name, n in counts_of(flat).items() if n and name != "news_bytes"}


def _id(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _lists(stretches: Any) -> list[list[int]]:
    return [[one, one] if isinstance(one, int) else list(one) for one in stretches or ()]


def _request(text: bytes) -> list[Any]:
    label, ids = json.loads(text)
    return [label, ids or []]


def _said(text: bytes) -> list[Any]:
    return [[status, label, _lists(carriers), _lists(merged)] for status, label, carriers, merged in json.loads(text)]


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    """Three clients that have opened an outbox."""
    desk = Desk(redis_url)
    for actor in desk.actors:
        desk.open(actor)
    yield desk
    desk.check()
    desk.close()


# ── everything at random ──


class Scripts(RuleBasedStateMachine):
    """Three clients, who do what they may do, and what they ought not to."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.desk = Desk(url)
        self.saved: tuple[dict[str, bytes], Books, set[bytes]] | None = None

    def teardown(self) -> None:
        self.desk.close()

    def actor(self, number: int) -> Actor:
        """A client that knows what there is."""
        actor = self.desk.actors[number]
        if actor.generation != self.desk.books.generation or actor.cut:
            self.desk.open(actor)
        return actor

    @initialize()
    def begin(self) -> None:
        for actor in self.desk.actors:
            self.desk.open(actor)

    who = st.integers(0, 2)

    def ids(self, data: st.DataObject, most: int = 6) -> list[int]:
        """Of calls that are there, that were, and that never were."""
        end = self.desk.books.account["next_id"]
        there = sorted(self.desk.books.log)
        some = st.sampled_from(there) if there else st.integers(0, 3)
        return data.draw(
            st.lists(st.one_of(some, some, st.integers(max(0, end - 12), end + 2)), max_size=most, unique=True)
        )

    def notes(self, data: st.DataObject, actor: Actor) -> SenderNotes:
        draw = data.draw
        notes = SenderNotes()
        for _ in range(draw(st.integers(0, 2))):
            what = draw(
                st.sampled_from(["refused", "parts", "settled", "settled", "begun", "begun", "landed", "forgotten"])
            )
            if what == "refused":
                outcome = Outcome("dropped", draw(st.sampled_from(["full", "outbox"])))
                notes.refused += [(outcome, None)] * draw(st.integers(1, 3))  # type: ignore[list-item]  # no receipt
            elif what == "parts":
                notes.parts += [(one, json.dumps([one, "company", "acme"])) for one in self.ids(data, 3)]
            elif what == "settled":
                ids = self.ids(data, 12)
                merged = ids[: draw(st.integers(0, len(ids)))] if ids else []
                status = draw(st.sampled_from(["delivered", "delivered", "dead", "dropped"]))
                labels: tuple[str | None, ...] = (None, "bulk", "import") if status == "delivered" else REASONS
                carriers = [one for one in ids if one not in merged]
                detail = draw(st.sampled_from(["", "no such event"]))
                notes.settled.append((status, draw(st.sampled_from(labels)), runs(carriers), runs(merged), detail))
            elif what == "begun":
                budget = draw(st.sampled_from(BUDGETS))
                number = self.desk.new_request(actor, budget)
                filename = draw(st.sampled_from(["", "", "a.csv", "b.csv"]))
                last = self.ids(data, 2) if filename else []
                kind = "identify" if filename else ""
                filed = runs(self.ids(data, 3)) if filename else []
                notes.begun.append((number, budget, runs(self.ids(data)), filename, kind, last, filed))
            elif what == "landed":
                known = sorted(self.desk.budget_of)
                if known:
                    number = draw(st.sampled_from(known))
                    ids = self.ids(data)
                    lost = runs(ids) if draw(st.booleans()) else []
                    answered = draw(st.sampled_from([True, False, None]))
                    notes.landed.append((number, self.desk.budget_of[number], answered, len(ids), lost))
            else:
                notes.forgotten.append(draw(st.sampled_from(["a.csv", "b.csv"])))
        return notes

    def sender(self, who: int) -> int:
        """The client with the lease; this one, if none that knows has it."""
        for number, actor in enumerate(self.desk.actors):
            if actor.token and actor.token == self.desk.books.lease and not actor.cut:
                return number
        self.desk.end_lease()
        self.desk.leader(self.actor(who))
        return who

    WAYS = st.sampled_from(["there and back"] * 5 + ["there", "nowhere"])

    @rule(data=st.data(), who=who, calls=st.integers(0, 4), way=WAYS)
    def write(self, data: st.DataObject, who: int, calls: int, way: str) -> None:
        actor = self.actor(who)
        self.end_doubt(data, actor)
        notes = self.notes(data, actor)
        notes.again = data.draw(st.integers(0, calls)) if calls else 0
        notes.pairs = data.draw(st.lists(st.sampled_from(["ann", "bob", "🛰"]), max_size=2)) if calls else []
        needed = notes.refused or notes.needs_lease or notes.again or notes.pairs
        if not needed and not calls:
            return
        kept = [one.ms for one in self.desk.books.lost]
        oldest = data.draw(st.sampled_from([0, 0, *kept]))
        size = data.draw(st.sampled_from([20, 20, 20, 20, HUGE]))
        self.desk.write(
            actor, calls, notes if needed else None, size=size, oldest=oldest, arrives=way != "nowhere",
            answered=way == "there and back",
        )  # fmt: skip

    def end_doubt(self, data: st.DataObject, actor: Actor) -> None:
        if actor.doubt is not None:
            last = actor.doubt.calls - 1
            places = st.lists(st.integers(0, last), unique=True) if last >= 0 else st.just([])
            self.desk.resolve(actor, data.draw(places))

    @rule(data=st.data(), who=who, calls=st.integers(0, 8), way=WAYS)
    def write_as_the_sender(self, data: st.DataObject, who: int, calls: int, way: str) -> None:
        self.write(data, self.sender(who), calls, way)

    @rule(data=st.data(), who=who, way=WAYS)
    def the_sender_goes_on(self, data: st.DataObject, who: int, way: str) -> None:
        self.write(data, self.sender(who), 1, way)

    @rule(data=st.data(), who=who)
    def the_oldest_are_sent(self, data: st.DataObject, who: int) -> None:
        actor = self.desk.actors[self.sender(who)]
        self.end_doubt(data, actor)
        oldest = sorted(self.desk.books.log)[:3]
        parts = [(one, json.dumps([one, "company", "acme"])) for one in oldest]
        begun: list[Any] = [(self.desk.new_request(actor, "track"), "track", runs(oldest), "", "", [], [])]
        self.desk.write(actor, 0, SenderNotes(begun=begun, parts=parts))

    @rule(who=who)
    def a_step_in_doubt_arrives(self, who: int) -> None:
        """Once more, or late; its client does not hear of it."""
        actor = self.desk.actors[who]
        if actor.doubt is not None and actor.doubt.step.arguments[0] == actor.generation:
            self.desk.arrive_late(actor, actor.doubt.step, actor.doubt.do)

    @rule(who=who)
    def a_step_arrives_after_it_was_resolved(self, who: int) -> None:
        actor = self.desk.actors[who]
        if actor.late is not None and not actor.cut:
            try:
                answer = actor.link.run(actor.late)
            except OtherGeneration:
                assert actor.late.arguments[0] != self.desk.books.generation
            else:
                assert answer is None

    @rule(who=who)
    def take_over(self, who: int) -> None:
        actor = self.actor(who)
        self.desk.take_lease(actor)
        self.desk.inherit(actor)

    @rule(who=who, what=st.sampled_from(["take", "take", "keep", "release"]))
    def lease(self, who: int, what: str) -> None:
        actor = self.actor(who)
        if what != "release":
            self.desk.take_lease(actor, wants=what == "take")
            return
        actor.link.run(Step("release", actor.token))
        if actor.token == self.desk.books.lease:
            self.desk.books.lease = ""

    @rule(who=who)
    def poll(self, who: int) -> None:
        actor = self.actor(who)
        step = Step("poll", actor.generation, actor.heard, actor.revision, actor.made)
        both = self.desk.run(actor, step, lambda: None)
        assert both is not None
        if both[1] is None:
            assert actor.revision == self.desk.books.account["revision"]
        else:
            self.desk.check_state(actor, both[1], actor.heard)

    @rule(data=st.data(), who=who, most=st.sampled_from([1, 2, 1_000]))
    def read(self, data: st.DataObject, who: int, most: int) -> None:
        actor, books = self.actor(who), self.desk.books
        first = data.draw(st.integers(max(0, min(books.log, default=0) - 1), books.account["next_id"]))
        last = first + data.draw(st.sampled_from([0, 3, 50]))
        both = self.desk.run(actor, Step("read", actor.generation, first, last, most), lambda: None)
        assert both is not None
        flat, sent, parts, stopped = both[1]
        expected = [one for one in sorted(books.log) if first <= one <= last][:most]
        assert expected == [_id(entry) for entry in flat[::3]]
        assert [books.log[one][0] for one in expected] == flat[1::3]
        assert (len(expected) == most) == bool(stopped)
        if expected:
            span = range(expected[0], expected[-1] + 1)
            assert {one for one in books.sent if one in span} == {int(one) for one in sent}
            assert {text for text, one in books.parts.items() if one in span} == {one.decode() for one in parts}

    @rule(data=st.data(), who=who)
    def aside(self, data: st.DataObject, who: int) -> None:
        actor, ids = self.actor(who), sorted(self.ids(data, 3))
        if ids:
            step = Step("aside", actor.generation, actor.token, *ids)
            both = self.desk.run(actor, step, lambda: self.desk.books.aside(actor.token, ids))
            assert both is not None
            assert both[0] == both[1]

    @rule(data=st.data(), who=who, deleted=st.booleans())
    def reconcile(self, data: st.DataObject, who: int, deleted: bool) -> None:
        actor, books = self.actor(who), self.desk.books
        if deleted and books.log and books.lease:
            gone = data.draw(st.sampled_from(sorted(books.log)))
            self.desk.redis.xdel(self.desk.key("log"), f"{gone}-1")
            del books.log[gone]
        read_to = data.draw(st.integers(0, books.account["next_id"]))
        step = Step("reconcile", actor.generation, actor.token, read_to)
        both = self.desk.run(actor, step, lambda: books.reconcile(actor.token, read_to))
        assert both is not None
        (missing, first), (found, entry) = both
        assert (missing, first) == (found, _id(entry) if entry else None)

    @rule(data=st.data(), who=who)
    def purge(self, data: st.DataObject, who: int) -> None:
        actor, stretches = self.actor(who), runs(self.ids(data))
        if stretches:
            step = Step("purge", actor.generation, "log", json.dumps(stretches))
            both = self.desk.run(actor, step, lambda: self.desk.books.purge(stretches))
            assert both is not None
            assert both[0] == both[1]

    @rule(data=st.data(), who=who, again=st.booleans())
    @precondition(lambda self: self.desk.books.lost)
    def deal_with_the_lost(self, data: st.DataObject, who: int, again: bool) -> None:
        """Try lost calls again, or purge them."""
        actor, books = self.actor(who), self.desk.books
        if not books.lost:
            return
        places = sorted(data.draw(st.sets(st.integers(0, len(books.lost) - 1), min_size=1, max_size=3)))
        kept = self.desk.redis.xrange(self.desk.key("lost"))
        entries = [kept[place][0] for place in places]
        if again:
            both = self.desk.run(actor, Step("retry", actor.generation, *entries), lambda: books.retry(places))
            assert both is not None
            assert [*both[0]] == both[1]
        else:
            step = Step("purge", actor.generation, "lost", *entries)
            both = self.desk.run(actor, step, lambda: books.purge_lost(places))
            assert both is not None
            assert both[0] == both[1]

    @rule(data=st.data(), who=who, is_all=st.booleans())
    def explain(self, data: st.DataObject, who: int, is_all: bool) -> None:
        actor, books = self.actor(who), self.desk.books
        token, stretches = data.draw(st.sampled_from(["", books.begun.sender, actor.token])), runs(self.ids(data))
        step = Step("explain", actor.generation, token, json.dumps(stretches), int(is_all))
        both = self.desk.run(actor, step, lambda: books.explain(token, stretches, is_all))
        assert both is not None
        assert both[0] == both[1]

    @rule(data=st.data(), who=who)
    def reset(self, data: st.DataObject, who: int) -> None:
        actor, books = self.actor(who), self.desk.books
        lost, known = data.draw(st.sampled_from(["one", "another"])), data.draw(st.integers(0, 3))
        step = Step("reset", actor.generation, lost, known, actor.heard)
        both = self.desk.run(actor, step, lambda: books.reset(lost, known))
        assert both is not None
        self.desk.check_state(actor, both[1], actor.heard)

    @rule(data=st.data())
    @precondition(lambda self: self.desk.books.spent)
    def a_token_comes_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.desk.books.spent)))
        self.desk.redis.zadd(self.desk.key("spent"), {name: 1.0})
        self.desk.books.spent[name] = True

    @rule(who=who, what=st.sampled_from(["save", "save", "scripts", "lease", "restart", "older", "older", "flush"]))
    def trouble(self, who: int, what: str) -> None:
        """A single rule, and not many: something should happen in between."""
        desk = self.desk
        if what == "save":
            self.saved = desk.save()
        elif what == "scripts":
            desk.redis.script_flush()
        elif what == "lease":
            desk.end_lease()
        elif what == "restart":
            desk.restart()
        elif what == "older" and self.saved is not None:
            desk.restart(saved=self.saved)
        elif what == "flush":
            desk.flush()
            self.saved = None
            self.actor(who)

    @rule(who=who)
    def do_something_with_old_knowledge(self, who: int) -> None:
        actor = self.desk.actors[who]
        self.desk.run(actor, Step("poll", actor.generation, 0, -1, ""), lambda: None)

    @invariant()
    def the_books_are_right(self) -> None:
        self.desk.check()

    @invariant()
    def the_account_balances(self) -> None:
        books = self.desk.books
        assert books.waiting >= len(books.log)


def test_the_scripts_do_what_the_books_say(redis_url: str) -> None:
    make: Any = lambda: Scripts(redis_url)  # noqa: E731  # any callable will do, whatever its type says
    run_state_machine_as_test(
        make, settings=settings(max_examples=length.of(60), stateful_step_count=50, deadline=None)
    )


# ── one thing at a time ──


def test_the_servers_clock_ends_a_lease(desk: Desk) -> None:
    first, second, _ = desk.actors
    desk.take_lease(first, ms=30)
    deadline = time.monotonic() + 10
    while desk.redis.exists(desk.key("lease")) and time.monotonic() < deadline:
        time.sleep(0.005)
    desk.books.lease = ""

    assert "2 c1" == desk.take_lease(second)
    assert "" == desk.take_lease(first)


def test_who_has_lost_the_lease_changes_nothing_but_for_refusals(desk: Desk) -> None:
    old, new, other = desk.actors
    desk.write(other, 3)
    desk.leader(old)
    token = old.token
    desk.end_lease()
    desk.leader(new)
    refused: list[Any] = [(Outcome("dropped", "full"), None)]
    notes = SenderNotes(
        refused=refused, settled=[("delivered", None, [(0, 2)], [], "")], parts=[(0, '[0, "company", "a"]')],
        begun=[("c0:1", "track", [(0, 0)], "a.csv", "identify", [0], [])], forgotten=["b.csv"],
    )  # fmt: skip
    old.token = token

    first, refused_id, fenced, *_ = desk.write(old, 1, notes)
    assert (3, 4, 1) == (first, refused_id, fenced)
    assert [0, 1, 2, 3] == sorted(desk.books.log)
    assert {} == desk.books.requests


def test_who_asks_after_a_step_learns_that_it_was_fenced(desk: Desk) -> None:
    actor = desk.actors[0]
    notes = SenderNotes(begun=[("c0:1", "track", [], "", "", [], [])])
    desk.write(actor, 0, notes, answered=False)
    desk.leader(actor)  # nobody else had it meanwhile

    assert [0, 0, 1, []] == desk.resolve(actor)


def test_a_step_in_doubt_is_done_once_whenever_it_arrives(desk: Desk) -> None:
    actor = desk.actors[0]
    desk.write(actor, 2, arrives=False)
    assert actor.doubt is not None
    late = actor.doubt
    assert desk.resolve(actor) is None
    desk.arrive_late(actor, late.step, late.do)
    desk.write(actor, 2)
    desk.arrive_late(actor, late.step, late.do)

    assert 2 == len(desk.books.log)


def test_calls_that_nobody_waits_for_are_taken_back_but_not_those_that_were_sent_meanwhile(desk: Desk) -> None:
    actor, sender, _ = desk.actors
    desk.write(actor, 3, answered=False)
    desk.leader(sender)
    desk.write(sender, 0, SenderNotes(settled=[("delivered", None, [(0, 0)], [], "")]))
    desk.resolve(actor, [0, 1])

    assert [2] == sorted(desk.books.log)
    assert (2, 1) == (desk.books.account["accepted"], desk.books.account["delivered"])


def test_twelve_hundred_calls_with_holes_are_settled_at_once(desk: Desk) -> None:
    """More than one piece of what the script takes at a time, in one stretch, and in many."""
    sender = desk.leader(desk.actors[0])
    desk.write(sender, 1_300)
    desk.write(
        sender, 0, SenderNotes(settled=[("delivered", "bulk", [(one, one) for one in range(0, 1_300, 7)], [], "")])
    )
    desk.check()
    desk.write(sender, 0, SenderNotes(settled=[("delivered", "import", [(0, 1_200)], [(1_201, 1_298)], "")]))
    desk.check()

    assert [1_299] == sorted(desk.books.log)
    assert (186, 1_029, 84) == tuple(desk.books.account[name] for name in ("by:bulk", "by:import", "merged"))


def test_lost_calls_are_kept_for_a_time_and_as_many_as_there_is_room_for(desk: Desk) -> None:
    sender = desk.leader(desk.actors[0])
    dead = [("dead", "rejected", [(0, 0)], [(1, 1)], "no such event")]
    desk.write(sender, 3)
    desk.write(sender, 0, SenderNotes(settled=dead))
    desk.check()
    assert 2 == len(desk.books.lost)

    answer = desk.write(
        sender, 0, SenderNotes(settled=[("dropped", "too_old", [(2, 2)], [], "")]), oldest=desk.books.lost[-1].ms
    )
    assert 2 == answer[3]
    desk.write(sender, 2, size=HUGE)
    answer = desk.write(sender, 0, SenderNotes(settled=[("dead", "rejected", [(3, 4)], [], "")]))
    desk.check()

    assert 3 == answer[3]
    assert 0 == desk.books.account["lost_bytes"]


def test_a_deleted_stream_of_lost_calls_does_not_stop_the_server(desk: Desk) -> None:
    sender = desk.leader(desk.actors[0])
    desk.write(sender, 1)
    desk.redis.hset(desk.key("account"), "lost_bytes", 3 * HUGE)  # of calls that were in it
    desk.books.account["lost_bytes"] = 3 * HUGE
    notes = SenderNotes(settled=[("dead", "rejected", [(0, 0)], [], "")]).as_json()
    answer = sender.link.run(Step("note", sender.generation, 2, "", sender.token, 0, notes, 1))

    assert [1, 1, 0, 1] == answer[:4]
    assert b"0" == desk.redis.hget(desk.key("account"), "lost_bytes")
    desk.flush()


def test_an_entry_of_somebody_elses_making_is_read_and_set_aside(desk: Desk) -> None:
    sender = desk.leader(desk.actors[0])
    desk.write(sender, 1)
    desk.redis.xadd(desk.key("log"), {"x": "y"}, id="1-1")
    flat, *_ = sender.link.run(Step("read", sender.generation, 0, 9, 10))
    set_aside = sender.link.run(Step("aside", sender.generation, sender.token, 1))
    answer = sender.link.run(Step("write", sender.generation, 2, "", sender.token, 0, "", 1, 20, "a call"))

    assert [b"0-1", b"1-1"] == flat[::3]
    assert 1 == set_aside
    assert answer[0] >= 1
    desk.flush()


def test_a_restart_is_told_to_those_who_know_of_more_than_is_there(desk: Desk) -> None:
    knows_less, knows_more, newcomer = desk.actors
    desk.write(knows_less, 1)
    saved = desk.save()
    desk.write(knows_more, 1)
    desk.restart(saved=saved)

    assert "kept" == desk.open(knows_less)
    assert "lost" == desk.open(knows_more)
    assert "kept" == desk.open(newcomer)
    assert PAGE == desk.write(knows_more, 1)[0]


def test_steps_that_know_another_generation_do_nothing(desk: Desk) -> None:
    slow, quick, _ = desk.actors
    desk.write(slow, 1)
    desk.flush()
    desk.open(quick)
    assert desk.write(slow, 1) is None  # refused, see `run`
    assert desk.resolve(slow) is None
    desk.check()

    assert {} == desk.books.log
    assert "lost" == desk.open(slow)
    desk.resolve(slow)


def test_a_later_restart_that_lost_nothing_does_not_hide_an_earlier_one_that_did(desk: Desk) -> None:
    sender, other, _ = desk.actors
    saved = desk.save()
    desk.write(other, 1)
    desk.restart(saved=saved)
    desk.open(other)
    desk.open(sender)
    desk.leader(sender)
    desk.restart()

    assert "kept" == desk.open(sender)
    assert desk.books.unknown.requests


def test_a_restart_that_lost_nothing_is_no_reason_to_wait_for_who_sends(desk: Desk) -> None:
    sender = desk.leader(desk.actors[0])
    desk.restart()

    assert "kept" == desk.open(sender)
    assert Unknown() == desk.books.unknown

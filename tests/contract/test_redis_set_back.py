"""Redis comes back with older data at any instant: what is sent twice for it is counted, and what is lost is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract import set_backs
from tests.contract.inline_redis import InlineRedisOutbox, processes
from tests.harness import length
from userpilot_async._outbox.away import Away

redis = pytest.importorskip("redis")


_names = count()


class Scene(set_backs.Scene):
    """Two processes, a server of calls, and somebody who sets Redis back."""

    def __init__(self, url: str, outboxes: list[InlineRedisOutbox], name: str) -> None:
        super().__init__(outboxes)
        self.redis = redis.Redis.from_url(url)
        self.name = name
        self.saved: dict[bytes, bytes] = {}
        self.runs = count()

    # ── what happens to Redis ──

    @property
    def keys(self) -> list[bytes]:
        found: list[bytes] = self.redis.keys(f"{{{self.name}}}:*")
        return found

    def save(self) -> None:
        dumped = {key: self.redis.dump(key) for key in self.keys}
        self.saved = {key: value for key, value in dumped.items() if value is not None and not key.endswith(b":lease")}

    def set_back(self, how: str) -> None:
        """To what was saved, or to nothing; in the same process of Redis, or in another one.

        In the same process the lease stays as it is: whoever has it is the first to see this, and nobody else could.
        """
        if how == "in place" and not self.redis.exists(f"{{{self.name}}}:lease"):
            return
        gone = [key for key in self.keys if how != "in place" or not key.endswith(b":lease")]
        if gone:
            self.redis.delete(*gone)
        if how != "emptied":
            for key, value in self.saved.items():
                self.redis.restore(key, 0, value, replace=True)
        if how == "started again":
            self.start_again()

    def start_again(self) -> None:
        about = f"{{{self.name}}}:about"
        if self.redis.exists(about):
            self.redis.hset(about, "run_id", f"another run {next(self.runs)}")
        for process in self.processes:
            process.outbox.store._leave(Away("the connection was lost"))

    def end_lease(self) -> None:
        self.redis.delete(f"{{{self.name}}}:lease")

    # ── the end ──

    @property
    def waiting(self) -> int:
        waiting: int = self.redis.xlen(f"{{{self.name}}}:log")
        return waiting


@contextmanager
def scene_at(url: str, senders: int = 2) -> Iterator[Scene]:
    name = f"set-back-{next(_names)}"
    with processes(url) as process:
        outboxes = [process(name=name, sender=number < senders) for number in range(2)]
        yield Scene(url, outboxes, name)


WHO = st.integers(0, 1)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("put"), WHO, st.integers(1, 5)),
        st.tuples(st.just("send"), WHO, st.integers(1, 4)),
        st.tuples(st.just("send"), WHO, st.integers(1, 4)),
        st.tuples(st.just("answer"), WHO, st.sampled_from(["delivered", "delivered", "delivered", "lost", "dead"])),
        st.tuples(st.just("poll"), WHO),
        st.tuples(st.just("save")),
        st.tuples(st.just("set_back"), st.sampled_from(["in place", "started again", "started again", "emptied"])),
        st.tuples(st.sampled_from(["end_lease", "start_again"])),
    ),
    max_size=40,
)


def live(scene: Scene, happened: list[Any]) -> None:
    for what, *how in happened:
        if what == "poll":
            scene.processes[how[0]].poll()
        else:
            getattr(scene, what)(*how)
    scene.drain()


@settings(max_examples=length.of(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happened=happenings)
def test_whatever_is_sent_twice_is_counted_however_redis_is_set_back(redis_url: str, happened: list[Any]) -> None:
    """All on one server, where each has an outbox of its own."""
    with scene_at(redis_url) as scene:
        live(scene, happened)

        assert 0 == scene.waiting
        assert scene.twice <= scene.counted, happened


# ── one thing at a time ──


def ready(scene: Scene, puts: int = 6) -> None:
    scene.put(0, puts)
    for process in scene.processes:
        process.poll()


def test_calls_that_had_been_settled_come_back_and_are_no_lost_calls(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with scene_at(redis_url) as scene:
        ready(scene)
        scene.save()
        scene.send(0, 4)
        scene.answer(0, "delivered")
        scene.set_back("started again")
        scene.drain()
        said = caplog.text

        assert (4, 4) == (scene.twice, scene.counted)
        assert 0 == scene.processes[0].outbox.ledger.resets
    assert "has lost calls" not in said
    assert "no call that waited is lost" in said


def test_calls_that_are_gone_are_said_to_be_lost_by_their_number(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with scene_at(redis_url) as scene:
        ready(scene)
        scene.save()
        scene.put(0, 5)
        scene.send(0, 8)
        scene.answer(0, "delivered")  # two of the five, among others
        scene.put(1, 1)
        scene.send(0, 1)  # which may have arrived
        scene.set_back("in place")
        scene.drain()

        assert 1 == scene.processes[0].outbox.ledger.resets == scene.processes[1].outbox.ledger.resets
        assert scene.twice <= scene.counted
        gone = [one for one in scene.receipts.values() if one.reason == "unknown"]
    said = [record.getMessage() for record in caplog.records if "has lost calls" in record.getMessage()]
    assert 2 == len(said), "each process says what it knows"
    assert "has lost calls: 3 that waited there; 1 more that was just being sent may have arrived: it came" in said[0]
    assert "has lost calls: 4 that waited there, or were just being sent: it came back" in said[1]
    assert 4 == len(gone)


def test_what_was_delivered_and_could_not_be_noted_any_more_is_delivered_all_the_same(redis_url: str) -> None:
    with scene_at(redis_url) as scene:
        ready(scene, 0)
        scene.save()
        scene.put(0, 2)
        scene.send(0, 1)
        scene.processes[0].outbox.writer.runs = False
        scene.answer(0, "delivered")
        scene.set_back("emptied")
        scene.processes[0].outbox.writer.runs = True
        scene.drain()

        assert ["delivered", "dropped"] == [receipt.status for receipt in scene.receipts.values()]


def test_who_opens_it_later_and_knows_nothing_counts_all_that_waited_when_it_is_sent(redis_url: str) -> None:
    """No process is left that knows what was sent."""
    with scene_at(redis_url, senders=1) as scene:
        ready(scene)
        scene.save()
        scene.send(0, 2)
        scene.answer(0, "delivered")
        scene.processes[0].outbox.die()
        scene.set_back("started again")
        with processes(redis_url) as process:
            scene.processes[0] = set_backs.Process(process(name=scene.name))
            scene.put(0, 3)
            scene.drain()

            assert 2 == scene.twice
            assert 6 == scene.processes[0].outbox.ledger.ambiguous, "and none of those that were put since"


def test_an_orderly_restart_puts_nothing_in_doubt_for_the_sender_of_before(redis_url: str) -> None:
    with scene_at(redis_url) as scene:
        ready(scene)
        scene.send(0, 2)
        scene.answer(0, "delivered")
        scene.start_again()
        scene.drain()

        assert (0, 0) == (scene.twice, scene.counted)


def test_lost_calls_that_are_tried_again_after_a_set_back_may_have_been_before(redis_url: str) -> None:
    with scene_at(redis_url) as scene:
        ready(scene, 2)
        scene.send(0, 1)
        scene.answer(0, "dead")
        scene.save()
        errands = scene.processes[0].outbox.store

        def retry() -> None:
            entries = [entry for entry, _ in scene.redis.xrange(f"{{{scene.name}}}:lost")]
            errands.access.run("retry", *entries)
            for process in scene.processes:
                process.poll()

        retry()
        scene.send(0, 9)
        scene.answer(0, "delivered")
        scene.set_back("started again")
        for process in scene.processes:
            process.poll()
        retry()
        scene.drain()

        assert scene.twice <= scene.counted + 1, "the first time was no success, and known to be none"
        assert 3 == max(scene.arrived.values())

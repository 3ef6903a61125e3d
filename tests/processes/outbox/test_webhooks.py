"""Each webhook comes three times, to four processes with one outbox, some of which are killed: each fact is one call.

A delivery that no process has answered comes again, as from those who send webhooks.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import attrs
import pytest

from tests.harness import emulator_thread, length
from tests.harness.stage.loops import said
from tests.processes.programs.outbox_host import Host, Worker, told_by

FACTS = 500 if length.CHOSEN in ("edge", "push") else 10_000
TIMES = 3
SLOTS = ("w0", "w1", "w2", "w3")
DEATHS = 2  # of each process but the last
SEED = int(os.environ.get("WEBHOOK_SEED", str(random.randrange(10**9))))
LIMIT = 600_000
QUICK = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "burst": 1_000}


class WebhookHost(Host):
    """The processes of one outbox, in a file or, at a URL, in Redis."""

    runs = "webhook_worker"

    def holder(self) -> None:
        """Nobody, as far as these tests know: who sends is not their subject."""


@attrs.define
class Slot:
    """Deliveries to one process after the other, until all are answered."""

    one: WebhookHost
    name: str
    deliveries: list[int]
    lives: list[Worker] = attrs.field(factory=list)
    dies: bool = False

    def start(self, dies_after: int) -> None:
        """A process, for what is left."""
        self.dies = dies_after > 0
        left = Counter(self.deliveries) - Counter(
            int(note[0]) for life in self.lives for note in life.notes("answered")
        )
        self.lives.append(self.one.start(self.name, deliveries=list(left.elements()), dies_after=dies_after))

    def wait(self) -> bool:
        """Wait until the process has answered all, or killed itself; true if it did that."""
        program = self.lives[-1].program
        if self.dies:
            assert -signal.SIGKILL == program.wait(180), program.output
            return True
        program.wait_for_line("SAID answered", 300)
        return False


@pytest.mark.parametrize("place", ["a file", "Redis", "transactions"])
def test_each_fact_is_one_call_whoever_is_told_of_it_and_dies(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(SEED)
    print(f"WEBHOOK_SEED={SEED}")  # shown if it fails
    told = [fact for fact in range(FACTS) for _ in range(TIMES)]
    chance.shuffle(told)
    with emulator_thread("--rate-limit", str(LIMIT)) as url:
        one = WebhookHost(tmp_path, url, settings=QUICK)
        if place == "Redis":
            one.place = f"{request.getfixturevalue('redis_url')}?name=webhooks"
        elif place == "transactions":
            one = WebhookHost(tmp_path, url, settings=QUICK, within=True)
            one.place = request.getfixturevalue("postgres_url")
        try:
            slots = [Slot(one, name, told[n :: len(SLOTS)]) for n, name in enumerate(SLOTS)]
            for slot in slots:
                slot.start(chance.randrange(1, len(slot.deliveries) // 3))
            deaths = 0
            for round_ in range(DEATHS):
                for slot in slots:
                    deaths += slot.wait()
                    more = round_ + 1 < DEATHS
                    slot.start(chance.randrange(1, len(slot.deliveries) // 3) if more else 0)
            for slot in slots:
                assert not slot.wait()
            last = drained(one)
        finally:
            one.end()
        events = Counter(event["metadata"]["mark"] for event in told_by(url, "events"))
    account, answers = said(last.program)["account"], [note for one in one.workers for note in one.notes("answered")]
    ids: dict[str, set[str]] = {}
    for fact, call_id, _ in answers:
        if place == "transactions" and call_id == "-1":  # the answer came after the commit, and before the sender
            continue
        ids.setdefault(fact, set()).add(call_id)

    assert len(SLOTS) * DEATHS == deaths
    assert FACTS * TIMES == len(answers)
    assert {FACTS} == {account["accepted"], account["delivered"], len(events)}
    assert all(1 == len(each) for each in ids.values()), "a fact has two ids"
    if place != "transactions":  # in which that is decided after the answer
        assert FACTS >= sum(note[2] == "0" for note in answers), "a fact was accepted twice"
    # At least once: what a process that was killed was sending is sent again, and nothing else is.
    assert sum(events.values()) - FACTS <= said(last.program)["twice"]


def drained(one: WebhookHost) -> Worker:
    """The last process, which has sent what the others have left."""
    living = [worker for worker in one.workers if worker.program.returncode is None]
    one.stop(*living)
    last = one.start("last", flush=120.0)
    assert 0 == last.program.wait(150), last.program.output
    assert said(last.program)["flushed"]["complete"], last.program.output
    return last

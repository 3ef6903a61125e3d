"""Rows 38, 57, 58: processes with one file are killed at random instants, under load, and the sender among them.

`nox -s kill_cycles` kills 200 times. The instants are new in each run; a failure says which seed brings them back.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.harness import emulator_thread, judge, length
from tests.processes.programs.outbox_host import (
    IN_FLIGHT,
    Host,
    Worker,
    host,
    judge_all,
    stamps_of,
    told_by,
    wait_for,
    wait_told,
)

CYCLES = length.of(12, least=6, soak=200)  # in the sixth, everybody is killed
SEED = int(os.environ.get("KILL_SEED", str(random.randrange(10**9))))
SLOTS = {"w0": "asyncio", "w1": "asyncio", "w2": "trio", "w3": "asyncio"}
LIMIT = 6_000
"""Requests a minute, on both sides: ten times the vendor's, so that what a cycle puts is sent within it."""
QUICK = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "flush_interval": 0.2, "bulk_threshold": 5}
TAKEOVER = 2.0  # seconds
SENDERS = 5


def test_row_38_what_four_processes_were_told_is_accepted_survives_kills_at_random_instants(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    print(f"KILL_SEED={SEED}")  # shown if it fails
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--latency", "0.02", "--speed", "20") as url,
        host(tmp_path, url, users=2, pause=0.1, people=8, settings=QUICK) as one,
    ):
        one.ready(*[one.start(slot, backend=backend) for slot, backend in SLOTS.items()])
        for cycle in range(CYCLES):
            kill_some(one, chance, "everybody" if cycle % 6 == 5 else ("one", "the sender")[cycle % 2])
        account = one.drain(settings=QUICK)
        seen = judge_all(one, account, limit=LIMIT)

    print(seen)
    assert seen["senders"] > 2, f"hardly any takeover: little was tested: {seen}"
    judge.happened(seen, "holders killed", "jobs")


def kill_some(one: Host, chance: random.Random, whom: str) -> None:
    """At some instant kill one process, or the sender, or all; and begin anew when the next ones are at work."""
    if whom == "the sender":
        sender_of(*one.living)  # or nobody may have taken the lease yet
    time.sleep(chance.uniform(0.0, 0.25))  # the instant
    senders = [worker for worker in one.living if worker.sends]
    if whom == "everybody":
        victims = one.living
    elif senders and whom == "the sender":
        victims = senders
    else:
        victims = [chance.choice(one.living)]
    one.kill(*victims)
    new = [one.start(victim.slot, backend=SLOTS[victim.slot]) for victim in victims]
    one.ready(*new)
    for worker in new:
        worker.wait_accepted(1)


# ── 57, 58: one of them sends, and another goes on when it is killed ──


def sender_of(*workers: Worker) -> Worker:
    """The one of them that sends; there is one soon."""
    sender: Worker = wait_for(lambda: next((worker for worker in workers if worker.sends), None), "a sender")
    return sender


@pytest.mark.night
def test_row_57_of_two_processes_one_sends_what_both_put(tmp_path: Path) -> None:
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--speed", "20") as url,
        host(tmp_path, url, at_most=40, settings=QUICK) as one,
    ):
        both = [one.start("w0"), one.start("w1")]
        one.ready(*both)
        for worker in both:
            worker.wait_accepted(3 * 40)
        sending = sender_of(*both)
        wait_for(lambda: {"w0", "w1"} <= {event["user_id"][:2] for event in told_by(url, "events")}, "events of both")

        assert [sending] == [worker for worker in both if worker.notes("sends")]
        account = one.drain()
        seen = judge_all(one, account, limit=LIMIT)

    assert 240 == seen["accepted"] == account.accepted
    assert 0 == seen["duplicates"]


def test_row_58_another_process_sends_within_two_seconds_of_the_senders_death(tmp_path: Path) -> None:
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--latency", "0.02", "--speed", "20") as url,
        host(tmp_path, url, settings=QUICK) as one,
    ):
        workers = [one.start(slot) for slot in ("w0", "w1", "w2")]
        one.ready(*workers)
        took = []
        for left in (2, 1):
            sender = sender_of(*one.living)
            wait_told(url, "events", 1)
            one.kill(sender)
            killed = sender.ended or 0.0
            successor = sender_of(*one.living)
            took.append(float(successor.notes("sends")[-1][1]) - killed)
            wait_told(url, "events", len(told_by(url, "events")) + 1)
            assert left == len(one.living)
        seen = judge_all(one, one.drain(), limit=LIMIT)

    print(f"taken over after {', '.join(f'{seconds:.3f} s' for seconds in took)}; {seen}")
    assert 2 == seen["holders killed"]
    assert TAKEOVER >= max(took)


@pytest.mark.night
def test_row_58_the_vendors_limit_holds_across_one_takeover_after_the_other(tmp_path: Path) -> None:
    """Five senders that each believed in a burst of their own would send 500 requests within seconds."""
    with emulator_thread("--latency", "0.01") as url, host(tmp_path, url, users=2, pause=0.0) as one:
        backlog = one.start("backlog", at_most=600, sender=False)
        one.ready(backlog)
        backlog.wait_accepted(1_200, 30)
        one.stop(backlog)
        for number in range(SENDERS):
            sender = one.start(f"s{number}", users=0)
            one.ready(sender)
            wait_told(url, "requests", 100 + 8 * number)
            one.kill(sender)
        requests = told_by(url, "requests")
        tracks = [event["metadata"]["mark"] for event in told_by(url, "events")]

    worst = judge.requests_in_any_minute(stamps_of(requests, "track"))
    span = requests[-1]["stamp"] - requests[0]["stamp"]
    print(f"{worst.count} tracks in {span:.1f} s of {SENDERS} senders")
    assert 100 + 10 * (span + 1) >= worst.count, "more than one burst, and then ten a second"
    assert 0 == sum(request["status"] == 429 for request in requests)
    judge.duplicates(tracks, IN_FLIGHT * one.holders_killed)
    assert SENDERS == one.holders_killed


def test_row_58_a_lease_deleted_under_its_holder_never_makes_two_senders(tmp_path: Path) -> None:
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--speed", "20") as url,
        host(tmp_path, url, settings=QUICK) as one,
    ):
        both = [one.start("w0"), one.start("w1")]
        one.ready(*both)
        first = sender_of(*both)
        [second] = [worker for worker in both if worker is not first]
        one.file.with_name("events.db.lease").unlink()
        wait_for(lambda: first.notes("sends")[-1][0] == "0", "the first one stops sending")
        wait_for(lambda: second.sends, "the other one sends")
        lost = float(first.notes("sends")[-1][1])
        won = float(second.notes("sends")[-1][1])
        account = one.drain()
        seen = judge_all(one, account, limit=LIMIT)

    print(f"sending again {won - lost:.3f} s after the first one noticed; {seen}")
    assert "was deleted" in first.program.output
    assert lost <= won

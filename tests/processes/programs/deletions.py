"""Processes that delete people while their sender is killed: what is done to them, and what must hold in the end."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.harness import judge
from tests.processes.programs.outbox_host import Host, marks_of, told_by, wait_for

LIMIT = 6_000
"""Requests a minute, on both sides: ten times the vendor's."""
QUICK = {
    "track_per_minute": LIMIT, "identify_per_minute": LIMIT, "flush_interval": 0.1, "bulk_threshold": 5,
    "max_wait": None,
}  # fmt: skip
ORDERS = {"users": 1, "people": 6, "deleted": 2, "pause": 0.05, "settings": QUICK}
EMULATOR = ("--rate-limit", str(LIMIT), "--latency", "0.02", "--speed", "5")
SLOTS = ("w0", "w1", "w2")


def deletions(url: str) -> list[dict[str, Any]]:
    """The server's jobs that delete."""
    return [job for job in told_by(url, "jobs") if job["type"] == "delete_users"]


def kill_senders(one: Host, chance: random.Random, cycles: int) -> int:
    """Kill one sender after the other, by turns at a random instant and before a deletion job ends.

    Another process takes the place of each. How many died while a deletion job was running.
    """
    one.ready(*[one.start(slot) for slot in SLOTS])
    during = 0
    for cycle in range(cycles):
        sender = wait_for(lambda: next((worker for worker in one.living if worker.sends), None), "a sender")
        there = len(deletions(one.url))
        wait_for(lambda there=there: len(deletions(one.url)) > there, "another deletion")
        if cycle % 2:
            time.sleep(chance.uniform(0.0, 0.8))  # the instant
        one.kill(sender)
        during += any(job["end_time"] is None for job in deletions(one.url))
        one.ready(one.start(sender.slot))
    return during


def judge_deletions(one: Host, during: int) -> dict[str, int]:
    """Send what is left; then no deleted person is at the server, unless they came back: as new ones.

    Everybody else is complete, and the account adds up. How often what happened.
    """
    account = one.drain(**{"settings": QUICK, "deleted": 0})
    wait_for(lambda: all(job["end_time"] for job in deletions(one.url)), "the last job's end")
    gone = {note[0] for worker in one.workers for note in worker.notes("deleted")}
    assert gone, "no deletion was accepted: nothing was tested"
    there = {record["user_id"] for what in ("users", "events") for record in told_by(one.url, what)}
    assert not gone & there, f"deleted, and there: {sorted(gone & there)[:5]}"
    back = {note[0] for worker in one.workers for note in worker.notes("back")}
    records = {record["user_id"]: record["properties"] for record in told_by(one.url, "users")}
    wrong = {user: records.get(user) for user in back if records.get(user) != {"back": True}}
    assert not wrong, f"{len(wrong)} of {len(back)} who came back are not there, or as they were: {wrong}"

    judge.nothing_lost(one.accepted(), {mark for write in told_by(one.url, "applied") for mark in _marks(write)})
    judge.conservation(account)
    assert account.pending == account.dead == 0
    assert "Traceback" not in one.output(), one.output()
    return {
        "deleted": len(gone),
        "back": len(back),
        "jobs": len(deletions(one.url)),
        "dropped": account.dropped,
        "killed during a job": during,
    }


def _marks(write: dict[str, Any]) -> list[str]:
    return [] if write["payload"].get("user_id", "gone-").startswith("gone-") else marks_of(write)

"""The outbox from outside, for the people who run it: what is in it, and what can be done about that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from uuid import uuid4

import attrs

from .._account.ledger import CHUNK
from .._calls.stored import UNREADABLE, runs
from .._errors.tree import OutboxError
from .._outbox.admin import DeadLetter, Holder, Inspection, Rebound, Retried, check_kinds, keys_in
from ._answers import Snapshot, retried_of, sender_of
from ._codec import Entry, accepted_at, account_of, decoded
from ._lease import holder_of
from ._outbox import RedisOutbox
from ._store import VERSION
from ._visit import at_once, visiting

NUMBER = re.compile(rb"\d{1,15}(\.\d{1,15})?")  # a moment, as the scripts write it


def look(outbox: RedisOutbox) -> Inspection:
    """What there is to see. Raises `OutboxError`."""
    with visiting(outbox) as visit:
        sight = visit.sight
    return Inspection(
        place=outbox.place,
        destination=sight.destination,
        sender=_holder(sight),
        account=account_of(sight.counts),
        oldest=None if sight.first is None else _accepted(sight.first),
        now=sight.now,
        under_way=sight.under_way,
        lost=sight.lost,
        version=sight.version,
        bytes_in_memory=sight.memory,
    )


def holder(outbox: RedisOutbox) -> Holder | None:
    """Who has the sender's lease. Raises `OutboxError`."""
    with visiting(outbox) as visit:
        return _holder(visit.sight)


def _holder(sight: Snapshot) -> Holder | None:
    return None if sight.lease is None else _noted(sight.lease, sight.now)


def _noted(lease: bytes, now: float) -> Holder:
    try:
        said = holder_of(lease)
        since = float(said["since"])
        return Holder(int(said["pid"]), str(said["host"]), since, now - since)
    except (*UNREADABLE, OverflowError):
        return Holder()


def _accepted(entry: Entry) -> float | None:
    fields = entry[1]
    try:
        return accepted_at(fields[b"t"], decoded(fields[b"c"])[1])
    except UNREADABLE:
        return None


@attrs.frozen
class StoredDeadLetter:
    """A lost call, and in which entry it is kept."""

    entry: str
    lost: DeadLetter


def lost(outbox: RedisOutbox, reasons: Sequence[str] = ()) -> tuple[str | None, list[DeadLetter]]:
    """To which server the calls go, and those that are kept though they are dead or dropped, oldest first.

    With ``reasons``, only those. Raises `OutboxError`.
    """
    with visiting(outbox) as visit:
        kept = [kept_in(entry) for entry in visit.entries("lost") if is_ours(entry)]
        destination = visit.sight.destination
    found = [one.lost for one in kept if not reasons or one.lost.reason in reasons]
    return destination, sorted(found, key=lambda one: one.id)


def is_ours(entry: Entry) -> bool:
    """An entry of the lost calls, and none that somebody else has put among them."""
    fields = entry[1]
    numbers = [fields.get(name, b"") for name in (b"t", b"l")]
    return fields.get(b"i", b"").isdigit() and all(NUMBER.fullmatch(one) for one in numbers)


def kept_in(entry: Entry) -> StoredDeadLetter:
    """What an entry of the lost calls says."""
    fields = entry[1]
    at, lost_at, kind, key, call = float(fields[b"t"]), float(fields[b"l"]), "", "", None
    try:
        stored, age = decoded(fields[b"c"])
        at, kind, key = accepted_at(fields[b"t"], age), stored.kind, stored.key
        key, call = ", ".join(keys_in(key)), stored.call()
    except UNREADABLE:  # damaged
        pass
    status, reason, detail = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"u", b"r", b"d"))
    return StoredDeadLetter(
        entry[0].decode(), DeadLetter(int(fields[b"i"]), at, kind, key, lost_at, status, reason, detail, call)
    )


def retry(outbox: RedisOutbox, reasons: Sequence[str] = (), ids: Sequence[int] = ()) -> Retried:
    """Put dead and dropped calls back: at the end of the line, in their order, with the time of their acceptance.

    All of them, or those of these reasons, and of these ids. They are accepted once more, under new ids; where there
    are many, in several steps. Raises `OutboxError`.
    """
    with visiting(outbox) as visit:
        visit.begin_to_change()
        entries = [entry for entry in visit.entries("lost") if is_ours(entry)]
        kept = sorted(map(kept_in, entries), key=lambda one: one.lost.id)
        chosen = [one for one in kept if not reasons or one.lost.reason in reasons]
        chosen = [one for one in chosen if not ids or one.lost.id in ids]
        back = [one.entry for one in chosen if one.lost.call is not None]
        wait_again: list[int] = []
        for some in at_once(back):
            first, count = retried_of(visit.run("retry", *some))
            wait_again += range(first, first + count)
    return Retried(runs(wait_again), len(chosen) - len(back), sorted(set(ids) - {one.lost.id for one in kept}))


def rebind(outbox: RedisOutbox, destination: str, fingerprint: Callable[[bytes], str]) -> Rebound:
    """Give the outbox to another account, or to the same one with another key. Raises `OutboxError`."""
    with visiting(outbox) as visit:
        sight = visit.sight
        waiting = account_of(sight.counts).waiting
        check_kinds(outbox.place, sight.destination, destination, waiting + sight.lost)
        if sight.lease is None:
            visit.begin_to_change(destination, fingerprint)
        salt = os.urandom(16)
        owner = (destination, salt.hex(), fingerprint(salt))
        lease = sight.lease or sender_of(visit.run("rebind", *owner, uuid4().hex, CHUNK, VERSION))
        if lease is not None:
            raise OutboxError(f"{outbox.place} has a sender, which would go on with the old key: end it first")
    return Rebound(sight.destination, waiting)

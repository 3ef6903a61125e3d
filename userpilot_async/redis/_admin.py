"""The outbox from outside, for the people who run it: what is in it, and what can be done about that.

Each step is a short script, as those of the processes that use it are, and Redis goes on serving them in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal
from uuid import uuid4

from .._account.pages import PAGE
from .._calls.stored import runs
from .._errors.tree import OutboxError
from .._outbox.admin import (
    EVERY_ONE,
    DeadLetter,
    DeadLetters,
    Holder,
    Inspection,
    PurgeReport,
    Rebound,
    Retried,
    Selection,
    Subject,
    check_rebinding,
)
from .._outbox.away import Away, OtherGeneration
from .._outbox.owner import Claim, Owner, owner_unknown
from .._outbox.pages import Page, UnfinishedUpload, WaitingCall
from ._access import PAIRS_AT_ONCE
from ._answers import Snapshot, opened_of, pairs_of, retried_of, scanned_of, sender_of, snapshot_of
from ._codec import Entry, account_of
from ._link import Answer, Connection, Step
from ._opening import VERSION
from ._pages import StoredDeadLetter, accepted, is_ours, kept_in, lost_page, waiting_page
from ._purge import AT_ONCE, Place, Search, at_once


class RedisAdmin:
    """An outbox that ``connect`` gives a connection to, under its name in messages."""

    kind: Literal["redis"] = "redis"

    def __init__(self, connect: Callable[[], Connection], place: str) -> None:
        self.place = place
        self._connect = connect

    def inspect(self) -> Inspection:
        """All that there is to see, at one moment. Raises `OutboxError`."""
        with visiting(self._connect, self.place) as visit:
            seen = visit.snapshot
        return Inspection(
            place=self.place,
            destination=seen.destination,
            sender=_holder(seen),
            account=account_of(seen.counts),
            oldest=None if seen.first is None else accepted(seen.first),
            now=seen.now,
            under_way=seen.under_way,
            lost=seen.lost,
            version=seen.version,
            bytes_in_memory=seen.memory,
            spent=seen.spent,
            uploads=[UnfinishedUpload(name, kind, len(calls)) for name, kind, calls in seen.files if calls],
        )

    def holder(self) -> Holder | None:
        """The holder of the sender's lease. Raises `OutboxError`."""
        with visiting(self._connect, self.place) as visit:
            return _holder(visit.snapshot)

    def waiting(self, after: str, limit: int, ids: Collection[str] = ()) -> Page[WaitingCall]:
        """The next calls that wait, in short scripts. Raises `OutboxError`, and `ValueError` for a wrong place."""
        with visiting(self._connect, self.place) as visit:
            return waiting_page(visit, after, limit, ids)

    def lost(self, after: str, limit: int, reason: str | None = None) -> Page[DeadLetter]:
        """The next lost calls that are kept, in the order in which they were lost. Raises as `waiting`."""
        with visiting(self._connect, self.place) as visit:
            return lost_page(visit, after, limit, reason)

    def dead_letters(self, chosen: Selection = EVERY_ONE) -> DeadLetters:
        """The chosen dead and dropped calls that are kept. Raises `OutboxError`."""
        with visiting(self._connect, self.place) as visit:
            kept = [one.lost for one in visit.dead_letters()]
        return DeadLetters(visit.snapshot.destination, [one for one in kept if chosen.takes(one.id, one.reason)])

    def retry(self, chosen: Selection = EVERY_ONE) -> Retried:
        """Put the chosen dead letters back at the end of the line; where there are many, in several steps.

        Raises `OutboxError`.
        """
        with visiting(self._connect, self.place) as visit:
            visit.begin_to_change()
            kept = visit.dead_letters()
            meant = [one for one in kept if chosen.takes(one.lost.id, one.lost.reason)]
            back = [one.entry for one in meant if one.lost.call is not None]
            wait_again: list[int] = []
            for some in at_once(back):
                first, count = retried_of(visit.run("retry", *some))
                wait_again += range(first, first + count)
        return Retried(runs(wait_again), len(meant) - len(back), chosen.missing(one.lost.id for one in kept))

    def rebind(self, claim: Claim) -> Rebound:
        """Give the outbox to another account, or to the same one with another key. Raises `OutboxError`."""
        with visiting(self._connect, self.place) as visit:
            seen = visit.snapshot
            before, waiting = seen.destination, account_of(seen.counts).waiting

            def check(lease: bytes | None) -> None:
                calls, has_sender = waiting + seen.lost, lease is not None
                check_rebinding(self.place, before, claim.destination, calls, has_sender=has_sender)

            check(seen.lease)
            visit.begin_to_change(claim)
            owner = claim.owner()
            fields = (owner.destination, owner.salt.hex(), owner.fingerprint)
            check(sender_of(visit.run("rebind", *fields, uuid4().hex, PAGE, VERSION)))
        return Rebound(before, waiting)

    def purge(self, whose: Subject, *, really: bool = True) -> PurgeReport:
        """Erase a person or a company; not ``really``, only count how much that would be. Raises `OutboxError`.

        What Redis has written to its own files, it has there until it writes them anew; and where much waits, in its
        memory until the calls beside it are gone.
        """
        with visiting(self._connect, self.place) as visit:
            if really:
                visit.begin_to_change()
            return Search(visit, whose, visit.snapshot.destination or "", really=really).purge()


class Visit:
    """A connection to the outbox, which ``place`` is the name of, and what there was when it was made."""

    def __init__(self, link: Connection, place: str) -> None:
        self._link = link
        self._run_id = link.connect()
        self.reached = ""
        """The last entry that `entries` has read."""
        self.snapshot = snapshot_of(link.run(Step("show")))
        if not self.snapshot.about and not self.snapshot.counts:
            raise OutboxError(f"{place} has no outbox: no client has opened it yet, or Redis was emptied")
        if self.snapshot.version > VERSION:
            raise OutboxError(f"{place} is of a newer version than this one, {VERSION}")
        self._generation = self.snapshot.about.get("generation", "")

    def begin_to_change(self, claim: Claim | None = None) -> None:
        """Before anything is written: after a restart of the server, a generation begins with it, as with a client.

        With a claim, an outbox that does not say any more whose it is becomes the claimant's.
        """
        about = self.snapshot.about
        owner = tuple(about.get(name, "") for name in ("destination", "salt", "fingerprint"))
        takes = not about and claim is not None
        if takes and claim is not None:
            owner = _fields_of(claim.owner())
        # No generation is known here, and no revision: whether calls went missing is for those to say who know.
        step = Step("open", "", 0, "", self._run_id, uuid4().hex, VERSION, *owner, int(takes), PAGE, 0)
        self._generation = opened_of(self._link.run(step)).generation

    def run(self, name: str, *arguments: str | bytes | float) -> Answer:
        """The answer of one script, under the guard of the generation."""
        return self._link.run(Step(name, self._generation, *arguments))

    def entries(self, place: Place, texts: Sequence[bytes] = (), *, behind: str = "") -> Iterator[Entry]:
        """All entries that are there, or those in whose calls one of these texts stands, and damaged ones."""
        self.reached, more = behind, True
        while more:
            found, more = self.some(place, AT_ONCE, texts, behind=self.reached)
            yield from found

    def pairs(self) -> Iterator[tuple[bytes, int]]:
        """All pairs of keys that are kept, each with its number."""
        last, more = 0, True
        while more:
            found = pairs_of(self.run("pairs", last, PAIRS_AT_ONCE))
            more = bool(found)
            last = found[-1][1] if found else last
            yield from found

    def some(
        self, place: Place, count: int, texts: Sequence[bytes] = (), *, behind: str = ""
    ) -> tuple[Sequence[Entry], bool]:
        """Of the next ``count`` entries those that `entries` would give; and whether there may be more behind them."""
        self.reached, more, found = scanned_of(self.run("scan", place, behind, "+", count, *texts))
        return found, more

    def dead_letters(self) -> list[StoredDeadLetter]:
        """All lost calls that are kept, by their ids."""
        return sorted((kept_in(one) for one in self.entries("lost") if is_ours(one)), key=lambda one: one.lost.id)


@contextmanager
def visiting(connect: Callable[[], Connection], place: str) -> Iterator[Visit]:
    """Visit the outbox. Raises `OutboxError`, also where Redis does not answer: a person does not want to wait."""
    link = connect()
    try:
        yield Visit(link, place)
    except Away as error:
        raise OutboxError(f"{place} {error.does} ({error})") from error
    except OtherGeneration as error:
        raise OutboxError(f"{place} has just started again, was emptied, or was moved: try again") from error
    except OutboxError as error:
        if "OWNER" not in str(error):
            raise
        raise owner_unknown(place) from None
    finally:
        link.close()


def _fields_of(owner: Owner) -> tuple[str, str, str]:
    """An owner as scripts get it."""
    return owner.destination, owner.salt.hex(), owner.fingerprint


def _holder(seen: Snapshot) -> Holder | None:
    if seen.lease is None:
        return None
    return Holder.of(seen.lease.split(b" ", 2)[-1], seen.now)  # behind the token, which is two words

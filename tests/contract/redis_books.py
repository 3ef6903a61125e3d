"""What the scripts of the outbox in Redis do, again: plain Python on sets and dictionaries, one method a script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

Stretches = Sequence[Sequence[int]]
PAGE = 65_536
MOST_LOST_BYTES = 64 * 1024 * 1024
AT_ONCE = 100  # lost calls that are forgotten together where there is no room


@attrs.define
class Lost:
    """A dead or dropped call."""

    call_id: int
    call: bytes
    size: int
    status: str
    reason: str
    detail: str
    ms: int = -1
    """When the server has noted it."""
    era: int = 0
    """How often the server had been started again then."""


@attrs.define
class Done:
    """What is known of a client's last step."""

    seq: int = 0
    burnt: int = 0
    put: int = 0
    refused: int = 0
    fenced: int = 0


@attrs.frozen
class Unknown:
    """What may have been done that nobody knows of, as the data of now may have been set back."""

    requests: bool = False
    """Requests were made: their tokens are spent."""
    below: int = 0
    """With calls of lower ids in them."""
    eras: int = 0
    """Calls that were lost in so many eras were tried again."""


@attrs.frozen
class Begun:
    """How the generation of now began."""

    unknown: Unknown = Unknown()
    """The unknown until this generation began."""
    at: int = 0
    """The first id of this generation."""
    sender: str = ""
    """The last sender then, as the data has it."""


@attrs.define
class Books:
    """All that the outbox in Redis holds."""

    generation: str | None = None
    run_id: str = ""
    fence: int = 0
    sender: str = ""
    """The last sender, by its token."""
    unknown: Unknown = Unknown()
    begun: Begun = Begun()
    resent: int = 0
    """Calls from before this generation that were sent in it, and that are not in doubt."""
    era: int = 0
    is_lost: bool = False
    """Somebody knows of more than was there when this generation began."""
    ended: dict[str, tuple[int, int, int]] = attrs.field(factory=dict)
    told_lost: dict[str, int] = attrs.field(factory=dict)
    """Generations that were lost, and how many calls were ambiguous at the end of them."""
    told_gone: set[str] = attrs.field(factory=set)
    account: Counter[str] = attrs.field(factory=Counter)
    log: dict[int, tuple[bytes, int]] = attrs.field(factory=dict)
    news: dict[int, list[Any]] = attrs.field(factory=dict)
    lease: str = ""
    requests: dict[str, list[Any]] = attrs.field(factory=dict)
    spent: dict[str, bool] = attrs.field(factory=dict)
    """Number and budget; true if the token has come back."""
    files: dict[str, list[Any]] = attrs.field(factory=dict)
    sent: set[int] = attrs.field(factory=set)
    again: set[tuple[int, int]] = attrs.field(factory=set)
    parts: dict[str, int] = attrs.field(factory=dict)
    lost: list[Lost] = attrs.field(factory=list)
    pairs: dict[str, int] = attrs.field(factory=dict)
    clients: dict[str, Done] = attrs.field(factory=dict)

    # ── scripts ──

    def open(
        self, client: str, known: str, revision: int, token: str, run_id: str, new: str, *, ambiguous: int = 0,
        since: int | None = None, before: Sequence[str] = (), set_back: bool = False,
    ) -> tuple[str, str, int, int, int]:  # fmt: skip
        fate, at, explains, since_step = "same", 0, 0, self.clients.get(client, Done()).seq
        if self.generation is None:
            self.generation, self.run_id = new, run_id
        elif self.run_id != run_id or (known == self.generation and (set_back or revision > self.account["revision"])):
            by_hand = self.run_id == run_id
            self._begin(new, run_id)
            if by_hand:
                self.news, self.begun = {}, attrs.evolve(self.begun, sender=token)
        if known and known != self.generation:
            fate = "kept" if not set_back and revision <= self.ended.get(known, (-1, 0, 0))[0] else "lost"
            there = [self.ended[one] for one in (known, *before) if one in self.ended]
            _, at, counted = there[0] if there else (0, 0, 0)
            is_last = bool(token) and token == self.begun.sender
            if fate == "kept" and is_last:
                self.unknown = self.begun.unknown
            elif fate == "lost":
                self._lose(known, counted, ambiguous)
                if is_last and since is not None and since <= since_step:
                    explains = 1
                elif token and int(token.split()[0]) > int((self.begun.sender or "0").split()[0]):
                    self.account["ambiguous"] += self.resent
                    self.resent = 0
                    self.unknown = attrs.evolve(self.unknown, below=self.begun.at)
                    self.begun = attrs.evolve(self.begun, sender=token)
        return self.generation, fate, at, explains, since_step if explains else 0

    def _begin(self, new: str, run_id: str) -> None:
        assert self.generation is not None
        next_id = self.account["next_id"]
        self.ended[self.generation] = self.account["revision"], next_id, self.account["ambiguous"]
        self.account["next_id"] = math.ceil(next_id / PAGE) * PAGE
        self.begun = Begun(self.unknown, self.account["next_id"], self.sender)
        self.era += 1
        self.again, self.is_lost = set(), False
        self.unknown, self.resent = Unknown(True, self.begun.at, self.era), 0
        self.generation, self.run_id = new, run_id

    def _lose(self, known: str, counted: int, ambiguous: int) -> None:
        self.is_lost = True
        if known not in self.told_lost:
            self.told_lost[known] = counted
            self.unknown = attrs.evolve(self.unknown, requests=True)
        if ambiguous > self.told_lost[known]:
            self.account["ambiguous"] += ambiguous - self.told_lost[known]
            self.told_lost[known] = ambiguous

    def explain(self, token: str, stretches: Stretches, is_all: bool) -> int:
        stretches = [(first, min(last, self.begun.at - 1)) for first, last in stretches]
        self._mark_sent(stretches)
        self.account["ambiguous"] += self._count_again(stretches, self.begun.at)
        if is_all and token == self.begun.sender:
            self.unknown = attrs.evolve(self.unknown, below=self.begun.unknown.below)
        self._publish([])
        return 1

    def reset(self, lost: str, known: int) -> None:
        if lost not in self.told_gone:
            self.told_gone.add(lost)
            self.account["resets"] = max(self.account["resets"], known) + 1
            self._publish([])

    def write(
        self, client: str, seq: int, token: str, oldest: int, notes: dict[str, Any] | None, calls: Sequence[bytes],
        sizes: Sequence[int],
    ) -> tuple[int, int, int, int] | None:  # fmt: skip
        done = self.clients.setdefault(client, Done())
        if done.seq >= seq:
            return None
        said: list[Any] = []
        fenced = forgotten = 0
        if notes is not None:
            fenced = int(not token or token != self.lease)
            if not fenced:
                forgotten = self._note(notes, said, oldest)
        for pair in notes["pairs"] if notes is not None else ():
            if pair not in self.pairs:
                self.account["pairs"] += 1
                self.pairs[pair] = self.account["pairs"]
        first = self.account["next_id"] = max(self.account["next_id"], max(self.log, default=-1) + 1)
        for call, size in zip(calls, sizes, strict=True):
            self.log[self._next_id()] = call, size
            self.account["bytes"] += size
        if notes is not None and (self.is_lost or self.unknown.below >= self.begun.at):
            self.account["ambiguous"] += notes.get("again", 0)
        refused = self.account["next_id"]
        for status, reason, count in notes["refused"] if notes is not None else ():
            self._conclude(said, status, reason, [self._next_id() for _ in range(count)], [])
        self._publish(said)
        self.clients[client] = Done(seq, done.burnt, first, refused, fenced)
        return first, refused, fenced, forgotten

    def resolve(self, client: str, seq: int, gone: Sequence[int]) -> tuple[int, int, int] | None:
        done = self.clients.setdefault(client, Done())
        if done.seq < seq:
            done.seq = done.burnt = seq
        if done.burnt == seq:
            return None
        for place in gone:
            self.account["accepted"] -= len(self._erase([(done.put + place, done.put + place)]))
        self._publish([])
        return done.put, done.refused, done.fenced

    def take_lease(self, token: str, client: str, wants: bool) -> str:
        if token and token == self.lease:
            return token
        if not wants or (self.lease and self.lease.split()[1] != client):
            return ""
        self.fence += 1
        self.lease = self.sender = f"{self.fence} {client}"
        return self.lease

    def inherit(self, token: str) -> bool:
        if not token or token != self.lease:
            return False
        for number, (budget, stretches) in self.requests.items():
            self.account["ambiguous"] += self._mark_sent(stretches)
            self.spent[f"{number} {budget}"] = False
        self.requests = {}
        self._tokens_come_back()
        self._publish([])
        return True

    def aside(self, token: str, ids: Sequence[int]) -> int:
        if not token or token != self.lease:
            return 0
        said: list[Any] = []
        there = self._erase([(one, one) for one in ids], self._burying("dead", "damaged", ""))
        self._conclude(said, "dead", "damaged", there, [])
        self._publish(said)
        return len(there)

    def reconcile(self, token: str, read_to: int) -> tuple[int, int | None]:
        if not token or token != self.lease:
            return 0, None
        missing = max(0, self.waiting - len(self.log))
        self.account["dead:damaged"] += missing
        if not self.log:
            self.account["bytes"] = 0
        if missing:
            self._publish([])
        return missing, min((one for one in self.log if one < read_to), default=None)

    def purge(self, stretches: Stretches) -> int:
        said: list[Any] = []
        there = self._erase(stretches)
        self._conclude(said, "dropped", "purged", there, [])
        if there:
            self._publish(said)
        return len(there)

    def purge_lost(self, places: Sequence[int]) -> int:
        for place in sorted(places, reverse=True):
            self.account["lost_bytes"] -= self.lost.pop(place).size
        return len(places)

    def retry(self, places: Sequence[int]) -> tuple[int, int]:
        first = self.account["next_id"]
        for place in places:
            one = self.lost[place]
            self.account["ambiguous"] += one.era < self.unknown.eras
            self.log[self._next_id()] = one.call, one.size
            self.account["bytes"] += one.size
        self.purge_lost(places)
        if places:
            self._publish([])
        return first, len(places)

    @property
    def waiting(self) -> int:
        """As the account has it."""
        settled = ("delivered", "merged", "dead:", "dropped:")
        gone = sum(count for name, count in self.account.items() if name.startswith(settled) and name != "merged_lost")
        return self.account["accepted"] - gone

    # ── what they share ──

    def _next_id(self) -> int:
        self.account["next_id"] += 1
        self.account["accepted"] += 1
        return self.account["next_id"] - 1

    def _note(self, notes: dict[str, Any], said: list[Any], oldest: int) -> int:
        for call_id, text in notes["parts"]:
            if call_id in self.log:
                self.parts[text] = call_id
        forgotten = 0
        for status, label, carriers, merged, detail in notes["settled"]:
            keep = None if status == "delivered" or label == "deleted" else self._burying(status, label, detail)
            of_carriers, of_merged = self._erase(carriers, keep), self._erase(merged, keep)
            self._conclude(said, status, label, of_carriers, of_merged)
            if keep is not None:
                forgotten += self._forget(oldest)
        for number, budget, stretches, filename, kind, last_calls, filed in notes["begun"]:
            for ids in (stretches, filed):
                self.account["ambiguous"] += self._count_again(ids, self.unknown.below)
                if self.begun.at > self.unknown.below:
                    self.resent += self._count_again(ids, self.begun.at)
            self.requests[number] = [budget, stretches]
            if filename:
                self.files[filename] = [kind, last_calls]
        for number, budget, answered, count, lost in notes["landed"]:
            was_there = self.requests.pop(number, None) is not None
            if was_there and answered is not None:
                self.spent[f"{number} {budget}"] = False
                self.account["ambiguous"] += 0 if answered else count
            self._mark_sent(lost)
        for filename in notes["forgotten"]:
            self.files.pop(filename, None)
        self._tokens_come_back()
        return forgotten

    def _within(self, stretches: Stretches, ids: Iterable[int]) -> list[int]:
        return [one for first, last in stretches for one in sorted(ids) if first <= one <= last]

    def _erase(self, stretches: Stretches, keep: Callable[[int, bytes, int], None] | None = None) -> list[int]:
        there = self._within(stretches, self.log)
        for call_id in there:
            call, size = self.log.pop(call_id)
            self.account["bytes"] -= size
            if keep is not None:
                keep(call_id, call, size)
        self.sent.difference_update(self._within(stretches, self.sent))
        counted = set(self._within(stretches, {call_id for _, call_id in self.again}))
        self.again = {(below, call_id) for below, call_id in self.again if call_id not in counted}
        gone = set(self._within(stretches, set(self.parts.values())))
        self.parts = {text: call_id for text, call_id in self.parts.items() if call_id not in gone}
        return there

    def _burying(self, status: str, reason: str, detail: str) -> Callable[[int, bytes, int], None]:
        def keep(call_id: int, call: bytes, size: int) -> None:
            self.lost.append(Lost(call_id, call, size, status, reason, detail, era=self.era))
            self.account["lost_bytes"] += size

        return keep

    def _forget(self, oldest: int) -> int:
        old = sum(1 for one in self.lost if 0 <= one.ms <= oldest)
        self._dig_up(old)
        forgotten = old
        while self.account["lost_bytes"] > MOST_LOST_BYTES:
            some = min(AT_ONCE, len(self.lost))
            self._dig_up(some)
            forgotten += some
        self.account["forgotten"] += forgotten
        return forgotten

    def _dig_up(self, count: int) -> None:
        self.account["lost_bytes"] -= sum(one.size for one in self.lost[:count])
        del self.lost[:count]

    def _mark_sent(self, stretches: Stretches) -> int:
        there = self._within(stretches, self.log)
        self.sent.update(there)
        return len(there)

    def _count_again(self, stretches: Stretches, below: int) -> int:
        there = {(below, call_id) for call_id in self._within(stretches, self.log) if call_id < below}
        new = there - self.again
        self.again |= new
        return len(new)

    def _tokens_come_back(self) -> None:
        self.spent = {name: back for name, back in self.spent.items() if not back}

    def _conclude(
        self, said: list[Any], status: str, label: str | None, carriers: list[int], merged: list[int]
    ) -> None:
        if not carriers and not merged:
            return
        if status == "delivered":
            self.account["delivered"] += len(carriers)
            if label is not None:
                self.account[f"by:{label}"] += len(carriers)
        else:
            self.account[f"{status}:{label}"] += len(carriers)
            self.account["merged_lost"] += len(merged)
        self.account["merged"] += len(merged)
        said.append([status, label, _stretches(carriers), _stretches(merged)])

    def _publish(self, said: list[Any]) -> None:
        self.account["revision"] += 1
        if said:
            self.news[self.account["revision"]] = said


def _stretches(ids: Iterable[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for one in ids:
        if found and found[-1][1] == one - 1:
            found[-1][1] = one
        else:
            found.append([one, one])
    return found

"""A Parcelvoy server, a few lines long, around the real schedule, and a judge who knows every call by its number."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import attrs

from tests.harness import judge
from tests.rules.schedule.world import FaultyServer, World
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._schedule.routes.route import Request
from userpilot_async.parcelvoy import Alias, Call, Device, Identify, ParcelvoySettings, Track
from userpilot_async.parcelvoy._destination import checked_call, parcelvoy

DEVICE = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}
POISON = "poison"
IDS = ("anonymous_id", "external_id")


def track(number: int, name: str = "event", **ids: str) -> Track:
    """An event that can be told from all others."""
    return Track(name, **ids, data={"n": number})


def identify(number: int, data: dict[str, Any] | None = None, **fields: str | None) -> Identify:
    """An identify that leaves its number behind in whatever it is merged into."""
    return Identify(**fields, data={**(data or {}), f"n{number}": number})


def device(number: int, **ids: str) -> Device:
    """A device of its own."""
    return Device(f"d{number}", **ids, **DEVICE)


def wire_body(call: Call) -> dict[str, Any]:
    """What goes over the wire for a call that nothing merges with."""
    return {name: value for name, value in call.as_dict().items() if name != "type"}


@attrs.frozen
class Sent:
    """What the server saw of one."""

    at: float
    route: str
    events: int = 0
    size: int = 0
    """Bytes of the events in it."""
    status: int | None = None


@attrs.frozen
class Applied:
    """What one request, or one event of an array, has done. ``numbers`` are the calls in it."""

    kind: str
    """Either ``track``, ``identify``, ``alias`` or ``device``."""
    numbers: tuple[int, ...]
    body: dict[str, Any]


@attrs.define
class ParcelvoyServer(FaultyServer):
    """Takes events in arrays, all of one or nothing, and every other call."""

    most_bytes: int | None = None
    """A larger array is a 413."""
    poison: str = POISON
    """Events of this name are refused, with all that came in the same array."""
    poison_status: int = 422
    refuses_repeats: bool = False
    """An alias can be made once, as the documentation says; a real server takes it again."""
    requests: list[Sent] = attrs.field(factory=list)
    applied: list[Applied] = attrs.field(factory=list)
    applied_by_request: list[list[Applied]] = attrs.field(factory=list)
    """The same, in the requests that were answered 204, or would have been."""
    aliases: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """How often each was asked for, and understood."""
    lost_aliases: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    lost_events: int = 0

    def stamp(self, work: Request, now: float) -> None:
        """With what it carries, as the server can count it."""
        events = json.loads(work.body) if work.endpoint.name == "events" else []
        size = len(work.body) - len(events) - 1 if events else 0  # without brackets and commas
        self.requests.append(Sent(now, work.endpoint.name, len(events), size))

    def note_lost(self, work: Request) -> None:
        """Events may become doubles; an alias may be said twice."""
        if work.endpoint.name == "events":
            self.lost_events += self.requests[-1].events
        if work.endpoint.name == "alias":
            self.lost_aliases[_pair(json.loads(work.body))] += 1

    def apply(self, work: Request, now: float) -> tuple[int, Any]:
        """Whole or not at all."""
        body = json.loads(work.body)
        before = len(self.applied)
        status = self._events(body) if work.endpoint.name == "events" else self._call(work.endpoint.name, body)
        self.requests[-1] = attrs.evolve(self.requests[-1], status=status)
        if status == 204:
            self.applied_by_request.append(self.applied[before:])
        return status, None

    def _events(self, array: list[dict[str, Any]]) -> int:
        if self.most_bytes is not None and self.requests[-1].size > self.most_bytes:
            return 413
        if not array or any(event["name"] == self.poison for event in array):
            return self.poison_status
        self.applied += [Applied("track", (event["data"]["n"],), event) for event in array]
        return 204

    def _call(self, route: str, body: dict[str, Any]) -> int:
        numbers: Iterable[int] = ()
        if route == "alias":
            self.aliases[_pair(body)] += 1
            if self.refuses_repeats and any(done.kind == "alias" and done.body == body for done in self.applied):
                return 422
        elif route == "identify":  # one that the client puts before a device has none
            numbers = sorted(int(name[1:]) for name in body["data"] if name.startswith("n"))
        else:
            numbers = (int(body["device_id"][1:]),)
        self.applied.append(Applied("device" if route == "devices" else route, tuple(numbers), body))
        return 204

    def numbers(self, kind: str = "track") -> list[int]:
        """The calls of a kind as they were applied, repeats and all."""
        return [number for done in self.applied if done.kind == kind for number in done.numbers]

    def events_sent(self) -> list[Sent]:
        """Requests that carried arrays of events."""
        return [request for request in self.requests if request.route == "events"]


def _pair(body: dict[str, Any]) -> tuple[str, str]:
    return body["anonymous_id"], body["external_id"]


class ParcelvoySimulation(World):
    """`World` with Parcelvoy in it. A call's place in ``accepted`` is its number."""

    def __init__(
        self, seed: int = 1, settings: ParcelvoySettings | None = None, trouble: float = 0.0, latency: float = 0.3,
        *, keeps_pairs: bool = True,
    ) -> None:  # fmt: skip
        chance = random.Random(seed)
        self.settings = settings or ParcelvoySettings()
        self.server = ParcelvoyServer(chance, trouble)
        destination = parcelvoy(self.settings)
        if not keeps_pairs:
            destination = attrs.evolve(destination, pairs=None)
        super().__init__(chance, self.server, self.settings, destination, latency)
        self.accepted: list[Call] = []
        self.receipts: list[Receipt] = []

    def put(self, *calls: Call) -> None:
        """Accept these calls at this moment."""
        for call in calls:
            self.accepted.append(call)
            self.receipts.append(self.outbox.put(*checked_call(call), self.now))

    def track(self, count: int, *, poison: Iterable[int] = (), persons: int | None = None) -> None:
        """Accept so many events, each of another person or taking turns between ``persons``; some spoil an array."""
        spoilt = set(poison)
        for n in range(len(self.accepted), len(self.accepted) + count):
            self.put(track(n, POISON if n in spoilt else "event", external_id=f"u{n % (persons or count)}"))

    # ── what must hold after `drain` ──

    def check(self) -> None:
        """I1 to I5, and what is promised of arrays, aliases and the rate."""
        self.check_account()
        self.check_order()
        self.check_rows()
        self.check_arrays()
        self.check_aliases()
        self.check_prefaces()
        applied = self.server.numbers()
        assert self.schedule.possible_duplicates == self.server.lost_events
        assert len(applied) - len(set(applied)) <= self.schedule.possible_duplicates
        if self.settings.requests_per_minute is not None:
            stamps = (request.at for request in self.server.requests)
            judge.requests_in_any_minute(stamps, self.settings.requests_per_minute)

    def check_account(self) -> None:
        """Each call has one fate; what spoils an array is dead and nothing else is; the rest is at the server."""
        ledger = self.outbox.ledger
        lost = ledger.dead.total() + ledger.dropped.total()
        assert ledger.accepted == len(self.accepted) == ledger.delivered + ledger.merged + lost
        assert (0, 0, 0) == (ledger.pending, self.outbox.waiting_calls, self.outbox.waiting_bytes)
        by_status: dict[str, list[int]] = {}
        for receipt in self.receipts:
            by_status.setdefault(receipt.status, []).append(receipt.id)
        judge.conservation_by_id(range(len(self.accepted)), by_status)
        poison = {n for n, call in enumerate(self.accepted) if isinstance(call, Track) and call.name == POISON}
        refused = poison | self._of_others()
        assert refused == {n for n in by_status.get("dead", []) if self.receipts[n].reason == "invalid"}
        assert len(refused) == lost and not ledger.merged_lost
        there = set(self._first_applied())
        assert there == set(range(len(self.accepted))) - refused - set(self._repeated_aliases())

    def check_order(self) -> None:
        """Each person's calls are first applied as they were accepted; only an identify may join one before a track."""
        first, repeated, of_others = self._first_applied(), set(self._repeated_aliases()), self._of_others()
        same: dict[str, set[str]] = {}  # every id of a person's leads to the same set
        by_person: dict[int, list[int]] = {}
        for n, call in enumerate(self.accepted):
            if n in of_others:
                continue
            ids = _ids(call)
            known = {id(found): found for one in ids for found in [same.setdefault(one, {one})]}
            person = set[str]().union(*known.values())
            earlier = sorted(m for found in known.values() for m in by_person.pop(id(found), []))
            same.update(dict.fromkeys(person, person))
            by_person[id(person)] = [*earlier, n]
            if n in repeated or n not in first:
                continue
            for m in earlier:
                if m in first and m not in repeated:
                    self._check_pair(m, n, first)

    def _check_pair(self, earlier: int, later: int, first: dict[int, int]) -> None:
        if first[earlier] == first[later] and self.server.applied[first[later]].kind == "identify":
            return
        if isinstance(self.accepted[later], Identify) and isinstance(self.accepted[earlier], Track):
            joined = min(self.server.applied[first[later]].numbers)
            if joined < earlier:  # it merged into one that had been accepted before the track
                return
        assert first[earlier] < first[later], (
            f"{self.accepted[later]} was applied before {self.accepted[earlier]}, which was accepted earlier"
        )

    def check_rows(self) -> None:
        """What an identify says is what its calls say one after the other: later values win, and None is one."""
        for done in self.server.applied:
            if done.kind == "identify":
                fields: dict[str, Any] = {}
                data: dict[str, Any] = {}
                for number in done.numbers:
                    call = self.accepted[number]
                    assert isinstance(call, Identify)
                    fields.update(call.fields())
                    data.update(call.data)
                ids = {} if done.numbers else {name: done.body[name] for name in IDS if name in done.body}
                assert {**fields, **ids, "data": data} == done.body

    def check_arrays(self) -> None:
        """Never more than one request takes, unless one event alone is larger."""
        for sent in self.server.events_sent():
            assert 1 <= sent.events <= self.settings.max_events
            assert sent.events == 1 or sent.size <= self.settings.max_bytes
        assert 0 == self.schedule._queues.waiting_events  # or later events would linger too long, or not at all

    def check_aliases(self) -> None:
        """Each is said once; again if an answer to it was lost, or if a call by the anonymous id alone came after it:
        perhaps the first that the server sees, which has done nothing with the alias then.
        """
        alone = Counter(call.anonymous_id for call in self.accepted if call.external_id is None)
        for pair, times in self.server.aliases.items():
            most = 1 + self.server.lost_aliases[pair] + alone[pair[0]]
            assert times <= most, f"alias {pair} was sent {times} times"

    def check_prefaces(self) -> None:
        """An alias of its ids goes before a call with both, and an identify of the person before a device."""
        aliases: set[tuple[str, str]] = set()
        persons: list[dict[str, str]] = []
        for done in self.server.applied:
            ids = {name: done.body[name] for name in IDS if name in done.body}
            if done.kind == "alias":
                aliases.add(_pair(ids))
                continue
            assert len(ids) == 1 or _pair(ids) in aliases, f"{done} has no alias before it"
            assert done.kind != "device" or ids in persons, f"{done} has no identify before it"
            if done.kind == "identify" and not done.numbers:
                persons.append(ids)
        of_others = self._of_others()
        sent = [call for n, call in enumerate(self.accepted) if n not in of_others]
        devices = {tuple(_ids(call)) for call in sent if isinstance(call, Device)}
        assert len(devices) == len({tuple(ids.items()) for ids in persons})
        assert aliases == {pair for call in sent if (pair := _pair_of(call)) is not None}

    def _first_applied(self) -> dict[int, int]:
        """Where each call first took effect, by its number; an alias that is said again, where it was said first."""
        first: dict[int, int] = {}
        said_at = {_pair(call.as_dict()): n for n, call in self._aliases()}
        for position, done in enumerate(self.server.applied):
            said = said_at.get(_pair(done.body)) if done.kind == "alias" else None
            for number in done.numbers if said is None else (said,):
                first.setdefault(number, position)
        return first

    def _aliases(self) -> list[tuple[int, Alias]]:
        """Those that say something new: no earlier call has both of the ids."""
        others = {*self._repeated_aliases(), *self._of_others()}
        return [(n, call) for n, call in enumerate(self.accepted) if isinstance(call, Alias) and n not in others]

    def _of_others(self) -> set[int]:
        """Calls that give an anonymous id to a second person."""
        owners: dict[str, str] = {}
        pairs = [(n, pair) for n, call in enumerate(self.accepted) if (pair := _pair_of(call)) is not None]
        return {n for n, (anonymous, external) in pairs if owners.setdefault(anonymous, external) != external}

    def _repeated_aliases(self) -> list[int]:
        seen: set[tuple[str, str]] = set()
        of_others = self._of_others()
        repeated = []
        for n, call in enumerate(self.accepted):
            pair = _pair_of(call) if n not in of_others else None
            if pair in seen and isinstance(call, Alias):
                repeated.append(n)
            if pair is not None:
                seen.add(pair)
        return repeated


def _pair_of(call: Call) -> tuple[str, str] | None:
    both = call.anonymous_id is not None and call.external_id is not None
    return _pair(call.as_dict()) if both else None


def _ids(call: Call) -> list[str]:
    ids = (("e", call.external_id), ("a", call.anonymous_id))
    return [f"{kind}:{value}" for kind, value in ids if value is not None]

"""The schedule with Parcelvoy against a sequential model: order across ids, arrays, aliases, under every trouble."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.parcelvoy_simulation import (
    IDS,
    POISON,
    ParcelvoySimulation,
    device,
    identify,
    track,
    wire_body,
)
from userpilot_async.emulator import Store
from userpilot_async.emulator.parcelvoy._store import Store as ParcelvoyStore
from userpilot_async.parcelvoy import Alias, Call, Device, ParcelvoySettings

PERSONS = {"a0": "e0", "a1": "e1", "a2": "e0", "a3": "e1", "a4": "e0"}
"""Browsers, and who sits before them."""

VALUES = st.one_of(st.none(), st.integers(0, 5), st.just({"deep": [1, {"er": None}]}))
DATA = st.dictionaries(st.sampled_from("pqr"), VALUES, max_size=3)
FIELDS = st.dictionaries(st.sampled_from(["email", "phone", "locale"]), st.sampled_from(["x", "y"]), max_size=2)
KINDS = ["track", "track", "track", "poison", "identify", "identify", "alias", "device"]
PAUSES = st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.5, 20.0])
Timed = list[tuple[Call, float]]
Said = tuple[str, dict[str, Any]]
"""A call as the server takes it: its kind and its body."""


@st.composite
def calls(draw: st.DrawFn, *, shared: bool = False) -> Timed:
    """Calls with the time that passes before each; ``shared``: different people use the same browser."""
    made: Timed = []
    for _ in range(draw(st.integers(1, 40))):
        number, kind = len(made), draw(st.sampled_from(KINDS))
        ids = draw(_ids(both=kind == "alias", shared=shared))
        if kind == "alias":
            call: Call = Alias(**ids)
        elif kind == "identify":
            call = identify(number, draw(DATA), **ids, **draw(FIELDS))
        elif kind == "device":
            call = device(number, **ids)
        else:
            call = track(number, POISON if kind == "poison" else "event", **ids)
        made.append((call, draw(PAUSES)))
    return made


@st.composite
def _ids(draw: st.DrawFn, *, both: bool, shared: bool) -> dict[str, str]:
    anonymous_id = draw(st.sampled_from(sorted(PERSONS)))
    external_id = draw(st.sampled_from(["e0", "e1", "e2"])) if shared else PERSONS[anonymous_id]
    ids = {"anonymous_id": anonymous_id, "external_id": external_id}
    known_by = "both" if both else draw(st.sampled_from(["both", "anonymous_id", "external_id"]))
    return ids if known_by == "both" else {known_by: ids[known_by]}


@st.composite
def worlds(draw: st.DrawFn) -> ParcelvoySimulation:
    """Servers in all moods, and settings that make arrays of two as well as of all."""
    run = ParcelvoySimulation(
        draw(st.integers(0, 2**32)),
        ParcelvoySettings(
            max_events=draw(st.sampled_from([1, 2, 3, 5, 500])),
            max_bytes=draw(st.sampled_from([1, 150, 400, 512 * 1024])),
            flush_interval=draw(st.sampled_from([0.0, 1.0])),
            requests_per_minute=draw(st.sampled_from([None, None, 6, 60])),
            burst=draw(st.sampled_from([1, 100])),
            concurrency=draw(st.sampled_from([1, 2, 8])),
        ),
        trouble=draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])),
    )
    run.server.most_bytes = draw(st.sampled_from([None, None, 120, 300]))  # one event has less than 90
    return run


def lived_through(run: ParcelvoySimulation, made: Timed) -> ParcelvoySimulation:
    """The same world after these calls, some more trouble, and its end."""
    for call, pause in made:
        run.run(pause)
        run.put(call)
    run.run(100.0)
    run.drain()
    return run


thorough = settings(max_examples=length.of(400), deadline=None)


@thorough
@given(run=worlds(), made=calls())
def test_whatever_happens_each_call_takes_effect_once_and_in_its_persons_order(
    run: ParcelvoySimulation, made: Timed
) -> None:
    lived_through(run, made).check()


@thorough
@given(run=worlds(), made=calls(shared=True))
def test_so_it_does_where_people_share_browsers(run: ParcelvoySimulation, made: Timed) -> None:
    """A client refuses calls that give an anonymous id to a second person; of another process's, the sender does."""
    lived_through(run, made).check()


LOGINS: Timed = [(Alias("a0", "e0"), 20.0), (Alias("a0", "e0"), 20.0), (Alias("a2", "e0"), 20.0)]


@thorough
@example(run=ParcelvoySimulation(), made=LOGINS)
@given(
    run=worlds(),
    made=st.lists(st.tuples(st.builds(Alias, st.sampled_from(["a0", "a2", "a4"]), st.just("e0")), PAUSES), min_size=1),
)
def test_logins_on_ones_browsers_over_and_over_do_nobody_harm(run: ParcelvoySimulation, made: Timed) -> None:
    lived_through(run, made).check()
    assert 0 == len(run.schedule._queues)


TWO_IDS: Timed = [
    (identify(0, anonymous_id="a0"), 20.0),
    (identify(1, external_id="e0"), 20.0),
    (track(2, external_id="e0", anonymous_id="a0"), 0.0),
    (identify(3, external_id="e0"), 0.0),
    (identify(4, anonymous_id="a0"), 0.0),
]
"""The server knows them apart, and neither an alias nor an event with both ids changes that."""


ALIAS_TOO_EARLY: Timed = [(Alias("a0", "e0"), 20.0), (track(1, anonymous_id="a0"), 20.0)]
AND_THEN_BOTH: Timed = [*ALIAS_TOO_EARLY, (track(2, external_id="e0", anonymous_id="a0"), 0.0)]
AT_ONCE: Timed = [(call, 0.0) for call, _ in AND_THEN_BOTH]
AND_AGAIN: Timed = [*ALIAS_TOO_EARLY, (Alias("a0", "e0"), 0.0)]
"""The server does nothing with the alias of somebody whom it has not met."""


@thorough
@example(run=ParcelvoySimulation(), made=TWO_IDS)
@example(run=ParcelvoySimulation(), made=AND_THEN_BOTH)
@example(run=ParcelvoySimulation(), made=AT_ONCE)
@example(run=ParcelvoySimulation(), made=AND_AGAIN)
@given(run=worlds(), made=calls())
def test_the_server_knows_of_everybody_what_sequential_calls_would_have_told_it(
    run: ParcelvoySimulation, made: Timed
) -> None:
    """The emulator's store is asked: it knows whom a call with two ids is about, and shares no code with us."""
    lived_through(run, made)

    assert everybody(one_after_the_other(made)) == everybody([(done.kind, done.body) for done in run.server.applied])


@thorough
@example(run=ParcelvoySimulation(), made=TWO_IDS)
@example(run=ParcelvoySimulation(), made=AND_THEN_BOTH)
@example(run=ParcelvoySimulation(), made=AT_ONCE)
@given(run=worlds(), made=calls())
def test_a_call_with_both_ids_finds_them_on_one_person(run: ParcelvoySimulation, made: Timed) -> None:
    """Unless the server knew the two apart."""
    lived_through(run, made)
    store = Store().parcelvoy

    for done in run.server.applied:
        pair = (done.body.get("anonymous_id", ""), done.body.get("external_id", ""))
        before = [store.find(one) for one in pair]
        apply(store, done.kind, done.body)
        after = [store.find(one) for one in pair]
        if done.kind != "alias" and all(pair):
            browser, person = after
            were_apart = None not in before and before[0] is not before[1]
            # The server keeps one anonymous id of a person, and may have forgotten this one.
            assert browser is person or browser is None or were_apart, done


def one_after_the_other(made: Timed) -> list[Said]:
    """The calls with what has to be said before them. An alias again does no harm, and the one before may be lost."""
    said: list[Said] = []
    for call, _ in made:
        body, ids = wire_body(call), {name: value for name, value in wire_body(call).items() if name in IDS}
        alias: Said = ("alias", ids)
        person: Said = ("identify", {**ids, "data": {}})
        needed = [alias] if len(ids) == 2 else []
        needed += [person] if isinstance(call, Device) else []
        said += [one for one in needed if one not in said or one is alias]
        if not isinstance(call, Alias) and getattr(call, "name", "") != POISON:
            said.append((type(call).__name__.lower(), body))
    return said


def apply(store: ParcelvoyStore, kind: str, body: dict[str, Any]) -> None:
    """Do what the server does with a call of this kind."""
    {"identify": store.identify, "alias": store.alias, "device": store.register, "track": store.post}[kind](body, 0.0)


def everybody(calls: list[Said]) -> dict[str, Any]:
    """What the server knows of each id after these calls, which ids are one person's, and what it has lost."""
    store = Store().parcelvoy
    for kind, body in calls:
        apply(store, kind, body)
    found = {one: store.find(one) for one in sorted({*PERSONS, "e0", "e1", "e2"})}
    known: dict[str, Any] = {
        one: (user.external_id, user.anonymous_ids, user.fields, user.data, user.devices)
        for one, user in found.items()
        if user is not None
    }
    lost = (one for one in store.lost if one.kind != "alias")  # of which one more or less is nothing
    return {**known, "lost": {(one.kind, repr(sorted(one.payload.items())), one.reason) for one in lost}}


@settings(max_examples=length.of(40), deadline=None)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.0, 0.3]))
def test_a_crowd_goes_in_arrays_and_still_ends_up_right(seed: int, trouble: float) -> None:
    run = ParcelvoySimulation(seed, ParcelvoySettings(max_events=50, requests_per_minute=120), trouble)
    chance = run.chance

    for number in range(600):
        person = chance.randrange(60)
        ids: dict[str, Any] = {"external_id": f"e{person}", "anonymous_id": f"a{person}-{chance.randrange(2)}"}
        if chance.random() < 0.8:
            del ids[chance.choice(sorted(ids))]
        kind = chance.random()
        if kind < 0.7:
            run.put(track(number, POISON if chance.random() < 0.01 else "event", **ids))
        elif kind < 0.9 or len(ids) == 1:
            run.put(identify(number, {chance.choice("pqr"): chance.choice([None, number])}, **ids))
        else:
            run.put(Alias(**ids))
        run.run(chance.choice([0.0, 0.0, 0.0, 0.5]))
    run.drain()

    run.check()
    assert 1.5 < len(run.server.numbers()) / sum(sent.status == 204 for sent in run.server.events_sent())

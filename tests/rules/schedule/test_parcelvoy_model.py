"""The schedule with Parcelvoy against a sequential model: order across ids, arrays, aliases, under every trouble."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.rules.schedule.parcelvoy_simulation import POISON, ParcelvoySimulation, device, identify, track, wire_body
from userpilot_async.emulator import Store
from userpilot_async.parcelvoy import Alias, Call, ParcelvoySettings

PERSONS = {"a0": "e0", "a1": "e1", "a2": "e0", "a3": "e1", "a4": "e0"}
"""Browsers, and who sits before them."""

VALUES = st.one_of(st.none(), st.integers(0, 5), st.just({"deep": [1, {"er": None}]}))
DATA = st.dictionaries(st.sampled_from("pqr"), VALUES, max_size=3)
FIELDS = st.dictionaries(st.sampled_from(["email", "phone", "locale"]), st.sampled_from(["x", "y"]), max_size=2)
PAUSES = st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.5, 20.0])
Timed = list[tuple[Call, float]]


@st.composite
def calls(draw: st.DrawFn, *, shared: bool = False) -> Timed:
    """Calls with the time that passes before each; ``shared``: different people use the same browser."""
    made: Timed = []
    for number in range(draw(st.integers(1, 40))):
        kind = draw(st.sampled_from(["track", "track", "track", "poison", "identify", "identify", "alias", "device"]))
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
    lived_through(run, made).check()


LOGINS: Timed = [(Alias("a0", "e0"), 20.0), (Alias("a0", "e0"), 20.0), (Alias("a0", "e1"), 20.0)]


@thorough
@example(run=ParcelvoySimulation(), made=LOGINS)
@given(
    run=worlds(),
    made=st.lists(st.tuples(st.builds(Alias, st.just("a0"), st.sampled_from(["e0", "e1", "e2"])), PAUSES), min_size=1),
)
def test_logins_on_one_browser_over_and_over_do_nobody_harm(run: ParcelvoySimulation, made: Timed) -> None:
    lived_through(run, made).check()
    assert 0 == len(run.schedule._queues)


TWO_IDS: Timed = [
    (identify(0, anonymous_id="a0"), 20.0),
    (identify(1, external_id="e0"), 20.0),
    (track(2, external_id="e0", anonymous_id="a0"), 0.0),
    (identify(3, external_id="e0"), 0.0),
    (identify(4, anonymous_id="a0"), 0.0),
]
"""The server knows them apart, and an event with both ids does not change that."""


@thorough
@example(run=ParcelvoySimulation(), made=TWO_IDS)
@given(run=worlds(), made=calls())
def test_the_server_knows_of_everybody_what_sequential_calls_would_have_told_it(
    run: ParcelvoySimulation, made: Timed
) -> None:
    """The emulator's store is asked: it knows whom a call with two ids is about, and shares no code with us."""
    lived_through(run, made)
    wanted = [(type(call).__name__.lower(), wire_body(call)) for call, _ in made if getattr(call, "name", "") != POISON]

    assert everybody(wanted) == everybody([(done.kind, done.body) for done in run.server.applied])


def everybody(calls: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """What the server knows of each id after these calls, and which ids are one person's."""
    store = Store().parcelvoy
    for kind, body in calls:
        if kind != "alias" or not store.alias_errors(body):
            {"identify": store.identify, "alias": store.alias, "device": store.register, "track": store.post}[kind](
                body, 0.0
            )
    found = {one: store.find(one) for one in sorted({*PERSONS, "e0", "e1", "e2"})}
    return {
        one: (user.external_id, sorted(user.anonymous_ids), user.fields, user.data)
        for one, user in found.items()
        if user is not None
    }


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

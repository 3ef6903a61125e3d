"""The protocol of the outbox in Redis, in all the states that a small world of it can come to.

About 340,000 states are visited, in some thirty seconds; on a push, a tenth of them. What this proves, it proves of the
model, which leaves out: more than one call in a step, requests whose answer gets lost, tokens that come back, and time,
but for leases that end. That the scripts do what the model's server does is for `test_redis_scripts`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness import length
from tests.rules.redis.lease_model import Client, Server, State, Steps, World, Wrong, at_the_end, explore, invariant


def world(*to_put: str, waiting: str = "", **trouble: Any) -> State:
    """A client for each of ``to_put``, with a call for each letter; ``waiting`` are calls that the server has."""
    server = Server(
        next_id=len(waiting),
        accepted=len(waiting),
        log=tuple(enumerate(waiting)),
        clients=tuple(Steps() for _ in to_put),
    )
    return State(server, tuple(Client(to_put=tuple(calls)) for calls in to_put), **trouble)


SCENES = {
    "two senders, two calls": world("", "", waiting="ab", breaks=1, expiries=1),
    "a sender is killed": world("", "", waiting="a", breaks=1, expiries=1, deaths=1),
    "three senders": world("", "", "", waiting="a", expiries=2),
    "two put, one of them sends": world("a", "b", breaks=2),
    "one puts while others send": world("a", "", waiting="x", breaks=1, expiries=1),
    "the server starts again": world("a", "b", restarts=1, saves=1),
    "it starts again, and commands come late": world("ab", breaks=1, restarts=1, saves=1),
    "it starts again twice": world("", "", waiting="x", restarts=2, saves=1),
    "it is set back twice": world("", waiting="x", restarts=2, saves=2),
    "it is set back, and another one sent last": world("", "", waiting="x", restarts=1, saves=1, expiries=1),
    "it is set back, and a put is in doubt": world("a", "", restarts=1, saves=1, breaks=1),
}

TWICE = "were sent once too often"
LEFT_OUT = {
    "fence": "with an old token has changed something",
    "new fence": "two clients have settled under the same term",
    "step number": "a call is there twice",
    "burn": "a call is there twice",
    "doubt": "a call is there twice",
    "fence remembered": "nothing is noted",
    "requests under way": "nothing is noted",
    "generation": "a call is there twice",
    "lost": "believes that its calls are held",
    "earlier loss": "nothing is noted",
    "in doubt": TWICE,
    "explain": TWICE,
    "earlier doubt": TWICE,
    "count restored": TWICE,
    "later sender": "nothing is noted",
    "put again": TWICE,
}
"""Rules, and what goes wrong without them: notes need the lease; each lease has another number; a step is done once; a
step that was not done will not be done later; nobody goes on while that is in doubt; who asks later learns as well that
he was fenced; a new sender takes over requests; steps say which data they are for; whoever knows of more than is there
is told; and an earlier loss is not forgotten for a later restart that has lost nothing. Of what was sent twice because
data was set back, all is counted: what waits is in doubt; who sent last says what it sent since; what was in doubt
before that still is; what had been counted is counted again; a later sender knows better; and a call that is put again
may have been there."""

CATCHERS = {
    "step number": "two put, one of them sends",
    "burn": "two put, one of them sends",
    "doubt": "two put, one of them sends",
    "generation": "it starts again, and commands come late",
    "lost": "the server starts again",
    "earlier loss": "it starts again twice",
    "in doubt": "it is set back twice",
    "explain": "it is set back twice",
    "earlier doubt": "it is set back twice",
    "count restored": "it is set back twice",
    "later sender": "it is set back, and another one sent last",
    "put again": "it is set back, and a put is in doubt",
}


# None of this is about a line of ours: a push walks only through what is short.
LONG = {
    "one puts while others send", "the server starts again", "two put, one of them sends", "it starts again twice",
    "it starts again, and commands come late", "it is set back, and another one sent last",
    "it is set back, and a put is in doubt",
}  # fmt: skip
WALKED = [scene for scene in SCENES if length.CHOSEN not in ("edge", "push") or scene not in LONG]


@pytest.mark.parametrize("scene", WALKED)
def test_nothing_goes_wrong_in_any_order_of_events(scene: str) -> None:
    rules = World()

    explored = explore(SCENES[scene], rules.actions, invariant, at_the_end)
    assert explored.states > 4_000  # or the scene has lost what makes it one


@pytest.mark.parametrize("rule", [rule for rule in LEFT_OUT if CATCHERS.get(rule) in (None, *WALKED)])
def test_the_checker_finds_what_goes_wrong_without(rule: str) -> None:
    rules = World(without=rule)

    with pytest.raises(Wrong, match=LEFT_OUT[rule]):
        explore(SCENES[CATCHERS.get(rule, "two senders, two calls")], rules.actions, invariant, at_the_end)


def test_a_complaint_tells_the_shortest_story() -> None:
    with pytest.raises(Wrong) as complaint:
        explore(SCENES["two senders, two calls"], World(without="fence").actions, invariant, at_the_end)

    told = str(complaint.value).splitlines()
    assert [
        "what A noted with an old token has changed something",
        "  1. A takes the lease",
        "  2. A takes over what was left",
        "  3. A looks, and reads a",
        "  4. A is stopped for long, and its lease ends",
        "  5. A notes that it makes request A1 (step 1)",
    ] == told[:-1]


def test_the_checker_finds_where_there_is_no_way_on() -> None:
    """A circle that trouble leads into, and nothing out of: no state of it is wrong."""

    def actions(state: int):  # type: ignore[no-untyped-def]  # a generator of what `explore` asks for
        if state == 0:
            yield "all is done", 1, False
            yield "the wrong door", 2, True
        if state >= 2:
            yield "round and round", 5 - state, False

    with pytest.raises(Wrong, match="no way to an end") as complaint:
        explore(0, actions, lambda state: None, lambda state: None)
    assert "the wrong door" in str(complaint.value)

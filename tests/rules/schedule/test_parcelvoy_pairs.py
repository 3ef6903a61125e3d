"""An anonymous id belongs to one person for good: the first call that names both counts, whichever process took it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.rules.schedule.parcelvoy_simulation import ParcelvoySimulation, device, identify, track
from tests.rules.schedule.test_parcelvoy_persons import hasty
from userpilot_async import InvalidCall
from userpilot_async._calls.pairs import sealed_pair, unsealed_pair
from userpilot_async._schedule.settlement import Settlement
from userpilot_async.parcelvoy import Alias, Call, _pairs
from userpilot_async.parcelvoy._pairs import Pairs

ANN, BOB = ("e:ann", "a:1"), ("e:bob", "a:1")
PAIR = ("a:1", "e:ann")
TO_BOB: dict[str, Callable[[], Call]] = {
    "alias": lambda: Alias("1", "bob"),
    "identify": lambda: identify(1, {"p": 1}, external_id="bob", anonymous_id="1", email="bob@example.com"),
    "track": lambda: track(1, external_id="bob", anonymous_id="1"),
    "device": lambda: device(1, external_id="bob", anonymous_id="1"),
}


def refusals(run: ParcelvoySimulation) -> Iterator[Settlement]:
    """What is settled of calls that the sender refuses itself, as they are taken in."""
    for ticket in run.outbox.take(100):
        run.schedule.add(ticket)
        yield from run.schedule.settled.done
        run.carry_on()


# ── in the sender, which sees all calls in the order of acceptance ──


@pytest.mark.parametrize("call", TO_BOB)
def test_a_call_that_gives_an_anonymous_id_to_a_second_person_is_dead_and_never_sent(call: str) -> None:
    run = hasty()
    run.put(Alias("1", "ann"), TO_BOB[call](), track(2, external_id="bob"), track(3, anonymous_id="1"))
    run.drain()

    assert [("delivered", None), ("dead", "invalid"), ("delivered", None), ("delivered", None)] == [
        (one.status, one.reason) for one in run.receipts
    ]
    assert "bob" not in str([done.body for done in run.server.applied if done.numbers != (2,)])
    run.check()


@pytest.mark.parametrize("call", TO_BOB)
def test_on_dead_gets_such_a_call_as_it_was_made_with_the_reason_in_words(call: str) -> None:
    run = hasty()
    made = TO_BOB[call]()
    run.put(track(0, external_id="ann", anonymous_id="1"), made)
    (refused,) = refusals(run)

    assert made == refused.call(run.schedule._to)
    assert "anonymous_id belongs to another external_id" in f"anonymous_id {refused.words.detail}"
    run.drain()
    run.check()


@pytest.mark.parametrize("call", TO_BOB)
def test_such_a_call_is_dead_also_where_only_an_earlier_sender_saw_the_first_one(call: str) -> None:
    run = hasty()
    run.schedule._to.learn_pairs([PAIR])
    run.put(TO_BOB[call]())
    run.drain()

    assert [("dead", "invalid")] == [(one.status, one.reason) for one in run.receipts]
    assert [] == run.server.requests


def test_what_such_a_call_would_have_needed_before_it_is_not_sent_either() -> None:
    run = hasty()
    run.put(track(0, anonymous_id="1", external_id="ann"), device(1, anonymous_id="1", external_id="bob"))
    run.drain()

    assert ["alias", "events"] == [request.route for request in run.server.requests]


def test_a_second_browser_of_the_same_person_is_taken() -> None:
    run = hasty()
    run.put(Alias("1", "ann"), Alias("2", "ann"))
    run.drain()

    assert 2 == run.outbox.ledger.delivered


# ── at the call ──


def test_a_process_refuses_what_it_has_heard_of() -> None:
    pairs = Pairs()
    pairs.learn([PAIR])
    pairs.check(ANN)
    with pytest.raises(InvalidCall, match="anonymous_id belongs to another external_id already"):
        pairs.check(BOB)


def test_the_first_one_that_was_accepted_counts_and_not_what_this_process_said_meanwhile() -> None:
    """Two processes said it within one poll; the outbox has the other one's before ours."""
    pairs = Pairs()
    pairs.check(BOB)
    pairs.learn([PAIR, ("a:1", "e:bob")])
    pairs.check(ANN)
    with pytest.raises(InvalidCall):
        pairs.check(BOB)
    assert [True, False] == [pairs.settle(ANN), pairs.settle(BOB)]


def test_a_call_that_its_process_has_taken_is_no_second_one_for_the_sender() -> None:
    pairs = Pairs()
    pairs.check(ANN)

    assert [True, False, True] == [pairs.settle(ANN), pairs.settle(BOB), pairs.settle("e:bob")]


@pytest.mark.parametrize("way", ["check", "settle"])
def test_of_too_many_the_oldest_are_forgotten(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pairs, "MOST_PAIRS", 10)
    pairs = Pairs()
    for n in range(12):
        getattr(pairs, way)((f"e:{n}", f"a:{n}"))
    known = pairs._said if way == "check" else pairs._kept

    assert [f"a:{n}" for n in range(2, 12)] == list(known)


def test_a_pair_takes_memory_once() -> None:
    pairs = Pairs()
    pairs.check(ANN)
    pairs.settle(ANN)

    assert ({}, {"a:1": "e:ann"}) == (pairs._said, pairs._kept)


# ── as outboxes keep them ──


@pytest.mark.parametrize("pair", [PAIR, ("a:\x00 🛰", 'e:"#')])
def test_a_pair_is_kept_whole(pair: tuple[str, str]) -> None:
    assert pair == unsealed_pair(sealed_pair(pair))


@pytest.mark.parametrize(
    "text", [None, 7, "", b"\0", "[]", sealed_pair(PAIR).replace("ann", "bob"), sealed_pair(PAIR)[1:]]
)
def test_what_is_damaged_is_no_pair(text: object) -> None:
    assert unsealed_pair(text) is None


@pytest.mark.parametrize("value", [["a:1"], ["a:1", 7], ["a", "b", "c"], {"a": "b"}, "ab"])
def test_what_is_sealed_and_is_none_is_no_pair(value: object) -> None:
    assert unsealed_pair(sealed_pair(value)) is None  # type: ignore[arg-type]  # on purpose

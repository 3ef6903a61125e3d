"""Calls that were under way when their sender died: what the next one makes of an answer that nobody has read."""

from __future__ import annotations

import json

import pytest

from tests.rules.schedule.parcelvoy_simulation import Applied, ParcelvoySimulation, device, identify, track
from userpilot_async.parcelvoy import Alias, Call, ParcelvoySettings
from userpilot_async.parcelvoy._destination import checked_call

ALIAS = Alias("a1", "e1")


def heir(*calls: Call, was_sent: bool, settings: ParcelvoySettings | None = None) -> ParcelvoySimulation:
    """A sender that has taken in these calls of a sender before it."""
    run = ParcelvoySimulation(settings=settings)
    run.put(*calls)
    for ticket in run.outbox.take(100):
        run.schedule.add(ticket, was_sent)
    run.carry_on()
    return run


@pytest.mark.parametrize(("was_sent", "status"), [(True, "delivered"), (False, "dead")])
def test_an_alias_that_is_refused_was_done_if_it_may_have_been_sent_before(was_sent: bool, status: str) -> None:
    """What is done once is refused the second time."""
    run = heir(ALIAS, was_sent=was_sent)
    run.server.refuses_repeats = True
    run.server.applied.append(Applied("alias", (), json.loads(checked_call(ALIAS)[2])))  # type: ignore[arg-type]  # bytes
    run.drain()

    assert [status] == [receipt.status for receipt in run.receipts]


def test_an_alias_that_was_under_way_and_never_arrived_is_done_now() -> None:
    run = heir(ALIAS, was_sent=True)
    run.drain()

    assert 1 == run.server.aliases["a1", "e1"]
    run.check()


def test_events_that_were_under_way_are_sent_again_and_counted() -> None:
    run = heir(*(track(n, external_id=f"u{n}") for n in range(5)), was_sent=True)
    run.drain()

    assert 5 == run.schedule.possible_duplicates
    assert list(range(5)) == sorted(run.server.numbers())
    assert 5 == run.outbox.ledger.delivered


def test_events_that_were_under_way_are_dropped_where_a_gap_is_better_than_a_double() -> None:
    events = [track(n, external_id=f"u{n}") for n in range(5)]
    run = heir(*events, was_sent=True, settings=ParcelvoySettings(on_ambiguous="drop"))
    run.drain()

    assert ({"ambiguous": 5}, 0) == (run.outbox.ledger.dropped, run.outbox.ledger.pending)
    assert [] == run.server.numbers()
    assert (0, 0) == (run.outbox.waiting_calls, run.outbox.waiting_bytes)


@pytest.mark.parametrize("on_ambiguous", ["send", "drop"])
def test_what_may_be_said_twice_is_said_again_whatever_the_settings_say(on_ambiguous: str) -> None:
    calls = [identify(0, external_id="u0"), device(1, external_id="u1")]
    run = heir(*calls, was_sent=True, settings=ParcelvoySettings(on_ambiguous=on_ambiguous))  # type: ignore[arg-type]
    run.drain()

    assert ([0], [1]) == (run.server.numbers("identify"), run.server.numbers("device"))
    assert (2, 0) == (run.outbox.ledger.delivered, run.schedule.possible_duplicates)


def test_an_event_that_is_dropped_at_once_is_not_watched_for_the_id_it_would_have_shown() -> None:
    """Or an alias of it would be said again for ever, for want of an answer that cannot come."""
    settings = ParcelvoySettings(on_ambiguous="drop")
    run = heir(track(0, anonymous_id="a1"), was_sent=True, settings=settings)
    run.put(identify(1, anonymous_id="a1"))
    run.drain()
    for number in (2, 3):
        run.put(track(number, external_id="e1", anonymous_id="a1"))
        run.put(track(10 * number, anonymous_id="a1"))
        run.drain()

    assert 1 == len([one for one in run.server.applied if one.kind == "alias"])

"""The oracle must notice what a client may do wrong, or the demo proves nothing."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.make_sample import SAMPLE, bad_lines, lines
from userpilot_async.cli.demo._oracle import World, expected, judge

CALLS: list[dict[str, Any]] = [
    {"type": "identify", "user_id": "u1", "metadata": {"plan": "free", "seat": 1}, "company": {"id": "a", "seats": 2}},
    {"type": "track", "user_id": "u1", "event_name": "Opened", "metadata": {"serial": 1}},
    {"type": "identify", "user_id": "u1", "metadata": {"plan": "pro", "seat": None}, "company": {"id": "b"}},
    {"type": "track", "user_id": "u1", "event_name": "Opened", "metadata": {"serial": 2}},
    {"type": "identify_company", "company_id": "b", "metadata": {"seats": 9}},
]
EVENT = ("u1", "Opened", 2)


@pytest.fixture
def should() -> World:
    return expected(json.dumps(call).encode() for call in CALLS)


def test_a_plain_reading_merges_in_order_and_books_events_on_the_company_of_the_moment(should: World) -> None:
    assert should.users == {"u1": {"plan": "pro"}}
    assert should.membership == {"u1": "b"}
    assert should.companies == {"a": {"seats": 2}, "b": {"seats": 9}}
    assert should.booked == {("u1", "Opened", 1): "a", EVENT: "b"}


def test_a_plain_reading_refuses_every_kind_of_bad_line() -> None:
    assert list(range(1, 13)) == expected(line.encode() for line in bad_lines()).refused


def test_an_equal_world_is_fine(should: World) -> None:
    judgement = judge(should, copy.deepcopy(should))

    assert judgement.fine
    assert str(judgement) == "emulator: 1 users, 2 companies, 2 events, 0 missing, 0 twice"


@pytest.mark.parametrize(
    ("spoil", "missing", "twice", "wrong"),
    [
        (lambda found: found.events.pop(EVENT), 1, 0, 0),
        (lambda found: found.users.pop("u1"), 1, 0, 0),
        (lambda found: found.companies.pop("a"), 1, 0, 0),
        (lambda found: found.events.update([EVENT]), 0, 1, 0),
        (lambda found: found.events.update([("u1", "Opened", 3)]), 0, 0, 1),
        (lambda found: found.users.update(u2={}), 0, 0, 1),
        (lambda found: found.users["u1"].update(plan="free"), 0, 0, 1),
        (lambda found: found.users["u1"].update(seat=1), 0, 0, 1),
        (lambda found: found.companies["b"].clear(), 0, 0, 1),
        (lambda found: found.membership.update(u1="a"), 0, 0, 1),
        (lambda found: found.booked.update({EVENT: "a"}), 0, 0, 1),
    ],
)
def test_each_difference_is_noticed(
    should: World, spoil: Callable[[World], object], missing: int, twice: int, wrong: int
) -> None:
    found = copy.deepcopy(should)
    spoil(found)

    judgement = judge(should, found)

    assert (missing, twice, wrong) == (judgement.missing, judgement.twice, len(judgement.wrong))
    assert not judgement.fine


def test_the_bundled_sample_is_what_its_script_writes() -> None:
    """By content: the compressed bytes differ from zlib to zlib."""
    with gzip.open(SAMPLE, "rt") as sample:
        assert sample.read().splitlines() == lines()


def test_the_bundled_sample_is_as_large_as_promised() -> None:
    with gzip.open(SAMPLE) as sample:
        world = expected(sample)

    assert (2_000, 50, 550, 12) == (len(world.users), len(world.companies), len(world.events), len(world.refused))
    assert 600_000 > SAMPLE.stat().st_size

"""Merging identifies into rows and rows into files, and the queue in which one user's calls wait."""

from __future__ import annotations

import gc
import json
import sys
from array import array
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import names, plain_values
from userpilot_async import Identify, IdentifyCompany
from userpilot_async._calls.payload import IdentifyPayload, WaitingEvent, body_of, packed
from userpilot_async._calls.rows import (
    Row,
    RowState,
    calls_of,
    cut,
    halves,
    last_call_in_file,
    lines_in_file,
    pieces,
    size_in_file,
    unpacked,
)
from userpilot_async._calls.values import MAX_PROPERTIES, size_of
from userpilot_async._schedule.key_queue import KeyQueue
from userpilot_async._schedule.queue_state import FileClaim, QueueState
from userpilot_async._userpilot.destination import bulk_line, merges, realtime_body, row_call

facts = st.dictionaries(names, plain_values, max_size=6)


def row(
    metadata: dict[str, Any] | None = None, company_id: str | None = None, *, kind="user", key="u1", ids=(0,), size=None
) -> Row:
    metadata = metadata if metadata is not None else {}
    fields = None if company_id is None else {"company_id": company_id}
    return Row(kind, key, metadata, fields, array("Q", ids), 0.0, size_of(metadata) if size is None else size)


def rows_of(sizes: list[int]) -> list[Row]:
    return [row(key=str(number), size=size) for number, size in enumerate(sizes)]


# ── merging ──


@given(st.lists(st.dictionaries(st.sampled_from("abc"), plain_values), min_size=1))
def test_key_by_key_the_later_value_wins(said):
    merged = row(dict(said[0]))
    for call_id, metadata in enumerate(said[1:], 1):
        merged.take_in(call_id, metadata, None, size_of(metadata))
    expected: dict[str, Any] = {}
    for metadata in said:
        expected |= metadata

    assert expected == merged.metadata
    assert list(range(len(said))) == list(merged.ids)


def test_an_explicit_none_survives_the_merge():
    """A null removes the property at the server; left out it would stay for ever."""
    merged = row({"plan": "pro"})
    merged.take_in(1, {"plan": None}, None, 60)

    assert {"plan": None} == merged.metadata
    assert b'"plan":null' in bulk_line("user", merged)
    assert b'"plan":null' in realtime_body(merged)


@pytest.mark.parametrize(("later", "kept"), [(None, "acme"), ("initech", "initech")])
def test_the_later_company_wins_if_there_is_one(later, kept):
    merged = row(company_id="acme")
    merged.take_in(1, {}, later and {"company_id": later}, 40)

    assert {"company_id": kept} == merged.fields


def test_a_companys_properties_that_came_with_a_user_bring_no_call():
    merged = row({"plan": "pro"}, kind="company", ids=())
    merged.take_in(None, {"seats": 3}, None, 60)

    assert ([], {"plan": "pro", "seats": 3}) == (list(merged.ids), merged.metadata)


@given(facts, facts)
def test_a_merged_row_has_the_size_of_what_is_in_it_within_two_kilobytes(first, second):
    merged = row(dict(first))
    merged.take_in(1, second, None, size_of(second))

    assert 2_048 >= abs(size_of({**first, **second}) - merged.size)


@pytest.mark.parametrize(
    ("known", "new", "room"),
    [
        (range(400), range(400, 500), True),
        (range(400), range(400, 501), False),
        (range(500), range(500), True),
        (range(500), range(499, 501), False),
        (range(250), range(125, 500), True),
        (range(500), range(0), True),
    ],
    ids=["fills it", "one too many", "the same 500", "one new in 500", "overlapping", "nothing"],
)
def test_a_row_takes_in_what_leaves_it_at_500_properties(known, new, room):
    assert room == row(dict.fromkeys(map(str, known))).has_room_for(dict.fromkeys(map(str, new)), MAX_PROPERTIES)


# ── what a row says on the wire ──


@pytest.mark.parametrize(
    ("said", "realtime", "bulk"),
    [
        (
            row({"plan": "pro"}),
            {"user_id": "u1", "metadata": {"plan": "pro"}},
            {"user_id": "u1", "metadata": {"plan": "pro"}},
        ),
        (
            row({"plan": "pro"}, "acme"),
            # The sources disagree on the name of a company's id: both are sent.
            {"user_id": "u1", "metadata": {"plan": "pro"}, "company": {"id": "acme", "company_id": "acme"}},
            {"user_id": "u1", "company_id": "acme", "metadata": {"plan": "pro"}},
        ),
        (
            row({"seats": 3}, kind="company", key="acme"),
            {"company_id": "acme", "metadata": {"seats": 3}},
            {"company_id": "acme", "metadata": {"seats": 3}},
        ),
    ],
    ids=["user", "user with company", "company"],
)
def test_a_row_goes_over_the_wire_in_realtime_or_in_bulk(said, realtime, bulk):
    assert (realtime, bulk) == (json.loads(realtime_body(said)), json.loads(bulk_line(said.kind, said)))


@given(st.sampled_from(["user", "company"]), names, facts, st.none() | names)
def test_a_packed_row_says_what_the_row_says(kind, key, metadata, company_id):
    fields = {"company_id": company_id} if kind == "user" and company_id is not None else None
    said = Row(kind, key, metadata, fields, array("Q", (7,)), 3.5, 99, said_by=7)
    waiting = packed(key, 7, 3.5, 99, (metadata, fields, 99, None))

    assert attrs.astuple(said) == attrs.astuple(unpacked(kind, waiting))
    assert bulk_line(kind, said) == bulk_line(kind, waiting)
    assert (size_in_file(said), lines_in_file(said)) == (size_in_file(waiting), lines_in_file(waiting))
    assert ([7], 7) == (list(calls_of(waiting)), last_call_in_file(waiting))


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="the collector of Python 3.14 drops no tuples of its own accord"
)
def test_the_garbage_collector_does_not_walk_packed_rows():
    waiting = packed("u1", 7, 3.5, 99, ({"plan": "pro"}, {"company_id": "acme"}, 99, None))
    gc.collect()

    assert not gc.is_tracked(waiting)


@given(facts)
def test_a_bulk_row_is_one_line(metadata):
    line = bulk_line("user", row(metadata))

    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({str(n): n for n in range(500)}, id="many short ones"),
        pytest.param({"bio": "x" * 65_535}, id="a long one"),
        pytest.param({f"{n:0>255}": n for n in range(500)}, id="long names"),
        pytest.param({"bio": "\U0001f600" * 65_535}, id="emoji"),
        pytest.param({"bio": "\n" * 65_535}, id="all of it escaped"),
    ],
)
def test_the_size_of_a_row_is_at_least_half_of_its_bytes_on_the_wire(metadata):
    """`max_queue_bytes` and the size of a bulk file are kept by this number."""
    assert len(bulk_line("user", row(metadata))) <= 2 * size_of(metadata)


@pytest.mark.parametrize(
    ("said", "call"),
    [
        (row({"plan": None}), Identify("u1", {"plan": None})),
        (row({"plan": "pro"}, "acme"), Identify("u1", {"plan": "pro"}, {"id": "acme"})),
        (row({"seats": 3}, kind="company", key="acme"), IdentifyCompany("acme", {"seats": 3})),
    ],
    ids=["user", "user with company", "company"],
)
def test_a_row_can_be_said_as_one_call_again(said, call):
    assert call == row_call(said)


def test_the_call_of_a_user_row_brings_the_properties_of_its_company():
    user = row({"plan": "pro"}, "acme")
    user.needs = (row({"seats": 3}, kind="company", key="acme"), row({"old": 1}, kind="company", key="initech"))

    assert Identify("u1", {"plan": "pro"}, {"id": "acme", "seats": 3}) == row_call(user)


@pytest.mark.parametrize("value", ["initech", 5])
def test_a_company_property_named_id_is_not_the_id_of_the_company(value):
    """`identify_company("acme", {"id": 5})` is allowed, and shares its row with what users say of that company."""
    user = row(company_id="acme")
    user.needs = (row({"id": value}, kind="company", key="acme"),)

    assert "acme" == row_call(user).company["id"]


# ── files ──


@given(st.lists(st.integers(1, 100)), st.integers(1, 20), st.integers(1, 300))
def test_a_file_takes_the_first_rows_within_both_limits_and_at_least_one(sizes, max_rows, max_bytes):
    rows = rows_of(sizes)
    chosen = cut(rows, max_rows, max_bytes)

    assert rows[: len(chosen)] == chosen
    assert min(1, len(rows)) <= len(chosen) <= max_rows
    assert 1 >= len(chosen) or max_bytes >= sum(one.size for one in chosen)


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(1, 20), st.integers(1, 300))
def test_a_file_is_as_full_as_it_can_be(sizes, max_rows, max_bytes):
    rows = rows_of(sizes)
    chosen = cut(rows, max_rows, max_bytes)
    with_one_more = rows[: len(chosen) + 1]

    assert (
        len(chosen) in (len(rows), max_rows)
        or max_bytes < sum(one.size for one in with_one_more)
    )  # fmt: skip


def test_a_row_larger_than_a_file_goes_alone():
    assert 1 == len(cut(rows_of([1_000, 1]), 10, 100))


def test_cutting_reads_no_further_than_it_must():
    rows = iter(rows_of([1] * 10))
    cut(rows, 3, 100)

    assert 7 == len(list(rows))


@given(st.lists(st.just(1), min_size=2, max_size=50))
def test_halves_are_a_partition_of_two_nearly_equal_parts(sizes):
    rows = rows_of(sizes)
    first, second = halves(rows)

    assert rows == first + second
    assert 0 <= len(second) - len(first) <= 1


@given(st.lists(st.integers(40, 2_000), min_size=1, max_size=60), st.integers(40, 4_000))
def test_pieces_hold_about_what_fits_and_a_row_that_is_larger_has_one_to_itself(sizes, most):
    rows = rows_of(sizes)
    parts = pieces(rows, most)
    large = [part for part in parts if part[0].size > most]

    assert all(1 == len(part) for part in large)
    assert large == parts[: len(large)]
    assert [row for row in rows if row.size <= most] == [row for part in parts[len(large) :] for row in part]
    assert all(sum(row.size for row in part) <= 2.1 * most for part in parts[len(large) :])


@given(st.lists(st.integers(40, 2_000), min_size=2, max_size=60))
def test_what_was_refused_never_goes_in_one_piece_again(sizes):
    assert 1 < len(pieces(rows_of(sizes), sum(sizes) // 2))


# ── key queues ──

A_TRACK: WaitingEvent = (9, 1.0, b"{}")


def queue(*calls: Row | WaitingEvent, in_file: Row | None = None) -> KeyQueue:
    claim = None if in_file is None else FileClaim(in_file)
    rows = [call for call in calls if isinstance(call, Row) and in_file is None]
    return KeyQueue("user", "u1", calls=list(calls), open_row=rows[-1] if rows else None, claim=claim)


def taker(waiting: KeyQueue, facts: IdentifyPayload) -> Row | None:
    """The row in this queue that may take these facts in."""
    row = waiting.waiting_row
    return row if row is not None and merges(row, facts, waiting.calls[-1] is row) else None


def test_facts_merge_into_the_newest_row_that_waits():
    waiting = row()

    assert waiting is taker(queue(waiting), ({"a": 1}, None, 1, None))


@pytest.mark.parametrize("state", [state for state in RowState if state is not RowState.WAITING])
def test_facts_do_not_merge_into_a_row_that_is_on_its_way(state):
    leaving = row()
    leaving.state = state

    assert None is taker(queue(leaving), ({"a": 1}, None, 1, None))


def test_facts_do_not_merge_into_a_row_that_would_hold_more_than_500():
    full = row(dict.fromkeys(map(str, range(500))))

    assert None is taker(queue(full), ({"one more": 1}, None, 1, None))


@pytest.mark.parametrize(
    ("company", "behind", "merged"),
    [
        (None, (), True),
        ({"company_id": "acme"}, (), True),
        ({"company_id": "initech"}, (), True),
        (None, (A_TRACK,), True),
        ({"company_id": "acme"}, (A_TRACK,), True),
        ({"company_id": "initech"}, (A_TRACK,), False),
    ],
    ids=[
        "no company", "the same company", "another company",
        "past a track", "the same company past a track", "another company past a track",
    ],
)  # fmt: skip
def test_an_identify_moves_ahead_of_a_track_only_if_the_user_stays_with_their_company(company, behind, merged):
    """Every event is booked on the company its user belongs to at that moment."""
    waiting = row(company_id="acme")

    assert merged == (taker(queue(waiting, *behind), ({}, company, 1, None)) is waiting)


IN_FILE, ALONE = row(), row()
ALONE.alone = True


@pytest.mark.parametrize(
    ("waiting", "state"),
    [
        (queue(), QueueState.IDLE),
        (queue(A_TRACK), QueueState.EVENTS),
        (queue(row()), QueueState.MERGING),
        (queue(row(), A_TRACK), QueueState.URGENT),
        (queue(row(), row()), QueueState.URGENT),
        (queue(ALONE), QueueState.URGENT),
        (queue(IN_FILE, in_file=IN_FILE), QueueState.PARKED),
        (queue(IN_FILE, row(), in_file=IN_FILE), QueueState.PARKED),
        (queue(IN_FILE, A_TRACK, in_file=IN_FILE), QueueState.URGENT),
        (queue(row(), A_TRACK, in_file=IN_FILE), QueueState.PARKED),
        (queue(A_TRACK, in_file=IN_FILE), QueueState.EVENTS),
        (queue(in_file=IN_FILE), QueueState.PARKED),
    ],
    ids=[
        "empty", "a track", "a row", "a track behind a row", "a row behind a row", "a row that files fail with",
        "in a file", "a row behind one in a file", "a track behind one in a file", "repeated, and then a row",
        "repeated, and then a track", "repeated",
    ],
)  # fmt: skip
def test_a_queues_state_follows_from_its_head_and_what_is_behind_it(waiting, state):
    assert state is waiting.state


def test_the_next_call_has_the_age_and_no_failures_of_its_own():
    waiting = queue(row(), A_TRACK)
    waiting.failed(3)
    waiting.pop()

    assert (1.0, 0) == (waiting.head_time, waiting.failures)


def test_a_row_that_left_takes_in_no_more():
    leaving = row()
    waiting = queue(leaving)
    waiting.pop()

    assert None is taker(waiting, ({}, None, 0, None))


@pytest.mark.parametrize("event", [b"{}", (b"{}", None)], ids=["without time", "with its time"])
def test_the_body_of_an_event_goes_without_its_time(event):
    assert b"{}" == body_of(event)

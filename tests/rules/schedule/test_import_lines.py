"""A person's pending identify and events as lines of an import file, and what is remembered of people for that."""

from __future__ import annotations

import json
from array import array
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from userpilot_async._calls.payload import Event
from userpilot_async._calls.rows import Row, RowState
from userpilot_async._calls.values import checked_moment
from userpilot_async._schedule import property_cache
from userpilot_async._schedule.property_cache import PropertyCache
from userpilot_async._userpilot.calls import track_body
from userpilot_async._userpilot.destination import import_lines
from userpilot_async.imports import checked

WALL = datetime(2026, 1, 31, 23, 59, 58, tzinfo=UTC).timestamp()


def row(metadata: dict[str, Any] | None = None, *events: Event, key: str = "ü1", **rest: Any) -> Row:
    """A row that a file carries, with events of the seconds 1, 2, 3 …"""
    rest = {"fields": None, "state": RowState.BATCHED, **rest}
    made = Row("user", key, metadata or {}, ids=array("Q", [0]), accepted_at=0.25, size=10, **rest)
    made.events = [(n, float(n), event) for n, event in enumerate(events, 1)]
    return made


def lines_of(row: Row, known: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    lines = list(import_lines(row, row.metadata if known is None else known, lambda at: WALL + at))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [json.loads(line) for line in lines]


def test_the_identify_goes_first_and_each_event_has_its_time() -> None:
    events = [track_body("ü1", 'a "b"\n', {"n": n}) for n in range(2)]

    identify, *tracks = lines_of(row({"plan": "pro"}, *events), {"plan": "pro", "gone": None})

    assert {
        "event_type": "identify_user", "user_id": "ü1", "source": "backend-http-import",
        "inserted_at": "2026-01-31T23:59:58.250000", "metadata": {"plan": "pro", "gone": None},
    } == identify  # fmt: skip
    assert [("track", "ü1", 'a "b"\n', {"n": 0}, "2026-01-31T23:59:59.000000"),
            ("track", "ü1", 'a "b"\n', {"n": 1}, "2026-02-01T00:00:00.000000")] == [
        (one["event_type"], one["user_id"], one["event_name"], one["metadata"], one["inserted_at"]) for one in tracks
    ]  # fmt: skip


def test_an_event_that_says_when_it_happened_has_that_time_in_utc() -> None:
    moment = datetime(2025, 12, 24, 18, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    moments = [checked_moment(moment), datetime.max.replace(tzinfo=UTC)]
    lines = lines_of(row({}, *((track_body("ü1", "paid", {}), one) for one in moments), state=RowState.ANSWERED))

    assert ["2025-12-24T13:00:00.000000", "9999-12-31T23:59:59.999999"] == [line["inserted_at"] for line in lines]


def test_a_row_that_has_its_answer_makes_no_line() -> None:
    assert ["track"] == [
        line["event_type"] for line in lines_of(row({"a": 1}, track_body("ü1", "e", {}), state=RowState.ANSWERED))
    ]


def test_a_row_says_its_company() -> None:
    (line,) = lines_of(row({}, fields={"company_id": "acme"}))

    assert "acme" == line["company_id"]


@pytest.mark.parametrize("metadata", [{}, {"a": None, "b": 1.5, "c": True, "d": "x"}])
def test_what_goes_is_what_an_import_may_hold(metadata: dict[str, Any]) -> None:
    for line in lines_of(row(metadata, track_body("ü1", "e", {"n": 1}), fields={"company_id": "acme"})):
        assert line["event_type"] == checked(line)["event_type"]


def test_what_was_said_of_somebody_is_known_and_the_row_itself_knows_best() -> None:
    known = PropertyCache()
    known.learn("ü1", {"plan": "free", "seats": 1, "gone": 1})
    known.learn("ü1", {"seats": 2, "gone": None})

    assert {"plan": "pro", "seats": 2, "gone": None} == known.of(row({"plan": "pro"}))
    assert {"plan": "pro"} == known.of(row({"plan": "pro"}, key="somebody else"))


def test_who_was_spoken_of_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_cache, "MAX_REMEMBERED", 3 * (property_cache.PERSON + property_cache.PROPERTY + 4))
    known = PropertyCache()
    for user_id in ("u1", "u2", "u3", "u1", "u4"):
        known.learn(user_id, {user_id: 1})

    assert [{"u3": 1}, {"u1": 1}, {"u4": 1}] == [known.of(row(key=key)) for key in ("u3", "u1", "u4")]
    assert {} == known.of(row(key="u2"))


def test_to_say_the_same_again_and_again_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(property_cache, "MAX_REMEMBERED", 2 * (property_cache.PERSON + property_cache.PROPERTY + 100))
    known = PropertyCache()
    known.learn("u1", {"a": 1})
    for _ in range(1_000):
        known.learn("u2", {"text": "x" * 80})

    assert [{"a": 1}, {"text": "x" * 80}] == [known.of(row(key=key)) for key in ("u1", "u2")]

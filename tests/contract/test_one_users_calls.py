"""The calls of one user among those of all others: no index has them, and no look takes long."""

from __future__ import annotations

import pytest

from tests.contract.conftest import NewProcess
from userpilot_async._outbox import window
from userpilot_async._outbox.window import Reading


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_calls_of_one_user_are_found_a_stretch_at_a_time(
    process: NewProcess, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(window, "LOOKED_AT", 5)
    outbox = process()
    users = ["ann"] * 3 + ["ben"] * 17 + ["ann"] * 3 + ["ben"] * 16 + ["ann"]
    ids = [outbox.put("track", user, b"{}", 2, 0.0).id for user in users]
    found: list[int] = []
    start, goes_on = 1, True
    while goes_on:
        read = outbox.store.read(Reading(start, ids[-1], limit, only="ann"))
        found += [one.ticket[0] for one in read.found]
        goes_on = read.full
        assert start < read.read_to or not goes_on
        start = read.read_to

    assert [1, 2, 20, 21, 22] == found


@pytest.mark.parametrize(
    ("start", "end", "looks_to"), [(0, 3, 3), (0, 5, 5), (0, 6, 5), (7, 100, 12), (99, 100, 100), (100, 9, 100)]
)
def test_a_look_for_one_user_ends_after_so_many_ids(
    monkeypatch: pytest.MonkeyPatch, start: int, end: int, looks_to: int
) -> None:
    monkeypatch.setattr(window, "LOOKED_AT", 5)
    assert looks_to == Reading(0, end, 10, only="ann").looks_to(start)

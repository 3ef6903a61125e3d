"""Every implementation of the outbox, and one call of every kind that either destination puts there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from userpilot_async import MemoryOutbox
from userpilot_async._outbox import Outbox

NewOutbox = Callable[[], Outbox]
"""A new, empty one with each call, not open yet."""

OUTBOXES: dict[str, Callable[[Path], NewOutbox]] = {
    "memory": lambda folder: MemoryOutbox,
}
"""By name; each gets a folder of its own that is empty when the test begins."""


@pytest.fixture(params=OUTBOXES)
def new_outbox(request: pytest.FixtureRequest, tmp_path: Path) -> NewOutbox:
    """One test for each implementation."""
    return OUTBOXES[request.param](tmp_path)


@pytest.fixture
def outbox(new_outbox: NewOutbox) -> Outbox:
    """Open, with room for all that a test may put."""
    outbox = new_outbox()
    outbox.open(1_000_000, 10**9)
    return outbox

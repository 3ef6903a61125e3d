"""What the fault tests ask for by name."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def swept() -> Iterator[None]:
    """Collects what this test left behind before the next one begins, so that its warnings are not the next one's."""
    yield
    gc.collect()

"""What the attacks ask for by name."""

from tests.faults.conftest import swept

__all__ = ["swept"]  # a fixture

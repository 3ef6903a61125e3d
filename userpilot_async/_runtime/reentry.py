"""Calls that `on_dead` makes: lost themselves, they are `on_dead`'s again, which must not go round at full speed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

in_on_dead: ContextVar[bool] = ContextVar("userpilot_async.in_on_dead", default=False)
"""True in `on_dead`, and in the tasks that it starts."""


@contextmanager
def marked(inside: bool) -> Generator[None]:
    """Mark what is done in this block as done by `on_dead`, or as not."""
    token = in_on_dead.set(inside)
    try:
        yield
    finally:
        in_on_dead.reset(token)

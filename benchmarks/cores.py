"""Placement on cores: the process that is measured gets a core to itself, as far as this program can see to that.

Otherwise a server that is woken by a request takes the core of the client that has just sent it, and a scheduler's
turn of 3 ms looks like a stall of the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Set


def _available() -> Set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def for_the_measured() -> None:
    """All cores but the last, for this process and those it starts."""
    cores = sorted(_available())
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:-1])


def for_the_rest() -> None:
    """The last core: servers and load."""
    if cores := rest():
        os.sched_setaffinity(0, cores)


def rest() -> list[int]:
    """The last core; none, if there is but one."""
    cores = sorted(_available())
    return cores[-1:] if len(cores) > 1 else []

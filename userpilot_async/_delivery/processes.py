"""Clients where their process forks, or the interpreter ends: each that is alive is notified."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Watched(Protocol):
    """A client, as seen from its process."""

    def _forked(self) -> None: ...

    def _give_up_if_open(self) -> None: ...


_clients: weakref.WeakSet[Watched] = weakref.WeakSet()


def watch(client: Watched) -> None:
    """Notify the client of a fork, in the child, and of the interpreter's end, for as long as it is alive."""
    _clients.add(client)


def _after_fork() -> None:
    for client in list(_clients):
        client._forked()


def _at_exit() -> None:
    """Have open clients say what is left: the interpreter ends, perhaps with their loop."""
    for client in list(_clients):
        client._give_up_if_open()


atexit.register(_at_exit)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

"""The outbox that a command line names, and the package whose functions act on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click

from .._outbox.admin import DeadLetter, Holder, Inspection, PurgeReport, Rebound, Retried, Subject
from .._outbox.url import may_be_url, outbox_at
from .._runtime.environment import variable
from ._exits import NotPossible


def room(name: str, module: str) -> ModuleType:
    """A module of `sqlite` or `redis`; ends the command where there can be none. Not loaded for nothing."""
    try:
        return import_module(f"..{name}.{module}", __package__)
    except ImportError as exc:
        raise NotPossible(str(exc)) from None


@attrs.frozen
class Place:
    """An outbox seen from outside, with all that commands do to it; each method raises `OutboxError`."""

    kind: str
    """The room: its `_inspect` and `_purge` have these functions."""
    where: Any
    """First argument of those functions: a path, or an outbox in Redis that is not open."""
    name: str

    def __str__(self) -> str:
        return self.name

    def look(self) -> Inspection:
        """Inspect the outbox: its account, its sender, its sizes."""
        seen: Inspection = self._inspect.look(self.where)
        return seen

    def holder(self) -> Holder | None:
        """The process that sends at present; ``None``: no process does."""
        holder: Holder | None = self._inspect.holder(self.where)
        return holder

    def lost(self, reasons: Sequence[str]) -> tuple[str | None, list[DeadLetter]]:
        """To which server its calls go, and those that are kept though they are dead or dropped."""
        found: tuple[str | None, list[DeadLetter]] = self._inspect.lost(self.where, reasons)
        return found

    def retry(self, reasons: Sequence[str], ids: Sequence[int]) -> Retried:
        """Put lost calls back into the queue, by reason and id; empty means all."""
        retried: Retried = self._inspect.retry(self.where, reasons, ids)
        return retried

    def rebind(self, destination: str, fingerprint: Callable[[bytes], str]) -> Rebound:
        """Give the outbox to another account."""
        rebound: Rebound = self._inspect.rebind(self.where, destination, fingerprint)
        return rebound

    def purge(self, whose: Subject, *, really: bool = True) -> PurgeReport:
        """Erase a person or a company; ``really=False`` only counts what would be erased."""
        erased: PurgeReport = room(self.kind, "_purge").purge(self.where, whose, really=really)
        return erased

    @property
    def _inspect(self) -> ModuleType:
        return room(self.kind, "_admin")


VARIABLES = {"userpilot": "USERPILOT_OUTBOX", "parcelvoy": "PARCELVOY_OUTBOX"}
NO_FILE = "this is no file; a URL begins with redis://, rediss:// (TLS) or sqlite:///"
"""Message about a place that may be a URL with a password, and is therefore not quoted."""


class OutboxPlace(click.Path):
    """An outbox on disk that exists, as a path or a URL; or one in Redis, as a URL."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the argument into a `Place`; raises click's errors."""
        if isinstance(value, Place):
            return value
        if isinstance(value, str) and "://" in value:
            try:
                outbox = outbox_at(value)
            except ValueError as exc:
                self.fail(str(exc), param, ctx)
            except ImportError as exc:
                raise NotPossible(str(exc)) from None
            if not outbox.durable:
                self.fail("a memory outbox belongs to its process, and cannot be opened from another one", param, ctx)
            if not value.startswith("sqlite://"):
                return Place("redis", outbox, outbox.place)
            value = outbox.place
        elif isinstance(value, str) and may_be_url(value) and not os.path.exists(value):
            self.fail(NO_FILE, param, ctx)
        path = super().convert(value, param, ctx)
        return Place("sqlite", path, str(path))


def place_given(place: Place | None, to: str | None = None) -> Place:
    """The argument if there is one, else what the environment says: ``ps`` shows arguments, with their passwords.

    Without a kind of server, ``to``, the variable of Userpilot goes before that of Parcelvoy.
    """
    if place is not None:
        return place
    names = [VARIABLES[to]] if to is not None else list(VARIABLES.values())
    name = next((name for name in names if variable(name)), None)
    if name is None:
        raise click.UsageError(f"OUTBOX is missing: a path or a URL, here or in {' or '.join(names)}")
    try:
        found: Place = OutboxPlace().convert(variable(name), None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"{name}: {error.message}") from None
    return found

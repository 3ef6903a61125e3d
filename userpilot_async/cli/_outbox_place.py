"""The outbox that a command line names, as an `OutboxAdmin`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from .._outbox.admin import OutboxAdmin
from .._outbox.url import admin_at, may_be_url
from .._runtime.environment import variable
from ._exits import NotPossible

VARIABLES = {"userpilot": "USERPILOT_OUTBOX", "parcelvoy": "PARCELVOY_OUTBOX"}
NO_FILE = "this is no file; a URL begins with redis://, rediss:// (TLS), postgresql:// or sqlite:///"
"""Message about a place that may be a URL with a password, and is therefore not quoted."""


class OutboxPlace(click.Path):
    """An outbox on disk that exists, as a path or a URL; or one on a server, as a URL."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Turn the argument into an `OutboxAdmin`; raises click's errors."""
        if not isinstance(value, str):
            return value
        if "://" in value:
            try:
                admin = admin_at(value)
            except ValueError as exc:
                self.fail(str(exc), param, ctx)
            except ImportError as exc:
                raise NotPossible(str(exc)) from None
            if admin.kind == "sqlite":
                super().convert(admin.place, param, ctx)  # the file exists
            return admin
        if may_be_url(value) and not os.path.exists(value):
            self.fail(NO_FILE, param, ctx)
        return admin_of_file(Path(os.fsdecode(super().convert(value, param, ctx))))


def admin_of_file(path: Path) -> OutboxAdmin:
    """The admin of the outbox in a file; ends the command if this Python has no SQLite."""
    try:
        from ..sqlite._admin import SQLiteAdmin
    except ImportError as exc:
        raise NotPossible(str(exc)) from None
    return SQLiteAdmin(path)


def place_given(place: OutboxAdmin | None, to: str | None = None) -> OutboxAdmin:
    """The argument if there is one, else the outbox of the environment: ``ps`` shows arguments, with their passwords.

    Without a kind of server, ``to``, the variable of Userpilot goes before that of Parcelvoy.
    """
    if place is not None:
        return place
    names = [VARIABLES[to]] if to is not None else list(VARIABLES.values())
    name = next((name for name in names if variable(name)), None)
    if name is None:
        raise click.UsageError(f"OUTBOX is missing: a path or a URL, here or in {' or '.join(names)}")
    try:
        found: OutboxAdmin = OutboxPlace().convert(variable(name), None, None)
    except click.BadParameter as error:
        raise click.UsageError(f"{name}: {error.message}") from None
    return found

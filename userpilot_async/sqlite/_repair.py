"""When a file proves to be damaged: put aside, and gone on with what can be read of it."""

from __future__ import annotations

import os
import sqlite3
import time

from .._errors.tree import OutboxError
from . import _quarantine, _salvage
from ._binding import About
from ._failures import is_damage, why
from ._file import File
from ._tables import DAMAGED

REPAIR_PAUSE = 60.0  # seconds: a repair that did not help will not help again at once, and each keeps a copy


class Repair:
    """Repairs one file. The caller holds the turn."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._after = 0.0

    def helps(self, error: sqlite3.DatabaseError, *, is_outbox: bool) -> bool:
        """The file is at fault, and was not just repaired; and it was an outbox before, not a file named by mistake."""
        if not is_damage(error) or time.monotonic() < self._after:
            return False
        return is_outbox or self._file.ballast.exists() or self._file.lease.path.exists()

    def do(self, error: sqlite3.DatabaseError, given: _salvage.GivenIds, about: About | None) -> None:
        """Put the file aside, and go on with what can be read of it; its owner is ``about`` if it does not say."""
        self._after = time.monotonic() + REPAIR_PAUSE
        file, path = self._file, self._file.path
        file.disconnect()
        _quarantine.resume(path)
        folder, size = os.statvfs(path.parent), _quarantine.size_of(path)
        if folder.f_bavail * folder.f_frsize < 2 * size:
            raise OutboxError(f"{path} is damaged ({why(error)}), and to save it {2 * size:,} bytes must be free")
        lost, quarantine = _salvage.replace(path, given, DAMAGED)
        file.connect()
        if about is not None:
            with file.transaction():
                file.tables.write_about(file.tables.about() or about)
        found = f"{path} is damaged ({why(error)}), and is kept as {quarantine.name}"
        if lost is None:
            file.warn(f"{found}; its account cannot be read, so how many calls are lost is not known")
        else:
            file.warn(found if lost else f"{found}; no call is lost", lost)

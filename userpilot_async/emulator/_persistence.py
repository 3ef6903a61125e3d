"""The state of an emulator in a file: one JSON document, written as a whole now and then, and at the end.

In it are users, companies, events, jobs, faults and the logs of every account. Not in it are the rate windows, which
are over in a minute, the bodies of the last requests, and whatever came in after the last time it was written.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import anyio
import attrs

from userpilot_async.emulator._accounts import SeveralAccounts
from userpilot_async.emulator._saved import Saved

FORMAT, VERSION = "userpilot_async.emulator", 1
INTERVAL = 5.0  # seconds between two looks whether there is something to write
SHARE = 20  # times as long as the last writing took is the least until the next one: at most a twentieth of the time


class Persistent(Protocol):
    """An emulator, as far as its state can be taken and put back."""

    def saved(self) -> Saved:
        """The whole state as JSON."""
        ...

    def restore(self, saved: Saved) -> None:
        """Go on from that state; raises KeyError, TypeError or ValueError if it is none."""
        ...

    def revision(self) -> Any:
        """Something that differs whenever the state does."""
        ...


class Unusable(Exception):
    """A file that cannot be read or written; its message is a sentence that says why and what to do."""


@attrs.define
class StateFile:
    """The file of one emulator. Two of them must not share one: the last one to write would win."""

    path: Path
    _written: Any = None
    _took: float = 0.0  # seconds, of the last writing

    def load(self, emulator: Persistent) -> bool:
        """Go on from the file, if there is one; False if not. Raises `Unusable`."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise Unusable(f"{self.path} cannot be read: {exc.strerror or exc}") from exc
        try:
            emulator.restore(_checked(self.path, content))
        except SeveralAccounts as exc:
            way_out = "leave out --one-account, or use another file"
            raise Unusable(f"{self.path} has an account for each key: {way_out}") from exc
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as exc:
            raise Unusable(f"{self.path} is damaged, or no state of an emulator: move it away to begin anew") from exc
        self._written = emulator.revision()
        return True

    def save(self, emulator: Persistent) -> None:
        """Write the state, if it is not what was written last: into another file first. Raises `Unusable`."""
        revision = emulator.revision()
        if revision == self._written:
            return
        begun = time.monotonic()
        document = {"format": FORMAT, "version": VERSION, **emulator.saved()}
        try:
            _replace(self.path, json.dumps(document, separators=(",", ":")).encode())
        except OSError as exc:
            raise Unusable(f"{self.path} cannot be written: {exc.strerror or exc}") from exc
        self._written, self._took = revision, time.monotonic() - begun

    async def keep(self, emulator: Persistent, complain: Callable[[str], object]) -> None:
        """Save now and then, until it is cancelled. What goes wrong, such as a full disk, is told and tried again."""
        while True:
            await anyio.sleep(max(INTERVAL, SHARE * self._took))
            try:
                self.save(emulator)
            except Unusable as exc:
                complain(str(exc))


def _checked(path: Path, content: bytes) -> Saved:
    """The document of a file that is of this format; raises `Unusable` for a newer one, ValueError for others."""
    document = json.loads(content)
    if not isinstance(document, dict) or document.get("format") != FORMAT or type(document.get("version")) is not int:
        raise ValueError("no state of an emulator")
    if document["version"] > VERSION:
        raise Unusable(
            f"{path} was written by a newer version of the emulator (format {document['version']}, this one reads "
            f"{VERSION}): update userpilot-async, or use another file"
        )
    return document


def _replace(path: Path, content: bytes) -> None:
    """Put the content there at once: a crash leaves the old file or the new one. Others cannot read it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise

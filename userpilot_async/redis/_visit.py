"""The outbox, seen for a moment by somebody who is no client: for people, and what they want to see or mend.

Each step is a short script, as those of the processes that use it are, and Redis goes on serving them in between.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar
from uuid import uuid4

from .._account.ledger import CHUNK
from .._errors.tree import OutboxError
from ._answers import opened_of, scanned_of, sight_of
from ._codec import Entry
from ._failures import Away, OtherGeneration
from ._link import Answer, Connection, Step
from ._outbox import RedisOutbox
from ._store import VERSION

AT_ONCE = 500  # entries a script looks at, or changes: some milliseconds

Place = Literal["log", "lost"]
T = TypeVar("T")


class Visit:
    """A connection, for as long as a visit takes."""

    def __init__(self, link: Connection, place: str) -> None:
        self._link = link
        self._run_id = link.connect()
        self.reached = ""
        """The last entry that `entries` has looked at."""
        self.sight = sight_of(link.run(Step("show")))
        if not self.sight.about and not self.sight.counts:
            raise OutboxError(f"{place} has no outbox: no client has opened it yet, or Redis was emptied")
        if self.sight.version > VERSION:
            raise OutboxError(f"{place} is of a newer version than this one, {VERSION}")
        self._generation = self.sight.about.get("generation", "")

    def begin_to_change(self, destination: str = "", fingerprint: Callable[[bytes], str] | None = None) -> None:
        """Before anything is written: after a restart of the server, a generation begins with it, as with a client.

        With ``fingerprint``, an outbox that does not say any more whose it is becomes this one's.
        """
        about, salt = self.sight.about, os.urandom(16)
        owner = tuple(about.get(name, "") for name in ("destination", "salt", "fingerprint"))
        takes = not about and fingerprint is not None
        if takes and fingerprint is not None:
            owner = (destination, salt.hex(), fingerprint(salt))
        # No generation is known here, and no revision: whether calls went missing is for those to say who know.
        step = Step("open", "", 0, "", self._run_id, uuid4().hex, VERSION, *owner, int(takes), CHUNK, 0)
        self._generation = opened_of(self._link.run(step)).generation

    def run(self, name: str, *arguments: str | bytes | float) -> Answer:
        """One script, under the guard of the generation."""
        return self._link.run(Step(name, self._generation, *arguments))

    def entries(self, place: Place, texts: Sequence[bytes] = (), *, behind: str = "") -> Iterator[Entry]:
        """All entries that are there, or those in whose calls one of these texts stands, and damaged ones."""
        self.reached, more = behind, True
        while more:
            self.reached, more, found = scanned_of(self.run("scan", place, self.reached, "+", AT_ONCE, *texts))
            yield from found


def at_once(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """As many at a time as one script may change."""
    for start in range(0, len(found), AT_ONCE):
        yield found[start : start + AT_ONCE]


@contextmanager
def visiting(outbox: RedisOutbox) -> Iterator[Visit]:
    """Raises `OutboxError`, also where Redis does not answer: a person does not want to wait for it."""
    link = outbox.link()
    try:
        yield Visit(link, outbox.place)
    except Away as error:
        raise OutboxError(f"{outbox.place} {error.does} ({error})") from error
    except OtherGeneration as error:
        raise OutboxError(
            f"{outbox.place} has just started again, was emptied, or was moved: once more, please"
        ) from error
    except OutboxError as error:
        if "OWNER" not in str(error):
            raise
        raise OutboxError(f"{outbox.place} does not say any more whose calls it has: rebind it") from None
    finally:
        link.close()

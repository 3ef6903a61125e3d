"""Rows of people who were not known yet: kept under their anonymous id, left out, or joined with who they became.

To join takes two passes: one learns from all lines who became whom (`Learning`, into an `IdentityStore`), the other
converts. Nothing of the first is kept for a later run: it comes to the same when it is done again, so that a run which
goes on after a crash gives the rows that the first one would have given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from .._errors.tree import InvalidCall
from ._containers import size_of
from ._files import File
from ._identity_store import IdentityStore
from ._physical_lines import EmptyFile, UnreadableFile
from ._reading import Lines, lines
from ._timestamps import moment_text, order_of
from .converters._common import JOINS_NOBODY, is_device
from .converters._identities import IDENTITIES, Link, is_sendable, key_of
from .converters._rows import Rows

Anonymous = Literal["keep", "drop", "join"]
ANONYMOUS: tuple[Anonymous, ...] = get_args(Anonymous)

DROPPED = "left out (--anonymous drop)"
JOINED = "joined: done under an earlier id, and sent as the person's that it became"
JOINED_ONE_OF = "joined: done under an id that became several people, and sent as the one's who was named next"
STAYED = "anonymous: an id that became nobody, and is kept"
LEARNT = "says who an id became, and was used for that"
WAITING = "who anonymous ids became is read first"

_BATCH_LINES = 2_000  # as many as are converted at once
_BATCH_CHARACTERS = 4 * 1024 * 1024

Convert = Callable[[dict[str, Any]], Rows]


def dropping(convert: Convert, tool: str) -> Convert:
    """The conversion without rows of people who were not known; a line that has no others is skipped."""
    identify = IDENTITIES[tool]

    def converted(line: dict[str, Any]) -> Rows:
        rows = convert(line)
        anonymous = identify(line).anonymous
        kinds = [row["event_type"] for row in rows if _is_anonymous(row, anonymous)]
        if kinds:
            rows[:] = [row for row in rows if not _is_anonymous(row, anonymous)]
            if not rows or not rows.skipped:
                rows.skipped = f"anonymous: `{kinds[-1]}`, {DROPPED}"
        return rows

    return converted


def joining(convert: Convert, tool: str, store: IdentityStore) -> Convert:
    """The conversion with each row under the id of the person whom its anonymous id became, by the row's own time."""
    identify = IDENTITIES[tool]

    def converted(line: dict[str, Any]) -> Rows:
        rows = convert(line)
        who = identify(line)
        if who.links and rows.skipped.endswith(JOINS_NOBODY):
            rows.skipped = f"{rows.skipped.removesuffix(JOINS_NOBODY)}{LEARNT}"
        for row in rows:
            if not isinstance(user_id := row.get("user_id"), str) or not is_sendable(user_id):
                continue  # it is refused when it is checked
            keys = (key_of(user_id),) if who.keys is None else who.keys
            became = store.became(user_id, keys, _moment(row.get("inserted_at"))) if keys else None
            if became is not None:
                row["user_id"] = became.known
                rows.note(JOINED_ONE_OF if became.several else JOINED)
            elif _is_anonymous(row, who.anonymous):
                rows.note(STAYED)
        return rows

    return converted


class Learning:
    """The first pass over some files, a batch of lines at a time; `step` may be called in any thread."""

    def __init__(self, paths: Sequence[File], tool: str, store: IdentityStore) -> None:
        self._paths = list(paths)
        self._several = len(paths) > 1
        self._identify = IDENTITIES[tool]
        self._store = store
        self._reading: Lines | None = None
        self._done_with = 0
        self._busy = threading.Lock()  # a cancelled task does not wait for its thread
        self.bytes_total = sum(map(size_of, paths))

    @property
    def bytes_read(self) -> int:
        """Bytes of all files together, as they lie on the disk."""
        return self._done_with + (0 if self._reading is None else self._reading.bytes_read)

    def step(self) -> bool:
        """Learn from the next lines; true if there are no more. Raises `UnreadableFile`, of several with its name."""
        with self._busy:
            if not self._paths:
                return True
            links: list[Link] = []
            try:
                more = self._take(links)
            except EmptyFile:
                more = False
            except UnreadableFile as error:
                if not self._several:
                    raise
                raise UnreadableFile(f"{self._paths[0]}: {error}") from error
            self._store.learn(links)
            if not more:
                self._done_with += size_of(self._paths.pop(0))
                self._reading = None
            return not self._paths

    def close(self) -> None:
        """Let go of the file that is read, once no step is under way."""
        with self._busy:
            if self._reading is not None:
                self._reading.close()

    def _take(self, links: list[Link]) -> bool:
        """Add what the next lines say; false if they were the last of the file."""
        size = 0
        reading = self._reading = lines(self._paths[0]) if self._reading is None else self._reading
        for _ in range(_BATCH_LINES):
            try:
                line = reading.next_or_rest()
            except StopIteration:
                return False
            if line is None:
                return True
            if line.fields is not None:
                links += self._identify(line.fields).links
            size += len(line.raw)
            if size >= _BATCH_CHARACTERS:
                break
        return True


def _is_anonymous(row: dict[str, Any], line: bool) -> bool:
    """Whether the row is of a person who was not known, on a line that is about one, or for its own id."""
    user_id = row.get("user_id")
    return row.get("event_type") != "identify_company" and isinstance(user_id, str) and (line or is_device(user_id))


def _moment(value: object) -> str:
    """The time by which the store sorts; what is none has its row refused, whoever it is of."""
    try:
        return order_of(moment_text(value))
    except InvalidCall:
        return ""

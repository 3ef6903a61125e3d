"""Rows of calls as people see them, and a page of them at a time. The caller has the turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from .._calls.stored import UNREADABLE
from .._calls.values import encode_json
from .._outbox.admin import DeadLetter, keys_in
from .._outbox.pages import MOST_READ, Page, WaitingCall
from ._dates import Dates
from ._file import File
from ._sealed import checked

CALLS = "id, at, size, kind, key, said, moment, crc"
LOST = f"{CALLS}, lost_at, status, reason, detail"
PLACE = re.compile(r"-?\d{1,18}")  # a row's id; another program's may be below 0

T = TypeVar("T")


def waiting_page(file: File, after: str, limit: int, ids: Collection[str]) -> Page[WaitingCall]:
    """The next calls that wait; raises `ValueError` where ``after`` is no row's id."""
    if not ids:
        return _page(file, "calls", CALLS, after, limit, waiting_call)
    texts = [encode_json(one) for one in ids]  # as they stand in the key, also of a person with several ids
    may_have_one = f"({' OR '.join(['instr(key, ?)'] * len(texts))})"

    def shown(row: Any, dates: Dates) -> WaitingCall | None:
        return waiting_call(row, dates) if set(ids).intersection(_keys(row[4])) else None

    return _page(file, "calls", CALLS, after, limit, shown, may_have_one, texts)


def lost_page(file: File, after: str, limit: int, reason: str | None) -> Page[DeadLetter]:
    """The next lost calls that are kept; raises as `waiting_page`."""
    if reason is None:
        return _page(file, "lost", LOST, after, limit, dead_letter)
    return _page(file, "lost", LOST, after, limit, dead_letter, "reason = ?", [reason])


def _page(
    file: File, table: str, fields: str, after: str, limit: int, shown: Callable[[Any, Dates], T | None],
    where: str = "1", values: Collection[str] = (),
) -> Page[T]:  # fmt: skip
    """Rows behind this one, of the next `MOST_READ`, in which ``where`` holds."""
    if after and not PLACE.fullmatch(after):
        raise ValueError("no place in this outbox")
    first = int(after) + 1 if after else -(2**63)
    # Its end is found in the index alone: rows in between are not read for it.
    beyond = f"SELECT id FROM {table} WHERE id >= ? ORDER BY id LIMIT 1 OFFSET {MOST_READ}"
    end = (file.db.execute(beyond, (first,)).fetchone() or (None,))[0]
    query = f"SELECT {fields} FROM {table} WHERE id >= ? AND id <= ? AND {where} ORDER BY id LIMIT ?"
    last = 2**63 - 1 if end is None else end - 1
    rows = file.db.execute(query, (first, last, *values, limit)).fetchall()
    dates = file.tables.read_dates()
    reached = rows[-1][0] if len(rows) == limit else None if end is None else last
    found = [one for row in rows if (one := shown(row, dates)) is not None]
    return Page(found, None if reached is None else str(reached))


def waiting_call(row: Any, dates: Dates) -> WaitingCall:
    """A row of the calls that wait. `Any`: a damaged one, or another program's, may hold anything."""
    call_id, at, size, *stored, crc = row
    call = checked(call_id, at, size, stored, crc, ())
    at = dates.corrected(call_id, at) if call is not None else at
    its_size = size if isinstance(size, int) else 0
    return WaitingCall(call_id, _moment(at), str(stored[0]), ", ".join(_keys(stored[1])), its_size, call)


def dead_letter(row: Any, dates: Dates) -> DeadLetter:
    """A row of the lost calls; `Any` as above."""
    call_id, at, size, *stored, crc, lost_at, status, reason, detail = row
    call = checked(call_id, at, size, stored, crc, ())
    at = dates.corrected(call_id, at) if call is not None else at
    whose, why_lost = (str(stored[0]), ", ".join(_keys(stored[1]))), (str(status), str(reason), str(detail))
    return DeadLetter(call_id, _moment(at), *whose, _moment(lost_at), *why_lost, call)


def _keys(key: Any) -> list[str]:
    try:
        return keys_in(key)
    except UNREADABLE:
        return [str(key)]


def _moment(at: Any) -> float:
    """`Any`: of a damaged row, or another program's, which was never lost then."""
    return float(at) if isinstance(at, (int, float)) else 0.0

"""Batches of nothing but calls, as most are: their rows, and no page besides.

The account is behind then: it counts the calls below its own next id, and those from there on count when it is read
(`Tables.account`). Whatever takes a call out writes the account, too, so nothing but such calls is behind it.
"""

from __future__ import annotations

from .._outbox.batch import Batch
from .._outbox.store import Committed
from ._file import File
from ._schema import MOST_UNCOUNTED
from ._transactions import atomic, data_version


def append(file: File, batch: Batch, next_id: int) -> Committed | None:
    """Write a batch of nothing but calls, if that is all there is to do; ``None``, and nothing is done, if it is not.

    There is more where others have written since room on the disk was looked for, where the calendar was set, where a
    key or a pair is to be kept, or where the account is to be written again. ``next_id`` is what this process has given
    last. Raises as the file does.
    """
    db, puts, offset = file.connected(), batch.puts, file.offset
    tables = file.tables
    if tables.last is None or tables.uncounted + len(puts) > MOST_UNCOUNTED or tables.dates.moved(offset):
        return None
    (account, oldest), version = tables.last, tables.version
    if account.next_id < next_id or any(put.dedupe is not None or type(put.key) is not str for put in puts):
        return None
    first = account.next_id
    with atomic(db):  # or another could write while this waits for SQLite: whose lock file was deleted has no turn
        if not data_version(db) == version == tables.had_room:
            return None
        size = tables.put(puts, first, offset)
    oldest = first if oldest is None else oldest
    account = account.with_calls(len(puts), size)
    tables.last, tables.uncounted = (account, oldest), tables.uncounted + len(puts)
    return Committed(account, oldest, first_put=first, first_refused=account.next_id, appended=True)

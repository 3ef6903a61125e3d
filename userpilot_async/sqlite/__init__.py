"""Calls wait in a file: they survive a crash, and all processes of one host that use it share one sender.

    UserpilotClient("API_KEY", outbox="sqlite:////var/lib/app/userpilot.db")

`_outbox` has the options, `_store` is the `Store`: every transaction, and what happens when the disk or the file fails.
Beneath it, `_append` writes batches of nothing but calls, `_file` is the connection, whose turn it is, and room on the
disk, `_transactions` what a connection writes whole; `_failures` says what goes wrong with them. `_tables` is what
stands in the file, `_send_log` the sender's notes among it, and `_sealed` reads what may be damaged; `_schema` has its
versions, `_dates` the calendar by which calls were dated, `_binding` whose calls they are.

All who use a file take turns by a lock beside it (`_locks`), for some milliseconds each; another lock is the sender's
lease, which the operating system takes back from a process that dies. A full disk stops new calls, and no notes: a
megabyte of `_ballast` is given up for them. A damaged file is put aside, and all of it that can be read goes into a new
one (`_salvage`; `_quarantine` has the names). A damaged row is set aside by itself.

`_admin` is the file from outside, for people; `_pages` shows its calls, and `_purge` erases a person from it.
"""

from ._outbox import SQLiteOutbox

__all__ = ["SQLiteOutbox"]

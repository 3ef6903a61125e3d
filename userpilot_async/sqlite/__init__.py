"""Calls wait in a file: they survive a crash, and all processes of one host that use it share one sender.

UserpilotClient("API_KEY", outbox="sqlite:////var/lib/app/userpilot.db")
"""

from ._outbox import SQLiteOutbox

__all__ = ["SQLiteOutbox"]

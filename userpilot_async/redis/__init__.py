"""Calls wait in Redis: any number of machines put, and share one sender, one budget, one job at a time.

UserpilotClient("API_KEY", outbox="redis://host:6379/0")
"""

from ._outbox import RedisOutbox

__all__ = ["RedisOutbox"]

"""Calls wait in Redis: any number of machines put, and share one sender, one budget, one job at a time.

UserpilotClient("API_KEY", outbox="redis://host:6379/0")
"""

try:
    import redis  # noqa: F401  # of redis-py, to say what is missing before anything else fails for want of it
except ImportError:
    raise ImportError('an outbox in Redis needs redis-py: pip install "userpilot-async[redis]"') from None

from ._outbox import RedisOutbox

__all__ = ["RedisOutbox"]

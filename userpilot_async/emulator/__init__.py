"""Userpilot's realtime API and Parcelvoy's client API on your own machine: an ASGI app, in process or on a port.

    emulator = Emulator(speed=60)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")

or `python -m userpilot_async.emulator --port 8080`. Both go by their documented rules. Parcelvoy's routes are under
`/api/client`; what they received is in `emulator.store.parcelvoy`. No code is shared with the clients, so that the
emulator can be right when they are wrong.
"""

try:
    import python_multipart  # noqa: F401  # to say what is missing before anything else fails for want of it
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as exc:
    message = f'the emulator needs {exc.name}: pip install "userpilot-async[emulator]"'
    raise ModuleNotFoundError(message, name=exc.name) from None

from userpilot_async.emulator._cut import ConnectionCut
from userpilot_async.emulator._emulator import Emulator
from userpilot_async.emulator._faults import Fault, Faults
from userpilot_async.emulator._jobs import Job, Jobs
from userpilot_async.emulator._records import Applied, Company, Counters, Event, PageView, Requested, User
from userpilot_async.emulator._serve import serve
from userpilot_async.emulator._store import Store

__all__ = [
    "Applied",
    "Company",
    "ConnectionCut",
    "Counters",
    "Emulator",
    "Event",
    "Fault",
    "Faults",
    "Job",
    "Jobs",
    "PageView",
    "Requested",
    "Store",
    "User",
    "serve",
]

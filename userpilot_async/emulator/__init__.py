"""Userpilot's realtime API and Parcelvoy's client API on your own machine: an ASGI app, in process or on a port.

    emulator = Emulator(speed=60)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator")

or `python -m userpilot_async.emulator --port 8080`. Userpilot's API follows its documented rules. Parcelvoy's, in
`parcelvoy/`, does what a Parcelvoy 2.3.3 was seen to do: its routes are under `/api/client`, and what they received is
in `emulator.store.parcelvoy`. No code is shared with the clients, so that the emulator can be right when they are not.

A request passes these modules:

    _emulator ──▶ _guard       a web page of another origin?                          403
              ──▶ _control     a path under /__emulator__/: shows the store (_listing), takes in faults
              ──▶ _page        the page for a browser, and the stream that says what changed (_changes, _stream)
              ──▶ _routes      the endpoint of a path, and how large its body may be
              ──▶ _faults      the fault that befalls the call, if there is one
              ──▶ _admission   its key, rate limit (_windows), size, and version       401, 429, 413, 400
              ──▶ _routes      its body against the documented rules (_rules, _files) 400, 422
                               the rows of imports: _import_rows, _user_agents
              ──▶ _accounts    the store of the key
              ──▶ _store       users, companies, events (_records), jobs (_jobs)      200, 202, 204
              ──▶ _traffic     the last requests with their bodies, in words (_summary)

`page.html` is all of the page: it reads the control routes as any program may. `_command` is the command line of
`userpilot-async emulate` and of `python -m userpilot_async.emulator`; `_printer` prints its line for each request.

No task runs in the background: jobs are brought up to the emulator's clock by each request.
"""

import sys as _sys

try:
    import python_multipart  # noqa: F401  # to say what is missing before anything else fails for want of it
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as _exc:
    _message = f'the emulator needs {_exc.name}: pip install "userpilot-async[emulator]"'
    if _sys.argv[:1] == ["-m"] and "userpilot_async.emulator" in _sys.orig_argv:  # `python -m` of this very package
        _sys.stderr.write(f"{_message}\n")
        _sys.exit(2)
    raise ModuleNotFoundError(_message, name=_exc.name) from None

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

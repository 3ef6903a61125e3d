"""Tests of an application that tracks: without a mock, a socket, a key, or a wait. `[pytest]` has a fixture for it.

    with capture() as userpilot:
        run_the_application()
        userpilot.assert_tracked("u1", "paid", amount=49)

While it is there, every client that opens, in whatever thread and however it was made, talks to one emulator in this
process. Calls that were lost, or invalid, fail the test at its end.

    _capture         `Capture`: the calls, the server, the assertions, the end;  _clients  one client in it
    _matching        which calls are meant, and which come near;  _text  what is said of them. Pure
    _transport       from the client's HTTP to the emulator
    _server          `EmulatorServer`: the emulator on a port, for other processes
    pytest_plugin    the fixtures, and no way to a real server from a test

The seam is `_runtime.stand_in`, which a client asks when it opens. Nothing of an application is patched. The time that
a client would only wait (for others to merge with, for jobs, between tries) is skipped, so tests take none.
"""

from ._capture import Capture, capture
from ._server import EmulatorServer

__all__ = ["Capture", "EmulatorServer", "capture"]

"""An emulator on a port of the loopback, in a thread of this process: what most tests that need a URL need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from userpilot_async.emulator.__main__ import arguments, made
from userpilot_async.testing import EmulatorServer


@contextmanager
def emulator_thread(*words: str) -> Iterator[str]:
    """The base URL of an emulator with these words of its command line. A process would take a second to start."""
    options = arguments(words)
    with EmulatorServer(made(options), host=options.host, port=options.port) as server:
        yield server.url

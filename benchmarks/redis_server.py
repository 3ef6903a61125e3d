"""A Redis of the benchmarks' own: in memory, on the loopback, on the core of those who are not measured."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.cores import for_the_rest

PROGRAM = "redis-server"
START_WITHIN = 10.0  # seconds; it takes 0.02


def missing() -> str | None:
    """Why nothing can be measured with Redis here, as a sentence; ``None`` if it can."""
    if shutil.which(PROGRAM) is None:
        return f"there is no {PROGRAM} on PATH"
    return "redis-py is not installed" if find_spec("redis") is None else None


@contextmanager
def running_redis() -> Iterator[str]:
    """The URL of a new, empty one. It writes nothing to a disk, which no client of it would notice but as noise."""
    with TemporaryDirectory(prefix="redis-of-benchmarks-") as folder:
        port = _free_port()
        options = {"bind": "127.0.0.1", "port": str(port), "dir": folder, "save": "", "appendonly": "no"}
        command = [PROGRAM, *(word for name, value in options.items() for word in (f"--{name}", value))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=for_the_rest) as process:
            try:
                _wait_ready(process, port)
                yield f"redis://127.0.0.1:{port}/0"
            finally:
                process.kill()


async def used(redis: Any) -> float:
    """Seconds of CPU that a server has used. `Any`: redis-py types its two clients as one."""
    said = await redis.info("cpu")
    return float(said["used_cpu_user"] + said["used_cpu_sys"])


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + START_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as sock:
                sock.sendall(b"PING\r\n")
                if sock.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.005)
    raise RuntimeError(f"{PROGRAM} on port {port} did not answer within {START_WITHIN:g} s")

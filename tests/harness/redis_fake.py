"""A server that only looks like Redis: it answers each command as a test says, also behind TLS."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from typing import Self

Answer = Callable[[list[str]], bytes | None]
"""The bytes for a command; ``None`` closes the connection."""


class FakeRedis:
    """Listens on the loopback while the block runs. With a ``context`` it speaks TLS."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._context = context
        self.commands: list[list[str]] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError), client:  # who refuses our certificate, or speaks TLS where we do not
            talk = client if self._context is None else self._context.wrap_socket(client, server_side=True)
            with talk, talk.makefile("rb") as read:
                while head := read.readline():
                    words = [read.read(int(read.readline()[1:]) + 2)[:-2].decode() for _ in range(int(head[1:]))]
                    self.commands.append(words)
                    said = self._answer(words)
                    if said is None:
                        return
                    talk.sendall(said)


class Authority:
    """Certifies servers for any name; whoever trusts ``ca_file`` trusts those, where they have that name."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(os.fspath(self.ca_file))

    def context(self, name: str) -> ssl.SSLContext:
        """For a server that shows a certificate for this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        return context


def array(*texts: str) -> bytes:
    """An array of these texts, as Redis writes it."""
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%b\r\n" % (len(one.encode()), one.encode()) for one in texts)

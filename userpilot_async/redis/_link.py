"""The connection to Redis: scripts, each with a deadline, and what their failures mean.

Used by one thread. redis-py's blocking client, and not its asyncio one: there is no task that somebody could cancel
between a command and its answer (a connection given back in that state has answered the next command with it), trio
works as well, and the lease is renewed while the application keeps its event loop busy.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from typing import Any

from redis.exceptions import ConnectionError, NoScriptError

from .._errors import OutboxError
from ._address import Address
from ._answers import echoed, evicts, found_of, info_of, replicas_of, server_of
from ._failures import Away, OddAnswer, OtherGeneration, OtherServer, meaning_of
from ._log import Entry
from ._topology import Cluster, Node, OneServer, Sentinels, Topology, ask, packed

KEYS = ("about", "account", "log", "news", "lease", "requests", "spent", "files", "sent", "parts", "lost")
SCRIPTS = (
    "open", "write", "note", "resolve", "look", "lease", "release", "inherit", "read", "aside", "reconcile", "forget",
    "finish",
    "show", "scan", "retry", "purge", "sweep", "rebind",
)  # fmt: skip
FILES = {"note": "write"}  # the same without calls, which runs also when the memory is full
OLDEST = (6, 2)  # versions; exclusive ranges in XRANGE
UNBOUND_NOTES = 7  # version of Redis from which on a script may say that it must run when memory is full

Answer = object
"""What a script gives: numbers, bytes, ``None``, and lists of these. `_answers` says which, and what is odd."""


class Step:
    """One script to be run, with its arguments."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, *arguments: str | bytes | float) -> None:
        self.name = name
        self.arguments = arguments


class Link:
    """``name`` is the outbox's in this database, ``client`` that of who uses it."""

    def __init__(self, address: Address, name: str, client: str, *, deadline: float, replicas: int = 0) -> None:
        self._address = address
        self._deadline = deadline
        self._replicas = replicas
        tag = "{" + name + "}"  # one hash slot of a cluster: a script may use all of these keys
        self._keys = [f"{tag}:{key}" for key in KEYS] + [f"{tag}:client:{client}"]
        self._texts: Mapping[str, str] = {}
        self._connecting = False
        self.evicts = False
        """Redis may throw keys away when its memory is full."""
        self.unbound = False
        """What makes room runs on when its memory is full."""
        self._asked = 0
        """How many scripts were run on these connections: each answer says which of them it is for."""
        self._busy_since: float | None = None
        self._sockets: list[socket.socket] = []
        self._topology = self._topology_of(address)
        self._connection: Any = None
        """The one that all goes through, of redis-py's; its clients' ways through a pool cost more than Redis."""

    def _topology_of(self, address: Address) -> Topology:
        if address.how == "sentinel":
            return Sentinels(address.nodes, address.service, self._dial_sentinel, self._dial, self._deadline)
        if address.is_cluster:
            return Cluster(address.nodes, self._keys[0], self._dial, self._deadline)
        return OneServer(lambda: self._dial(None, self._deadline))

    @property
    def knows_all_nodes(self) -> bool:
        """Of a cluster; or this user may not ask for them, and those that are known may all be gone one day."""
        return not isinstance(self._topology, Cluster) or self._topology.learns

    def connect(self) -> str:
        """Have a connection; the server's run id. Raises `Away`, and `OutboxError` for ever."""
        self.close()
        try:
            with self._asking():
                self._connection = self._topology.find()
                server = server_of(self._about("server"))
                self.evicts = evicts(self._about("memory"))
        except OddAnswer:
            raise
        except Away as error:
            tls = self._address.shown.startswith("rediss") and "Timeout" in str(error)
            raise Away(f"{error}; does it speak TLS there?") if tls else error from None
        if server.version < OLDEST:
            version = ".".join(str(part) for part in server.version)
            raise OutboxError(f"{self._address.shown} is Redis {version}, and 6.2 is needed")
        self.unbound = server.version[0] >= UNBOUND_NOTES
        self._texts = _texts(self.unbound)
        return server.run_id

    def _dial(self, node: Node | None, connect_timeout: float) -> Any:
        made = self._address.connection(self._deadline, self._connected, node, connect_timeout=connect_timeout)
        return self._opened(made)

    def _dial_sentinel(self, node: Node, timeout: float) -> Any:
        return self._opened(self._address.connection_to_sentinel(timeout, self._connected, node))

    def _opened(self, connection: Any) -> Any:
        self._busy_since = time.monotonic()
        self._connecting = True
        try:
            connection.connect()
        finally:
            self._connecting = False
        return connection

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """While a command is under way; what its failure means."""
        self._busy_since = time.monotonic()
        try:
            yield
        except (Away, OtherGeneration, OutboxError):
            raise
        except Exception as error:  # whatever bytes may make redis-py raise, they are this step's failure
            raise meaning_of(error, self._address) from error
        finally:
            self._busy_since = None

    def _connected(self, connection: Any) -> None:
        """redis-py connects anew in the middle of a command, without a word: the server may be another one by then."""
        if not self._connecting:
            raise ConnectionError("the connection was lost")
        sock = getattr(connection, "_sock", None)
        if isinstance(sock, socket.socket):
            self._sockets = [one for one in self._sockets if one.fileno() >= 0] + [sock]
        connection.on_connect()

    def _about(self, section: str) -> Mapping[str, str]:
        return info_of(*ask(self._connection, packed("INFO", section)))

    def look_around(self) -> None:
        """See whether another server has the outbox by now; every now and then. Raises as `run` does."""
        with self._asking():
            if self._topology.has_moved(self._connection):
                raise OtherServer

    def run(self, step: Step, *, wait: bool = False) -> Answer:
        """Run one script; ``wait`` until the replicas have what it wrote. Raises `Away`, `OtherGeneration`,
        `OutboxError`.

        The answer is this script's, and no other command's: after an answer too many, all that come are another's.
        """
        self._asked += 1
        asked = b"%d" % self._asked
        text = self._texts[step.name]
        command = packed("EVALSHA", _sha(text), len(self._keys), *self._keys, *step.arguments, asked)
        with self._asking():
            try:
                return echoed(self._run(command, wait), asked)
            except NoScriptError:  # nobody has used it yet, or they were flushed
                ask(self._connection, packed("SCRIPT", "LOAD", text))
                self._busy_since = time.monotonic()
                return echoed(self._run(command, wait), asked)

    def _run(self, command: bytes, wait: bool) -> Answer:
        if not wait or not self._replicas:
            return ask(self._connection, command)[0]
        # On the same connection, or it would wait for what another one has written.
        answer, reached = ask(self._connection, command, packed("WAIT", self._replicas, int(self._deadline * 500) or 1))
        if replicas_of(reached) < self._replicas:
            raise Away(f"{reached} of {self._replicas} replicas have it")
        return answer

    def calls(self, ids: Sequence[int]) -> list[Entry | None]:
        """The entries of the log with these ids, or ``None``. Raises as `run` does."""
        with self._asking():
            answers = ask(self._connection, *(packed("XRANGE", self._keys[2], f"{one}-1", f"{one}-1") for one in ids))
        return [found_of(call_id, answer) for call_id, answer in zip(ids, answers, strict=True)]

    def break_off_if_older(self, seconds: float) -> None:
        """End the command that is under way, if it has been for so long. May be called in any thread."""
        since = self._busy_since
        if since is not None and time.monotonic() - since >= seconds:
            # Not closed, which is the reader's matter: it reads the end, as if the server had closed it. And not by
            # TLS's own method, which takes the reader's state away.
            for connected in list(self._sockets):
                with suppress(OSError):
                    socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connections, whatever has come on them."""
        connection, self._connection = self._connection, None
        sockets, self._sockets = self._sockets, []
        self._topology.close()
        with suppress(Exception):  # whatever redis-py raises, the sockets are closed
            if connection is not None:
                connection.disconnect()
        for one in sockets:
            with suppress(OSError):
                one.close()


def _sha(text: str) -> str:
    sha = _shas.get(text)
    if sha is None:
        sha = _shas[text] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return sha


_shas: dict[str, str] = {}


def _texts(unbound: bool) -> Mapping[str, str]:
    """The scripts. ``unbound``: notes and all that makes room run on when the memory is full; new calls never do."""
    folder = resources.files("userpilot_async.redis") / "scripts"
    prelude, coda = ((folder / f"{name}.lua").read_text(encoding="utf-8") for name in ("prelude", "coda"))
    texts = {}
    for name in SCRIPTS:
        flags = "#!lua flags=allow-oom\n" if unbound and name != "write" else "#!lua\n" if unbound else ""
        text = (folder / f"{FILES.get(name, name)}.lua").read_text(encoding="utf-8")
        texts[name] = f"{flags}{prelude}\nlocal function answer()\n{text}\nend\n{coda}"
    return texts

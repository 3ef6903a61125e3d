"""The connection to Redis: scripts, each with a deadline, and what their failures mean.

Used by one thread. redis-py's blocking client, and not its asyncio one: there is no task that could be cancelled
between a command and its answer (a connection given back in that state has answered the next command with it), trio
works as well, and the lease is renewed while the application keeps its event loop busy.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from typing import Any, TypeVar

from redis.exceptions import ConnectionError, NoScriptError

from .._errors.tree import OutboxError, without_frames
from .._outbox.away import Away, OtherGeneration
from .._runtime.log import log
from ._address import Address
from ._answers import Server, echoed, evicts, found_of, info_of, replicas_of, server_of
from ._cluster import Cluster
from ._codec import Entry
from ._failures import NO_ANSWER, OtherServer, meaning_of
from ._sentinels import Sentinels
from ._topology import Node, OneServer, Topology, ask, packed

KEYS = ("about", "account", "log", "news", "lease", "requests", "spent", "files", "sent", "again", "parts", "lost",
        "pairs", "dedupe")  # fmt: skip
SCRIPTS = (
    "open", "write", "note", "resolve", "poll", "lease", "release", "inherit", "read", "aside", "reconcile", "forget",
    "finish", "explain", "reset", "pairs",
    "show", "scan", "retry", "purge", "sweep", "rebind",
)  # fmt: skip
FILES = {"note": "write"}  # the same without calls, which runs also when the memory is full
OLDEST = (6, 2)  # versions; exclusive ranges in XRANGE
UNBOUND_NOTES = 7  # version of Redis from which on a script may say that it must run when memory is full
LOADS = 3  # of a script, before a server that flushes them in between counts as away

T = TypeVar("T")

Answer = object
"""The answer of a script: numbers, bytes, ``None``, and lists of these. `_answers` says which, and what is odd."""


class Step:
    """A script to be run, with its arguments."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, *arguments: str | bytes | float) -> None:
        self.name: str = name
        self.arguments: tuple[str | bytes | float, ...] = arguments


class Connection:
    """``name`` is the outbox's in this database, ``client`` that of who uses it."""

    def __init__(self, address: Address, name: str, client: str, *, deadline: float, replicas: int = 0) -> None:
        self._address = address
        self._deadline = deadline
        self.replicas = replicas
        tag = "{" + name + "}"  # one hash slot of a cluster: a script may use all of these keys
        self._keys = [f"{tag}:{key}" for key in KEYS] + [f"{tag}:client:{client}"]
        self._texts: Mapping[str, str] = {}
        self._connecting = False
        self.evicts: bool = False
        """Redis may throw keys away when its memory is full."""
        self.unbound: bool = False
        """What makes room runs on when its memory is full."""
        self._questions = 0
        """How many scripts were run on these connections: each answer says which of them it is for."""
        self._run_id = ""
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
            server = self._asked(self._found)
        except Away as error:
            if not (self._address.is_tls and str(error) == NO_ANSWER):
                raise
            raise Away(f"{error}; does it speak TLS there?") from None
        if server.version < OLDEST:
            version = ".".join(str(part) for part in server.version)
            raise OutboxError(f"{self._address.shown} is Redis {version}, and 6.2 is needed")
        self.unbound = server.version[0] >= UNBOUND_NOTES
        self._texts = _texts(self.unbound)
        self._run_id = server.run_id
        return server.run_id

    def _found(self) -> Server:
        self._connection = self._topology.find()
        self.evicts = evicts(self._about("memory"))
        return server_of(self._about("server"))

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

    def _asked(self, ask: Callable[[], T]) -> T:
        """Ask, and note that a command is under way. Raises what its failure means, and nothing of redis-py's."""
        self._busy_since = time.monotonic()
        try:
            return ask()
        except (Away, OtherGeneration, OutboxError) as error:
            failure: Exception = without_frames(error)
        except Exception as error:  # whatever bytes may make redis-py raise, they are this step's failure
            failure = meaning_of(error, self._address)
        finally:
            self._busy_since = None
        raise failure  # out here, or what it means comes along as its context: frames, with passwords in their locals

    def _be_connected(self) -> None:
        """A connection that was closed while it was not in use, by the server's `timeout` or by a proxy, is replaced.

        Nothing of a step was on it. Raises `OtherServer` if another server is there now, or the same was restarted.
        """
        if self._connection is not None and _is_closed(self._connection):
            run_id = self._run_id
            if self.connect() != run_id:
                raise OtherServer

    def _connected(self, connection: Any) -> None:
        """redis-py connects anew in the middle of a command, without a word: the server may be another one by then."""
        if not self._connecting:
            raise ConnectionError("the connection was lost")
        sock = getattr(connection, "_sock", None)
        if isinstance(sock, socket.socket):
            self._sockets = [one for one in self._sockets if one.fileno() >= 0] + [sock]
        warn_if_overheard(self._address, getattr(connection, "host", ""))  # a master, or a node, that was named to us
        connection.on_connect()

    def _about(self, section: str) -> Mapping[str, str]:
        return info_of(*ask(self._connection, packed("INFO", section)))

    def check_server(self) -> None:
        """Check now and then whether another server has the outbox by now. Raises as `run` does."""
        self._be_connected()
        if self._asked(lambda: self._topology.has_moved(self._connection)):
            raise OtherServer

    def run(self, step: Step, *, wait: bool = False) -> Answer:
        """Run one script; ``wait`` until the replicas have what it wrote. Raises `Away`, `OtherGeneration`,
        `OutboxError`.

        The answer is this script's, and no other command's: after an answer too many, all that come are another's.
        """
        self._be_connected()
        self._questions += 1
        asked = b"%d" % self._questions
        text = self._texts[step.name]
        command = packed("EVALSHA", _sha(text), len(self._keys), *self._keys, *step.arguments, asked)

        def run() -> Answer:
            for _ in range(LOADS):
                try:
                    return echoed(self._run(command, wait), asked)
                except NoScriptError:  # it was not used yet, or they were flushed
                    ask(self._connection, packed("SCRIPT", "LOAD", text))
                    self._busy_since = time.monotonic()
            return echoed(self._run(command, wait), asked)

        return self._asked(run)

    def _run(self, command: bytes, wait: bool) -> Answer:
        if not wait or not self.replicas:
            return ask(self._connection, command)[0]
        # On the same connection, or it would wait for what another one has written.
        answer, reached = ask(self._connection, command, packed("WAIT", self.replicas, int(self._deadline * 500) or 1))
        if replicas_of(reached) < self.replicas:
            raise Away(f"{reached} of {self.replicas} replicas have it")
        return answer

    def calls(self, ids: Sequence[int]) -> list[Entry | None]:
        """The entries of the log with these ids, or ``None``. Raises as `run` does."""
        self._be_connected()
        asked = [packed("XRANGE", self._keys[2], f"{one}-1", f"{one}-1") for one in ids]
        answers = self._asked(lambda: ask(self._connection, *asked))
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


def warn_if_overheard(address: Address, host: str) -> None:
    """Say once in this process, of each outbox, that others may read its password, and all that is put."""
    if address.is_overheard(host) and address.shown not in _overheard:
        _overheard.add(address.shown)
        words = "its password, and all that is put, go over the network in the clear"
        log(logging.WARNING, f"{address.shown}: {words}; use TLS: {address.shown.replace('redis', 'rediss', 1)}")


_overheard: set[str] = set()


def _is_closed(connection: Any) -> bool:
    try:
        connection.can_read(0)  # raises where the end has come; an answer too many is met by the next reader
    except Exception:  # whatever redis-py raises, it is of no more use
        return True
    return False


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

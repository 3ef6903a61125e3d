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
from ._address import Address, OnePiece
from ._answers import echoed, evicts, found_of, replicas_of, server_of
from ._failures import Away, OddAnswer, OtherGeneration, meaning_of, words_of
from ._log import Entry
from ._shapes import listed

KEYS = ("about", "account", "log", "news", "lease", "requests", "spent", "files", "sent", "again", "parts", "lost")
SCRIPTS = (
    "open", "write", "note", "resolve", "look", "lease", "release", "inherit", "read", "aside", "reconcile", "forget",
    "finish", "explain", "reset",
    "show", "scan", "retry", "purge", "sweep", "rebind",
)  # fmt: skip
PACKER = OnePiece()
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
        self._connection: Any = None
        """The one that scripts go through, if it can be one: redis-py's way through its pool costs more than Redis."""
        self._redis: Any = None
        """Of redis-py, whose methods are typed for both of its clients at once."""

    def connect(self) -> str:
        """Have a connection; the server's run id. Raises `Away`, and `OutboxError` for ever."""
        self._connecting = True
        try:
            with self._asking():
                if self._redis is None:
                    self._redis = self._client()
                if not self._address.is_cluster:
                    self._connection = _connection_of(self._redis.connection_pool)
                server = server_of(self._about("server"))
                self.evicts = evicts(self._about("memory"))
        except OddAnswer:
            raise
        except Away as error:
            tls = self._address.shown.startswith("rediss") and "Timeout" in str(error)
            raise Away(f"{error}; does it speak TLS there?") if tls else error from None
        finally:
            self._connecting = False
        if server.version < OLDEST:
            version = ".".join(str(part) for part in server.version)
            raise OutboxError(f"{self._address.shown} is Redis {version}, and 6.2 is needed")
        self.unbound = server.version[0] >= UNBOUND_NOTES
        self._texts = _texts(self.unbound)
        return server.run_id

    def _client(self) -> Any:
        try:
            return self._address.client(self._deadline, self._connected)
        except TypeError as error:  # of redis-py's cluster, which looks at options no earlier
            if "keyword argument" not in str(error):
                raise
            raise OutboxError(f"{self._address.shown}: {words_of(error, self._address)}") from error

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
            self._sockets.append(sock)
        if not self._address.is_cluster:  # where redis-py has done that before it tells us
            connection.on_connect()

    def _about(self, section: str) -> object:
        if not self._address.is_cluster:
            return self._redis.info(section)
        node = self._redis.get_node_from_key(self._keys[0])
        return self._redis.info(section, target_nodes=node)

    def run(self, step: Step, *, wait: bool = False) -> Answer:
        """Run one script; ``wait`` until the replicas have what it wrote. Raises `Away`, `OtherGeneration`,
        `OutboxError`.

        The answer is this script's, and no other command's: after an answer too many, all that come are another's.
        """
        self._asked += 1
        asked = b"%d" % self._asked
        command = ("EVALSHA", _sha(self._texts[step.name]), len(self._keys), *self._keys, *step.arguments, asked)
        wait = wait and self._replicas > 0
        packed = PACKER.pack(*command) if not wait and self._connection is not None else None
        with self._asking():
            try:
                return echoed(self._run(command, packed, wait), asked)
            except NoScriptError:  # nobody has used it yet, or they were flushed
                self._redis.script_load(self._texts[step.name])
                self._busy_since = time.monotonic()
                return echoed(self._run(command, packed, wait), asked)

    def _run(self, command: Sequence[Any], packed: Sequence[bytes] | None, wait: bool) -> Answer:
        """``packed``: on the connection that is ours, for redis-py's other ways cost more."""
        if packed is not None:
            self._connection.send_packed_command(packed)
            return self._connection.read_response()
        if not wait:
            return self._redis.execute_command(*command)
        pipeline = self._redis.pipeline(transaction=False)
        try:
            pipeline.execute_command(*command)
            # On the same connection, or it would wait for what another one has written.
            pipeline.execute_command("WAIT", self._replicas, max(1, int(self._deadline * 500)))
            # Not to be raised, or redis-py writes the command into the message.
            answer, reached = listed(pipeline.execute(raise_on_error=False), 2)
        finally:
            pipeline.reset()
        for one in (answer, reached):
            if isinstance(one, Exception):
                raise one
        if replicas_of(reached) < self._replicas:
            raise Away(f"{reached} of {self._replicas} replicas have it")
        return answer

    def calls(self, ids: Sequence[int]) -> list[Entry | None]:
        """The entries of the log with these ids, or ``None``. Raises as `run` does."""
        with self._asking():
            pipeline = self._redis.pipeline(transaction=False)
            for call_id in ids:
                pipeline.execute_command("XRANGE", self._keys[2], f"{call_id}-1", f"{call_id}-1")
            answers = listed(pipeline.execute(), len(ids))
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
        connected, self._redis = self._redis, None
        connection, self._connection = self._connection, None
        sockets, self._sockets = self._sockets, []
        with suppress(Exception):  # whatever redis-py raises, the sockets are closed
            if connection is not None:
                connected.connection_pool.release(connection)
        with suppress(Exception):  # the same
            if connected is not None:
                connected.close()
        for one in sockets:
            with suppress(OSError):
                one.close()


def _connection_of(pool: Any) -> Any:
    """A connection, which connects when it is first used."""
    try:
        return pool.get_connection()
    except TypeError:  # redis-py before 5.3 wants to know what for
        return pool.get_connection("EVALSHA")


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

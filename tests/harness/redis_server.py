"""Redis servers in processes of their own, on the loopback, to be killed, stopped and set back by tests."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.harness.processes import ProgramFailed

if TYPE_CHECKING:
    from typing import Self

    import redis  # only for types: tests that need no Redis run without it

PROGRAM = "redis-server"
NO_SERVER = f"no {PROGRAM} on PATH"
NO_CLIENT = "no redis-py"

HOST = "127.0.0.1"
# Below 32768, where Linux begins to give out ports to whoever connects: a port stays free while its server is
# down, and no client can meet itself there. A cluster's bus is 10 000 further up, so that is below it too.
PORTS = range(10_000, 22_000)
BUS_OFFSET = 10_000
# Real seconds. A start takes 0.02; the rest is for a machine that others use.
START_WITHIN = 10.0
STOP_WITHIN = 10.0
POLL_EVERY = 0.005
# The end of the log says why a server does not come up; the beginning is a logo.
LOG_LINES_SHOWN = 40


def missing() -> str | None:
    """Why no test with Redis can run here; None if it can."""
    if shutil.which(PROGRAM) is None:
        return NO_SERVER
    return NO_CLIENT if find_spec("redis") is None else None


class RedisServer:
    """A `redis-server` in `folder`, running inside the `with` block or from `start` to `close`.

    `durable` is an append-only file synced before every answer; otherwise nothing is written but by `save`.
    `users` are ACL lines without the word `user`, such as "reader on >secret ~* +@read". `config` has more
    directives, as redis.conf writes them. With `tls` it speaks nothing else; `ca_file` is whom to trust.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        tls: bool = False,
        durable: bool = False,
        password: str | None = None,
        users: Sequence[str] = (),
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or 0  # 0 until the first start
        self.tls = tls
        self.durable = durable
        self.password = password
        self._users = list(users)
        self._config = dict(config or {})
        self._process: subprocess.Popen[bytes] | None = None

    # ── addresses ──

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, db: int = 0, *, user: str = "", password: str | None = None) -> str:
        """For a user of `users`, or for the default one with the server's own password."""
        secret = password if password is not None else self.password
        login = "" if secret is None else f"{quote(user, safe='')}:{quote(secret, safe='')}@"
        return f"{'rediss' if self.tls else 'redis'}://{login}{HOST}:{self.port}/{db}"

    @property
    def ca_file(self) -> Path:
        """The authority that a client of a TLS server must trust: `ssl_ca_certs` of redis-py."""
        return self.folder / "ca.pem"

    def trust(self, other: RedisServer) -> None:
        """Before the first start: have the certificates of another server with TLS, for it is to be spoken to."""
        if self.tls and other is not self:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("ca.pem", "server.pem"):
                shutil.copy(other.folder / name, self.folder)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote since it began, restarts included."""
        with suppress(FileNotFoundError):
            return self._log_file.read_text(errors="replace")
        return ""

    def client(self, **options: Any) -> redis.Redis:
        """A plain client, to be closed by whoever asked. It does not try again: a test sees each failure."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        trust = {"ssl_ca_certs": str(self.ca_file)} if self.tls else {}
        return redis.Redis.from_url(self.url, **{"retry": Retry(NoBackoff(), 0), **trust, **options})

    # ── its life ──

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Return when it answers. Raises `ProgramFailed` with the log's end if it does not."""
        assert not self.running, f"the server on port {self.port} runs already"
        if self.port:
            self._launch()
            return
        for attempts_left in (2, 1, 0):
            self.port = self.choose_port()
            try:
                self._launch()
                return
            except ProgramFailed:
                # Somebody else has taken the port since we looked.
                if not attempts_left or "Address already in use" not in self.log:
                    raise
                self._wipe()
                self._log_file.unlink()

    def stop(self) -> None:
        """In order, by SIGTERM: an append-only file is complete then. Nothing if it is down."""
        if self.running:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            self._wait_ended()

    def kill(self) -> None:
        """By SIGKILL, as a machine that loses power, but for what the kernel still writes."""
        if self.running:
            self._signal(signal.SIGKILL)
            self._wait_ended()

    def close(self) -> None:
        """Down at once, whatever state it is in; its folder stays."""
        self.kill()

    def restart(self, *, keep: bool) -> None:
        """Up again on the same port: with its data, or empty.

        What a running server has in memory is saved first; after `kill` only what had reached the disk is kept.
        """
        if keep and self.running and not self.durable:
            self.save()
        self.stop()
        if not keep:
            self._wipe()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections are accepted by the kernel, and nothing is answered."""
        self._signal(signal.SIGSTOP)
        self._poll("did not stop on SIGSTOP", self._is_stopped)

    def resume(self) -> None:
        """Return when it answers again. What was sent meanwhile is carried out now, even for clients that left."""
        self._signal(signal.SIGCONT)
        self._wait_ready()

    # ── its data ──

    def flushall(self) -> None:
        with self.client() as client:
            client.flushall()

    def script_flush(self) -> None:
        """Forget all scripts, as a restart or a failover does: EVALSHA gets NOSCRIPT."""
        with self.client() as client:
            client.script_flush()

    def save(self) -> None:
        with self.client() as client:
            client.save()

    def snapshot(self) -> bytes:
        """All data of now, for `restore`."""
        self.save()
        return (self.folder / "dump.rdb").read_bytes()

    def restore(self, snapshot: bytes) -> None:
        """Up again on the same port with older data, as from last night's backup."""
        self.kill()
        self._wipe()
        (self.folder / "dump.rdb").write_bytes(snapshot)
        if self.durable:
            # With an append-only file Redis ignores dump.rdb; the snapshot has to be that file's base.
            append_only = self.folder / "appendonlydir"
            append_only.mkdir()
            (append_only / "appendonly.aof.1.base.rdb").write_bytes(snapshot)
            (append_only / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
        self.start()

    # ── for subclasses ──

    arguments: tuple[str, ...] = ()

    def choose_port(self) -> int:
        """A port that was free a moment ago."""
        return _free_port()

    def directives(self) -> dict[str, str]:
        """What redis.conf says; `config` has the last word."""
        said = {
            "bind": HOST,
            "port": "0" if self.tls else str(self.port),
            "dir": str(self.folder),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "always",
            # By default 10: a server would look a tenth of a second later whether it has been told to end.
            "hz": "100",
            # Without a disk, a replica would get its first command a second after its first data.
            "repl-diskless-sync": "no",
        }
        if self.tls:
            said |= {
                "tls-port": str(self.port),
                "tls-auth-clients": "no",
                "tls-ca-cert-file": str(self.ca_file),
                "tls-cert-file": str(self.folder / "server.pem"),
                "tls-key-file": str(self.folder / "server.pem"),
            }
        if self.password is not None:
            said["requirepass"] = f'"{self.password}"'
        return said

    def is_ready(self, client: Any) -> bool:
        # Not by its answering alone: on a port that was taken, it is somebody else who answers.
        return bool(client.info("server")["process_id"] == self.pid)

    # ── inside ──

    @property
    def _log_file(self) -> Path:
        return self.folder / "redis.log"

    def _launch(self) -> None:
        self._spawn()
        try:
            self._wait_ready()
        except BaseException:  # a start given up, be it by Ctrl-C, leaves no process behind
            self.kill()
            raise

    def _spawn(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        conf = self.folder / "redis.conf"
        # Not when it is there: CONFIG REWRITE, and a sentinel by itself, keep there what they learned.
        if not conf.exists():
            said = {**self.directives(), **self._config}
            lines = [f"{name} {value}" for name, value in said.items()] + [f"user {user}" for user in self._users]
            conf.write_text("\n".join(lines) + "\n")
        if self.tls and not self.ca_file.exists():
            _write_certificates(self.ca_file, self.folder / "server.pem")
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(conf), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Not in our group: Ctrl-C is for the tests, which then end it.
                start_new_session=True,
            )

    def _wait_ready(self) -> None:
        import redis

        def answers() -> bool:
            # BusyLoading is a ConnectionError as well; an answer of another kind is a bug of the test's.
            with suppress(redis.ConnectionError, redis.TimeoutError):
                return self.is_ready(client)
            return False

        with self.client() as client:
            self._poll("did not become ready", answers)

    def _wait_ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end within {STOP_WITHIN:g} s") from None

    def _poll(self, complaint: str, condition: Callable[[], bool], timeout: float = START_WITHIN) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running:
                raise self._failed(f"{complaint}: it is not running")
            if time.monotonic() >= deadline:
                raise self._failed(f"{complaint} within {timeout:g} s")
            time.sleep(POLL_EVERY)

    def _is_stopped(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server has not been started"
        self._process.send_signal(number)

    def _wipe(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.suffix not in (".log", ".pem"):
                entry.unlink()

    def _failed(self, what: str) -> ProgramFailed:
        tail = "\n".join(self.log.splitlines()[-LOG_LINES_SHOWN:])
        return ProgramFailed(f"{type(self).__name__} on port {self.port} {what}. Its log:\n{tail or '(empty)'}")


class Replica(RedisServer):
    """Follows `master`, with its password. Ready when it answers; `wait_synced` when it has the data."""

    def __init__(self, folder: Path, *, master: RedisServer, **options: Any) -> None:
        super().__init__(folder, **{"password": master.password, **options})
        self.master = master

    def directives(self) -> dict[str, str]:
        said = {**super().directives(), "replicaof": f"{HOST} {self.master.port}"}
        if self.master.password is not None:
            said["masterauth"] = f'"{self.master.password}"'
        return said

    def wait_synced(self, timeout: float = START_WITHIN) -> None:
        """Until it has all that the master had when this was called."""
        with self.master.client() as master, self.client() as replica:
            wanted = master.info("replication")["master_repl_offset"]

            def synced() -> bool:
                known = replica.info("replication")
                return bool(known.get("master_link_status") == "up" and known["slave_repl_offset"] >= wanted)

            self._poll(f"did not follow to offset {wanted}", synced, timeout)


class Sentinel(RedisServer):
    """By default alone, and enough of them: its own vote makes another replica the master. Ready when it sees `master`.

    `quorum` is how many of them have to take the master for down.
    """

    arguments = ("--sentinel",)

    def __init__(
        self, folder: Path, *, master: RedisServer, name: str = "main", quorum: int = 1, **options: Any
    ) -> None:
        super().__init__(folder, **options)
        self.master = master
        self.name = name
        self._quorum = quorum

    def directives(self) -> dict[str, str]:
        said = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "sentinel monitor": f"{self.name} {HOST} {self.master.port} {self._quorum}",
            # Thirty seconds and three minutes by default. A healthy master answers its ping every 0.2 s here.
            "sentinel down-after-milliseconds": f"{self.name} 500",
            "sentinel failover-timeout": f"{self.name} 2000",
        }
        if self.master.password is not None:
            said["sentinel auth-pass"] = f'{self.name} "{self.master.password}"'
        return said

    def is_ready(self, client: Any) -> bool:
        return super().is_ready(client) and self._state()["flags"] == "master"

    def master_port(self) -> int:
        """Of the server that it takes for the master now."""
        return int(self._state()["port"])

    def wait_replicas(self, count: int = 1, timeout: float = START_WITHIN) -> None:
        """Until it has found so many. It promotes none that it does not know."""
        self._poll(f"did not find {count} replicas", lambda: int(self._state()["num-slaves"]) >= count, timeout)

    def wait_sentinels(self, count: int, timeout: float = START_WITHIN) -> None:
        """Until it has found so many others."""
        self._poll(f"did not find {count} others", lambda: int(self._state()["num-other-sentinels"]) >= count, timeout)

    def wait_master(self, server: RedisServer, timeout: float = 30.0) -> None:
        """Until `server` is the master, in the sentinel's eyes and in its own."""
        with server.client() as promoted:
            self._poll(
                f"did not make {server.port} the master",
                lambda: self.master_port() == server.port and promoted.info("replication")["role"] == "master",
                timeout,
            )

    def _state(self) -> dict[str, str]:
        # As it comes: redis-py's own reading of it differs between RESP2 and RESP3.
        with self.client(protocol=2, decode_responses=True) as client:
            plain: Any = client
            plain.response_callbacks.clear()
            flat = plain.execute_command("SENTINEL", "MASTER", self.name)
        return dict(zip(flat[::2], flat[1::2], strict=True))


class ClusterNode(RedisServer):
    """A cluster of one: it has all the slots. Ready when the cluster says it is, which takes it 2 s after a restart.

    If it `is_alone`; otherwise it waits for others to meet, and is ready when it answers.
    """

    def __init__(self, folder: Path, *, is_alone: bool = True, **options: Any) -> None:
        super().__init__(folder, **options)
        self._is_alone = is_alone

    def directives(self) -> dict[str, str]:
        return {**super().directives(), "cluster-enabled": "yes", "cluster-announce-ip": HOST}

    def is_ready(self, client: Any) -> bool:
        if not super().is_ready(client) or not self._is_alone:
            return super().is_ready(client)
        state = _cluster_info(client)
        if state["cluster_slots_assigned"] == "0":
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))  # its RANGE came with Redis 7
        return state["cluster_state"] == "ok"


@contextmanager
def temporary(kind: type[RedisServer] = RedisServer, /, **options: Any) -> Iterator[RedisServer]:
    """A server that runs while the block does, in a folder that goes with it."""
    with TemporaryDirectory(prefix="redis-of-tests-") as folder, kind(Path(folder), **options) as server:
        yield server


def _free_port() -> int:
    # Not the global one: hypothesis and the tests seed it, and every worker would come to the same ports.
    for port in random.SystemRandom().sample(PORTS, 200):
        if _is_free(port) and _is_free(port + BUS_OFFSET):
            return port
    raise ProgramFailed(f"no free port among 200 of {PORTS}")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Redis does: closed connections do not count
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True


def _write_certificates(ca_file: Path, server_file: Path) -> None:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(os.fspath(ca_file))
    authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.write_to_path(os.fspath(server_file))


def _cluster_info(client: Any) -> dict[str, str]:
    raw = client.execute_command("CLUSTER", "INFO")
    text = raw.decode() if isinstance(raw, bytes) else raw
    return dict(line.split(":", 1) for line in text.split())

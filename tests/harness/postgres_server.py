"""PostgreSQL servers in processes of their own, on the loopback, to be killed, stopped and set back by tests."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.harness.processes import ProgramFailed

if TYPE_CHECKING:
    from typing import Self

    import psycopg  # only for types: tests that need no PostgreSQL run without it

INSTALLED = Path("/usr/lib/postgresql")  # Debian's, one folder a version: its programs are not on PATH
NO_SERVER = "no postgres on PATH"
NO_CLIENT = "no psycopg"

HOST = "127.0.0.1"
USER = "postgres"  # the superuser of each server; it needs no password
# Below 32768, where Linux begins to give out ports to whoever connects, and not Redis's.
PORTS = range(22_000, 31_000)
# Real seconds. A start takes 0.1; the rest is for a machine that others use.
START_WITHIN = 20.0
STOP_WITHIN = 20.0
POLL_EVERY = 0.01
LOG_LINES_SHOWN = 40
_numbers = count()


def program(name: str) -> str | None:
    """Where a program of PostgreSQL's is: on PATH, or of the newest version that Debian has installed."""
    versions = sorted(INSTALLED.glob("*/bin"), key=lambda one: float(one.parent.name), reverse=True)
    return shutil.which(name) or next((found for one in versions if (found := shutil.which(name, path=one))), None)


def missing() -> str | None:
    """Why no test with PostgreSQL can run here; None if it can."""
    if program("postgres") is None or program("initdb") is None or (os.geteuid() == 0 and _ordinary() is None):
        return NO_SERVER
    return NO_CLIENT if find_spec("psycopg") is None else None


def _ordinary() -> tuple[int, int] | None:
    """An ordinary user's ids: PostgreSQL refuses to run as root."""
    import pwd

    for name in (USER, "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    return None


class PostgresServer:
    """A server in `folder`, running inside the `with` block or from `start` to `close`.

    `durable` syncs each commit to the disk; otherwise the end of the machine, but of no process, could lose some.
    `config` has more settings, as postgresql.conf writes them. `hba` are lines of pg_hba.conf before the one that
    trusts everybody. `files` are beside those two, such as server.crt and server.key.
    """

    def __init__(
        self, folder: Path, *, durable: bool = False, config: Mapping[str, str] | None = None, hba: str = "",
        files: Mapping[str, bytes] | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.port = 0  # until the first start
        self.durable = durable
        self._config = dict(config or {})
        self._hba = hba
        self._files = dict(files or {})
        self._process: subprocess.Popen[bytes] | None = None

    # ── addresses ──

    @property
    def data(self) -> Path:
        """The server's own folder."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Of the database that is there from the beginning, for the superuser."""
        return self.url_of()

    def url_of(self, database: str = USER, *, user: str = USER, password: str | None = None, port: int = 0) -> str:
        """The URL of a database, for a role."""
        login = quote(user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
        return f"postgresql://{login}@{HOST}:{port or self.port}/{database}"

    def connection(self, database: str = USER, **options: Any) -> psycopg.Connection[Any]:
        """A plain connection, to be closed by whoever asked."""
        import psycopg

        return psycopg.connect(self.url_of(database), autocommit=True, **options)

    def run(self, statement: str, database: str = USER, values: Any = None) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; its rows."""
        with closing(self.connection(database)) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]  # a test's own words
            return cursor.fetchall() if cursor.description else []

    def new_name(self) -> str:
        """A name for an outbox that no test has had here."""
        return f"outbox_{next(_numbers)}"

    def new_outbox(self, **url: Any) -> str:
        """The URL of a new, empty outbox whose tables are made."""
        name = self.new_name()
        self.migrate(name)
        return f"{self.url_of(**url)}?name={name}"

    def migrate(self, name: str, database: str = USER, *, schema: str | None = None) -> None:
        """Make the tables of an outbox, as the superuser."""
        from userpilot_async.postgres._address import address_of
        from userpilot_async.postgres._connection import Connection
        from userpilot_async.postgres._migrate import migrate
        from userpilot_async.postgres._schema import Names

        connection = Connection(address_of(self.url_of(database), {})[0], name, deadline=START_WITHIN)
        connection.connect()
        try:
            migrate(connection, Names(name, schema), "the server of the tests")
        finally:
            connection.close()

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote since it began, restarts included."""
        with suppress(FileNotFoundError):
            return self._log_file.read_text(errors="replace")
        return ""

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
        if not (self.data / "PG_VERSION").exists():
            self._make()
        if self.port:
            self._launch()
            return
        for attempts_left in (2, 1, 0):
            self.port = _free_port()
            try:
                self._launch()
                return
            except ProgramFailed:
                if not attempts_left or "in use" not in self.log:
                    raise

    def stop(self, how: str = "fast") -> None:
        """As `pg_ctl stop -m` does: `smart`, `fast`, or `immediate`, which is a crash. Nothing if it is down."""
        if self.running:
            self._signal(signal.SIGCONT)
            self._signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[how])
            self._wait_ended()

    def kill(self) -> None:
        """By SIGKILL, all of its processes."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)  # each backend is of the postmaster's group, until it makes its own
            for backend in self._children():
                with suppress(ProcessLookupError):
                    os.kill(backend, signal.SIGKILL)
            self._wait_ended()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Down at once, whatever state it is in; its folder stays."""
        if self.running:
            self.resume()
            self.stop("immediate")

    def restart(self, how: str = "fast") -> None:
        """Up again on the same port, with its data."""
        self.stop(how)
        self.start()

    def pause(self) -> None:
        """SIGSTOP, to each of its processes: connections are accepted by the kernel, and nothing is answered."""
        for one in (self.pid, *self._children()):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on. What was sent meanwhile is carried out now, even for clients that left."""
        for one in (*self._children(), self.pid):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)

    def end_connections(self) -> None:
        """End every connection but the one that says so, as an administrator does."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    # ── inside ──

    @property
    def _log_file(self) -> Path:
        return self.folder / "postgres.log"

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own(self.folder)
        self._call("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        said = {
            "listen_addresses": f"'{HOST}'",
            "unix_socket_directories": f"'{self.folder}'",
            "fsync": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            "max_connections": "50",
            "shared_buffers": "'16MB'",
            "log_line_prefix": "'%m [%p] '",
            **self._config,
        }
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write("".join(f"{name} = {value}\n" for name, value in said.items()))
        hba = self.data / "pg_hba.conf"
        hba.write_text(self._hba + hba.read_text())
        for name, content in self._files.items():
            file = self.data / name
            file.touch(0o600)
            file.write_bytes(content)
            self._own(file)

    def _call(self, name: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(program(name)), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **self.owner(),
        )
        if done.returncode:
            raise ProgramFailed(f"{name} failed: {done.stdout}{done.stderr}")

    def owner(self) -> dict[str, Any]:
        """How a program is started that refuses to run as root: arguments of `subprocess.Popen`."""
        ids = _ordinary() if os.geteuid() == 0 else None
        return {} if ids is None else {"user": ids[0], "group": ids[1], "extra_groups": []}

    def _own(self, path: Path) -> None:
        ids = _ordinary() if os.geteuid() == 0 else None
        if ids is not None:
            os.chown(path, *ids)

    def _launch(self) -> None:
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(program("postgres")), "-D", str(self.data), "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                # Not in our group: Ctrl-C is for the tests, which then end it.
                start_new_session=True,
                **self.owner(),
            )
        try:
            self._wait_ready()
        except BaseException:  # a start given up, be it by Ctrl-C, leaves no process behind
            self.stop("immediate")
            raise

    def _wait_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_WITHIN
        while True:
            if not self.running:
                raise self._failed("is not running")
            if "ready to accept " in self.log:  # or it may be somebody else's port
                with suppress(psycopg.OperationalError):
                    self.run("SELECT 1")
                    return
            if time.monotonic() >= deadline:
                raise self._failed(f"did not become ready within {START_WITHIN:g} s")
            time.sleep(POLL_EVERY)

    def _wait_ended(self) -> None:
        assert self._process is not None
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end within {STOP_WITHIN:g} s") from None

    def _failed(self, what: str) -> ProgramFailed:
        shown = "\n".join(self.log.splitlines()[-LOG_LINES_SHOWN:])
        return ProgramFailed(f"the server on port {self.port} {what}; its log ends:\n{shown}")

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def _children(self) -> list[int]:
        with suppress(OSError):
            return [int(one) for one in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []


class Replica(PostgresServer):
    """A standby of another server's, which it follows until it is `cut` off, or that one ends."""

    def __init__(self, folder: Path, *, primary: PostgresServer, **options: Any) -> None:
        super().__init__(folder, **options)
        self._primary = primary

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._own(self.folder)
        source = ("-h", HOST, "-p", self._primary.port, "-U", USER)
        self._call("pg_basebackup", *source, "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(f"unix_socket_directories = '{self.folder}'\n")

    def catch_up(self) -> None:
        """Return when it has all that its primary has at this moment."""
        ((reached,),) = self._primary.run("SELECT pg_current_wal_lsn()::text")
        self._wait_for("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", reached)

    def cut(self) -> None:
        """Follow no more: what its primary writes from now on, it never gets."""
        self.run("ALTER SYSTEM SET primary_conninfo = ''")
        self.run("SELECT pg_reload_conf()")
        self._wait_for("SELECT count(*) = 0 FROM pg_stat_wal_receiver")

    def promote(self) -> None:
        """Be the primary, with what it has."""
        self.run("SELECT pg_promote()")

    def _wait_for(self, question: str, *values: Any) -> None:
        deadline = time.monotonic() + START_WITHIN
        while not self.run(question, values=values)[0][0]:
            if time.monotonic() >= deadline:
                raise self._failed(f"did not come to {question}")
            time.sleep(POLL_EVERY)


class PgBouncer:
    """A PgBouncer in front of a server, in transaction mode: each transaction may get another connection of its."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def url(self, name: str) -> str:
        """The URL of an outbox of this name, by way of it."""
        return f"{self._server.url_of(port=self.port)}?name={name}"

    def __enter__(self) -> Self:
        self.port = _free_port()
        folder = self._server.folder
        (folder / "users.txt").write_text(f'"{USER}" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={HOST} port={self._server.port}\n[pgbouncer]\nlisten_addr = {HOST}\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {folder}/users.txt\n"
            f"pool_mode = transaction\ndefault_pool_size = 4\nserver_round_robin = 1\n"
            f"logfile = {folder}/bouncer.log\n"
        )
        self._process = subprocess.Popen(
            [str(program("pgbouncer")), str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            **self._server.owner(),
        )
        deadline = time.monotonic() + START_WITHIN
        while True:
            with suppress(OSError), socket.create_connection((HOST, self.port), 1.0):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramFailed(f"pgbouncer does not answer on port {self.port}")
            time.sleep(POLL_EVERY)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_WITHIN)


@contextmanager
def temporary(kind: type[PostgresServer] = PostgresServer, **options: Any) -> Iterator[PostgresServer]:
    """A server of this kind that runs while the block does, in a folder that goes with it."""
    with TemporaryDirectory(prefix="pg-of-tests-") as folder, kind(Path(folder), **options) as server:
        yield server


def _free_port() -> int:
    # Not the global one: hypothesis and the tests seed it, and every worker would come to the same ports.
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as sock:
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ProgramFailed(f"no free port among 200 of {PORTS}")

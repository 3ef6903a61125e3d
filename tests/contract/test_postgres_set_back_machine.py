"""PostgreSQL is set back at any instant, and whoever comes then goes on: nothing is lost without a word, or claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract import set_backs
from tests.contract.inline_postgres import NewProcess, processes
from tests.harness import length
from tests.harness.postgres_server import PostgresServer
from tests.harness.stage.postgres_scenes import Books
from userpilot_async._outbox.away import Away
from userpilot_async._outbox.receipt import Receipt
from userpilot_async.postgres._schema import TABLES


class Scene(set_backs.Scene):
    """Two processes that may send, others that come later and only put, and somebody who restores older data."""

    def __init__(self, server: PostgresServer, name: str, process: NewProcess) -> None:
        super().__init__([])
        self.said_lost: list[int] = []
        self.books = Books(server, name)
        self.puts: dict[int, list[Receipt]] = defaultdict(list)
        self._process = process
        self._connection = server.connection()
        for _ in range(2):
            self.open()
        self.save()

    def open(self, **options: Any) -> None:
        """Another process opens the outbox."""
        outbox = self._process(**options)
        report = outbox.store.report_set_back

        def reporting(generation: str, lost: int, under_way: int | None) -> None:
            self.said_lost.append(lost + (under_way or 0))
            report(generation, lost, under_way)

        outbox.store.report_set_back = reporting
        self.processes.append(set_backs.Process(outbox))

    def close(self) -> None:
        self._connection.close()

    def run(self, *statements: str) -> None:
        with self._connection.transaction():
            for statement in statements:
                self._connection.execute(statement.format(name=self.books.name))  # type: ignore[call-overload]

    def put(self, number: int, calls: int) -> None:
        number %= len(self.processes)
        before = set(self.receipts)
        super().put(number, calls)
        self.puts[number] += [receipt for mark, receipt in self.receipts.items() if mark not in before]

    def poll(self, number: int) -> None:
        """As a process does once a second, at least."""
        process = self.processes[number % len(self.processes)]
        process.outbox.store._still = 0
        process.poll()

    # ── what happens to PostgreSQL ──

    def save(self) -> None:
        tables = [f"{self.books.name}_{table}" for table in TABLES]
        self.run(
            *(f"DROP TABLE IF EXISTS saved_{table}" for table in tables),
            *(f"CREATE UNLOGGED TABLE saved_{table} AS TABLE {table}" for table in tables),
        )

    def set_back(self, how: str) -> None:
        """To what was saved, in one transaction; connections may end for it. It takes longer than a second, in which
        all that have a connection ask."""
        for number in range(len(self.processes)):
            self.poll(number)
        self.run(
            *(f"DELETE FROM {{name}}_{table}" for table in TABLES),
            *(f"INSERT INTO {{name}}_{table} OVERRIDING SYSTEM VALUE TABLE saved_{{name}}_{table}" for table in TABLES),
        )
        if how == "restored":
            self.cut()

    def cut(self) -> None:
        for process in self.processes:
            process.outbox.store._leave(Away("the connection was lost"))

    def come(self, calls: int) -> None:
        """A process that knows of nothing puts, before those that know look again."""
        if len(self.processes) < 4:
            self.open(sender=False)
        self.put(len(self.processes) - 1, calls)

    def end_lease(self) -> None:
        self.run("UPDATE {name}_state SET lease_until = 'epoch'")

    # ── the end ──

    def drain(self) -> None:
        self.end_lease()  # one that was restored is nobody's: it ends by itself
        super().drain()
        for number in range(len(self.processes)):
            self.poll(number)

    def check(self) -> None:
        """What holds in the end, whatever has happened."""
        account = self.books.balanced()
        assert [(0,)] == self.books.ask("SELECT count(*) FROM {}_calls")
        for process in self.processes:
            ledger = process.outbox.ledger
            assert (account["accepted"], account["delivered"], 0) == (ledger.accepted, ledger.delivered, ledger.pending)
            assert ledger.accepted == ledger.delivered + ledger.merged + sum(ledger.losses().values())
        for mark, receipt in self.receipts.items():
            said = (receipt.status, receipt.reason)
            assert said in (("delivered", None), ("dead", "expired"), ("dropped", "unknown")), (mark, said)
            assert said[0] == "dropped" or self.arrived[mark], f"{mark!r} has not arrived, and is said to be {said}"
        assert max(self.said_lost, default=0) <= len(self.receipts), "more is said to be lost than there ever was"
        for number, receipts in self.puts.items():
            if any(receipt.reason == "unknown" for receipt in receipts):
                assert self.processes[number].outbox.ledger.resets, f"process {number} has not counted that"
        assert self.twice <= self.counted


@contextmanager
def scene_at(server: PostgresServer) -> Iterator[Scene]:
    url = server.new_outbox()
    with processes(url) as process:
        scene = Scene(server, url.partition("name=")[2], process)
        try:
            yield scene
        finally:
            scene.close()


WHO = st.integers(0, 1)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3), st.integers(1, 5)),
        st.tuples(st.just("send"), WHO, st.integers(1, 4)),
        st.tuples(st.just("send"), WHO, st.integers(1, 4)),
        st.tuples(st.just("answer"), WHO, st.sampled_from(["delivered", "delivered", "delivered", "lost", "dead"])),
        st.tuples(st.just("poll"), st.integers(0, 3)),
        st.tuples(st.just("save")),
        st.tuples(st.just("set_back"), st.sampled_from(["in place", "restored"])),
        st.tuples(st.just("come"), st.integers(1, 9)),
        st.tuples(st.sampled_from(["end_lease", "cut"])),
    ),
    max_size=30,
)


@settings(max_examples=length.of(60, soak=1_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(happened=happenings)
def test_nothing_is_lost_without_a_word_or_claimed_however_it_is_set_back(
    postgres_server: PostgresServer, happened: list[Any]
) -> None:
    with scene_at(postgres_server) as scene:
        for what, *how in happened:
            getattr(scene, what)(*how)
        scene.drain()
        scene.check()

"""A SQLite file through everything that is done to it, by two processes in turn, and through crashes at any moment.

A crash is a copy of the file and its log as they are, on which everybody goes on; or one with the log's end torn off.
"""

from __future__ import annotations

import copy
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.contract.puts import PUTS
from tests.harness import length
from userpilot_async._account.shared_ledger import SharedLedger
from userpilot_async._calls.outcome import Outcome
from userpilot_async._calls.payload import Key
from userpilot_async._outbox.batch import Batch, Landed, Put, Settled
from userpilot_async._outbox.owner import Claim
from userpilot_async._outbox.receipt import Receipt
from userpilot_async._outbox.store import Committed
from userpilot_async._outbox.window import Reading
from userpilot_async._schedule.takeover import RequestNote, Takeover, UnfinishedFile
from userpilot_async.sqlite._file import File
from userpilot_async.sqlite._store import SQLiteStore

DEAD = Outcome("dead", "expired")
DROPPED = Outcome("dropped", "queue_full")
DELIVERED = Outcome("delivered")
BY_IMPORT = Outcome("delivered", by="import")
COMPANY, USER = ("company", "acme"), ("user", "u1")
WHO = st.sampled_from([0, 1])
TABLES = ("about", "account", "calls", "parts", "lost", "damaged", "news", "requests", "files")
LOG_HEADER, FRAME = 32, 24 + 4096  # bytes; sqlite.org/fileformat.html, "The Write-Ahead Log", read 2026-11
A_MINUTE, LOST_FOR = 60.0, 90.0  # seconds until a token comes back: of an answered request, and of a lost one


@attrs.define
class Noted:
    """A request, as the file should know it."""

    ids: list[int]
    budget: str
    at: float
    landed_at: float | None = None


@attrs.define
class Model:
    """The calls and the account that the file should hold."""

    next_id: int = 0
    held: dict[int, tuple[str, float]] = attrs.field(factory=dict)
    """Calls that wait: the name of what was put, and when."""
    fates: dict[int, Outcome] = attrs.field(factory=dict)
    sent: set[int] = attrs.field(factory=set)
    ambiguous: int = 0
    parts: dict[int, tuple[str, str]] = attrs.field(factory=dict)
    """Of calls that describe a company: which half of what they say the server has been told already."""
    requests: dict[int, Noted] = attrs.field(factory=dict)
    files: dict[str, list[int]] = attrs.field(factory=dict)

    def call(self, call_id: int) -> tuple[Any, ...]:
        """Of a call, what is still to be sent: its kind, its key, and what it says."""
        said: Any
        kind, key, said, _ = PUTS[self.held[call_id][0]]
        if call_id not in self.parts:
            return kind, key, said
        metadata, fields, size, (other, whose, properties, other_size) = said
        if self.parts[call_id] == COMPANY:
            return kind, key, (metadata, fields, size - other_size, None)
        return other, whose, (properties, None, other_size, None)

    def key(self, call_id: int) -> Key:
        """The key that a call belongs to."""
        return PUTS[self.held[call_id][0]][1]

    def counts(self) -> dict[str, object]:
        """The account that the file should have."""
        fates = self.fates.values()
        lost = {
            status: dict(Counter(fate.reason for fate in fates if fate.status == status))
            for status in ("dead", "dropped")
        }
        return {
            "accepted": self.next_id,
            "delivered": sum(fate.is_delivered for fate in fates),
            "by": dict(Counter(fate.by for fate in fates if fate.by is not None)),
            "merged": sum(fate.status == "merged" for fate in fates),
            "merged_lost": sum(fate.status == "merged" and fate.reason is not None for fate in fates),
            **lost,
            "bytes": sum(PUTS[name][3] for name, _ in self.held.values()),
            "next_id": self.next_id,
            "forgotten": 0,
            "duplicates": 0,
            "keys": 0,
            "resets": 0,
            "ambiguous": self.ambiguous,
        }

    def take_over(self, now: float) -> Takeover:
        """A new sender: what was under way may have been done; what it inherits."""
        spent: dict[str, list[float]] = {}
        for request in self.requests.values():
            if request.landed_at is None:
                may_have_arrived = {one for one in request.ids if one in self.held}
                self.ambiguous += len(may_have_arrived)
                self.sent |= may_have_arrived
                request.landed_at = now + LOST_FOR - A_MINUTE
            if request.landed_at + A_MINUTE > now:
                spent.setdefault(request.budget, []).append(min(request.landed_at + A_MINUTE - now, LOST_FOR))
        files = []
        for filename, last_calls in list(self.files.items()):
            keys = {str(self.key(one)): one for one in last_calls if one in self.held}
            if keys:
                files.append(UnfinishedFile(filename, "user", keys))
            else:
                del self.files[filename]
        return Takeover(spent, files)


@attrs.define(eq=False)
class Process:
    """A process that has the file open."""

    store: SQLiteStore
    ledger: SharedLedger
    leads: bool = False
    merging: set[int] = attrs.field(factory=set)
    """Calls that went into others, which only the sender knows."""
    base: int = 0
    """Of calls since this it knows what became of each."""


class TwoProcesses(RuleBasedStateMachine):
    """Both put and refuse; one sends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.root = folder
        self.names = count()
        self.time = 1_000_000.0
        self.model = Model()
        self.open_requests: dict[int, RequestNote] = {}
        self.connections: list[File] = []
        self.folder = self.new_folder()
        self.processes: list[Process] = []
        self.history: list[tuple[Any, Model, tuple[bytes, int]]] = []
        self.start_both()

    def teardown(self) -> None:
        self.end_all()
        shutil.rmtree(self.folder)

    # ── starting, and dying ──

    def new_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.root))
        (folder / "events.db.ballast").touch()  # or each new one would cost four megabytes
        return folder

    def start(self) -> Process:
        file = File(
            self.folder / "events.db", "process", pause=_nobody_waits, wall=lambda: self.time,
            steady=lambda: self.time, warn=_no_warning,
        )  # fmt: skip
        store = SQLiteStore(file)
        now = store.open(Claim("a server", lambda salt: f"KEY {salt.hex()}"))
        process = Process(store, SharedLedger(), base=now.account.next_id)
        process.ledger.start(now.account.next_id)
        self.connections.append(file)
        self.learn(process, now)
        return process

    def start_both(self) -> None:
        self.processes = [self.start(), self.start()]
        self.history = [(None, Model(), (b"", -1))] if not self.history else self.history
        self.committed()
        self.take_lease(0)

    def end_all(self) -> None:
        """No transaction is under way, so that nothing is written by this."""
        for file in self.connections:
            file.let_go_of_locks()
            file.disconnect()
        self.connections.clear()
        self.open_requests.clear()

    def take_lease(self, who: int) -> None:
        process = self.processes[who]
        assert process.store.file.lease.try_take()
        inheritance, now = process.store.inherit()
        expected = self.model.take_over(self.time)
        assert {budget: sorted(spent) for budget, spent in expected.spent.items()} == {
            budget: pytest.approx(sorted(spent)) for budget, spent in inheritance.spent.items()
        }
        expected_files = sorted(expected.files, key=lambda file: file.filename)
        found_files = sorted(inheritance.files, key=lambda file: file.filename)
        assert expected_files == [file for file in found_files if file.last_calls]
        process.leads = True
        self.learn(process, now)
        self.committed()

    @property
    def leader(self) -> Process:
        return next(process for process in self.processes if process.leads)

    @rule()
    def the_sender_dies_and_the_other_one_goes_on(self) -> None:
        who = self.processes.index(self.leader)
        dead = self.leader.store.file
        dead.lease.close()
        dead.turn.close()
        self.open_requests.clear()
        self.processes[who] = self.start()
        self.take_lease(1 - who)

    @precondition(lambda self: self.model.held)
    @rule()
    def all_die(self) -> None:
        self.go_on_with(self.copied())
        assert self.history[-1][0] == dump(self.folder)
        self.end_of_crash()

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def the_power_fails_and_the_end_of_the_log_is_lost(self, data: st.DataObject) -> None:
        """What is left is what a sequence of whole transactions has made of it, from the first one on."""
        log = self.folder / "events.db-wal"
        whole = log.stat().st_size if log.exists() else 0
        frames = max(0, whole - LOG_HEADER) // FRAME
        # A few pages as a rule: or there would be little left to be wrong.
        lost = data.draw(st.integers(0, min(frames, 12)) | st.integers(0, frames), label="pages lost")
        torn_in = data.draw(st.sampled_from([0, 1, FRAME // 2, FRAME - 1]), label="bytes left of the page behind")
        length = min(whole, LOG_HEADER + (frames - lost) * FRAME + torn_in)
        salt = mark(self.folder)[0]
        at_least = max(n for n, (_, _, (then, size)) in enumerate(self.history) if then != salt or size <= length)
        torn = self.copied()
        if log.exists():
            with (torn / "events.db-wal").open("r+b") as file:
                file.truncate(length)
        self.go_on_with(torn)
        found = dump(self.folder)
        matches = [n for n, (then, _, _) in enumerate(self.history) if then == found]
        assert matches, "what was found is no sequence of whole transactions"
        assert at_least <= matches[-1]
        self.history = self.history[: matches[-1] + 1]
        self.model = copy.deepcopy(self.history[-1][1])
        self.end_of_crash()

    def copied(self) -> Path:
        folder = self.new_folder()
        for name in ("events.db", "events.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(self.folder / name, folder / name)
        return folder

    def go_on_with(self, folder: Path) -> None:
        self.end_all()
        shutil.rmtree(self.folder)
        self.folder = folder

    def end_of_crash(self) -> None:
        self.start_both()
        self.everything_is_there()

    # ── what is done ──

    def write(self, who: int, batch: Batch) -> Committed:
        now = self.processes[who].store.commit(lambda: batch)
        assert now.puts_failed is None
        assert now.first_put == self.model.next_id
        return now

    def learn(self, process: Process, now: Committed) -> None:
        process.ledger.sync(now.account, now.oldest, [*now.heard, *now.settled])
        process.merging -= set(self.model.fates)
        self.agrees(process, now)

    def committed(self) -> None:
        self.history.append((dump_live(self.folder), copy.deepcopy(self.model), mark(self.folder)))

    @rule(who=WHO, kinds=st.lists(st.sampled_from(sorted(PUTS)), min_size=1, max_size=5), refused=st.integers(0, 2))
    def put(self, who: int, kinds: list[str], refused: int) -> None:
        process, batch = self.processes[who], Batch()
        for kind in kinds:
            batch.puts.append(Put(*copy.deepcopy(PUTS[kind]), 0.0, self.time, Receipt(process.ledger), True))
            self.time += 0.25
        batch.refused += [(DROPPED, Receipt(process.ledger)) for _ in range(refused)]
        now = self.write(who, batch)
        for put, kind in zip(batch.puts, kinds, strict=True):
            self.model.held[self.model.next_id] = (kind, put.at)
            self.model.next_id += 1
        for _ in range(refused):
            self.model.fates[self.model.next_id] = DROPPED
            self.model.next_id += 1
        self.learn(process, now)
        self.committed()

    @precondition(lambda self: len(self.pending()) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """The sender's own matter: it is not written."""
        self.poll(self.processes.index(self.leader))  # a sender has read what it merges
        chosen = data.draw(st.lists(st.sampled_from(self.pending()[:-1]), unique=True, max_size=3))
        self.leader.ledger.merge(chosen)
        self.leader.merging.update(chosen)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data(), outcome=st.sampled_from([DELIVERED, DELIVERED, BY_IMPORT, DEAD, DROPPED]))
    def settle(self, data: st.DataObject, outcome: Outcome) -> None:
        pending, merging = self.pending(), sorted(self.leader.merging)
        carriers = data.draw(st.lists(st.sampled_from(pending), unique=True, max_size=4)) if pending else []
        merged = data.draw(st.lists(st.sampled_from(merging), unique=True, max_size=4)) if merging else []
        batch = Batch()
        if outcome.is_delivered:
            batch.has_delivered(outcome, carriers, merged)
        else:
            batch.lost.append(Settled(outcome, carriers, merged))
        now = self.write(self.processes.index(self.leader), batch)
        for call_id in carriers:
            self.model.fates[call_id] = outcome
        for call_id in merged:
            self.model.fates[call_id] = Outcome("merged", outcome.reason, outcome)
        self.gone([*carriers, *merged])
        self.learn(self.leader, now)
        self.committed()

    def gone(self, ids: list[int]) -> None:
        for call_id in ids:
            del self.model.held[call_id]
            self.model.parts.pop(call_id, None)
            self.model.sent.discard(call_id)

    @precondition(lambda self: self.with_companion())
    @rule(data=st.data(), part=st.sampled_from([COMPANY, USER]))
    def half_of_what_they_say_is_delivered(self, data: st.DataObject, part: tuple[str, str]) -> None:
        riders = data.draw(st.lists(st.sampled_from(self.with_companion()), unique=True, min_size=1))
        batch = Batch(parts=[(call_id, *part) for call_id in riders])
        now = self.write(self.processes.index(self.leader), batch)
        self.model.parts.update(dict.fromkeys(riders, part))
        self.learn(self.leader, now)
        self.committed()

    @rule(data=st.data(), budget=st.sampled_from(["track", "identify"]), is_file=st.booleans())
    def request(self, data: st.DataObject, budget: str, is_file: bool) -> None:
        may = [one for one in self.pending() if not is_file or self.is_users_row(one)]
        chosen = sorted(data.draw(st.sets(st.sampled_from(may), max_size=4))) if may else []
        number = next(self.names)
        request = RequestNote(budget) if is_file else RequestNote(budget, chosen)
        if is_file:
            request.filename, request.kind, request.last_calls = f"file-{number}", "user", chosen
        now = self.write(self.processes.index(self.leader), Batch(requests=[request]))
        self.model.requests[number] = Noted([] if is_file else chosen, budget, self.time)
        if is_file and chosen:
            self.model.files[request.filename] = chosen
        self.open_requests[number] = request
        self.learn(self.leader, now)
        self.committed()

    @precondition(lambda self: self.open_requests)
    @rule(data=st.data(), answered=st.sampled_from([True, False, None]), done=st.booleans(), lost=st.booleans())
    def landed(self, data: st.DataObject, answered: bool | None, done: bool, lost: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.open_requests)))
        request, noted = self.open_requests.pop(number), self.model.requests[number]
        batch = Batch()
        batch.landed.append(Landed(request, answered, lost))
        if done and request.filename:
            batch.forgotten.append(request.filename)
        now = self.write(self.processes.index(self.leader), batch)
        if answered is None:
            del self.model.requests[number]
        else:
            noted.landed_at = self.time + (0.0 if answered else LOST_FOR - A_MINUTE)
            self.model.ambiguous += 0 if answered else len(noted.ids)
        if lost:
            self.model.sent.update(one for one in noted.ids if one in self.model.held)
        if done:
            self.model.files.pop(request.filename, None)
        self.learn(self.leader, now)
        self.committed()

    @rule(seconds=st.sampled_from([0.5, 20.0, 61.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.time += seconds

    # ── what must hold ──

    def pending(self) -> list[int]:
        return [one for one in self.model.held if one not in self.leader.merging]

    def is_users_row(self, call_id: int) -> bool:
        kind, key, _, _ = PUTS[self.model.held[call_id][0]]
        return kind == "user" and isinstance(key, str)

    def with_companion(self) -> list[int]:
        """Calls that describe a company, and of which nothing is delivered yet."""
        return [
            one for one, (name, _) in self.model.held.items() if "describes" in name and one not in self.model.parts
        ]

    def agrees(self, process: Process, now: Committed) -> None:
        """The account, as the file has it and as the process has it; and each call by its id."""
        counts, ledger = self.model.counts(), process.ledger
        assert counts == now.account.as_dict()
        assert min(self.model.held, default=None) == now.oldest
        assert len(process.merging) + ledger.pending == len(self.model.held)
        assert counts["accepted"] == (ledger.delivered + sum(ledger.losses().values()) + ledger.merged + ledger.pending)
        for call_id in range(process.base, self.model.next_id):
            waiting = Outcome("merged") if call_id in process.merging else Outcome("pending")
            fate = self.model.fates.get(call_id, waiting)
            assert fate == ledger.pages.outcome(call_id, ledger.pages.of(call_id))

    @rule(who=WHO)
    def poll(self, who: int) -> None:
        now = self.processes[who].store.poll()
        if now is not None:
            self.learn(self.processes[who], now)

    @rule(who=WHO, start=st.integers(0, 30), limit=st.integers(1, 10))
    def read_a_window(self, who: int, start: int, limit: int) -> None:
        expected = sorted(one for one in self.model.held if one >= start)[:limit]
        self.is_as_put(self.processes[who], Reading(start, self.model.next_id, limit), expected)

    @precondition(lambda self: self.model.held)
    @rule(data=st.data())
    def read_one_persons(self, data: st.DataObject) -> None:
        key = self.model.key(data.draw(st.sampled_from(sorted(self.model.held))))
        expected = sorted(one for one in self.model.held if self.model.key(one) == key)
        self.is_as_put(self.leader, Reading(0, self.model.next_id, 1_000, only=key), expected)

    @invariant()
    def everything_is_there(self) -> None:
        """In order, with its time, as it was put; and nothing that has met its fate."""
        self.is_as_put(self.leader, Reading(0, self.model.next_id, 1_000_000), sorted(self.model.held))

    def is_as_put(self, process: Process, reading: Reading, expected: list[int]) -> None:
        found = process.store.read(reading).found
        assert expected == [one.ticket[0] for one in found]
        for one in found:
            call_id, at, *call = one.ticket
            _, put_at = self.model.held[call_id]
            assert put_at == at
            assert self.model.call(call_id) == tuple(call)
            assert (call_id in self.model.sent) == one.sent


def dump(folder: Path) -> Any:
    """All that is in the file, as another program reads it; of a copy, so that this repairs nothing."""
    aside = folder.with_name(folder.name + "-aside")
    aside.mkdir()
    for name in ("events.db", "events.db-wal"):
        with suppress(FileNotFoundError):
            shutil.copy(folder / name, aside / name)
    found = dump_live(aside)
    shutil.rmtree(aside)
    return found


def dump_live(folder: Path) -> Any:
    """All that is in the file; ``None`` for one that nobody has used yet."""
    with closing(sqlite3.connect(folder / "events.db")) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return None
        rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    return rows if rows["about"] else None


def mark(folder: Path) -> tuple[bytes, int]:
    """Which log this is, and how long."""
    log = folder / "events.db-wal"
    if not log.exists():
        return b"", -1
    return log.read_bytes()[16:24], log.stat().st_size


def _nobody_waits(seconds: float) -> bool:
    raise AssertionError("a lock was not given back")


def _no_warning(message: str) -> None:
    raise AssertionError(message)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for left in tmp_path.iterdir():
        shutil.rmtree(left)


def test_what_was_committed_is_there_after_any_crash_and_the_account_balances(folder: Path) -> None:
    run_state_machine_as_test(
        lambda: TwoProcesses(folder),  # type: ignore[arg-type]  # a factory is documented, and typed as a class
        settings=settings(max_examples=length.of(60), stateful_step_count=30, deadline=None),
    )

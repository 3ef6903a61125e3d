"""Wherever an import ends, the next one uploads nothing twice and leaves nothing out.

Every place there is, one after the other: before and after each transaction of the journal, and around each request.
What ends it there is an exception that nothing but the test catches, after which the journal takes no more; the file is
then as a process that was killed would have left it, and `tests/processes/outbox/test_import_kills.py` kills real ones.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.harness import length
from tests.harness.clock import run_virtual
from tests.scenes.conftest import MINUTE_BEGINS
from tests.scenes.imports.conftest import Killer, marks, track, user
from userpilot_async import UserpilotAPI
from userpilot_async.emulator import Emulator, Fault
from userpilot_async.imports import AlreadyImported, ImportReport, import_file, journal_path, rejected_path
from userpilot_async.imports._journal import Journal

BAD = "not json"
LINES = [
    *(json.dumps(track(n)) for n in range(5)), BAD, json.dumps(user("u1", {"plan": "pro", "city": "Rom"})),
    *(json.dumps(track(n)) for n in range(5, 12)), json.dumps(user("u1", {"plan": "free"})), BAD, BAD,
    *(json.dumps(track(n)) for n in range(12, 16)), json.dumps(track(99, event_name="poison")),
    *(json.dumps(track(n)) for n in range(16, 19)),
    json.dumps(user("u1", {"plan": "old", "city": "Bonn"}, inserted_at="2024-01-01T00:00:00")),  # behind younger ones
]  # fmt: skip
GOOD = list(range(19))
REJECTED = [6, 16, 17, 22]
ENOUGH = 200  # of places to end at; there are about 60, and the test ends with the last
EVERY = length.step()  # of them, each test begins at another one


class Died(BaseException):
    """The end of a process."""


class Deaths:
    """Lets the journal's transactions happen until one of them, and none after that."""

    def __init__(self, at: int, when: str) -> None:
        self.left = at
        self.when = when
        self.dead = False
        self._transaction = Journal._transaction

    def wrapped(self) -> Any:
        deaths = self

        @contextmanager
        def transaction(journal: Journal) -> Iterator[None]:
            if deaths.dead:
                raise Died
            deaths.left -= 1
            if deaths.left:
                with deaths._transaction(journal):
                    yield
                return
            deaths.dead = True
            if deaths.when == "before":
                with deaths._transaction(journal):
                    yield
                    raise Died
            with deaths._transaction(journal):
                yield
            raise Died

        return transaction


class World:
    """An emulator that lives on, and imports of one file into it."""

    def __init__(self, path: Path) -> None:
        self.path: Path | list[Path] = path
        parts = ["\n".join(LINES[first : first + 7]).encode() for first in range(0, len(LINES), 7)]
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                for hour, part in enumerate(parts):
                    archive.writestr(f"{hour}#0.json.gz", gzip.compress(part))
        elif path.suffix == ".several":
            self.path = [path.with_name(f"{hour}#0.json") for hour in range(len(parts))]
            for one, part in zip(self.path, parts, strict=True):
                one.write_bytes(part)
        else:
            path.write_text("".join(f"{line}\n" for line in LINES))
        self.emulator = Emulator(clock=lambda: MINUTE_BEGINS + anyio.current_time(), seed=1)
        self.wire = Killer(self.emulator)

    async def run(self) -> ImportReport:
        self.refuse_the_poison()
        async with UserpilotAPI("KEY", base_url="https://emulator", transport=self.wire) as api:
            return await import_file(api, self.path, max_rows=4)

    def refuse_the_poison(self) -> None:
        self.emulator.faults.clear()
        self.emulator.faults.add(Fault(path="/v1/imports", body_contains="poison", status=400, times=None))

    def judge(self, report: ImportReport) -> None:
        """Everything once, and the report says so."""
        assert GOOD == marks(self.emulator)
        assert {"plan": "free", "city": "Rom"} == self.emulator.store.users["u1"].properties
        lines = map(json.loads, rejected_path(self.path).read_text().splitlines())
        assert REJECTED == sorted(one["line"] + 7 * int(Path(one.get("file", "0#")).name[0]) for one in lines)
        assert (26, 23, 4, 1) == (report.read, report.valid, report.refused, report.out_of_order)
        assert (23, 3) == (report.with_rows, report.lines_refused), "the poison gave a row, which the server refused"
        assert (23, 23, True) == (report.uploaded, report.completed, report.complete)


def dies(error: BaseException) -> bool:
    """True if the error is the crash, and nothing else went wrong beside it."""
    if isinstance(error, BaseExceptionGroup):
        return all(dies(one) for one in error.exceptions)
    return isinstance(error, Died)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_it_may_die_at_every_transaction(tmp_path, monkeypatch, backend, when):
    first = 1 + (["asyncio", "trio"].index(backend) + 2 * ["before", "after"].index(when)) % EVERY
    for at in range(first, ENOUGH, EVERY):
        deaths = Deaths(at, when)

        async def story(path: Path, deaths: Deaths = deaths) -> bool:
            world = World(path)
            with monkeypatch.context() as patched:
                patched.setattr(Journal, "_transaction", deaths.wrapped())
                try:
                    report = await world.run()
                except BaseException as error:
                    assert deaths.dead
                    assert dies(error), error
            if not deaths.dead:
                world.judge(report)
                return False
            try:
                world.judge(await world.run())
            except AlreadyImported as done:  # it had just come to its end
                world.judge(done.report)
            return True

        (tmp_path / str(at)).mkdir()
        if not run_virtual(story, backend, tmp_path / str(at) / "a.ndjson"):
            break

    assert 30 < at < ENOUGH - EVERY


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_may_be_cancelled_around_every_request(tmp_path, backend):
    first = 1 + ["asyncio", "trio"].index(backend) % EVERY
    for at in range(first, ENOUGH, EVERY):

        async def story(path: Path, at: int = at) -> bool:
            world = World(path)
            left = at
            with anyio.CancelScope() as scope:

                def met(when: str) -> None:
                    nonlocal left
                    left -= 1
                    if not left:
                        scope.cancel()

                world.wire.met = met
                report = await world.run()
            world.wire.met = lambda when: None
            if not scope.cancelled_caught:
                world.judge(report)
                return False
            assert journal_path(path).exists()
            world.judge(await world.run())
            return True

        (tmp_path / str(at)).mkdir()
        if not run_virtual(story, backend, tmp_path / str(at) / "a.ndjson"):
            break

    assert 20 < at < ENOUGH - EVERY


def test_a_task_that_is_cancelled_natively_leaves_what_the_next_one_goes_on_with(tmp_path):
    """asyncio's own cancellation goes past anyio's scopes, and leaves a thread at its work."""
    for at in range(1, ENOUGH, EVERY):

        async def story(path: Path, at: int = at) -> bool:
            world = World(path)
            task = asyncio.ensure_future(world.run())
            left = at

            def met(when: str) -> None:
                nonlocal left
                left -= 1
                if not left:
                    task.cancel()

            world.wire.met = met
            try:
                world.judge(await task)
            except asyncio.CancelledError:
                world.wire.met = lambda when: None
                world.judge(await world.run())
                return True
            return False

        (tmp_path / str(at)).mkdir()
        if not run_virtual(story, "asyncio", tmp_path / str(at) / "a.ndjson"):
            break

    assert 20 < at < ENOUGH - EVERY


@pytest.mark.parametrize("name", ["a.ndjson", "a.zip", "a.several"])
def test_it_may_die_again_and_again(tmp_path, monkeypatch, name):
    """Three transactions a life, or four: it gets to its end all the same, and nothing is there twice."""

    async def story(path: Path) -> int:
        world = World(path)
        for life in range(200):
            deaths = Deaths(3 + life % 2, "after" if life % 3 else "before")
            with monkeypatch.context() as patched:
                patched.setattr(Journal, "_transaction", deaths.wrapped())
                try:
                    world.judge(await world.run())
                except AlreadyImported as done:
                    world.judge(done.report)
                except BaseException as error:
                    assert dies(error), error
                    continue
            return life
        raise AssertionError("it does not get anywhere")

    assert 5 < run_virtual(story, "asyncio", tmp_path / name)

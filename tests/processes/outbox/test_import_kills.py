"""A process that imports is killed at random instants; the next one goes on, and each row arrives once.

A file has its place in the journal by a line's number; many files by where each begins; a stream, whose rows a map
changes here, by a digest of its lines.

The instants are new in each run; a failure says which seed brings them back.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import emulator_thread, length, python

CYCLES = length.of(8, soak=200)
SEED = int(os.environ.get("KILL_SEED", str(random.randrange(10**9))))
ROWS_PER_FILE = 400
SHORT = length.of(4, soak=40)  # cycles of the others: what they have in common, the first one shows
LONGEST = 3.0  # seconds that a process lives, of which it takes 0.4 to start, or 2.4 after a doubt; a file takes 1.2
PART = 60  # lines of each of many files: no multiple of what an upload has
BAD = 25  # every so many lines there is a bad one
AT = "2024-12-01T08:55:43.220396"
BACKENDS = ("asyncio", "trio")


def lines(count: int, chance: random.Random) -> Iterator[str]:
    """Rows of all kinds, each with a number of its own, and bad ones among them."""
    for number in range(count):
        who, said = f"u{chance.randrange(200)}", {"number": number, f"p{number % 9}": number}
        row: dict[str, Any] = {"inserted_at": AT, "metadata": said}
        if number % BAD == BAD - 1:
            row |= {"event_type": "track", "user_id": who}
        elif number % 5 == 0:
            row |= {"event_type": "identify_user", "user_id": who, "company_id": f"c{number % 7}"}
        elif number % 5 == 1:
            row |= {"event_type": "identify_company", "company_id": f"c{number % 7}"}
        elif number % 5 == 2:
            row |= {"event_type": "page_view", "user_id": who, "url": "https://app.example.com/list"}
        else:
            row |= {"event_type": "track", "user_id": who, "event_name": "opened"}
        yield json.dumps(row)


def applied(url: str) -> list[dict[str, Any]]:
    """Every row that took effect, in that order."""
    entries: list[dict[str, Any]] = []
    while True:
        page = httpx.get(f"{url}/__emulator__/applied?offset={len(entries)}&limit=5000", timeout=60).json()
        entries += page["items"]
        if len(entries) == page["total"]:
            return entries


def cut(path: Path, part: int = PART) -> Path:
    """The file cut into many, which are left in its place; the first of them."""
    content = path.read_text().splitlines(keepends=True)
    for place, first in enumerate(range(0, len(content), part)):
        path.with_name(f"part{place:04}.ndjson").write_text("".join(content[first : first + part]))
    path.unlink()
    return path.with_name("part0000.ndjson")


def test_an_import_survives_kills_at_random_instants(tmp_path: Path) -> None:
    survive(tmp_path, "file", CYCLES, "history.ndjson")


def test_an_import_of_many_files_survives_kills(tmp_path: Path) -> None:
    survive(tmp_path, "files", SHORT, "part0000.ndjson.and-more")


def test_an_import_of_a_stream_by_a_map_survives_kills(tmp_path: Path) -> None:
    survive(tmp_path, "stream", SHORT, "stream.import")


def survive(tmp_path: Path, how: str, cycles: int, beside: str) -> None:
    """Kill so many processes at it; what is there at the end is all, once, and in order."""
    chance = random.Random(SEED)
    print(f"KILL_SEED={SEED}")  # shown if it fails
    files = 5 * cycles // 2 + 2
    count = ROWS_PER_FILE * files
    path = tmp_path / "history.ndjson"
    path.write_text("".join(f"{line}\n" for line in lines(count, chance)))
    if how == "files":
        path = cut(path)
    kills = lives = 0
    with emulator_thread("--speed", "10000", "--latency", "0.05", "--rate-limit", "6000") as url:
        while True:
            lives += 1
            arguments = (url, str(path), str(ROWS_PER_FILE), BACKENDS[lives % 2], how)
            with python("-m", "tests.processes.programs.import_worker", *arguments) as worker:
                if kills < cycles:
                    time.sleep(chance.uniform(0.2, LONGEST))  # the instant
                    if worker.returncode is None:
                        worker.kill()
                        worker.wait()
                        kills += 1
                        continue
                # All that the others have left undone: on a busy machine, nearly all of it.
                assert 0 == worker.wait(120 + 3 * files), worker.output
                said = dict(line.split(" ", 2)[1:] for line in worker.output.splitlines() if line.startswith("SAID "))
                break
        entries = applied(url)
        jobs = httpx.get(f"{url}/__emulator__/jobs?limit=1000").json()["items"]

    numbers = [entry["payload"]["metadata"]["number"] for entry in entries]
    good = [number for number in range(count) if number % BAD != BAD - 1]
    assert {} == {number: times for number, times in Counter(numbers).items() if times > 1}, "there twice"
    assert good == numbers, "all of them, in order"
    assert_profiles_complete(entries)
    rejected = [json.loads(line) for line in (tmp_path / f"{beside}.rejected.ndjson").read_text().splitlines()]
    there = [one["line"] + PART * int(Path(one.get("file", "part0")).stem[4:]) for one in rejected]
    assert [number + 1 for number in range(count) if number % BAD == BAD - 1] == there
    assert how != "stream" or all(entry["payload"]["metadata"]["mapped"] for entry in entries)
    assert (str(count), str(len(good)), str(len(rejected))) == (said["read"], said["valid"], said["refused"])
    assert ("true", str(len(good))) == (said["complete"], said["completed"])
    print(f"{kills} kills, {lives} lives, {len(jobs)} jobs, {said['possible_duplicates']} possible duplicates")
    assert cycles == kills, "too few: little was tested"


def calls(count: int) -> Iterator[str]:
    """Events of anonymous ids, each with a number of its own; who the ids became is said at the very end."""
    for number in range(count):
        call = {"type": "track", "anonymousId": f"a{number % 50}", "event": "opened", "properties": {"number": number}}
        yield json.dumps({**call, "timestamp": AT})
    for number in range(40):
        yield json.dumps({"type": "identify", "anonymousId": f"a{number}", "userId": f"u{number}", "timestamp": AT})


@pytest.mark.parametrize("how", ["file", "files"])
def test_people_are_joined_the_same_by_whoever_goes_on_after_a_kill(tmp_path: Path, how: str) -> None:
    """Killed while it learns who is who, and again while it converts and uploads; the last of the files names them."""
    count = 8_000
    path = tmp_path / "calls.ndjson"
    path.write_text("".join(f"{line}\n" for line in calls(count)))
    if how == "files":
        path = cut(path, count // 4)
    with emulator_thread("--speed", "10000", "--latency", "0.05", "--rate-limit", "6000") as url:
        arguments = ("-m", "tests.processes.programs.import_worker", url, str(path), "2000")
        for backend, instant in zip(BACKENDS, ("SAID waiting .*anonymous", "SAID uploaded [1-9]"), strict=True):
            with python(*arguments, backend, how, "segment") as worker:
                worker.wait_for_line(instant)
                worker.kill()
                worker.wait()
            assert bool(applied(url)) is ("uploaded" in instant)
        with python(*arguments, "asyncio", how, "segment") as worker:
            assert 0 == worker.wait(120), worker.output
        rows = [entry["payload"] for entry in applied(url)]

    events = {row["metadata"]["number"]: row["user_id"] for row in rows if row["event_type"] == "track"}
    assert count + 40 == len(rows), "each once"
    assert events == {
        number: f"u{number % 50}" if number % 50 < 40 else f"a{number % 50}" for number in range(count)
    }  # fmt: skip


def assert_profiles_complete(entries: list[dict[str, Any]]) -> None:
    """Each identify row has all that earlier ones of its user or company had."""
    known: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        row = entry["payload"]
        kind = row["event_type"]
        if kind in ("identify_user", "identify_company"):
            place = (kind, row["user_id" if kind == "identify_user" else "company_id"])
            missing = known.setdefault(place, set()) - set(row["metadata"])
            assert not missing, f"{place} lost {missing}"
            known[place] |= set(row["metadata"])

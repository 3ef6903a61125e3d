"""Rows 47, 49, 86: loops that are closed, interpreters that end, and processes that fork, with a client still open.

Each test is a program of its own, without any logging set up: what a user sees on stderr who did nothing to see it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness import RawServer, emulator_thread, loops, python, silent
from tests.harness.processes import REPOSITORY
from tests.harness.stage.loops import KEY, markers_at
from tests.processes.programs.outbox_host import wait_for

CALLS = 17
LOUDLY = ("-W", "always")  # else Python hides every ResourceWarning

PROLOGUE = (
    loops.IN_A_PROGRAM
    + """
import asyncio, gc, json, os, signal, sys, threading, time
import anyio
from userpilot_async import ClientClosed, Settings, UserpilotAPI, UserpilotClient
from userpilot_async.parcelvoy import ParcelvoyClient

def say(what, value=None):
    os.write(1, f"SAID {what} {json.dumps(value)}\\n".encode())

async def until(holds):
    while not holds():
        await asyncio.sleep(0.001)

"""
)


def environment(url: str, **more: str) -> dict[str, str]:
    keys = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": url, "PARCELVOY_API_KEY": KEY, "PARCELVOY_BASE_URL": url}
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **keys, **more}


def run(source: str, url: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end, with stdout and stderr apart."""
    command = [sys.executable, *options, "-c", PROLOGUE + source]
    return subprocess.run(
        command, env=environment(url, **more), cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False
    )


def said(output: str) -> dict[str, Any]:
    """What the program said, the last value by name."""
    lines = [line.split(" ", 2) for line in output.splitlines() if line.startswith("SAID ")]
    return {name: json.loads(value) for _, name, value in lines}


@pytest.fixture(scope="module")
def silent_server() -> Iterator[str]:
    """The URL of a server that reads requests and never answers, so that no call has an outcome by itself."""
    with RawServer(silent()) as server:
        yield server.url


# ── a loop that is closed, an interpreter that ends: the calls are lost, and never without a word ──

FILLED = f"""
async def filled(client):
    for n in range({CALLS}):
        await client.track("u", "clicked", {{"n": n}})
    await until(lambda: client.statistics().in_flight)
    await anyio.wait_all_tasks_blocked()  # requests are under way

async def held_in_a_block():
    global kept
    async with UserpilotClient(settings=Settings(close_timeout=1)) as client:
        kept = client if KEEP else None
        await filled(client)
        filled_up.set()
        await asyncio.Event().wait()

async def with_a_task_that_holds_it():
    global filled_up, task
    filled_up = asyncio.Event()
    task = asyncio.ensure_future(held_in_a_block())
    await filled_up.wait()

async def entered():
    global kept
    client = UserpilotClient(settings=Settings(close_timeout=1))
    await client.__aenter__()
    await filled(client)
    kept = client if KEEP else None

async def started():
    global kept
    client = UserpilotClient(settings=Settings(close_timeout=1))
    await client.start()
    await filled(client)
    kept = client if KEEP else None

"""

LOOP = "loop = asyncio.new_event_loop()\n"
UNTIL_COMPLETE = {
    "started": LOOP + "loop.run_until_complete(started())\n",
    "entered": LOOP + "loop.run_until_complete(entered())\n",
    "held by a task": LOOP + "loop.run_until_complete(with_a_task_that_holds_it())\n",
    "held by a task that is forgotten": LOOP + "loop.run_until_complete(with_a_task_that_holds_it())\ntask = None\n",
    "stopped inside the block": """
async def stopping():
    await filled_up.wait()
    loop.stop()

async def until_it_is_stopped():
    global filled_up
    filled_up = asyncio.Event()
    stops = asyncio.ensure_future(stopping())
    await held_in_a_block()

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(until_it_is_stopped())
except RuntimeError as error:
    assert "Event loop stopped before Future completed" in str(error)
""",
}

IN_A_THREAD = """
def main():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(started())
    loop.close()

thread = threading.Thread(target=main)
thread.start()
thread.join()
"""

IN_A_DAEMON = """
def main():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(started())
    ready.set()
    loop.run_forever()

ready = threading.Event()
threading.Thread(target=main, daemon=True).start()
ready.wait(10)
"""

IN_ASYNCIO_RUN = "asyncio.run(started())\n"


ENDS = {
    "closed, kept": ("loop.close()\n", True),
    "closed and collected, dropped": ("loop.close()\ndel loop\ngc.collect()\n", False),
    "never closed, dropped": ("", False),
}
SCENES = [
    *(
        pytest.param(beginning + end, keep, id=f"{how}, loop {ended}")
        for how, beginning in UNTIL_COMPLETE.items()
        for ended, (end, keep) in ENDS.items()
    ),
    pytest.param(IN_A_THREAD, True, id="a loop in a thread, kept"),
    pytest.param(IN_A_THREAD, False, id="a loop in a thread, dropped"),
    pytest.param(IN_A_DAEMON, True, id="a loop that runs on in a daemon thread"),
    pytest.param(IN_ASYNCIO_RUN, True, id="asyncio.run, kept"),
]


def lines_with_the_number(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if re.search(rf"\b{CALLS} (accepted )?calls\b", line)]


def assert_clean(stderr: str) -> None:
    """No trace of machinery that somebody left lying about."""
    assert "was never awaited" not in stderr
    assert "Exception ignored" not in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(("scene", "keep"), SCENES)
def test_row_47_a_loop_that_ends_with_a_client_open_says_how_many_calls_are_lost(
    scene: str, keep: bool, silent_server: str
) -> None:
    """Once in the log, once as a warning, whichever way it ends."""
    ended = run(FILLED + f"KEEP = {keep}\n" + scene, silent_server, *LOUDLY)

    lines = lines_with_the_number(ended.stderr)
    assert 0 == ended.returncode, ended.stderr
    assert [1, 1] == [sum(("ResourceWarning: " in line) is warned for line in lines) for warned in (False, True)], (
        ended.stderr
    )
    assert all("UserpilotClient" in line for line in lines)
    assert_clean(ended.stderr)


@pytest.mark.parametrize("how", ["started", "held by a task"])
def test_row_47_it_says_so_although_python_hides_such_warnings(how: str, silent_server: str) -> None:
    ended = run(FILLED + "KEEP = True\n" + UNTIL_COMPLETE[how] + "loop.close()\n", silent_server)

    [line] = lines_with_the_number(ended.stderr)
    assert "UserpilotClient" in line
    assert_clean(ended.stderr)


@pytest.mark.night
def test_row_47_a_client_that_was_not_closed_is_called_by_its_name(silent_server: str) -> None:
    scene = f"""
async def main():
    global client
    client = ParcelvoyClient()
    await client.__aenter__()
    for n in range({CALLS}):
        await client.track("clicked", external_id="u")

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""
    ended = run(scene, silent_server)

    [line] = lines_with_the_number(ended.stderr)
    assert "ParcelvoyClient" in line
    assert_clean(ended.stderr)


@pytest.mark.parametrize("client", ["UserpilotClient", "ParcelvoyClient", "UserpilotAPI"])
@pytest.mark.parametrize("end", ["loop.close()", ""], ids=["closed", "never closed"])
def test_row_47_a_loop_that_ends_with_nothing_waiting_says_nothing_of_lost_calls(
    client: str, end: str, silent_server: str
) -> None:
    scene = f"""
async def main():
    global client
    client = {client}()
    await client.__aenter__()
    await anyio.wait_all_tasks_blocked()

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
{end}
"""
    ended = run(scene, silent_server)

    assert (0, "") == (ended.returncode, ended.stderr)


def test_row_47_what_waits_in_a_file_is_said_to_wait_there(silent_server: str, tmp_path: Path) -> None:
    scene = FILLED + "KEEP = True\n" + UNTIL_COMPLETE["held by a task"] + "loop.close()\n"
    ended = run(scene, silent_server, USERPILOT_OUTBOX=f"sqlite:///{tmp_path}/events.db")

    [line] = lines_with_the_number(ended.stderr)
    assert "events.db" in line
    assert_clean(ended.stderr)


HELD_BY_A_TASK_OF_A_RUN = f"""
async def background():
    async with UserpilotClient() as client:
        for n in range({CALLS}):
            await client.track("u", "clicked", {{"n": n}})
        filled_up.set()
        await asyncio.Event().wait()

async def main():
    global filled_up, task
    filled_up = asyncio.Event()
    task = asyncio.create_task(background())
    await filled_up.wait()

asyncio.run(main())
"""


def test_row_47_asyncio_run_drains_the_client_that_a_background_task_holds(emulator_url: str) -> None:
    ended = run(HELD_BY_A_TASK_OF_A_RUN, emulator_url, *LOUDLY)

    assert 0 == ended.returncode
    assert list(range(CALLS)) == markers_at(emulator_url)
    assert "accepted calls" not in ended.stderr
    assert_clean(ended.stderr)


# ── 49: made before the fork, opened after it ──

WORKERS = 4
FORKED_BEFORE_IT_OPENED = f"""
client = UserpilotClient()

async def work(who):
    async with client:
        for n in range(5):
            await client.track(f"u{{who}}", "clicked", {{"n": f"{{who}} {{n}}"}})
        report = await client.flush(30)
    say("complete", report.complete)

workers = []
for who in range({WORKERS}):
    pid = os.fork()
    if pid == 0:
        asyncio.run(work(who))
        sys.exit(0)
    workers.append(pid)
say("statuses", [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers])
"""


@pytest.mark.parametrize("outbox", ["memory", "file"])
def test_row_49_a_client_made_before_the_fork_works_in_every_worker(
    outbox: str, emulator_url: str, tmp_path: Path
) -> None:
    more = {"USERPILOT_OUTBOX": f"sqlite:///{tmp_path}/events.db"} if outbox == "file" else {}
    ended = run(FORKED_BEFORE_IT_OPENED, emulator_url, *LOUDLY, **more)

    assert [0] * WORKERS == said(ended.stdout)["statuses"], ended.stderr
    assert WORKERS == ended.stdout.count("SAID complete true")
    expected = [f"{who} {n}" for who in range(WORKERS) for n in range(5)]
    assert expected == sorted(markers_at(emulator_url))
    assert "UserpilotClient" not in ended.stderr
    assert_clean(ended.stderr)


PAUSES_AFTER_A_FORK = f"""
import anyio, httpx
from tests.harness.clock import run_virtual

class Refused(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        asked.append(anyio.current_time())
        raise httpx.ConnectError("refused", request=request)

asked = []
client = UserpilotClient(transport=Refused(), settings=Settings(close_timeout=0.0))

async def work():
    async with client:
        await client.track("u", "clicked")
        await anyio.sleep(120)

for who in range({WORKERS}):
    if os.fork() == 0:
        run_virtual(work)
        say(str(who), asked)
        os._exit(0)
for who in range({WORKERS}):
    os.wait()
"""


@pytest.mark.night
def test_row_49_workers_of_one_parent_do_not_all_try_again_at_the_same_moment() -> None:
    ended = run(PAUSES_AFTER_A_FORK, "http://127.0.0.1:9")

    pauses = [tuple(times) for times in said(ended.stdout).values()]
    assert WORKERS == len(pauses), ended.stderr
    assert all(len(times) >= 3 for times in pauses)
    assert WORKERS == len(set(pauses))


def test_row_49_a_preloaded_application_works_in_every_worker_of_gunicorn(emulator_url: str, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    app = "tests.processes.apps.preloaded_app:app"
    command = f"-m gunicorn --preload {app} -w 2 -k uvicorn.workers.UvicornWorker -b 127.0.0.1:0"
    env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": emulator_url, "HOME": str(tmp_path)}
    with python(*command.split(), env=env) as program:
        url = program.wait_for_line(r"Listening at: (?P<url>http://\S+)")["url"]
        wait_for(lambda: program.output.count("Application startup complete") == 2, "both workers are up")
        served: set[int] = set()
        for n in range(60):
            with httpx.Client() as visitor:  # a new connection each time: any worker may take it
                served.add(visitor.post(f"{url}/users/u/reports/{n}").raise_for_status().json()["pid"])
        program.terminate()
        status = program.wait(20)

    assert 0 == status
    assert {str(n) for n in range(60)} == {event["n"] for event in _metadata_at(emulator_url)}
    assert served == {event["pid"] for event in _metadata_at(emulator_url)}
    assert "Traceback" not in program.output


def _metadata_at(url: str) -> list[dict[str, Any]]:
    events = httpx.get(f"{url}/__emulator__/events", params={"limit": 1_000}).json()["items"]
    return [event["metadata"] for event in events]


# ── 49: open at the fork, and forgotten by the worker ──

# The loop stands still at the fork: what a child does that runs its parent's loop on is its own concern.
OPEN_AT_THE_FORK = f"""
async def filled():
    await kept[0].start()
    for n in range({CALLS}):
        await kept[0].track(f"u{{n}}", "clicked", {{"n": n}})
    await until(lambda: kept[0].statistics().in_flight)
    await anyio.wait_all_tasks_blocked()  # requests are under way

kept = [UserpilotClient(settings=Settings(close_timeout=20))]
loop = asyncio.new_event_loop()
loop.run_until_complete(filled())
pid = os.fork()
if pid == 0:
    os.dup2(1, 2)  # so that one can tell who said what
    FORGET
    say("child-ends")
else:
    os.waitpid(pid, 0)
    loop.run_until_complete(kept[0].aclose())
    loop.close()
"""


@pytest.mark.parametrize(
    "forget",
    [
        pytest.param("pass", id="in a global until the worker ends"),
        pytest.param("kept.clear(); del loop; gc.collect()", id="dropped and collected"),
        pytest.param("asyncio.run(asyncio.sleep(0))", id="while the worker runs a loop of its own"),
    ],
)
def test_row_49_a_worker_that_forgets_its_parents_client_has_nothing_to_say(forget: str) -> None:
    """The calls are the parent's, which delivers them: a line in each child of a pool would only frighten people."""
    with emulator_thread("--latency", "0.3") as url:
        ended = run(OPEN_AT_THE_FORK.replace("FORGET", forget), url)
        arrived = markers_at(url)

    by_the_child = [line for line in ended.stdout.splitlines() if not line.startswith("SAID ")]
    assert "SAID child-ends" in ended.stdout, ended.stderr
    assert [] == by_the_child
    assert "" == ended.stderr
    assert list(range(CALLS)) == sorted(arrived)


# A worker opens the client that its parent has made, and forgets it. The next process takes the file's lease.
MADE_BEFORE_THE_FORK = f"""
async def opened():
    global client
    await client.__aenter__()
    for n in range({CALLS}):
        await client.track("u", "clicked", {{"n": n}})
    client = None

client = UserpilotClient()
if (pid := os.fork()) == 0:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(opened())
    loop.close()
    del loop
    gc.collect()
    say("forgotten", os.getpid())
    signal.pause()
os.waitid(os.P_PID, pid, os.WEXITED)
"""


def test_row_49_a_worker_that_forgets_the_client_it_opened_says_so_and_gives_the_lease_back(
    silent_server: str, tmp_path: Path
) -> None:
    outbox = {"USERPILOT_OUTBOX": f"sqlite:///{tmp_path}/events.db"}
    with python("-c", PROLOGUE + MADE_BEFORE_THE_FORK, env=environment(silent_server, **outbox)) as program:
        worker = int(program.wait_for_line(r"SAID forgotten (\d+)")[1])
        drained = run(DRAINED, silent_server, **outbox)
        os.kill(worker, signal.SIGKILL)
        program.wait()

    assert "SAID sends true" in drained.stdout, drained.stderr
    assert 1 == len(lines_with_the_number(program.output)), program.output


DRAINED = """
async def main():
    async with UserpilotClient(settings=Settings(close_timeout=0.1)) as client:
        await until(lambda: client.statistics().is_sender)
        say("sends", True)

asyncio.run(main())
"""


# A worker that lives on, and holds whatever it inherited for as long as it does.
OPEN_FILE_AT_THE_FORK = """
async def main():
    async with UserpilotClient() as client:
        for n in range(3):
            await client.track("u", "clicked", {"n": n})
        assert (await client.flush(20)).complete
        pid = os.fork()
        if pid == 0:
            os.setsid()
            say("child", os.getpid())
            time.sleep(600)
            os._exit(0)
        await client.track("u", "clicked", {"n": 3})  # on the disk
        say("parent", os.getpid())
        await asyncio.Event().wait()

asyncio.run(main())
"""

SENDS_THE_REST = """
async def main():
    async with UserpilotClient() as client:
        await client.track("u", "clicked", {"n": 4})
        report = await client.flush(20)
        say("took-over", report.complete)

asyncio.run(main())
"""


def test_row_49_a_worker_that_lives_on_does_not_keep_the_dead_parents_file(emulator_url: str, tmp_path: Path) -> None:
    outbox = f"sqlite:///{tmp_path}/events.db"
    env = environment(emulator_url, USERPILOT_OUTBOX=outbox)
    with python("-c", PROLOGUE + OPEN_FILE_AT_THE_FORK, env=env) as parent:
        child = int(parent.wait_for_line(r"SAID child (\d+)")[1])
        try:
            parent.wait_for_line(r"SAID parent \d+")
            parent.kill()
            assert -signal.SIGKILL == parent.returncode or wait_for(lambda: parent.returncode, "the parent is dead")
            ended = run(SENDS_THE_REST, emulator_url, USERPILOT_OUTBOX=outbox)
            os.kill(child, 0)  # it lives still
        finally:
            os.kill(child, signal.SIGKILL)

    assert {"took-over": True} == said(ended.stdout), ended.stderr
    assert {0, 1, 2, 3, 4} == set(markers_at(emulator_url))

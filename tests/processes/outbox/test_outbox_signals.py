"""Rows 39 to 43 with a file: told to stop, told twice, with too little time, or held in the middle of a breath."""

from __future__ import annotations

import fcntl
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from anyio import to_thread

from tests.harness import Program, RawServer, emulator_thread, judge, python, silent
from tests.harness.processes import UVICORN_LISTENING
from tests.harness.stage.loops import KEY, Account, markers_at, said, script
from tests.processes.apps._load import accounts_in, visitors_of
from tests.processes.programs.outbox_host import Host, Worker, host, judge_all, told_by, wait_for
from userpilot_async import Settings, UserpilotClient
from userpilot_async.sqlite import SQLiteOutbox

LIMIT = 6_000
QUICK = {"track_per_minute": LIMIT, "identify_per_minute": LIMIT, "flush_interval": 0.2, "bulk_threshold": 50}
CLOSE_TIMEOUT = 2.0  # of the application
VISITS = 400  # of which 100 go at once, and ten a second later: most of them wait in the file when the servers stop


def held_in(file: Path) -> list[str]:
    """The kinds of the calls that the file holds, as any program can read them."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return [kind for (kind,) in db.execute("SELECT kind FROM calls ORDER BY id")]


def drained(folder: Path, file: Path, url: str) -> Account:
    """The account, after a process of its own has sent all that the file held, as fast as it could."""
    with host(folder, url, settings={"track_per_minute": LIMIT}) as one:
        one.file = file
        return one.drain()


# ── 39: servers with several processes ──


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_row_39_four_processes_that_share_a_file_stop_and_nothing_they_answered_for_is_lost(
    server: str, tmp_path: Path
) -> None:
    """The sender may stop first: another takes over, and what is left waits in the file."""
    pytest.importorskip(server)
    file = tmp_path / "outbox" / "events.db"
    uvicorn = "-m uvicorn --port 0 --workers 4 tests.processes.programs.outbox_app:app"
    gunicorn = (
        "-m gunicorn tests.processes.programs.outbox_app:app -w 4 -k uvicorn.workers.UvicornWorker -b 127.0.0.1:0"
    )
    command, listening = (
        (uvicorn, UVICORN_LISTENING) if server == "uvicorn" else (gunicorn, r"Listening at: (?P<url>http://\S+)")
    )
    with emulator_thread("--rate-limit", str(LIMIT)) as url:
        env = {
            "USERPILOT_API_KEY": KEY,
            "USERPILOT_BASE_URL": url,
            "USERPILOT_OUTBOX": f"sqlite:///{file}?durability=process",
            "HOME": str(tmp_path),
        }
        with python(*command.split(), env=env) as program:
            address = program.wait_for_line(listening)["url"]
            wait_for(lambda: 4 <= program.output.count("Application startup complete"), "four processes")
            with visitors_of(address, visitors=6, at_most=VISITS) as load:
                load.wait_answered(250)
                program.terminate()
                status = program.wait(30)
        accounts = accounts_in(program)
        left = len(held_in(file))
        account = drained(tmp_path, file, url)
        arrived = [event["metadata"]["report"] for event in told_by(url, "events")]
        order = [(event["user_id"], int(event["metadata"]["report"].split("-")[1])) for event in told_by(url, "events")]

    assert status in {0, -signal.SIGTERM}
    for took in re.findall(r"^CLOSED IN (\S+)", program.output, re.MULTILINE):
        judge.within_bound(float(took), CLOSE_TIMEOUT)
    assert left > 0, "nothing was left: little was tested"
    assert 4 == len(accounts), program.output
    for one, losses in accounts:
        judge.conservation(one)
        assert {} == losses
    assert "Traceback" not in program.output
    judge.nothing_lost(load.answered, arrived)
    judge.duplicates(arrived, 0)
    judge.per_user_order(order)
    assert len(arrived) == account.delivered == judge.conservation(account)
    judge.no_canary({"output": program.output}, [KEY])


# ── 40 ──

HAS_NO_HANDLER = """
from userpilot_async.sqlite import SQLiteOutbox

async def main():
    async with UserpilotClient(outbox=SQLiteOutbox({file!r})) as userpilot:
        for n in range(150):
            await userpilot.track("u", "clicked", {{"n": n}})
        say("ready")
        await asyncio.sleep(3_600)

asyncio.run(main())
"""


def test_row_40_a_bare_asyncio_run_that_dies_of_sigterm_leaves_its_calls_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "outbox" / "events.db"
    with emulator_thread("--latency", "0.02", "--rate-limit", str(LIMIT)) as url:
        with script(HAS_NO_HANDLER.format(file=str(file)), url) as program:
            program.wait_for_line("SAID ready")
            program.terminate()
            status = program.wait(5)
        left = len(held_in(file))
        account = drained(tmp_path, file, url)
        arrived = markers_at(url)

    assert -signal.SIGTERM == status
    assert 0 < left, "all had been sent before: nothing was tested"
    judge.nothing_lost(range(150), arrived)
    judge.duplicates(arrived, 8)
    judge.per_user_order(("u", n) for n in arrived)
    assert 150 == account.delivered == judge.conservation(account)


# ── 41, 42: to a server that does not answer ──

DRAINING = """
from userpilot_async.sqlite import SQLiteOutbox

userpilot = UserpilotClient(
    outbox=SQLiteOutbox({file!r}), settings=Settings(close_timeout={close_timeout}),
    on_dead=lambda letter: say("dead", letter.reason),
)

def watch():
    while "closed" not in repr(userpilot):
        time.sleep(0.005)
    say("draining")

async def main():
    try:
        async with userpilot:
            for n in range(20):
                await userpilot.track(f"u{{n}}", "clicked", {{"n": n}})
            await userpilot.identify("u", {{"plan": "pro"}})
            while not userpilot.statistics().in_flight:
                await asyncio.sleep(0.005)
            say("ready")
            {then}
    finally:
        say("account", account(userpilot))

threading.Thread(target=watch, daemon=True).start()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    say("interrupted")
"""


@contextmanager
def draining(file: Path, close_timeout: float, then: str) -> Iterator[Program]:
    source = DRAINING.format(file=str(file), close_timeout=close_timeout, then=then)
    with RawServer(silent()) as server, script(source, server.url) as program:
        program.wait_for_line("SAID ready")
        yield program


def test_row_41_a_second_sigint_ends_the_drain_at_once_and_the_calls_wait_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "outbox" / "events.db"
    with draining(file, 30.0, "await asyncio.sleep(3_600)") as program:
        program.send_signal(signal.SIGINT)
        program.wait_for_line("SAID draining")
        program.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        status = program.wait(30)
        took = time.monotonic() - interrupted

    told = said(program)
    judge.within_bound(took, 1.0)
    assert 0 == status
    assert "interrupted" in told
    assert "dead" not in told
    assert 20 * ["track"] + ["user"] == held_in(file)


@pytest.mark.parametrize("close_timeout", [0.0, 0.05, 1.0])
def test_row_42_with_a_close_timeout_shorter_than_one_request_what_was_accepted_is_in_the_file(
    tmp_path: Path, close_timeout: float
) -> None:
    file = tmp_path / "outbox" / "events.db"
    then = 'say("report", (await userpilot.aclose()).elapsed)'
    with draining(file, close_timeout, then) as program:
        status = program.wait(10)

    told = said(program)
    account = Account(**told["account"])
    judge.within_bound(told["report"], close_timeout)
    assert 0 == status
    assert 21 == account.pending == judge.conservation(account)
    assert 20 * ["track"] + ["user"] == held_in(file)
    assert "dead" not in told
    assert "Traceback" not in program.output
    assert not re.search("ResourceWarning|Task was destroyed", program.output), program.output


# ── 43: SIGSTOP ──

IMPATIENT = {**QUICK, "max_wait": 0.5}


def state_of(worker: Worker) -> str:
    """The letter of the process's state: T while it is stopped."""
    return Path(f"/proc/{worker.program.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def hold(worker: Worker) -> None:
    worker.program.send_signal(signal.SIGSTOP)
    wait_for(lambda: state_of(worker) == "T", "the process is stopped")


def hold_with_the_turn(one: Host, worker: Worker) -> None:
    """Stop it at an instant at which it has the lock for writing, and nobody else can have it then."""
    worker.program.send_signal(signal.SIGUSR1)
    wait_for(lambda: state_of(worker) == "T", "the process is stopped")
    assert taken_by(one.file, worker.program.pid), "it was stopped without the lock: nothing was tested"


def taken_by(file: Path, pid: int) -> bool:
    """True if the system shows that the process holds the lock for writing."""
    inode = file.with_name(file.name + ".lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.replace("->", "").split()
        if words[4].isdigit() and int(words[4]) == pid and words[5].endswith(f":{inode}"):
            return True
    return False


@pytest.mark.night
def test_row_43_a_stopped_sender_goes_on_later_and_nobody_sends_in_its_place(tmp_path: Path) -> None:
    """The lease has no clock in it: a sender that is asleep is still the only one, before and after it wakes up."""
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--latency", "0.02", "--speed", "20") as url,
        host(tmp_path, url, settings=IMPATIENT) as one,
    ):
        workers = [one.start(slot) for slot in ("w0", "w1", "w2")]
        one.ready(*workers)
        [sender] = wait_for(lambda: [worker for worker in workers if worker.sends], "a sender")
        wait_for(lambda: told_by(url, "events"), "an event")
        held = 0
        while True:  # without the lock for writing: the others go on putting
            hold(sender)
            if not taken_by(one.file, sender.program.pid):
                break
            sender.program.send_signal(signal.SIGCONT)
        held = len(told_by(url, "requests"))
        others = [worker for worker in workers if worker is not sender]
        before = [len(worker.notes("accepted")) for worker in others]
        for worker, count in zip(others, before, strict=True):
            worker.wait_accepted(count + 30, 30)
        requests_meanwhile = len(told_by(url, "requests")) - held
        sender.program.send_signal(signal.SIGCONT)
        events = len(told_by(url, "events"))
        wait_for(lambda: len(told_by(url, "events")) > events + 20, "it goes on")
        assert [sender] == [worker for worker in workers if worker.sends]
        seen = judge_all(one, one.drain(), limit=LIMIT)

    assert 8 >= requests_meanwhile, "somebody sent while the sender was stopped"
    assert 0 == seen["duplicates"]
    assert 2 == seen["senders"], "only the last process, which drained, took the lease later"


@pytest.mark.parametrize("when_full", ["wait", "raise"])
def test_row_43_while_a_stopped_process_holds_up_the_file_calls_return_in_time_and_say_so(
    tmp_path: Path, when_full: str
) -> None:
    settings = {**IMPATIENT, "when_full": when_full}
    with (
        emulator_thread("--rate-limit", str(LIMIT), "--speed", "20") as url,
        host(tmp_path, url, pause=0.001, settings=settings) as one,
    ):
        stopped, other = one.start("w0"), one.start("w1")
        one.ready(stopped, other)
        wait_for(lambda: stopped.notes("accepted") and other.notes("accepted"), "both put")
        hold_with_the_turn(one, stopped)
        since = len(other.notes("refused"))
        # Each of its three users waits for `max_wait` in turn: that many refusals are twelve calls in a row.
        wait_for(lambda: len(other.notes("refused")) >= since + 12, "twelve calls return", 4 * (0.5 + 1.0))
        reasons = {reason for _, reason in other.notes("refused")}
        stopped.program.send_signal(signal.SIGCONT)
        for worker in (stopped, other):
            worker.wait_accepted(len(worker.notes("accepted")) + 20)
        one.stop(stopped, other)
        last = one.start("last", users=0, flush=60.0)
        assert 0 == last.program.wait(90)
        told = said(last.program)
        there = {event["metadata"]["mark"] for event in told_by(url, "events")}

    tracked = {mark for mark in one.accepted() if int(mark.rsplit(".", 1)[1]) % 7}
    refused = {note[0] for worker in one.workers for note in worker.notes("refused")}
    assert {"outbox" if when_full == "wait" else "QueueFull"} == reasons
    judge.nothing_lost(tracked, there)
    assert not refused & there, "refused, and sent all the same"
    assert set(told["reasons"]) <= {"outbox"}
    assert len(there) <= judge.conservation(Account(**told["account"]))


@pytest.mark.anyio
async def test_row_43_a_call_that_a_stuck_file_did_not_take_says_so_at_once(tmp_path: Path) -> None:
    file = tmp_path / "events.db"
    with RawServer(silent()) as server:
        client = UserpilotClient(
            KEY,
            base_url=server.url,
            outbox=SQLiteOutbox(file, sender=False),
            settings=Settings(max_wait=0.1, close_timeout=0.1),
        )
        async with client as userpilot:
            with open(file.with_name("events.db.lock")) as turn:
                await to_thread.run_sync(fcntl.flock, turn, fcntl.LOCK_EX)
                receipt = await userpilot.track("u", "clicked")
                told = receipt.status

    assert "dropped" == told

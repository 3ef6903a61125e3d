from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import threading
import time

import anyio
import anyio.to_thread
import httpx
import pytest

from tests.harness import ProgramFailed, Resources, emulator_process, free_of_leaks, python
from tests.harness.processes import LISTENING, UVICORN_LISTENING

GREETS_AND_WAITS = """
import sys, time
print("hello", flush=True)
print("and a word on stderr", file=sys.stderr, flush=True)
time.sleep(60)
"""

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""

HAS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
time.sleep(60)
"""


def test_output_is_collected_from_both_streams() -> None:
    with python("-c", GREETS_AND_WAITS) as program:
        program.wait_for_line("stderr")

        assert "hello\nand a word on stderr\n" == program.output
        assert program.returncode is None


def test_a_line_that_has_passed_is_found() -> None:
    with python("-c", GREETS_AND_WAITS) as program:
        program.wait_for_line("stderr")

        assert "hell" == program.wait_for_line("(hell)o")[1]


def test_a_program_that_keeps_silent_fails_with_its_output() -> None:
    with python("-c", GREETS_AND_WAITS) as program:
        program.wait_for_line("stderr")
        with pytest.raises(ProgramFailed, match=r"(?s)no line matching 'goodbye' within 0\.1 s.*and a word on stderr"):
            program.wait_for_line("goodbye", timeout=0.1)


def test_a_program_that_dies_fails_at_once_with_its_traceback() -> None:
    began = time.monotonic()
    with (
        python("-c", "raise LookupError('at start')") as program,
        pytest.raises(ProgramFailed, match=r"(?s)ended without a line.*LookupError: at start"),
    ):
        program.wait_for_line("ready", timeout=60)

    assert 30 > time.monotonic() - began


def test_kill_ends_it_without_a_word() -> None:
    with python("-c", IGNORES_SIGTERM) as program:
        program.wait_for_line("ready")
        program.kill()

        assert -signal.SIGKILL == program.wait()


def test_one_that_ignores_sigterm_is_killed_in_the_end() -> None:
    with python("-c", IGNORES_SIGTERM) as program:
        program.wait_for_line("ready")

        assert -signal.SIGKILL == program.end(patience=0.1)


def test_a_stopped_program_ends_too() -> None:
    with python("-c", GREETS_AND_WAITS) as program:
        program.wait_for_line("stderr")
        program.send_signal(signal.SIGSTOP)

        assert -signal.SIGTERM == program.end()


def test_what_it_started_ends_with_it() -> None:
    with python("-c", HAS_A_CHILD) as program:
        child = int(program.wait_for_line(r"child (\d+)")[1])

    deadline = time.monotonic() + 2
    while os.path.exists(f"/proc/{child}") and _state(child) != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{child}") or _state(child) == "Z"


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def test_the_environment_can_be_changed_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_INHERITED", "yes")
    script = "import os; print(os.environ.get('HARNESS_INHERITED'), os.environ.get('HARNESS_ADDED'), flush=True)"
    with python("-c", script, env={"HARNESS_INHERITED": None, "HARNESS_ADDED": "1"}) as program:
        program.wait()

        assert "None 1\n" == program.output


def test_a_program_leaves_nothing_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with free_of_leaks(), python("-c", GREETS_AND_WAITS) as program:
        program.wait_for_line("hello")

    assert before == len(os.listdir("/proc/self/fd"))


def test_the_line_of_a_server_gives_its_url() -> None:
    line = LISTENING.search("listening on http://127.0.0.1:4711")
    of_uvicorn = UVICORN_LISTENING.search("INFO:     Uvicorn running on http://127.0.0.1:4711 (Press CTRL+C to quit)")

    assert line is not None
    assert of_uvicorn is not None
    assert "http://127.0.0.1:4711" == line["url"] == of_uvicorn["url"]


needs_emulator = pytest.mark.skipif(
    importlib.util.find_spec("userpilot_async.emulator") is None, reason="the emulator is not installed"
)


@needs_emulator
def test_the_emulator_runs_in_a_process_of_its_own() -> None:
    with emulator_process() as url:
        answer = httpx.post(
            f"{url}/v1/identify",
            headers={"Authorization": "Token key", "X-API-Version": "2020-09-22"},
            json={"user_id": "u1"},
            trust_env=False,
        )

    assert 202 == answer.status_code
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


@needs_emulator
def test_each_test_has_an_emulator_of_its_own(emulator_url: str) -> None:
    assert emulator_url.startswith("http://127.0.0.1:")


# ── leaks ──


def test_a_socket_left_open_is_a_leak() -> None:
    with socket.socket() as leaked:
        with pytest.raises(AssertionError, match=r"left behind: sockets \d+ → \d+"), free_of_leaks(within=0):
            leaked = socket.socket()
        leaked.close()


def test_a_thread_left_running_is_a_leak() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten")
    with pytest.raises(AssertionError, match=r"threads .*forgotten"), free_of_leaks(within=0.05):
        thread.start()
    release.set()
    thread.join()


def test_what_ends_within_the_time_is_no_leak() -> None:
    with free_of_leaks(within=5):
        thread = threading.Thread(target=time.sleep, args=(0.05,))
        thread.start()
    thread.join()


def test_an_error_in_the_block_is_not_replaced_by_its_leak() -> None:
    with socket.socket(), pytest.raises(LookupError), free_of_leaks(within=0):
        raise LookupError


def test_memory_counts_when_asked_for() -> None:
    with pytest.raises(AssertionError, match="memory_bytes"), free_of_leaks(within=0, memory_slack_bytes=1_000_000):
        kept = bytes(50_000_000).replace(b"\0", b"1")
    del kept


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_task_left_running_is_a_leak() -> None:
    with pytest.raises(AssertionError, match=r"tasks (2 → 3|3 → 4)"):
        async with free_of_leaks(within=0.05):
            task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()


@pytest.mark.anyio
async def test_a_task_group_that_goes_on_is_a_leak() -> None:
    async with anyio.create_task_group() as tasks:
        with pytest.raises(AssertionError, match="tasks"):
            async with free_of_leaks(within=0.05):
                tasks.start_soon(anyio.sleep_forever)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_pooled_worker_threads_are_no_leak() -> None:
    async with free_of_leaks():
        await anyio.to_thread.run_sync(time.sleep, 0)


@pytest.mark.anyio
@pytest.mark.virtual
async def test_leaks_are_counted_on_virtual_time_as_well() -> None:
    async with free_of_leaks(), anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.sleep, 3600)


def test_outside_of_a_loop_there_are_no_tasks() -> None:
    assert 0 == Resources.now().tasks

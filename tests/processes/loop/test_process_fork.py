"""Row 49: a process that forks, before and after its client was opened."""

from __future__ import annotations

import os
from typing import Any

import attrs
import pytest

from tests.harness import emulator_thread, judge
from tests.harness.stage.loops import Account, markers_at, said, script

FORKS_WHILE_OPEN = """
import multiprocessing

userpilot = UserpilotClient(settings=Settings(burst=2, track_per_minute=600))
CALLS = {
    "track": lambda: userpilot.track("u", "clicked", {"n": "child"}),
    "identify": lambda: userpilot.identify("u"),
    "flush": lambda: userpilot.flush(1),
    "aclose": lambda: userpilot.aclose(1),
    "enter": lambda: userpilot.__aenter__(),
    "api": lambda: userpilot.api.identify("u"),
}

def child():
    warnings.simplefilter("always")
    try:
        userpilot.track_nowait("u", "clicked", {"n": "child"})
        say("track_nowait", "")
    except Exception as error:
        say("track_nowait", f"{type(error).__name__}: {error}")
    for name, call in CALLS.items():
        async def attempt():
            await call()
        try:
            asyncio.run(attempt())
            say(name, "")
        except Exception as error:
            say(name, f"{type(error).__name__}: {error}")
    asyncio.run(one_of_its_own())

async def one_of_its_own():
    async with UserpilotClient() as own:
        await own.track("u", "clicked", {"n": "child's own"})

async def main():
    async with userpilot:
        for n in range(20):
            await userpilot.track("u", "clicked", {"n": n})
        await until(lambda: userpilot.statistics().delivered)  # the others wait: ten a second go
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        while process.is_alive():
            await asyncio.sleep(0.01)
        say("exitcode", process.exitcode)
        await userpilot.track("u", "clicked", {"n": "parent"})
    say("account", account(userpilot))

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12 warns of forks beside threads
asyncio.run(main())
"""


@attrs.frozen
class Forked:
    """What a program that forked while its client was open said, and what reached the server."""

    told: dict[str, Any]
    arrived: list[Any]
    output: str


@pytest.fixture(scope="module")
def forked() -> Forked:
    with emulator_thread() as url:
        with script(FORKS_WHILE_OPEN, url) as program:
            program.wait(20)
        return Forked(said(program), markers_at(url), program.output)


@pytest.mark.parametrize(
    "call",
    [
        "track_nowait",
        "track",
        "identify",
        "flush",
        "aclose",
        "api",
    ],
)
def test_row_49_a_client_that_was_open_at_a_fork_refuses_to_work_in_the_child(forked: Forked, call: str) -> None:
    assert call in forked.told, forked.output
    assert str(forked.told[call]).startswith("ClientClosed: "), forked.told[call]


def test_row_49_entering_it_a_second_time_in_the_child_is_an_error(forked: Forked) -> None:
    assert "RuntimeError: this UserpilotClient has already been entered" == forked.told["enter"]


@pytest.mark.parametrize(
    "call",
    [
        "track_nowait",
        "track",
        "identify",
        "flush",
        "aclose",
    ],
)
def test_row_49_the_refusal_in_the_child_names_the_fork(forked: Forked, call: str) -> None:
    assert "was open in the parent process" in str(forked.told[call])


def test_row_49_a_fork_sends_nothing_twice_and_leaves_the_parent_unharmed(forked: Forked) -> None:
    account = Account(**forked.told["account"])
    assert 0 == forked.told["exitcode"]
    assert [*range(20), "parent"] == [marker for marker in forked.arrived if marker != "child's own"]
    assert 21 == account.delivered == judge.conservation(account)
    assert "Traceback" not in forked.output


def test_row_49_a_client_opened_in_the_child_works_there(forked: Forked) -> None:
    assert 1 == forked.arrived.count("child's own")


FORKS_BEFORE = """
userpilot = UserpilotClient()

async def main(who):
    async with userpilot:
        for n in range(10):
            await userpilot.track(who, "clicked", {"n": f"{who} {n}"})
    say(who, account(userpilot))

pid = os.fork()
asyncio.run(main("parent" if pid else "child"))
if pid:
    say("exitcode", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_row_49_a_client_made_before_a_fork_may_be_opened_on_both_sides(emulator_url: str) -> None:
    with script(FORKS_BEFORE, emulator_url) as program:
        status = program.wait(20)

    told = said(program)
    assert (0, 0) == (status, told["exitcode"])
    expected = [f"{who} {n}" for who in ("child", "parent") for n in range(10)]
    assert expected == sorted(markers_at(emulator_url))
    for who in ("child", "parent"):
        assert 10 == judge.conservation(Account(**told[who]))


FORKED_CHILD_ENDS_NORMALLY = """
async def main():
    async with UserpilotClient() as userpilot:
        for n in range(3):
            await userpilot.track("u", "clicked", {"n": n})
        if os.fork() == 0:
            sys.exit(0)  # SystemExit goes up through the parent's `async with`, in the child
        say("exitcode", os.waitstatus_to_exitcode(os.wait()[1]))
    say("account", account(userpilot))

asyncio.run(main())
"""


def test_row_49_a_child_that_leaves_through_the_parents_block_sends_nothing(emulator_url: str) -> None:
    with script(FORKED_CHILD_ENDS_NORMALLY, emulator_url) as program:
        status = program.wait(20)

    account = Account(**said(program)["account"])
    assert (0, 0) == (status, said(program)["exitcode"])
    assert "Traceback" not in program.output
    assert [0, 1, 2] == markers_at(emulator_url)
    assert 3 == account.delivered == judge.conservation(account)


FORKS_BESIDE_TWO_LOOPS = """
from userpilot_async import blocking

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12 warns of forks beside threads
loop = asyncio.new_event_loop()
between = UserpilotClient(settings=Settings(close_timeout=0.0, burst=1))
loop.run_until_complete(between.start())
clients = [blocking(UserpilotClient()).start(), blocking(UserpilotClient(), "trio").start()]

async def pause():
    await asyncio.sleep(0.3)

if os.fork() == 0:
    refused = []
    for track in (between.track_nowait, *(client.track for client in clients)):
        try:
            track("u", "clicked", {"n": "child"})
        except Exception as error:
            refused.append(type(error).__name__)
    loop.run_until_complete(pause())
    say("child", refused)
    os._exit(0)
os.wait()
for client in clients:
    client.track("u", "clicked", {"n": "parent"})
    client.close()
loop.run_until_complete(between.aclose())
loop.close()
"""


def test_every_client_refuses_calls_in_a_child_where_no_loop_ran_when_it_was_forked(emulator_url: str) -> None:
    """A traceback of the fork came up, and all but the first client took calls in the child that nobody sent."""
    with script(FORKS_BESIDE_TWO_LOOPS, emulator_url) as program:
        status = program.wait(20)

    assert 0 == status
    assert ["ClientClosed"] * 3 == said(program)["child"]
    assert "Traceback" not in program.output
    assert ["parent"] * 2 == markers_at(emulator_url)


FORKS = """
clients = [UserpilotClient(), UserpilotClient()]

async def main():
    async with clients[0], clients[1]:
        for userpilot in clients:
            await userpilot.track("u", "clicked")
        if os.fork() == 0:
            told = []
            for userpilot in clients:
                try:
                    userpilot.track_nowait("u", "clicked")
                except Exception as error:
                    told.append(type(error).__name__)
            say("child", told)
            os._exit(0)
        os.wait()

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12 warns of forks beside threads
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_row_49_a_fork_is_silent_and_known_to_every_client() -> None:
    """An exception at the first would have left the others open in the child, where nothing is ever sent."""
    with emulator_thread() as url, script(FORKS, url) as program:
        program.wait(20)

    assert ["ClientClosed", "ClientClosed"] == said(program)["child"]
    assert "Exception ignored" not in program.output
    assert "Traceback" not in program.output

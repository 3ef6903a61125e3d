"""Rows 41, 48, 49 and 54: a client for code without an event loop, used by one thread or by many."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import anyio
import httpx
import pytest

from tests.harness import RawServer, free_of_leaks, judge, silent
from tests.harness.stage.loops import KEY, Account, InProcess, markers, markers_at, said, script, threads
from userpilot_async import (
    ClientClosed,
    ClientNotOpen,
    ConfigurationError,
    DeadCall,
    Identify,
    IdentifyCompany,
    InvalidCall,
    OutboxError,
    QueueFull,
    Receipt,
    Rejected,
    Settings,
    Track,
    UserpilotClient,
    WrongLoop,
    blocking,
)
from userpilot_async._client import BlockingClient
from userpilot_async.emulator import Emulator
from userpilot_async.parcelvoy import Alias, ParcelvoyClient

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])
URL = "https://emulator"


def client_of(emulator: Emulator, *, on_dead: Any = None, outbox: Any = None, **settings: Any) -> UserpilotClient:
    transport = InProcess(emulator)
    return UserpilotClient(
        KEY, base_url=URL, transport=transport, on_dead=on_dead, outbox=outbox, settings=Settings(**settings)
    )


class Gate(httpx.AsyncBaseTransport):
    """A server that answers nothing before `opens` is set, by any thread."""

    def __init__(self) -> None:
        self.opens = Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await anyio.to_thread.run_sync(self.opens.wait, 30)
        return httpx.Response(202, json={})


def together(number: int, work: Callable[[int], object]) -> None:
    """So many threads that do `work(n)` at once; raises what one of them raised."""
    with threads(number, work):
        pass


# ── calls ──


def test_the_same_calls_without_await_are_delivered_on_leaving(backend: Any) -> None:
    emulator = Emulator()
    with blocking(client_of(emulator), backend) as userpilot:
        receipts = [
            userpilot.identify("u1", {"plan": "pro"}, company={"id": "acme"}),
            userpilot.identify_company("acme", {"seats": 3}),
            userpilot.track("u1", "exported", {"n": 0}),
            userpilot.enqueue(Track("u1", "exported", {"n": 1})),
            userpilot.enqueue(Identify("u2")),
            userpilot.enqueue(IdentifyCompany("globex")),
        ]

    assert ["delivered"] * 6 == [receipt.status for receipt in receipts]
    assert [0, 1] == markers(emulator)
    assert {"acme", "globex"} == set(emulator.store.companies)
    assert userpilot.report is not None
    assert (True, 6) == (userpilot.report.complete, userpilot.report.statistics.delivered)


def test_people_and_companies_are_deleted_without_await_and_from_other_threads(backend: Any) -> None:
    emulator = Emulator(speed=100.0)
    client = client_of(emulator, flush_interval=0.05)
    with blocking(client, backend) as userpilot:
        for number in range(3):
            userpilot.identify(f"u{number}", {"plan": "pro"}, company={"id": "acme"})
        userpilot.identify_company("globex")
        userpilot.flush(30)
        there = sorted(emulator.store.users)
        nowait: list[Receipt] = []
        receipts = [*userpilot.delete_users(["u0"]), *userpilot.delete_companies(["acme"])]
        together(1, lambda n: nowait.extend(client.delete_users_nowait(["u1"])))
        report = userpilot.flush(30)
        emulator.advance()

    assert ["u0", "u1", "u2"] == there
    assert ["delivered"] * 3 == [receipt.status for receipt in (*receipts, *nowait)]
    assert report.complete
    assert (["u2"], ["globex"]) == (list(emulator.store.users), list(emulator.store.companies))


def test_parcelvoys_calls_are_the_same_without_await(backend: Any) -> None:
    emulator = Emulator()
    client = ParcelvoyClient("KEY", URL, transport=InProcess(emulator))
    with blocking(client, backend) as parcelvoy:
        parcelvoy.track("viewed", anonymous_id="a1", data={"n": 1})
        parcelvoy.alias("a1", "u1")
        parcelvoy.identify("u1", email="ann@example.com")
        parcelvoy.register_device("d1", external_id="u1", os="iOS", model="X", app_build="1", app_version="1")
        parcelvoy.enqueue(Alias("a2", "u2"))
        with pytest.raises(InvalidCall, match="external_id"):
            parcelvoy.identify(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            parcelvoy.identify(name="x")  # type: ignore[call-arg]
        assert parcelvoy.flush(10).complete

    assert 5 == parcelvoy.statistics().delivered


def test_flush_receipts_and_numbers(backend: Any) -> None:
    with blocking(client_of(Emulator()), backend) as userpilot:
        receipt = userpilot.track("u1", "exported")
        assert "delivered" == receipt.wait(10).status
        assert userpilot.flush(timeout=10).complete
        assert (1, {"track": 600, "identify": 600}) == (userpilot.statistics().delivered, dict(userpilot.rate_limits))


def test_the_api_without_the_queue(backend: Any) -> None:
    emulator = Emulator()
    with blocking(client_of(emulator), backend) as userpilot:
        userpilot.api.identify("u1", {"plan": "pro"})
        job = userpilot.api.bulk_identify_users([{"user_id": "u2", "metadata": {"plan": "free"}}])
        assert [job.job_id] == [one.job_id for one in userpilot.api.jobs()]
        with pytest.raises(Rejected):
            userpilot.api.job("nothing")

    assert {"u1"} <= set(emulator.store.users)


def test_rows_are_imported(backend: Any) -> None:
    """The row is refused, so that no job is waited for."""
    with blocking(client_of(Emulator()), backend) as userpilot:
        report = userpilot.import_rows([{"event_type": "nothing"}])

    assert [1] == [line for line, _, _ in report.first_errors]


def test_errors_are_raised_in_the_caller(backend: Any) -> None:
    with blocking(
        client_of(Emulator(latency=60.0), when_full="raise", max_queue_calls=1, close_timeout=0), backend
    ) as u:
        with pytest.raises(InvalidCall, match="user_id"):
            u.track("", "exported")
        with pytest.raises(InvalidCall, match="company"):
            u.identify("u1", company={"name": "Acme"})
        u.track("u1", "exported")
        with pytest.raises(QueueFull):
            u.track("u1", "exported")
        assert 1 == u.statistics().accepted


def test_an_invalid_call_goes_to_on_dead_if_the_settings_say_so(backend: Any) -> None:
    letters: list[DeadCall] = []
    with blocking(client_of(Emulator(), on_invalid="dead", on_dead=letters.append), backend) as userpilot:
        assert "dead" == userpilot.track("", "exported").status

    assert ["invalid"] == [letter.reason for letter in letters]


def test_row_87_many_threads_put_and_each_ones_calls_keep_their_order(backend: Any) -> None:
    receipts: list[list[Receipt]] = [[] for _ in range(16)]

    def work(n: int) -> None:
        for m in range(300):
            receipts[n].append(userpilot.track(f"u{n}", "exported", {"n": m}))

    with blocking(client_of(Emulator(latency=60.0), close_timeout=0), backend) as userpilot:
        together(16, work)

    ids = [[receipt.id for receipt in ofs] for ofs in receipts]
    assert all(sorted(ofs) == ofs for ofs in ids)
    assert list(range(4_800)) == sorted(call_id for ofs in ids for call_id in ofs)
    assert 4_800 == judge.conservation(userpilot.statistics())


def test_a_full_queue_makes_threads_wait_and_keeps_their_order(backend: Any) -> None:
    gate = Gate()
    receipts: list[list[Receipt]] = [[] for _ in range(4)]

    def work(n: int) -> None:
        for m in range(20):
            receipts[n].append(userpilot.track(f"u{n}", "exported", {"n": m}))
            if sum(map(len, receipts)) >= 5:
                gate.opens.set()

    settings = Settings(max_queue_calls=5, max_wait=None, close_timeout=30)
    client = UserpilotClient(KEY, base_url=URL, transport=gate, settings=settings)
    with blocking(client, backend) as userpilot:
        together(4, work)

    ids = [[receipt.id for receipt in ofs] for ofs in receipts]
    assert all(sorted(ofs) == ofs for ofs in ids)
    assert {"delivered"} == {receipt.status for ofs in receipts for receipt in ofs}
    assert 80 == userpilot.statistics().delivered


def test_a_full_queue_drops_the_call_after_max_wait(backend: Any) -> None:
    with blocking(client_of(Emulator(latency=60.0), max_queue_calls=1, max_wait=0.01, close_timeout=0), backend) as u:
        first, second = u.track("u1", "exported"), u.track("u1", "exported")
        assert ("pending", "queue_full") == (first.status, second.reason)


def test_with_a_file_a_call_is_on_the_disk_when_it_returns(backend: Any, tmp_path: Path) -> None:
    outbox = f"sqlite:///{tmp_path}/events.db"
    with blocking(client_of(Emulator(latency=60.0), outbox=outbox, close_timeout=0), backend) as userpilot:
        receipt = userpilot.track("u1", "exported", {"n": 1})
        assert (0, 0, 1) == (receipt.id, userpilot.statistics().unpersisted, userpilot.statistics().accepted)
    emulator = Emulator()
    with blocking(client_of(emulator, outbox=outbox), backend):
        pass

    assert [1] == markers(emulator)


def test_on_dead_may_call_its_client_and_must_not_wait_for_it(backend: Any) -> None:
    refused: list[str] = []
    receipts: list[Receipt] = []

    def on_dead(dead: DeadCall) -> None:
        receipts.append(userpilot.track("u1", "lost", {"reason": dead.reason}))
        try:
            userpilot.flush()
        except WrongLoop as error:
            refused.append(str(error))

    with blocking(client_of(Emulator(), on_invalid="dead", on_dead=on_dead), backend) as userpilot:
        userpilot.track("", "exported")
        while not refused:
            userpilot.flush(10)

    assert ["delivered"] == [receipt.status for receipt in receipts]
    assert "another thread" in refused[0]


# ── opening and closing ──


def test_what_cannot_be_opened_raises_in_the_with(backend: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    userpilot = blocking(client_of(Emulator(), outbox=f"sqlite:///{tmp_path}/file/events.db"), backend)
    with free_of_leaks(), pytest.raises(OutboxError), userpilot:
        raise AssertionError("it was opened")


def test_it_leaves_no_thread_and_no_socket_behind(backend: Any) -> None:
    with blocking(client_of(Emulator()), backend) as userpilot:  # what is loaded with the first one stays
        userpilot.track("u1", "exported")
    with free_of_leaks():
        for _ in range(3):
            with blocking(client_of(Emulator()), backend) as userpilot:
                userpilot.track("u1", "exported")


def test_start_and_close_do_what_with_does(backend: Any) -> None:
    userpilot = blocking(client_of(Emulator()), backend).start()
    userpilot.track("u1", "exported")
    report = userpilot.close(timeout=10)

    assert (True, 1) == (report.complete, report.statistics.delivered)
    assert report is userpilot.close() is userpilot.aclose() is userpilot.report
    with pytest.raises(ClientClosed, match="opened once"):
        userpilot.start()


def test_many_threads_may_close_it_while_others_put(backend: Any) -> None:
    receipts: list[list[Receipt]] = [[] for _ in range(16)]

    def work(n: int) -> None:
        if n < 4:
            while sum(map(len, receipts)) < 500:
                userpilot.statistics()
            reports.append(userpilot.close())
            return
        while True:
            try:
                receipts[n].append(userpilot.track(f"u{n}", "exported"))
            except ClientClosed:
                return

    reports: list[Any] = []
    with blocking(client_of(Emulator(latency=60.0), close_timeout=0, max_queue_calls=2_000), backend) as userpilot:
        together(16, work)

    assert [reports[0]] * 4 == reports
    statistics = userpilot.statistics()
    assert sum(map(len, receipts)) == statistics.accepted == judge.conservation(statistics)
    assert (0, 0) == (statistics.pending, statistics.unpersisted)


@pytest.mark.parametrize("name", ["track", "flush", "jobs"])
def test_before_and_after_it_says_so(backend: Any, name: str) -> None:
    userpilot = blocking(client_of(Emulator()), backend)
    calls: dict[str, Callable[[], object]] = {
        "track": lambda: userpilot.track("u1", "exported"), "flush": userpilot.flush, "jobs": userpilot.api.jobs,
    }  # fmt: skip
    with pytest.raises(ClientNotOpen, match="not open yet"):
        calls[name]()
    with userpilot:
        pass
    with pytest.raises(ClientClosed):
        calls[name]()


def test_one_that_was_never_opened_closes_at_once(backend: Any) -> None:
    assert blocking(client_of(Emulator()), backend).close().complete


def test_an_exception_in_the_block_drains_and_goes_on(backend: Any) -> None:
    emulator = Emulator()
    with pytest.raises(KeyboardInterrupt), blocking(client_of(emulator), backend) as userpilot:
        userpilot.track("u1", "exported", {"n": 1})
        raise KeyboardInterrupt

    assert [1] == markers(emulator)


def test_a_client_that_is_not_open_names_the_way_without_a_loop(backend: Any) -> None:
    """A script, or a call of `blocking` without its `with`, has nowhere to write `async with`."""
    for client in (UserpilotClient(KEY), blocking(UserpilotClient(KEY), backend)):
        with pytest.raises(ClientNotOpen, match=r"without a loop, `with blocking\(client\)`"):
            (client.track_nowait if isinstance(client, UserpilotClient) else client.track)("u1", "exported")


def test_only_a_client_can_be_made_blocking(backend: Any) -> None:
    with pytest.raises(ConfigurationError, match="not str"):
        blocking("client", backend)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ConfigurationError, match="not type"):
        blocking(UserpilotClient, backend)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ConfigurationError, match="backend"):
        blocking(UserpilotClient(KEY), "gevent")  # type: ignore[arg-type]  # the mistake


# ── processes ──


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The URL of a server that reads requests and never answers."""
    with RawServer(silent()) as server:
        yield server.url


INTERRUPTED = """
from userpilot_async import blocking

userpilot = blocking(UserpilotClient(settings=Settings(close_timeout=60)), BACKEND)

def tell():
    try:
        while True:
            userpilot.flush(0)
    except ClientClosed:
        say("closing")

try:
    with userpilot:
        for n in range(3):
            userpilot.track("u", "clicked", {"n": n})
        threading.Thread(target=tell, daemon=True).start()
        say("ready")
        while WAITS:
            time.sleep(0.01)
except KeyboardInterrupt:
    say("interrupted")
say("account", account(userpilot))
"""


def test_row_41_ctrl_c_in_the_block_drains(backend: Any, emulator_url: str) -> None:
    source = INTERRUPTED.replace("BACKEND", repr(backend)).replace("WAITS", "True")
    with script(source, emulator_url) as program:
        program.wait_for_line("SAID ready")
        program.send_signal(signal.SIGINT)
        status = program.wait(20)

    assert (0, [0, 1, 2]) == (status, markers_at(emulator_url))
    assert "interrupted" in said(program)
    assert 3 == judge.conservation(Account(**said(program)["account"]))


def test_row_41_ctrl_c_while_it_drains_gives_up_the_rest_and_accounts_for_it(backend: Any, silent_server: str) -> None:
    source = INTERRUPTED.replace("BACKEND", repr(backend)).replace("WAITS", "False")
    with script(source, silent_server) as program:
        program.wait_for_line("SAID closing")
        program.send_signal(signal.SIGINT)
        status = program.wait(20)

    account = Account(**said(program)["account"])
    assert (0, 3) == (status, account.dropped)
    assert 3 == judge.conservation(account)
    assert "interrupted" in said(program)


class InterruptedEvent(Event):
    """An event that answers a wait with a Ctrl-C."""

    def wait(self, timeout: float | None = None) -> bool:
        raise KeyboardInterrupt


class SlowToBegin(BlockingClient):
    """A client whose thread is not there yet when its starter is interrupted."""

    async def _run_client(self) -> None:
        while not self._unwanted:
            await anyio.sleep(0.001)
        await super()._run_client()


def test_row_41_ctrl_c_before_its_thread_has_begun_ends_that(backend: Any) -> None:
    userpilot = SlowToBegin(client_of(Emulator()), backend)
    userpilot._began = InterruptedEvent()
    raised: list[BaseException] = []

    def start() -> None:
        try:
            userpilot.start()
        except BaseException as error:
            raised.append(error)

    starting = Thread(target=start, daemon=True)
    starting.start()
    starting.join(5)

    assert [KeyboardInterrupt] == [type(error) for error in raised]
    with pytest.raises(ClientNotOpen):
        userpilot.track("u", "clicked")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_whose_thread_an_on_dead_has_ended_closes_and_reports(backend: Any) -> None:
    def leave(_: Any) -> None:
        raise SystemExit

    userpilot = blocking(client_of(Emulator(), on_dead=leave, on_invalid="dead"), backend).start()
    userpilot.track("", "clicked")
    assert userpilot._thread is not None
    userpilot._thread.join(5)

    assert 1 == judge.conservation(userpilot.close().statistics)
    assert userpilot.close().complete


FORKED = """
from userpilot_async import blocking

warnings.filterwarnings("ignore", category=DeprecationWarning)  # 3.12 warns of forks beside threads

def attempt(name, call):
    try:
        call()
        say(name, "")
    except Exception as error:
        say(name, f"{type(error).__name__}: {error}")

with blocking(UserpilotClient(), BACKEND) as userpilot:
    receipt = userpilot.track("u", "clicked", {"n": "parent"})
    assert receipt.wait(10).is_delivered
    if os.fork() == 0:
        attempt("track", lambda: userpilot.track("u", "clicked", {"n": "child"}))
        attempt("flush", lambda: userpilot.flush(1))
        attempt("close", lambda: userpilot.close(1))
        attempt("api", lambda: userpilot.api.jobs())
        with blocking(UserpilotClient(), BACKEND) as own:
            own.track("u", "clicked", {"n": "child's own"})
        sys.exit(0)  # goes up through the parent's block, in the child
    os.wait()
say("account", account(userpilot))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_row_49_a_forked_child_is_told_to_open_one_of_its_own(backend: Any, emulator_url: str) -> None:
    source = "warnings.filterwarnings('ignore', category=DeprecationWarning)\n" + FORKED.replace(
        "BACKEND", repr(backend)
    )
    with script(source, emulator_url) as program:
        status = program.wait(30)

    told = said(program)
    assert 0 == status, program.output
    for name in ("track", "flush", "close", "api"):
        assert told[name].startswith("ClientClosed: "), told[name]
        assert "was open in the parent process: open one of its own" in told[name]
        assert "post_fork" in told[name]
        assert "worker_process_init" in told[name]
    assert ["parent", "child's own"] == markers_at(emulator_url)
    assert 1 == judge.conservation(Account(**told["account"]))


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "in a file"])
def test_a_fact_is_told_once_from_any_thread(backend: Any, durable: bool, tmp_path: Path) -> None:
    emulator, receipts = Emulator(seed=1), list[Receipt]()
    outbox = tmp_path / "events.db" if durable else None
    with blocking(client_of(emulator, outbox=outbox), backend) as userpilot:
        together(8, lambda n: receipts.append(userpilot.track("u1", "paid", {"n": n}, dedupe="evt_1")))
        receipts.append(userpilot.enqueue(Identify("u1", dedupe="evt_1")))
        outcomes = [one.wait(10.0) for one in receipts]

    assert ["delivered", *["merged"] * 8] == sorted(one.status for one in outcomes)
    assert 1 == len(markers(emulator))

"""A test without a mock: every client that opens talks to one emulator, and what is lost fails the test."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from threading import Thread
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.loops import threads
from userpilot_async import (
    ConfigurationError,
    InvalidCall,
    Settings,
    Track,
    UserpilotAPI,
    UserpilotClient,
    blocking,
)
from userpilot_async._runtime import stand_in
from userpilot_async.parcelvoy import ParcelvoyClient
from userpilot_async.testing import Capture, capture

pytestmark = pytest.mark.anyio
VARIABLES = ["API_KEY", "REGION", "BASE_URL", "OUTBOX", "DISABLED", "ALLOW_HTTP"]


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"USERPILOT_{name}", raising=False)
        monkeypatch.delenv(f"PARCELVOY_{name}", raising=False)


def never() -> str:
    raise AssertionError("the key was asked for")


def unreachable(request: httpx.Request) -> httpx.Response:
    raise AssertionError("a request was made")


async def with_client(client: Any) -> None:
    async with client:
        if isinstance(client, ParcelvoyClient):
            await client.track("paid", external_id="u1", data={"amount": 49})
        else:
            await client.track("u1", "paid", {"amount": 49})


CLIENTS: dict[str, Callable[[], Any]] = {
    "without a key": UserpilotClient,
    "with a key": lambda: UserpilotClient("a-real-key", region="eu"),
    "with a vault": lambda: UserpilotClient(never),
    "behind a proxy": lambda: UserpilotClient(base_url="https://proxy.example/userpilot/"),
    "with a transport": lambda: UserpilotClient("KEY", transport=httpx.MockTransport(unreachable)),
    "the API": UserpilotAPI,
    "the API of a client": lambda: UserpilotAPI(base_url="https://acme.userpilot.io"),
    "Parcelvoy": ParcelvoyClient,
    "Parcelvoy elsewhere": lambda: ParcelvoyClient("pk_x", "https://parcelvoy.example/path/api"),
}


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
async def test_every_client_talks_to_the_emulator_however_it_is_made(make: Callable[[], Any]) -> None:
    with capture() as userpilot:
        await with_client(make())

        userpilot.assert_tracked("u1", "paid", amount=49)
        arrived = [event.metadata for event in userpilot.events]
        arrived += [event.data for event in userpilot.store.parcelvoy.events]
    assert [{"amount": 49}] == arrived


async def test_the_applications_key_is_not_asked_for() -> None:
    with capture() as userpilot:
        async with UserpilotClient(never) as client, UserpilotAPI(never) as api, ParcelvoyClient(never) as parcelvoy:
            await client.track("u1", "paid")
            await api.track("u1", "paid")
            await parcelvoy.track("paid", external_id="u1")

    assert 3 == len(userpilot.events) + len(userpilot.store.parcelvoy.events)


@pytest.fixture
def forbidden() -> Iterator[None]:
    before = stand_in.forbidden()
    stand_in.forbid_network("use the kit")
    yield
    stand_in.forbid_network(before)


@pytest.mark.usefixtures("forbidden")
@pytest.mark.parametrize("make", [UserpilotClient, UserpilotAPI, ParcelvoyClient, lambda: UserpilotClient("a-key")])
async def test_where_the_network_is_forbidden_no_client_of_a_real_server_opens(make: Callable[[], Any]) -> None:
    client = make()
    with pytest.raises(ConfigurationError, match=r"^a test must not reach https://.*: use the kit$"):
        await with_client(client)


async def test_a_client_that_was_made_before_is_met_where_it_opens_and_not_after() -> None:
    api = UserpilotAPI("KEY", transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    with capture() as first:
        await with_client(api)
    await with_client(api)  # by its own transport again
    with capture() as second:
        await with_client(api)

    assert (1, 1) == (len(first.events), len(second.events))


async def test_calls_are_there_at_once_and_in_order_and_the_server_has_them_after_a_flush() -> None:
    with capture() as userpilot:
        async with UserpilotClient() as client:
            await client.identify("u1", {"plan": "pro"}, company={"id": "acme", "name": "Acme"})
            client.track_nowait("u1", "paid", {"amount": 49})
            await client.identify_company("acme", {"seats": 3})
            kinds = [type(call).__name__ for call in userpilot.calls]
            before = (len(userpilot.users), len(userpilot.events))
            await userpilot.flush()

            assert ["Identify", "Track", "IdentifyCompany"] == kinds
            assert (0, 0) == before
            assert ({"plan": "pro"}, "acme") == (userpilot.users["u1"].properties, userpilot.users["u1"].company_id)
            assert {"name": "Acme", "seats": 3} == userpilot.companies["acme"].properties
            assert ["paid"] == [event.event_name for event in userpilot.events]
        userpilot.assert_identified("u1", plan="pro", company="acme")
        userpilot.assert_identified("u1", company={"name": "Acme"})
        userpilot.assert_company_identified("acme", seats=3)
        userpilot.assert_not_tracked("u2")
        assert Track("u1", "paid", {"amount": 49}) == userpilot.assert_tracked("u1", "paid")


async def test_all_keys_share_the_account_of_a_test() -> None:
    """Also those of programs that are none of our clients, and bring a key of their own to the emulator."""
    with capture() as userpilot:
        async with UserpilotClient("A") as client:
            await client.track("u1", "by A")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(userpilot.emulator)) as foreign:
            headers = {"Authorization": "Token B", "X-API-Version": "2020-09-22"}
            call = {"user_id": "u1", "event_name": "by B"}
            assert 202 == (await foreign.post("https://emulator/v1/track", json=call, headers=headers)).status_code

        assert ["by A", "by B"] == [event.event_name for event in userpilot.events]


async def test_calls_of_many_threads_are_each_there_once() -> None:
    with capture() as userpilot:
        async with UserpilotClient() as client:

            def work(thread: int) -> None:
                for n in range(20):
                    client.track_nowait(f"u{thread}", "clicked", {"n": n})
                    assert any(call.metadata == {"n": n} for call in userpilot.calls if call.user_id == f"u{thread}")

            with threads(4, work) as join:
                await anyio.to_thread.run_sync(join)
            await userpilot.flush()

    calls = [(call.user_id, call.metadata["n"]) for call in userpilot.calls]
    assert sorted((f"u{thread}", n) for thread in range(4) for n in range(20)) == sorted(calls)
    assert sorted(calls) == sorted((event.user_id, event.metadata["n"]) for event in userpilot.events)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_blocking_client_is_flushed_from_here(backend: Any) -> None:
    with capture() as userpilot, blocking(UserpilotClient(), backend) as client:
        client.track("u1", "paid")
        client.api.identify("u2", {"plan": "pro"})
        assert 2 == len(userpilot.calls)
        userpilot.flush_blocking()

        assert (1, ["u2"]) == (len(userpilot.events), list(userpilot.users))


async def test_a_flush_reaches_clients_in_other_threads_and_refuses_to_stop_its_own_loop() -> None:
    with capture() as userpilot:
        other = blocking(UserpilotClient())
        await anyio.to_thread.run_sync(other.start)
        async with UserpilotClient() as client:
            other.track("u1", "there")
            await client.track("u1", "here")
            await userpilot.flush()
            assert {"here", "there"} == {event.event_name for event in userpilot.events}
            with pytest.raises(RuntimeError, match=r"await userpilot\.flush"):
                userpilot.flush_blocking()
        await anyio.to_thread.run_sync(other.close)


# ── time ──


@pytest.mark.virtual  # whose clock tells what would be waited for
async def test_what_a_client_only_waits_for_takes_no_time() -> None:
    """Jobs of 200 users, 700 events of one minute, 429s, a refused key, an outage: minutes, otherwise."""
    began = anyio.current_time()
    with capture() as userpilot:
        userpilot.fail("/v1/identify", status=401, skip=1)
        userpilot.fail("/v1/track", status=503, times=7)
        userpilot.fail("/v1/track", status=429, headers={"retry-after": "50"})
        userpilot.fail("/v1/users/bulk_identify", cut="after")
        async with UserpilotClient() as client:
            receipt = await client.identify("first")
            await receipt.outcome()  # lingers for nothing
            await client.identify("second")
            await userpilot.flush()
            for n in range(200):
                await client.identify(f"u{n}", {"n": n})
            for n in range(700):
                await client.track("u1", "clicked", {"n": n})
            await userpilot.flush()
            await client.delete_users(["first"])

        assert {"second", *(f"u{n}" for n in range(200))} == set(userpilot.users)
        assert list(range(700)) == [event.metadata["n"] for event in userpilot.events]
        assert {"bulk_users", "delete_users"} == {job.kind for job in userpilot.store.jobs}
    assert began == anyio.current_time()


@pytest.mark.virtual(jump_after=0.5)  # the importer works in threads, too, and they are quick
async def test_the_jobs_of_imports_and_of_the_plain_api_take_no_time() -> None:
    began = anyio.current_time()
    row = {"event_type": "track", "user_id": "u2", "event_name": "x", "inserted_at": "2026-01-02T03:04:05"}
    with capture() as userpilot:
        userpilot.fail("/v1/imports", status=409)
        userpilot.fail("/v1/background_jobs/*", status=503, times=2)
        async with UserpilotClient() as client:
            report = await client.import_rows([row])
            job = await client.api.bulk_identify_users([{"user_id": f"u{n}"} for n in range(3_000)])
            await client.api.wait_for_job(job)

        assert 1 == report.uploaded == len(userpilot.events)
        assert 3_000 == len(userpilot.users)
    assert began == anyio.current_time()


@pytest.mark.virtual
async def test_an_outage_without_end_ends_a_close_at_once_and_a_flush_with_the_calls_age() -> None:
    began = anyio.current_time()
    with capture() as userpilot:
        userpilot.fail(times=None)
        userpilot.allow_lost("closed", "expired")
        await with_client(UserpilotClient())
        async with UserpilotClient(settings=Settings(max_age=3_600)) as client:
            receipt = await client.track("u1", "paid")
            await userpilot.flush()

            assert "expired" == receipt.reason
    assert 1 > anyio.current_time() - began


@pytest.mark.virtual
async def test_an_outage_is_not_skipped_while_nobody_waits_for_its_end() -> None:
    with capture() as userpilot:
        userpilot.fail(times=None)
        async with UserpilotClient() as client:
            await client.track("u1", "paid")
            await anyio.sleep(3_600)
            requests = len(userpilot.store.requests)
            userpilot.emulator.faults.clear()
            await userpilot.flush()

    assert 1_000 > requests  # twice a minute, or so: not as fast as they are answered
    assert 1 == len(userpilot.events)


# ── losses ──


async def an_invalid_call() -> None:
    async with UserpilotClient() as client:
        with pytest.raises(InvalidCall):
            await client.track("", "paid")


async def a_dead_invalid_call() -> None:
    async with UserpilotClient(settings=Settings(on_invalid="dead")) as client:
        await client.track("", "paid")


async def a_call_that_the_server_refuses() -> None:
    current().fail(status=400)
    await with_client(UserpilotClient())


async def a_switched_off_client() -> None:
    await with_client(UserpilotClient(disabled=True))


async def a_full_queue() -> None:
    settings = Settings(max_queue_calls=1, when_full="drop_newest")
    async with UserpilotClient(settings=settings) as client:
        client.track_nowait("u1", "paid", {"n": 1})
        client.track_nowait("u1", "paid", {"n": 2})


async def an_answer_that_is_lost() -> None:
    current().fail("/v1/track", cut="after")
    await with_client(UserpilotClient(settings=Settings(on_ambiguous="drop")))


async def what_parcelvoy_would_take_and_lose() -> None:
    async with ParcelvoyClient() as client:
        await client.alias("a1", "e1")


def current() -> Capture:
    here = stand_in.current()
    assert isinstance(here, Capture)
    return here


LOSSES = [
    (an_invalid_call, "invalid", "a call with user_id='', event_name='paid': user_id must not be empty"),
    (a_dead_invalid_call, "invalid", "user_id must not be empty"),
    (a_call_that_the_server_refuses, "invalid", "Track('u1', 'paid', {'amount': 49}): scripted fault"),
    (a_switched_off_client, "disabled", "the client is switched off"),
    (a_full_queue, "queue_full", "Track('u1', 'paid', {'n': 2}): there was no room"),
    (an_answer_that_is_lost, "ambiguous", "Track('u1', 'paid', {'amount': 49}): its answer got lost"),
    (what_parcelvoy_would_take_and_lose, "invalid", "the server does not know this person"),
]


@pytest.mark.parametrize(("lose", "reason", "said"), LOSSES, ids=lambda one: getattr(one, "__name__", None))
async def test_a_call_that_was_lost_fails_the_test_at_its_end(
    lose: Callable[[], Awaitable[None]], reason: str, said: str
) -> None:
    with pytest.raises(AssertionError, match=r"^1 call was lost, \w+: ") as caught, capture():
        await lose()
    with capture() as allowed:
        allowed.allow_lost(reason)
        await lose()
    with pytest.raises(AssertionError), capture() as otherwise:
        otherwise.allow_lost("another reason")
        await lose()

    assert f"1 call was lost, {reason}: " in str(caught.value)
    assert said in str(caught.value)
    assert str(caught.value).endswith(f"\nif that is meant: .allow_lost('{reason}')")


async def test_all_losses_may_be_allowed_and_those_that_the_application_asked_for_are() -> None:
    with capture() as userpilot:
        async with UserpilotClient() as client:
            await client.identify("u1")
            await client.delete_users(["u1"])
        userpilot.check()
        userpilot.allow_lost()
        await an_invalid_call()
        userpilot.allow_lost("closed")


async def test_the_applications_own_on_dead_is_called_too() -> None:
    letters: list[Any] = []

    async def on_dead(call: Any) -> None:
        letters.append(call)

    with capture() as userpilot:
        userpilot.fail(status=400)
        userpilot.allow_lost()
        await with_client(UserpilotClient(on_dead=on_dead))

    assert [Track("u1", "paid", {"amount": 49})] == [letter.call for letter in letters]


async def test_an_error_of_the_test_is_not_covered_by_its_losses() -> None:
    with pytest.raises(ZeroDivisionError) as caught, capture():
        await an_invalid_call()
        raise ZeroDivisionError

    assert "1 call was lost" in caught.value.__notes__[0]


async def test_an_invalid_call_that_is_raised_here_is_not_told_again() -> None:
    with pytest.raises(InvalidCall) as caught, capture():
        async with UserpilotClient("KEY") as client:
            await client.track("u1", "")
    assert [] == getattr(caught.value, "__notes__", [])

    async def several() -> None:
        async with UserpilotClient("KEY") as client, anyio.create_task_group() as group:
            group.start_soon(client.track, "u1", "")
            group.start_soon(client.track, "", "paid")

    with pytest.raises(BaseExceptionGroup) as raised, capture():
        await several()
    assert [] == getattr(raised.value, "__notes__", [])


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_what_waits_in_a_client_that_is_open_still_fails_the_test() -> None:
    client = UserpilotClient("KEY")
    with pytest.raises(AssertionError, match=r"pending: a call: it still waits: await \.flush"), capture():
        await client.start()
        await client.track("u1", "paid")
    await client.aclose()


@pytest.mark.usefixtures("swept")
def test_what_a_client_had_that_was_never_closed_fails_the_test() -> None:
    def forget() -> None:
        async def open_only() -> None:
            client = await UserpilotClient().start()
            await client.track("u1", "paid")

        anyio.run(open_only)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(AssertionError, match="not_closed: a call: the client was not closed"), capture():
            thread = Thread(target=forget)
            thread.start()
            thread.join()
            gc.collect()


async def test_a_message_of_an_assertion_shows_what_was_tracked_instead() -> None:
    with capture() as userpilot:
        await with_client(UserpilotClient())
        with pytest.raises(AssertionError, match=r"(?s)no Track\('u1', 'payed'\).*'paid', .*the event is 'paid'"):
            userpilot.assert_tracked("u1", "payed")
        with pytest.raises(AssertionError, match="should be no"):
            userpilot.assert_not_tracked("u1", "paid", amount=49)
        with pytest.raises(AssertionError, match=r"nor any other Identify"):
            userpilot.assert_identified("u1")


def test_a_fault_that_cannot_be_is_refused() -> None:
    with capture() as userpilot, pytest.raises(ValueError, match="status must be"):
        userpilot.fail(status=99)


def test_a_fault_that_no_request_can_meet_is_refused() -> None:
    with capture() as userpilot:
        for path in ("/v1/trac", "v1/track", "/api/client/event"):
            with pytest.raises(ValueError, match=r"no endpoint has a path like .*: there are /v1/identify, "):
                userpilot.fail(path)
        for path in ("*", "/v1/*/bulk_identify", "/v1/background_jobs/abc", "/v1/background_jobs/*", "/api/client/*"):
            userpilot.fail(path)


# ── the seam ──


async def test_two_captures_are_apart_and_the_inner_one_is_asked() -> None:
    with capture() as outer, capture() as inner:
        await with_client(UserpilotClient())

    assert (0, 1) == (len(outer.calls), len(inner.calls))
    assert stand_in.current() is None


async def test_without_a_capture_nothing_of_it_is_in_a_client() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(202))
    async with UserpilotClient("KEY", transport=transport) as client:
        await client.track("u1", "paid")

        assert (None, None, None) == (client._watch, client._sender.skip_to, client._threads.noted)
    with pytest.raises(ConfigurationError, match=r"^api_key is missing"):
        UserpilotClient()
    with pytest.raises(ConfigurationError, match=r"^base_url is missing"):
        ParcelvoyClient("KEY")


@pytest.mark.parametrize("make", [UserpilotClient, UserpilotAPI, lambda: ParcelvoyClient("KEY")])
async def test_a_client_that_was_made_without_a_key_in_a_test_cannot_be_opened_after_it(
    make: Callable[[], Any],
) -> None:
    with capture():
        client = make()
    with pytest.raises(ConfigurationError, match=r"^(api_key|base_url) is missing"):
        await with_client(client)

"""ParcelvoyClient at its door: how it is made, what it takes, and when it refuses."""

from __future__ import annotations

import copy
import inspect
import pickle
import traceback
from collections.abc import Callable
from threading import Thread
from typing import Any

import anyio
import pytest

from userpilot_async import (
    ClientClosed,
    ClientNotOpen,
    InvalidCall,
    MemoryOutbox,
    QueueFull,
    Receipt,
    Settings,
    WrongLoop,
)
from userpilot_async.parcelvoy import Alias, DeadCall, Device, Identify, ParcelvoyClient, ParcelvoySettings, Track

SECRET = "hjk" + "mnp"
URL = "https://parcelvoy.example"
REQUIRED = {"os": "iOS", "model": "iPhone15,2", "app_build": "465", "app_version": "1.2.4"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("PARCELVOY_API_KEY", "PARCELVOY_BASE_URL", "PARCELVOY_OUTBOX"):
        monkeypatch.delenv(name, raising=False)
    for name in ("USERPILOT_API_KEY", "USERPILOT_BASE_URL", "USERPILOT_REGION", "USERPILOT_OUTBOX"):
        monkeypatch.setenv(name, "not for Parcelvoy")


def base_url_of(*arguments: Any, **options: Any) -> str:
    """Where a client made with these would send to, as its repr says."""
    return repr(ParcelvoyClient(*arguments, **options)).removeprefix("<ParcelvoyClient ").removesuffix(", new>")


# ── making one ──


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (None, URL),
            {},
            r"^api_key is missing: pass it, set PARCELVOY_API_KEY, or switch the client off with disabled=True",
        ),
        (("", URL), {}, r"^api_key is empty$"),
        ((7, URL), {}, r"^api_key must be str or a callable that returns one, not int$"),
        ((SECRET.encode(), URL), {}, r"not bytes$"),
        ((SECRET + "\r\nX-Evil: 1", URL), {}, "white space, control characters or non-ASCII"),
        ((SECRET + "\n", URL), {}, "white space, control characters or non-ASCII"),
        ((SECRET + " ", URL), {}, "white space, control characters or non-ASCII"),
        ((SECRET + "é", URL), {}, "white space, control characters or non-ASCII"),
        ((SECRET,), {}, r"^base_url is missing: pass it, or set PARCELVOY_BASE_URL$"),
        ((SECRET, ""), {}, r"^base_url must start with https://"),
        ((SECRET, "http://parcelvoy.example"), {}, r"^base_url must start with https://"),
        ((SECRET, "parcelvoy.example"), {}, r"^base_url must start with https://"),
        ((SECRET, f"https://user:{SECRET}@parcelvoy.example"), {}, r"^base_url must not hold credentials$"),
        ((SECRET, f"{URL}?key={SECRET}"), {}, r"^base_url must be an origin"),
        ((SECRET, URL.encode()), {}, r"^base_url must be str, not bytes$"),
        ((SECRET, URL), {"settings": Settings()}, r"^settings must be ParcelvoySettings, not Settings$"),
        ((SECRET, URL), {"settings": {"burst": 1}}, r"^settings must be ParcelvoySettings, not dict$"),
        (
            (SECRET, URL),
            {"outbox": "ftp://host/0"},
            r"^outbox is ftp://…, and this version knows memory://…, sqlite://…, redis://…, .*, redis\+sentinel://…, ",
        ),
        ((SECRET, URL), {"outbox": "a.db"}, r"^outbox must be a URL; a file is sqlite:///a.db$"),
    ],
)
def test_what_cannot_be_right_is_refused_without_showing_the_key(arguments, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        ParcelvoyClient(*arguments, **options)

    error = caught.value
    assert SECRET not in "".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


def test_key_url_and_outbox_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("PARCELVOY_API_KEY", SECRET)
    monkeypatch.setenv("PARCELVOY_BASE_URL", URL + "/")
    monkeypatch.setenv("PARCELVOY_OUTBOX", "memory://")

    assert URL == base_url_of()


def test_what_is_given_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("PARCELVOY_API_KEY", "not a key")
    monkeypatch.setenv("PARCELVOY_BASE_URL", "not a url")
    monkeypatch.setenv("PARCELVOY_OUTBOX", "not://an outbox")

    assert URL == base_url_of(SECRET, URL, outbox=MemoryOutbox())


@pytest.mark.parametrize("name", ["PARCELVOY_API_KEY", "PARCELVOY_BASE_URL", "PARCELVOY_OUTBOX"])
def test_what_cannot_be_right_in_the_environment_is_refused(monkeypatch, name):
    for variable, value in (("PARCELVOY_API_KEY", SECRET), ("PARCELVOY_BASE_URL", URL), (name, "no such\nthing")):
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{name} "):
        ParcelvoyClient()


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (URL, URL),
        (URL + "/", URL),
        (URL + "/api", URL),
        (URL + "/api/", URL),
        (URL + "/api/client", URL),
        (URL + "/api/client/", URL),
        (URL + "/behind/a/proxy/api/client", URL + "/behind/a/proxy"),
        (URL + "/parcelvoy-api", URL + "/parcelvoy-api"),
        ("http://localhost:3000/api", "http://localhost:3000"),
        ("https://api.example", "https://api.example"),
        ("https://api", "https://api"),
        ("https://api/", "https://api"),
        ("https://api/client", "https://api/client"),
        ("https://api/api", "https://api"),
        ("https://api/api/client", "https://api"),
    ],
)
def test_the_url_may_be_given_with_the_path_that_parcelvoy_shows(given, used):
    assert used == base_url_of("KEY", given)


def test_no_repr_shows_the_key():
    client = ParcelvoyClient(SECRET, URL)

    assert f"<ParcelvoyClient {URL}, new>" == repr(client)
    assert SECRET not in repr(vars(client)) + repr(vars(client._connection)) + repr(client.statistics())


@pytest.mark.parametrize("way", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_client_cannot_be_pickled_with_its_key(way):
    with pytest.raises(Exception) as caught:  # which kind depends on what is met first
        way(ParcelvoyClient(SECRET, URL))

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_the_key_ring_of_a_client_cannot_be_pickled_or_copied(way):
    with pytest.raises(TypeError, match=r"^an API key is not for pickling$"):
        way(ParcelvoyClient(SECRET, URL)._connection.keys)


def test_its_budget_is_the_setting():
    assert {"requests": None} == ParcelvoyClient("KEY", URL).rate_limits
    settings = ParcelvoySettings(requests_per_minute=60)
    assert {"requests": 60} == ParcelvoyClient("KEY", URL, settings=settings).rate_limits


# ── its methods ──

CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "track": (("opened",), {"external_id": "u1", "data": {"a": [1]}}),
    "identify": (("u1",), {"email": "ann@example.com", "data": {"a": [1]}}),
    "alias": (("a1", "u1"), {}),
    "register_device": (("d1",), {"external_id": "u1", **REQUIRED}),
}
INVALID: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "track": (("opened",), {"external_id": "u1", "data": {"a": [float("nan")]}}, "data['a'][0]"),
    "identify": (("u1",), {"timezone": "Mars/Olympus"}, "timezone"),
    "alias": (("", "u1"), {}, "anonymous_id"),
    "register_device": (("d1",), {**REQUIRED, "external_id": "u1", "os": None}, "os"),
}
NAMES = [*CALLS, *(f"{name}_nowait" for name in CALLS)]


def plain(name: str) -> str:
    return name.removesuffix("_nowait")


async def made(client: ParcelvoyClient, name: str, *arguments: Any, **options: Any) -> Receipt:
    """What the method returns, awaited if it has to be."""
    returned = getattr(client, name)(*arguments, **options)
    return await returned if inspect.isawaitable(returned) else returned


async def call_it(client: ParcelvoyClient, name: str) -> Receipt:
    arguments, options = CALLS[plain(name)]
    return await made(client, name, *arguments, **options)


@pytest.mark.parametrize("name", CALLS)
def test_a_method_and_its_nowait_twin_take_the_same(name):
    waits, never = (inspect.signature(getattr(ParcelvoyClient, one)) for one in (name, f"{name}_nowait"))

    assert waits == never
    assert inspect.iscoroutinefunction(getattr(ParcelvoyClient, name))
    assert not inspect.iscoroutinefunction(getattr(ParcelvoyClient, f"{name}_nowait"))


@pytest.mark.parametrize(
    ("name", "call"), [("track", Track), ("identify", Identify), ("alias", Alias), ("register_device", Device)]
)
def test_a_method_takes_the_fields_of_its_call(name, call):
    taken = set(inspect.signature(getattr(ParcelvoyClient, name)).parameters) - {"self"}

    assert set(inspect.signature(call).parameters) == taken


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", NAMES)
async def test_a_call_has_a_receipt_that_says_what_became_of_it(cable, name):
    async with ParcelvoyClient("KEY", "https://emulator", transport=cable) as client:
        receipt = await call_it(client, name)
        assert "pending" == receipt.status
        outcome = await receipt.outcome(timeout=10)

        assert "delivered" == outcome.status == receipt.status


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", NAMES)
async def test_an_invalid_call_is_refused_and_costs_nothing(cable, name):
    arguments, options, field = INVALID[plain(name)]
    async with ParcelvoyClient("KEY", "https://emulator", transport=cable) as client:
        with pytest.raises(InvalidCall) as caught:
            await made(client, name, *arguments, **options)

        assert field == caught.value.field
        assert 0 == client.statistics().accepted
    assert [] == cable.requests


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", NAMES)
async def test_in_production_an_invalid_call_becomes_a_letter_instead(cable, name):
    arguments, options, field = INVALID[plain(name)]
    letters: list[DeadCall] = []
    settings = ParcelvoySettings(on_invalid="dead")
    async with ParcelvoyClient(
        "KEY", "https://emulator", transport=cable, settings=settings, on_dead=letters.append
    ) as client:
        receipt = await made(client, name, *arguments, **options)

    (letter,) = letters
    given = inspect.signature(getattr(client, name)).bind(*arguments, **options)
    given.apply_defaults()
    assert ("dead", "invalid") == (receipt.status, receipt.reason) == (letter.status, letter.reason)
    assert DeadCall is type(letter)
    assert None is letter.call
    assert field == letter.error.field
    assert given.arguments == letter.arguments  # all of them, also those that are None
    assert {"invalid": 1} == client.statistics().lost_by_reason
    assert [] == cable.requests


@pytest.mark.anyio
@pytest.mark.parametrize(
    "call", [None, {}, {"type": "track"}, "track", Track, object()], ids=lambda call: type(call).__name__
)
async def test_only_a_call_can_be_enqueued(call):
    async with ParcelvoyClient("KEY", URL) as client:
        with pytest.raises(InvalidCall) as caught:
            await client.enqueue(call)

    what = f"must be Identify, Alias, Device or Track, not {type(call).__name__}"
    assert ("call", what) == (caught.value.field, caught.value.reason)


@pytest.mark.anyio
async def test_a_call_for_userpilot_cannot_be_enqueued():
    from userpilot_async import Identify as Other

    async with ParcelvoyClient("KEY", URL) as client:
        with pytest.raises(
            InvalidCall,
            match=r"call must be Identify, Alias, Device or Track, not userpilot_async\._userpilot\.calls\.Identify",
        ):
            await client.enqueue(Other("u1"))  # type: ignore[arg-type]  # the mistake


# ── closed doors ──

ENQUEUED = [*NAMES, "enqueue"]


def attempt(client: ParcelvoyClient, name: str) -> Callable[[], Any]:
    """The call made without a loop: one that refuses does so before it would wait."""

    def attempt() -> object:
        if name == "enqueue":
            return client.enqueue(Track("opened", external_id="u1")).send(None)
        arguments, options = CALLS[plain(name)]
        returned = getattr(client, name)(*arguments, **options)
        return returned.send(None) if inspect.iscoroutine(returned) else returned

    return attempt


@pytest.mark.parametrize("name", ENQUEUED)
def test_a_client_that_is_not_open_yet_takes_no_calls(name):
    with pytest.raises(ClientNotOpen, match="this ParcelvoyClient is not open yet: open it with `async with`"):
        attempt(ParcelvoyClient("KEY", URL), name)()


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_door_is_noticed_before_a_bad_argument(name):
    arguments, options, _ = INVALID[plain(name)]
    with pytest.raises(ClientNotOpen):
        returned = getattr(ParcelvoyClient("KEY", URL), name)(*arguments, **options)
        returned.send(None)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", ENQUEUED)
async def test_a_client_that_is_closed_takes_no_calls(cable, name):
    async with ParcelvoyClient("KEY", "https://emulator", transport=cable) as client:
        await client.aclose()
        with pytest.raises(ClientClosed, match=r"this ParcelvoyClient is closed \(0 calls pending\)"):
            attempt(client, name)()
    with pytest.raises(ClientClosed, match="this ParcelvoyClient is closed"):
        attempt(client, name)()
    with pytest.raises(ClientClosed, match="is opened once"):
        async with client:
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("name", [name for name in ENQUEUED if not name.endswith("_nowait")])
async def test_an_awaited_call_from_another_thread_is_refused(name):
    refusals: list[WrongLoop] = []

    def elsewhere() -> None:
        try:
            attempt(client, name)()
        except WrongLoop as error:
            refusals.append(error)

    async with ParcelvoyClient("KEY", URL) as client:
        in_a_thread(elsewhere)
        assert 0 == client.statistics().accepted

    (refusal,) = refusals
    assert "this ParcelvoyClient belongs to another event loop or thread, where 0 calls are pending" in str(refusal)
    assert "`_nowait`" in str(refusal)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_nowait")])
async def test_a_call_that_does_not_wait_is_taken_from_another_thread(cable, name):
    async with ParcelvoyClient("KEY", "https://emulator", transport=cable) as client:
        receipts: list[Receipt] = []
        in_a_thread(lambda: receipts.append(attempt(client, name)()))

        assert ("pending", 1, 0) == (receipts[0].status, client.statistics().unpersisted, client.statistics().accepted)
        assert "delivered" == (await receipts[0].outcome()).status
        assert (0, 1) == (client.statistics().unpersisted, client.statistics().delivered)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_nowait")])
async def test_an_invalid_call_from_another_thread_is_refused_there(cable, name):
    arguments, options, field = INVALID[plain(name)]
    caught: list[InvalidCall] = []

    def elsewhere() -> None:
        with pytest.raises(InvalidCall) as error:
            getattr(client, name)(*arguments, **options)
        caught.append(error.value)

    async with ParcelvoyClient("KEY", "https://emulator", transport=cable) as client:
        in_a_thread(elsewhere)

    assert [field] == [error.field for error in caught]


def in_a_thread(function: Callable[[], object]) -> None:
    thread = Thread(target=function)
    thread.start()
    thread.join()


# ── a full queue ──


def full(**settings: Any) -> ParcelvoySettings:
    return ParcelvoySettings(max_queue_calls=1, flush_interval=60.0, **settings)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", ENQUEUED)
async def test_a_full_queue_raises_if_the_settings_say_so(cable, name):
    settings = full(when_full="raise")
    async with ParcelvoyClient("KEY", "https://emulator", transport=cable, settings=settings) as client:
        await client.identify("somebody else")
        with pytest.raises(QueueFull):
            await (client.enqueue(Alias("a", "u1")) if name == "enqueue" else call_it(client, name))

        assert 1 == client.statistics().accepted
    assert 1 == len(cable.requests)


@pytest.mark.anyio
@pytest.mark.virtual
@pytest.mark.parametrize("name", NAMES)
async def test_a_full_queue_drops_the_call_and_the_letter_has_it(cable, name):
    letters: list[DeadCall] = []
    settings = full(max_wait=5.0)
    async with ParcelvoyClient(
        "KEY", "https://emulator", transport=cable, settings=settings, on_dead=letters.append
    ) as client:
        await client.identify("somebody else")
        before = anyio.current_time()
        receipt = await call_it(client, name)
        waited = anyio.current_time() - before

    (letter,) = letters
    arguments, options = CALLS[plain(name)]
    make: Any = {"track": Track, "identify": Identify, "alias": Alias, "register_device": Device}[plain(name)]
    assert ("dropped", "queue_full") == (receipt.status, receipt.reason) == (letter.status, letter.reason)
    assert make(*arguments, **options) == letter.call
    assert 0.0 == waited if name.endswith("_nowait") else 4.9 < waited < 5.1

"""The plugin as projects meet it: its fixtures, its guard, and what their tests say when they fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from userpilot_async._runtime import stand_in

pytest_plugins = ["pytester"]
Run = Callable[..., pytest.RunResult]

APP = """
from contextlib import asynccontextmanager

from fastapi import FastAPI
from userpilot_async import UserpilotClient

userpilot = UserpilotClient()


def new_app():
    @asynccontextmanager
    async def lifespan(app):
        async with UserpilotClient() as app.state.userpilot:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/users/{user_id}/payments/{amount}")
    async def pay(user_id: str, amount: int):
        await app.state.userpilot.track(user_id, "paid", {"amount": amount})

    return app
"""


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("API_KEY", "REGION", "BASE_URL", "OUTBOX", "DISABLED"):
        monkeypatch.delenv(f"USERPILOT_{name}", raising=False)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    yield
    assert (None, "") == (stand_in.current(), stand_in.forbidden())


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs pytest, with the plugin, on a project that has the application above and these tests."""

    def run(tests: str, *options: str, conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(app=APP)
        pytester.makeini(INI)
        pytester.makeconftest(conftest)
        pytester.makepyfile(tests)
        plugins = ("-p", "userpilot_async.testing.pytest_plugin", "-p", "anyio")
        return pytester.runpytest_inprocess(*plugins, "-p", "no:cacheprovider", *options)

    return run


def said(result: pytest.RunResult) -> str:
    return "\n".join(result.outlines)


INI = """
[pytest]
filterwarnings =
    error
    ignore:Using `httpx` with `starlette.testclient`
"""
HEAD = """
import pytest
from app import new_app, userpilot as made_at_import
from starlette.testclient import TestClient
from userpilot_async import UserpilotClient, InvalidCall, blocking

"""


def test_an_application_is_tested_without_a_mock(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_with_a_visitor(userpilot):
    with TestClient(new_app()) as visitor:
        assert visitor.post("/users/u1/payments/49").status_code == 200
        userpilot.assert_tracked("u1", "paid", amount=49)
        userpilot.flush_blocking()
        assert ["paid"] == [event.event_name for event in userpilot.events]

def test_nothing_is_left_of_the_test_before(userpilot):
    assert [] == userpilot.calls == userpilot.events

def test_a_client_that_was_made_at_import(userpilot):
    with blocking(made_at_import) as client:
        client.identify("u1", {"plan": "pro"})
    userpilot.assert_identified("u1", plan="pro")
    assert {"plan": "pro"} == userpilot.users["u1"].properties

@pytest.mark.anyio
async def test_an_outage(userpilot):
    userpilot.fail("/v1/track", status=503, times=3)
    async with UserpilotClient() as client:
        await client.track("u1", "paid")
        await userpilot.flush()
    assert [503, 503, 503, 202] == [request.status for request in userpilot.store.requests]
""",
        conftest="import pytest\n\n@pytest.fixture(params=['asyncio', 'trio'])\ndef anyio_backend(request):\n"
        "    return request.param\n",
    )

    result.assert_outcomes(passed=5)


def test_a_lost_call_is_an_error_of_its_test_with_the_reason_and_the_call(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_that_looks_fine(userpilot):
    userpilot.fail("/v1/track", status=400)
    with TestClient(new_app()) as visitor:
        visitor.post("/users/u1/payments/49")

def test_whose_application_swallows_an_error(userpilot):
    with blocking(UserpilotClient()) as client:
        try:
            client.track("u1", "")
        except InvalidCall:
            pass

def test_that_means_it(userpilot):
    userpilot.allow_lost("invalid")
    with blocking(UserpilotClient()) as client, pytest.raises(InvalidCall):
        client.track("u1", "")
"""
    )

    result.assert_outcomes(passed=3, errors=2)
    result.stdout.re_match_lines_random([
        r"E +AssertionError: 1 call was lost, invalid: Track\('u1', 'paid', \{'amount': 49\}\): scripted fault",
        r"E +AssertionError: 1 call was lost, invalid: a call with user_id='u1', event_name='': event_name must",
        r"E +if that is meant: \.allow_lost\('invalid'\)",
    ])  # fmt: skip


def test_an_invalid_call_is_reported_once_by_the_test_that_raises_it_and_else_by_the_fixture(run: Run) -> None:
    result = run(
        HEAD
        + """
import unittest

def invalid(name=""):
    with blocking(UserpilotClient()) as client:
        client.track("u1", name)

def test_that_raises_it(userpilot):
    invalid()

def test_that_raises_another_because_of_it(userpilot):
    try:
        invalid()
    except InvalidCall as error:
        reason = error
    raise RuntimeError("no payment") from reason

@pytest.mark.xfail(raises=InvalidCall)
def test_that_is_expected_to_raise_it(userpilot):
    invalid()

@pytest.mark.usefixtures("userpilot")
class TestOfUnittest(unittest.TestCase):
    def test_that_raises_it(self):
        invalid()

@pytest.fixture
def wrong(userpilot):
    invalid()

def test_whose_fixture_raises_it(wrong):
    pass
"""
    )

    result.assert_outcomes(failed=3, errors=1, xfailed=1)
    assert "was lost" not in said(result)


def test_an_invalid_call_that_the_application_hid_is_reported_also_where_the_test_fails_of_another(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_that_fails(userpilot):
    with blocking(UserpilotClient()) as client:
        for user_id in ("hidden", "raised"):
            try:
                client.track(user_id, "")
            except InvalidCall:
                if user_id == "raised":
                    raise
"""
    )

    result.assert_outcomes(failed=1, errors=1)
    result.stdout.re_match_lines_random([r"E +AssertionError: 1 call was lost, invalid: a call with user_id='hidden'"])


# ── the guard ──


OPENED = """
def test_that_forgets_the_fixture():
    with blocking(UserpilotClient({arguments})):
        pass
"""


def test_a_client_of_a_real_server_is_not_opened_in_a_test_and_told_what_to_do(run: Run) -> None:
    without_key = OPENED.format(arguments="").replace("forgets", "lacks")
    result = run(HEAD + OPENED.format(arguments='"a-real-key"') + without_key)

    result.assert_outcomes(failed=2)
    message = "ConfigurationError: a test must not reach https://analytex.userpilot.io: take the fixture `userpilot`"
    assert 2 == sum(message in line for line in result.outlines if line.startswith("E "))


@pytest.mark.parametrize(
    "arguments",
    [
        '"KEY", base_url="http://127.0.0.1:9"',
        '"KEY", base_url="https://localhost:9"',
        '"KEY", base_url="http://emulator:8080", allow_http=True',
        '"KEY", transport=__import__("httpx").MockTransport(print)',
        "disabled=True",
    ],
)
def test_a_client_that_reaches_no_real_server_is_let_be(run: Run, arguments: str) -> None:
    run(HEAD + OPENED.format(arguments=arguments)).assert_outcomes(passed=1)


def test_an_option_lets_clients_reach_real_servers_and_wants_a_key_as_ever(run: Run) -> None:
    tests = "from userpilot_async import UserpilotClient, blocking\n" + OPENED.format(arguments='"a-real-key"')
    result = run(tests + "def test_without_a_key():\n    UserpilotClient()\n", "--userpilot-allow-network")

    result.assert_outcomes(passed=1, failed=1)
    assert "ConfigurationError: api_key is missing" in said(result)


# ── fixtures ──


def test_a_client_of_a_wider_scope_is_there_for_each_test(run: Run) -> None:
    conftest = """
import pytest
from app import new_app
from starlette.testclient import TestClient

@pytest.fixture(scope="module")
def visitor(userpilot_session):
    with TestClient(new_app()) as visitor:
        yield visitor
"""
    result = run(
        """
def test_one(visitor, userpilot):
    visitor.post("/users/u1/payments/1")
    userpilot.assert_tracked("u1", "paid", amount=1)

def test_two(userpilot, visitor):
    assert [] == userpilot.events == userpilot.calls
    userpilot.fail(status=400)
    visitor.post("/users/u2/payments/2")

def test_three(userpilot, visitor):
    visitor.post("/users/u3/payments/3")
    userpilot.flush_blocking()
    assert ["u3"] == [event.user_id for event in userpilot.events]
""",
        conftest=conftest,
    )

    result.assert_outcomes(passed=3, errors=1)
    assert "invalid: Track('u2', 'paid', {'amount': 2}): scripted fault" in said(result)


@pytest.mark.parametrize("names", ["visitor, userpilot", "userpilot, visitor", "visitor, n, userpilot"])
def test_the_order_in_which_a_test_names_its_fixtures_does_not_matter(run: Run, names: str) -> None:
    conftest = """
import pytest
from app import new_app
from starlette.testclient import TestClient

@pytest.fixture(scope="module", autouse=True)
def wider():
    return 1

@pytest.fixture
def visitor(wider):
    with TestClient(new_app()) as visitor:
        yield visitor

@pytest.fixture(params=[1, 2])
def n(request):
    return request.param
"""
    result = run(
        f"""
def test_payment({names}):
    visitor.post("/users/u1/payments/1")
    userpilot.assert_tracked("u1", "paid", amount=1)
""",
        conftest=conftest,
    )

    result.assert_outcomes(passed=2 if ", n" in names else 1)


def test_a_client_of_a_module_is_not_taken_into_the_capture_of_one_test(run: Run) -> None:
    conftest = """
import pytest
from app import new_app
from starlette.testclient import TestClient

@pytest.fixture(scope="module")
def visitor():
    with TestClient(new_app()) as visitor:
        yield visitor
"""
    result = run("def test_payment(userpilot, visitor):\n    pass\n", conftest=conftest)

    result.assert_outcomes(errors=1)
    assert "of a wider scope: `userpilot_session`" in said(result)


def test_a_project_has_its_own_fixture_of_that_name(run: Run) -> None:
    conftest = "import pytest\n\n@pytest.fixture\ndef userpilot():\n    return 'theirs'\n"

    run("def test_theirs(userpilot):\n    assert 'theirs' == userpilot\n", conftest=conftest).assert_outcomes(passed=1)


def test_the_fixtures_and_the_option_are_explained(run: Run) -> None:
    assert "    A `Capture`: every client that opens talks to an emulator" in said(run("", "--fixtures"))
    assert "--userpilot-allow-network" in said(run("", "--help"))


def test_the_plugin_loads_neither_httpx_nor_the_emulator() -> None:
    program = (
        "import sys, userpilot_async.testing.pytest_plugin;"
        "print([name for name in ('httpx', 'starlette', 'uvicorn', 'userpilot_async.emulator') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == ran.stdout.strip()

"""The tests of the application in `sample_shop`: no mock, no key, no network; they fail when a call is lost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from sample_shop import app

from userpilot_async.testing import Capture, capture

with warnings.catch_warnings():  # Starlette's, that its own client wants another HTTP library
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


@pytest.fixture
def visitor(userpilot: Capture) -> Iterator[TestClient]:
    with TestClient(app) as visitor:
        yield visitor


def test_signing_up_makes_a_user_of_a_company(visitor: TestClient, userpilot: Capture) -> None:
    visitor.post("/users/u1/sign-up?plan=pro").raise_for_status()

    userpilot.assert_identified("u1", plan="pro", company="acme")
    userpilot.assert_tracked("u1", "signed_up", plan="pro")
    userpilot.flush_blocking()
    assert {"plan": "pro"} == userpilot.users["u1"].properties
    assert {"name": "Acme"} == userpilot.companies["acme"].properties
    assert ["acme"] == [event.company_id for event in userpilot.events]


def test_a_payment_is_tracked_once_through_an_outage(visitor: TestClient, userpilot: Capture) -> None:
    userpilot.fail("/v1/track", status=503, times=3)

    visitor.post("/users/u1/payments?amount=49").raise_for_status()
    userpilot.flush_blocking()

    assert [49] == [event.metadata["amount"] for event in userpilot.events]
    userpilot.assert_not_tracked("u1", "signed_up")


def test_two_hundred_users_sign_up_at_once(visitor: TestClient, userpilot: Capture) -> None:
    for n in range(200):
        visitor.post(f"/users/u{n}/sign-up?plan=free").raise_for_status()
    userpilot.flush_blocking()

    assert 200 == len(userpilot.users) == len(userpilot.events)


def test_a_mistake_that_the_application_hides_is_found() -> None:
    with pytest.raises(AssertionError, match="1 call was lost") as caught, capture(), TestClient(app) as visitor:
        visitor.post("/users/u1/mistake").raise_for_status()

    assert "metadata" in str(caught.value)
    assert "'clicked'" in str(caught.value)


def test_a_call_that_the_server_refuses_is_found() -> None:
    said = r"Track\('u1', 'paid', \{'amount': 49\}\)"
    with pytest.raises(AssertionError, match=said), capture() as userpilot, TestClient(app) as visitor:
        userpilot.fail("/v1/track", status=422)
        visitor.post("/users/u1/payments?amount=49").raise_for_status()

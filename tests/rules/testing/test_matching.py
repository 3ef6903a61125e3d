"""Which calls an assertion means, which come nearest, and what its message says of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from unittest.mock import ANY
from uuid import UUID

import pytest

from userpilot_async import DeleteUser, Identify, IdentifyCompany, Track, parcelvoy
from userpilot_async.testing._matching import Wanted
from userpilot_async.testing._text import MOST, Lost, losses, missing, unwanted


class Plan(Enum):
    PRO = "pro"


PAID = Track("u1", "paid", {"amount": 49, "currency": "EUR"})
PRO = Identify("u1", {"plan": "pro"}, {"id": "acme", "name": "Acme"})


@pytest.mark.parametrize(
    ("wanted", "call"),
    [
        (Wanted("Track", "u1", "paid"), PAID),
        (Wanted("Track", "u1", "paid", {"amount": 49}), PAID),
        (Wanted("Track", "u1", "paid", {"amount": ANY, "currency": "EUR"}), PAID),
        (Wanted("Track"), PAID),
        (Wanted("Identify", "u1", None, {"plan": "pro"}), PRO),
        (Wanted("Identify", "u1", None, {}, {"id": "acme"}), PRO),
        (Wanted("IdentifyCompany", "acme", None, {"seats": 3}), IdentifyCompany("acme", {"seats": 3})),
        (Wanted("Track", "e1", "x", {"a": {"b": 1}}), parcelvoy.Track("x", external_id="e1", data={"a": {"b": 1}})),
        (Wanted("Track", "a1", "paid"), parcelvoy.Track("paid", external_id="e1", anonymous_id="a1")),
        (Wanted("Identify", "e1", None, {"email": "a@b.test", "x": 1}),
         parcelvoy.Identify("e1", email="a@b.test", data={"x": 1})),
    ],
)  # fmt: skip
def test_a_call_is_meant(wanted: Wanted, call: object) -> None:
    assert [] == wanted.differences(call)
    assert [call] == wanted.matching([DeleteUser("u9"), call])


@pytest.mark.parametrize(
    ("wanted", "call", "said"),
    [
        (Wanted("Track", "u2", "paid"), PAID, ["of 'u1'"]),
        (Wanted("Track", "u1", "payed"), PAID, ["the event is 'paid'"]),
        (Wanted("Track", "u1", "paid", {"amount": 50}), PAID, ["amount is 49"]),
        (Wanted("Track", "u1", "paid", {"discount": 5}), PAID, ["no discount"]),
        (Wanted("Track", "u1", "paid", {"paid": True}), Track("u1", "paid", {"paid": 1}), ["paid is 1"]),
        (Wanted("Track", "u1", "paid", {"paid": 1}), Track("u1", "paid", {"paid": True}), ["paid is True"]),
        (Wanted("Track", "u1", "paid", {"paid": None}), Track("u1", "paid"), ["no paid"]),
        (Wanted("Identify", "u1"), PAID, ["a call of Track"]),
        (Wanted("Identify", "u1", None, {}, {"id": "acme"}), Identify("u1"), ["no company"]),
        (Wanted("Identify", "u1", None, {}, {"id": "other"}), PRO, ["the company's id is 'acme'"]),
        (Wanted("Track", "e2", "x"), parcelvoy.Track("x", external_id="e1", anonymous_id="a1"), ["of 'e1' and 'a1'"]),
    ],
)
def test_a_call_is_not_meant_and_told_why(wanted: Wanted, call: object, said: list[str]) -> None:
    assert said == wanted.differences(call)
    assert [] == wanted.matching([call])


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), date(2026, 1, 2), Decimal("49.90"), Plan.PRO,
        UUID("12345678123456781234567812345678"), 0.5, None, "text",
    ],
    ids=str,
)  # fmt: skip
def test_a_value_is_compared_as_it_is_converted_on_its_way(value: object) -> None:
    call = Track("u1", "paid", {"value": value})

    assert [] == Wanted("Track", "u1", "paid", {"value": value}).differences(call)
    assert [] != Wanted("Track", "u1", "paid", {"value": "other"}).differences(call)


def test_a_value_that_no_call_can_have_is_not_found() -> None:
    assert ["amount is 49"] == Wanted("Track", "u1", "paid", {"amount": object()}).differences(PAID)


def test_the_nearest_call_is_the_first() -> None:
    far, other_user, typo = Track("u7", "logged_in"), Track("u2", "paid", {"amount": 49}), Track("u1", "payed")
    other_amount = Track("u1", "paid", {"amount": 50})
    wanted = Wanted("Track", "u1", "paid", {"amount": 49})

    assert [other_user, other_amount, typo, far] == wanted.nearest([far, typo, PRO, other_amount, other_user])


# ── messages ──


def test_a_message_shows_what_was_tracked_instead_with_its_differences() -> None:
    calls = [Track("u7", "logged_in"), Track("u1", "paid", {"amount": 50})]

    assert missing(Wanted("Track", "u1", "paid", {"amount": 49}), calls, [], 1) == (
        "there was no Track('u1', 'paid', {'amount': 49})\n"
        "but, nearest first:\n"
        "  Track('u1', 'paid', {'amount': 50}): amount is 50\n"
        "  Track('u7', 'logged_in'): of 'u7'; the event is 'logged_in'; no amount"
    )


def test_a_message_shows_a_few_calls_and_counts_the_rest() -> None:
    message = missing(Wanted("Track", "u1", "paid"), [Track(f"u{n}", "x") for n in range(MOST + 7)], [], 1)

    assert MOST + 3 == len(message.splitlines())
    assert message.endswith("\n  and 7 more")


@pytest.mark.parametrize(
    ("calls", "clients", "said"),
    [
        ([PRO], 1, "nor any other Track; of other kinds:\n  Identify('u1', {'plan': 'pro'}, company="),
        ([], 1, "nor any other call"),
        ([], 0, "nor any client: none was opened meanwhile."),
    ],
)
def test_a_message_says_what_there_was_where_nothing_comes_near(calls: list[object], clients: int, said: str) -> None:
    assert said in missing(Wanted("Track", "u1", "paid"), calls, [], clients)


def test_a_message_shows_what_was_lost_too() -> None:
    message = missing(Wanted("Track", "u1", "paid"), [], [Lost("expired", PAID)], 1)

    assert "lost:\n  expired: Track('u1', 'paid'," in message


def test_a_message_shows_what_should_not_be_there() -> None:
    assert unwanted(Wanted("Track", None, "paid"), [PAID]) == (
        "there should be no Track(…, 'paid'), but:\n  Track('u1', 'paid', {'amount': 49, 'currency': 'EUR'})"
    )


def test_losses_are_told_with_reason_and_call_and_the_way_out() -> None:
    lost = [
        Lost("expired", Track("u1", "paid")),
        Lost("invalid", arguments={"user_id": "", "event_name": "paid", "metadata": None}, detail="user_id is empty"),
        Lost("queue_full", count=3),
    ]

    assert losses(lost) == (
        "5 calls were lost (1 expired, 1 invalid, 3 queue_full):\n"
        "  expired: Track('u1', 'paid'): it waited longer than Settings.max_age, in the client's time: "
        "the server never took it\n"
        "  invalid: a call with user_id='', event_name='paid': user_id is empty\n"
        "  queue_full: 3 calls: there was no room in the queue (Settings.when_full)\n"
        "if that is meant: .allow_lost('expired', 'invalid', 'queue_full')"
    )


def test_a_call_in_a_message_is_cut_where_it_is_long() -> None:
    line = unwanted(Wanted("Track"), [Track("u1", "paid", {"text": "x" * 5_000})]).splitlines()[1]

    assert 310 > len(line)
    assert line.endswith("…")

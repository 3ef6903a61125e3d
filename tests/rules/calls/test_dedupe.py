"""The key of ``dedupe=``: what it may be, and how those that were accepted in memory are remembered and forgotten."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import BLANK, NO_TEXTS, Shouted
from userpilot_async import Identify, IdentifyCompany, InvalidCall, Track
from userpilot_async._calls.dedupe import DIGEST, DedupeKey
from userpilot_async._calls.ndjson import line_of
from userpilot_async._outbox.accepted_keys import AcceptedKeys
from userpilot_async._userpilot.calls import from_bytes
from userpilot_async.parcelvoy import _calls as parcelvoy

CALLS: list[Any] = [
    Track("u1", "paid", dedupe="evt_1"),
    Identify("u1", {"plan": "pro"}, dedupe="evt_1"),
    IdentifyCompany("acme", dedupe="evt_1"),
]
PARCELVOYS: list[Any] = [
    parcelvoy.Track("paid", external_id="e1", dedupe="evt_1"),
    parcelvoy.Identify("e1", dedupe="evt_1"),
    parcelvoy.Alias("a1", "e1", dedupe="evt_1"),
    parcelvoy.Device("d1", external_id="e1", os="-", model="-", app_build="-", app_version="-", dedupe="evt_1"),
]


# ── what a key may be ──


@pytest.mark.parametrize(("value", "reason"), [*NO_TEXTS, *BLANK], ids=ascii)
def test_what_is_no_key_is_refused_by_its_name(value: Any, reason: str) -> None:
    with pytest.raises(InvalidCall) as caught:
        DedupeKey.of(value, 60.0)

    assert ("dedupe", reason) == (caught.value.field, caught.value.reason)


def test_a_key_has_255_characters_at_most() -> None:
    DedupeKey.of("x" * 255, 60.0)
    with pytest.raises(InvalidCall, match=r"^dedupe has 256 characters; the limit is 255$"):
        DedupeKey.of("x" * 256, 60.0)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_keys_are_alike_if_their_texts_are_and_show_nothing_of_them(one: str, other: str) -> None:
    texts = [text for text in (one, other) if not text.isspace() and text.isprintable()]
    keys = [DedupeKey.of(text, 60.0) for text in texts]

    assert len(set(texts)) == len({key.digest for key in keys})
    assert all(DIGEST == len(key.digest) for key in keys)


def test_the_text_of_a_subclass_is_what_counts() -> None:
    assert DedupeKey.of("order-1", 60.0) == DedupeKey.of(Shouted("order-1"), 60.0)


# ── calls as values, and as lines ──


@pytest.mark.parametrize("call", CALLS, ids=lambda call: type(call).__name__)
def test_a_call_has_its_key_there_and_back_as_a_line(call: Any) -> None:
    assert "evt_1" == call.as_dict()["dedupe"]
    assert call == from_bytes(line_of(call))


@pytest.mark.parametrize("call", PARCELVOYS, ids=lambda call: type(call).__name__)
def test_a_call_for_parcelvoy_has_its_key_there_and_back_as_a_line(call: Any) -> None:
    assert "evt_1" == call.as_dict()["dedupe"]
    assert call == parcelvoy.from_line(line_of(call))


@pytest.mark.parametrize("call", [*CALLS, *PARCELVOYS], ids=lambda call: type(call).__module__ + type(call).__name__)
def test_a_line_of_a_call_without_a_key_says_nothing_of_one(call: Any) -> None:
    assert "dedupe" not in attrs.evolve(call, dedupe=None).as_dict()


def test_a_key_is_not_sent() -> None:
    _, _, body, _ = parcelvoy_checked(PARCELVOYS[3])

    assert b"evt_1" not in body


def parcelvoy_checked(call: Any) -> Any:
    from userpilot_async.parcelvoy._destination import checked_call

    return checked_call(call)


# ── those that were accepted in memory ──


def key(name: object, seconds: float = 60.0) -> DedupeKey:
    return DedupeKey.of(str(name), seconds)


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from([1.0, 5.0, 20.0]), st.sampled_from([0.0, 0.5, 3.0, 30.0])),
        max_size=60,
    )
)
def test_a_key_is_known_from_its_acceptance_until_its_time_is_over(told: list[tuple[int, float, float]]) -> None:
    keys, known, now = AcceptedKeys(), dict[int, tuple[int, float]](), 0.0
    for call_id, (name, seconds, pause) in enumerate(told):
        now += pause
        found = keys.find(key(name, seconds), now)
        first = known.get(name)
        expected = first[0] if first is not None and now < first[1] else None
        assert expected == (found and found[0])
        if found is None:
            keys.add(key(name, seconds), now, call_id, bytearray())
            known[name] = call_id, now + seconds
    keys.add(key("last"), now + 100.0, 0, bytearray())

    assert 1 == len(keys)


def test_of_more_than_may_be_kept_the_oldest_is_forgotten() -> None:
    forgotten: list[None] = []
    keys = AcceptedKeys(3, lambda: forgotten.append(None))
    for number in range(5):
        keys.add(key(number), 0.0, number, bytearray())

    assert [False, False, True, True, True] == [keys.find(key(number), 0.0) is not None for number in range(5)]
    assert (3, 2) == (len(keys), len(forgotten))


def test_one_that_is_over_is_forgotten_without_a_word() -> None:
    forgotten: list[None] = []
    keys = AcceptedKeys(1, lambda: forgotten.append(None))
    keys.add(key(1), 0.0, 1, bytearray())
    keys.add(key(2), 60.0, 2, bytearray())

    assert (1, []) == (len(keys), forgotten)


def test_a_key_that_was_accepted_anew_is_not_forgotten_with_the_one_before() -> None:
    keys = AcceptedKeys(2)
    keys.add(key("long", 100.0), 0.0, 1, bytearray())
    keys.add(key("again", 1.0), 0.0, 2, bytearray())
    keys.add(key("again", 100.0), 2.0, 3, bytearray())
    keys.add(key("last", 100.0), 2.0, 4, bytearray())

    assert (3, b"") == (keys.find(key("again"), 3.0) or (None, None))


def test_another_clock_changes_nothing() -> None:
    keys = AcceptedKeys()
    keys.add(key("a"), 1_000.0, 1, bytearray())
    keys.shift(-900.0)

    assert (1, b"") == keys.find(key("a"), 159.0)
    assert keys.find(key("a"), 160.0) is None

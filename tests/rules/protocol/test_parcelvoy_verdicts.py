"""Answers that mean something else at a Parcelvoy server, and how long one waits for them there."""

from __future__ import annotations

import attrs
import pytest

from userpilot_async._protocol.patience import Patience
from userpilot_async._protocol.verdict import Meaning, Verdict, of_answer, of_failure
from userpilot_async.parcelvoy import ParcelvoySettings
from userpilot_async.parcelvoy._destination import parcelvoy


def read(verdict: Verdict, *, key_is_one: bool = True) -> Verdict:
    return parcelvoy(ParcelvoySettings(), lambda: key_is_one).reads(verdict)


def test_401_for_a_key_of_its_own_kind_means_that_its_database_is_away():
    away = read(of_answer(401, {}, b'{"error":"no"}'))

    assert (Meaning.AGAIN, "answered 401: is the server's database away?") == (away.meaning, away.detail)
    assert Meaning.DENIED is read(of_answer(401, {}, b""), key_is_one=False).meaning


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (b'{"status":"error","error":"no such key","code":6000}', Meaning.DENIED),
        (b'{"status":"error","error":"gone","code":1}', Meaning.MISCONFIGURED),
        (b'{"code":"6000"}', Meaning.MISCONFIGURED),
        (b"[6000]", Meaning.MISCONFIGURED),
        (b"<html>Not found</html>", Meaning.MISCONFIGURED),
        (b"", Meaning.MISCONFIGURED),
    ],
)
def test_404_is_the_key_if_the_server_says_so_and_else_the_url(body, meaning):
    assert meaning is read(of_answer(404, {"content-type": "application/json"}, body)).meaning


@pytest.mark.parametrize(("kind", "sent", "split"), [("timeout", True, True), ("ReadError", True, False)])
def test_what_timed_out_goes_in_smaller_arrays(kind, sent, split):
    verdict = of_failure(kind, sent=sent)

    assert attrs.evolve(verdict, split=split) == read(verdict)


def test_each_time_out_makes_the_next_wait_twice_as_long_up_to_the_longest():
    patience = Patience(15.0, 60.0)
    waits = []
    for _ in range(4):
        waits.append(patience.seconds("events"))
        patience.too_short("events")

    assert [15.0, 30.0, 60.0, 60.0] == waits
    assert 15.0 == patience.seconds("identify")


def test_an_answer_in_the_usual_time_ends_the_long_waits_and_a_late_one_does_not():
    patience = Patience(15.0, 60.0)
    patience.too_short("events")
    patience.answered("identify", 0.1)
    patience.answered("events", 20.0)
    assert 30.0 == patience.seconds("events")

    patience.answered("events", 15.0)
    assert 15.0 == patience.seconds("events")

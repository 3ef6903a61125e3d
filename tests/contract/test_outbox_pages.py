"""What people see of a durable outbox a page at a time: all of it, each call once, and never much at once."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.conftest import NewProcess, Process
from tests.contract.inline import at_once
from tests.contract.inline_postgres import InlinePostgresOutbox
from tests.contract.inline_redis import InlineRedisOutbox
from tests.contract.puts import PUTS
from userpilot_async._calls.outcome import DELIVERED, Outcome
from userpilot_async._outbox.pages import Page, UnfinishedUpload
from userpilot_async._schedule.settlement import Settlement
from userpilot_async._schedule.takeover import RequestNote
from userpilot_async.postgres import _pages as postgres_pages
from userpilot_async.redis import _pages as redis_pages
from userpilot_async.sqlite import _pages as sqlite_pages

INVALID, EXPIRED = Outcome("dead", "invalid"), Outcome("dead", "expired")


def put(outbox: Process, *users: str) -> list[int]:
    """Put a track of each of these users; their ids."""
    return [outbox.put("track", user, b"{}", 2, 0.0).id for user in users]


def pages(ask: Callable[[str], Page[Any]]) -> Iterator[Page[Any]]:
    """All pages, one after the other, to the end."""
    after: str | None = ""
    while after is not None:
        page = ask(after)
        yield page
        after = page.reached


def ids_in(found: Iterator[Page[Any]]) -> list[int]:
    return [one.id for page in found for one in page.entries]


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page looks at ten entries only."""
    for room in (sqlite_pages, redis_pages, postgres_pages):
        monkeypatch.setattr(room, "MOST_READ", 10)
    monkeypatch.setattr(redis_pages, "AT_ONCE", 5)


# ── what waits ──


def test_pages_show_every_call_once_in_order_and_as_it_was_put(process: NewProcess) -> None:
    outbox = process()
    ids = [outbox.put(*copy.deepcopy(one), 0.0).id for one in PUTS.values()]

    found = list(pages(lambda after: outbox.admin().waiting(after, 3)))

    assert {3} == {len(page.entries) for page in found[:-1]}
    shown = [one for page in found for one in page.entries]
    assert ids == [one.id for one in shown]
    assert [(kind, key, payload, size) for kind, key, payload, size in PUTS.values()] == [
        (*one.call, one.size) for one in shown
    ]
    assert [one[0] for one in PUTS.values()] == [one.kind for one in shown]


def test_a_call_says_when_it_was_accepted_as_the_oldest_does(process: NewProcess) -> None:
    outbox = process()
    put(outbox, "u1", "u2")

    first, second = outbox.admin().waiting("", 10).entries
    seen = outbox.admin().inspect()

    assert seen.oldest == pytest.approx(first.at)
    assert first.at <= second.at <= seen.now


def test_the_calls_of_one_person_are_those_of_all_keys_with_that_id(process: NewProcess) -> None:
    outbox = process()
    outbox.put("post", ("e:1", "a:2"), b"{}", 2, 0.0)
    put(outbox, "e:1", "other", ",", "e:12", "a:2")

    def of(*ids: str) -> list[str]:
        return [one.key for one in outbox.admin().waiting("", 100, ids).entries]

    assert ["e:1, a:2", "e:1"] == of("e:1")
    assert ["e:1, a:2", "e:1", "a:2"] == of("e:1", "a:2")
    assert [","] == of(",")
    assert [] == of("nobody")


def test_the_calls_of_one_person_come_in_pages_too(process: NewProcess) -> None:
    outbox = process()
    ids = put(outbox, *["u1", "u2"] * 5)

    found = list(pages(lambda after: outbox.admin().waiting(after, 2, ["u1"])))

    assert ids[::2] == ids_in(iter(found))
    assert {2} == {len(page.entries) for page in found[:2]}


@pytest.mark.usefixtures("little")
def test_a_page_looks_at_so_many_calls_and_says_how_far_it_came(process: NewProcess) -> None:
    outbox = process()
    *_, last = put(outbox, *["u1"] * 33, "rare")

    found = list(pages(lambda after: outbox.admin().waiting(after, 3, ["rare"])))

    assert [[], [], [], [last]] == [[one.id for one in page.entries] for page in found]


def test_what_is_settled_meanwhile_moves_no_page(process: NewProcess) -> None:
    outbox = process()
    ids = put(outbox, *["u1"] * 9)
    admin = outbox.admin()
    first = admin.waiting("", 3)

    outbox.take(5)
    outbox.settle(Settlement(ids[:5], (), DELIVERED, 10, None))
    put(outbox, "u2")
    rest = ids_in(pages(lambda after: admin.waiting(after or first.reached or "", 3)))

    assert [*ids[5:], ids[-1] + 1] == rest


def test_a_damaged_call_is_shown_as_one(process: NewProcess) -> None:
    outbox = process()
    put(outbox, "u1", "u2")
    _spoil(outbox)

    spoilt, sound = outbox.admin().waiting("", 10).entries

    assert (None, True) == (spoilt.call, sound.call is not None)


def _spoil(outbox: Process) -> None:
    if isinstance(outbox, InlineRedisOutbox):
        name, [(first, fields), *rest] = "{userpilot_async}:log", outbox.redis.xrange("{userpilot_async}:log")
        outbox.redis.delete(name)
        for entry, content in ((first, {**fields, b"c": b"nonsense"}), *rest):
            outbox.redis.xadd(name, content, id=entry)
        return
    if isinstance(outbox, InlinePostgresOutbox):
        outbox.run("UPDATE {0}_calls SET body = 'nonsense', moment = '' WHERE id = (SELECT min(id) FROM {0}_calls)")
        return
    with sqlite3.connect(outbox.path) as db:
        db.execute("UPDATE calls SET said = 'nonsense' WHERE id = (SELECT min(id) FROM calls)")
    db.close()


@pytest.mark.parametrize("after", ["x", "1 OR 1", "-", "9" * 40, "1-1-1", "\n"])
def test_a_place_that_is_none_is_refused(process: NewProcess, after: str) -> None:
    outbox = process()
    put(outbox, "u1")

    with pytest.raises(ValueError, match="no place"):
        outbox.admin().waiting(after, 3)
    with pytest.raises(ValueError, match="no place"):
        outbox.admin().lost(after, 3)


def test_a_page_takes_nothing_from_the_sender(process: NewProcess) -> None:
    outbox = process()
    ids = put(outbox, *["u1"] * 5)

    list(pages(lambda after: outbox.admin().waiting(after, 2)))

    assert ids == [ticket[0] for ticket in outbox.take(100)]
    assert outbox.admin().holder() is not None


# ── what was lost ──


def lose(outbox: Process, outcome: Outcome, count: int, detail: str = "") -> list[int]:
    """Put so many calls and lose them."""
    ids = put(outbox, *["u1"] * count)
    outbox.take(count)
    outbox.settle(Settlement(ids, (), outcome, 2 * count, None, detail))
    return ids


def test_lost_calls_are_shown_in_pages_as_they_are_all_at_once(process: NewProcess) -> None:
    outbox = process()
    ids = lose(outbox, INVALID, 7, "name is missing")

    found = [one for page in pages(lambda after: outbox.admin().lost(after, 3)) for one in page.entries]

    assert ids == [one.id for one in found]
    assert outbox.admin().dead_letters().kept == found
    assert {"name is missing"} == {one.detail for one in found}


@pytest.mark.usefixtures("little")
def test_lost_calls_of_one_reason_are_found_among_many_others(process: NewProcess) -> None:
    outbox = process()
    first = lose(outbox, EXPIRED, 2)
    lose(outbox, INVALID, 25)
    last = lose(outbox, EXPIRED, 2)

    found = list(pages(lambda after: outbox.admin().lost(after, 3, "expired")))

    assert [*first, *last] == ids_in(iter(found))
    assert 3 <= len(found)


# ── what is under way ──


def test_tokens_are_spent_while_a_request_is_under_way_and_for_a_minute_after_it(process: NewProcess) -> None:
    outbox = process()
    ids = put(outbox, "u1", "u2", "u3")
    requests = [RequestNote(budget, [one]) for budget, one in zip(("track", "track", "identify"), ids, strict=True)]
    for request in requests:
        assert at_once(outbox.send_log.sending(request))
    outbox.send_log.landed(requests[0], answered=True, lost=False)
    outbox.send_log.landed(requests[2], answered=None, lost=False)

    seen = outbox.admin().inspect()

    assert ({"track": 2}, 1) == (dict(seen.spent), seen.under_way)


def test_a_file_that_the_server_may_have_is_shown_until_it_is_done_with(process: NewProcess) -> None:
    outbox = process()
    ids = put(outbox, "u1", "u2")
    outbox.take(2)
    request = RequestNote("identify", ids, filename="file-1", kind="user", last_calls=ids)
    assert at_once(outbox.send_log.sending(request))
    during = outbox.admin().inspect().uploads
    outbox.send_log.forget("file-1")

    assert [UnfinishedUpload("file-1", "user", 2)] == list(during)
    assert [] == list(outbox.admin().inspect().uploads)

"""Which calls of a file the sender has in hand: in the end all, each user's in order, and never one user's only."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._calls.payload import Key, Ticket
from userpilot_async._outbox import window
from userpilot_async._outbox.window import LONG, WINDOW, Found, Read, Reading, Window


def found(call_id: int, key: Key, company: str | None = None) -> Found:
    """A track, or an identify that says something of a company."""
    if company is None:
        return Found((call_id, 0.0, "track", key, b"{}"))
    return Found((call_id, 0.0, "user", key, ({}, {"company_id": company}, 4, ("company", company, {}, 2))))


def whose(ticket: Ticket) -> set[str]:
    """The keys for which the order of this call matters."""
    keys = set(ticket[3]) if isinstance(ticket[3], tuple) else {ticket[3]}
    said = ticket[4]
    return keys | ({said[3][1]} if isinstance(said[3], tuple) else set()) if len(said) == 4 else keys


class Backlog:
    """A file as the window sees it: answers its readings as `File.read` does."""

    def __init__(self, calls: list[Found]) -> None:
        self.calls = {one.ticket[0]: one for one in calls}
        self.window = Window()
        self.window.reaches(max(self.calls, default=-1) + 1)
        self.in_hand: dict[int, Key] = {}
        self.taken: list[Ticket] = []

    def answer(self, reading: Reading) -> Read:
        rows = [one for call_id, one in sorted(self.calls.items()) if call_id >= reading.start]
        if reading.only is not None:
            rows = [one for one in rows if one.ticket[3] == reading.only and one.ticket[0] < reading.end]
        rows = rows[: reading.limit]
        if not rows:
            return Read([], reading.start, full=False)
        given_out = [one for one in rows if one.ticket[3] not in reading.without or len(whose(one.ticket)) > 1]
        return Read(given_out, rows[-1].ticket[0] + 1, len(rows) == reading.limit)

    def read(self) -> bool:
        reading = self.window.wants()
        if reading is not None:
            self.window.arrived(self.answer(reading), lambda at: at + 50.0)
        return reading is not None

    def take(self, limit: int) -> int:
        tickets = self.window.take(limit)
        self.taken += tickets
        self.in_hand |= {ticket[0]: ticket[3] for ticket in tickets}
        return len(tickets)

    def settle(self, call_id: int) -> None:
        del self.calls[call_id], self.in_hand[call_id]
        self.window.settled([call_id], [])

    def fill(self) -> None:
        """Take all that the window gives while nothing is settled."""
        while self.read() or self.take(250):
            pass

    def drain(self) -> None:
        """Settle one call of each user in turn, as the schedule does."""
        self.fill()
        while self.in_hand:
            first: dict[Key, int] = {}
            for call_id, key in self.in_hand.items():
                first.setdefault(key, call_id)
            for call_id in first.values():
                self.settle(call_id)
            self.fill()


def test_a_backlog_is_read_in_order_and_no_more_of_it_than_may_be_in_hand():
    backlog = Backlog([found(n, f"u{n % 500}") for n in range(WINDOW + 5_000)])
    backlog.fill()

    assert list(range(WINDOW)) == [ticket[0] for ticket in backlog.taken]


def test_calls_that_a_file_holds_make_room_for_others_until_it_holds_them_no_more():
    backlog = Backlog([found(n, f"u{n % 500}") for n in range(WINDOW + 5_000)])
    backlog.fill()
    backlog.window.filed(range(3_000), True)
    backlog.fill()
    with_a_file = len(backlog.taken)
    backlog.window.filed(range(2_000), False)
    backlog.window.settled(range(2_000, 3_000), ())
    backlog.fill()

    assert (WINDOW + 3_000, WINDOW + 3_000) == (with_a_file, len(backlog.taken))


def test_one_user_with_a_long_backlog_does_not_fill_the_window():
    hot = [found(n, "hot") for n in range(30_000)]
    others = [found(30_000 + n, f"u{n}") for n in range(100)]
    backlog = Backlog(hot + others)
    backlog.fill()
    taken = Counter(ticket[3] for ticket in backlog.taken)

    assert LONG == taken.pop("hot")
    assert {one.ticket[3]: 1 for one in others} == taken


def test_a_user_who_was_passed_over_gets_their_turn_in_order():
    backlog = Backlog([found(n, "hot" if n % 3 else f"u{n}") for n in range(4 * LONG)])
    backlog.drain()

    assert {} == backlog.calls
    hot = [ticket[0] for ticket in backlog.taken if ticket[3] == "hot"]
    assert sorted(hot) == hot


def test_what_a_passed_over_call_says_of_a_company_is_not_overtaken():
    calls = [found(n, "hot") for n in range(LONG + 5)]
    calls += [found(LONG + 5, "hot", "c"), found(LONG + 6, "c")]
    backlog = Backlog(calls)
    backlog.fill()
    before = [ticket[3] for ticket in backlog.taken]
    backlog.drain()

    assert "c" not in before
    assert [LONG + 5, LONG + 6] == [ticket[0] for ticket in backlog.taken[-2:]]


def test_what_a_user_says_of_a_company_does_not_overtake_its_own_backlog():
    calls = [found(n, "c") for n in range(2 * LONG)]
    backlog = Backlog([*calls, found(2 * LONG, "u1", "c")])
    backlog.fill()
    before = [ticket[3] for ticket in backlog.taken]
    backlog.drain()

    assert "u1" not in before
    assert "u1" == backlog.taken[-1][3]


def test_a_passed_over_user_with_a_company_starves_nobody_who_is_of_another():
    calls = [found(n, "hot", "c" if n % 100 == 50 else None) for n in range(5 * LONG)]
    others = [found(5 * LONG + n, f"u{n}", "d" if n % 2 else None) for n in range(100)]
    backlog = Backlog([*calls, *others])
    backlog.fill()

    assert 100 == sum(ticket[3] != "hot" for ticket in backlog.taken)


def test_nobody_is_passed_over_where_people_have_several_ids():
    calls = [found(0, ("e1", "a1")), *(found(1 + n, "e1") for n in range(2 * LONG)), found(2 * LONG + 1, "a1")]
    backlog = Backlog(calls)
    backlog.fill()

    assert [one.ticket[0] for one in calls] == [ticket[0] for ticket in backlog.taken]


def test_calls_just_put_are_passed_on_where_nothing_lies_before_them():
    window = Window()
    window.begin(7)
    window.reaches(9)
    window.pass_on(7, [found(7, "u1").ticket, found(8, "u2").ticket])

    assert window.wants() is None
    assert [7, 8] == [ticket[0] for ticket in window.take(10)]


def test_calls_just_put_are_read_in_their_turn_where_others_lie_before_them():
    window = Window()
    window.begin(5)
    window.reaches(9)
    window.pass_on(7, [found(7, "u1").ticket, found(8, "u2").ticket])

    assert [] == window.take(10)
    reading = window.wants()
    assert reading is not None
    assert (5, 9) == (reading.start, reading.end)


def test_calendar_times_become_the_schedules():
    backlog = Backlog([found(0, "u1")])
    backlog.calls[0] = Found((0, 40.0, "track", "u1", b"{}"))
    backlog.calls[1] = Found((1, 60.0, "track", "u1", b"{}"))
    backlog.window.reaches(2)
    backlog.fill()

    assert [90.0, 110.0] == [ticket[1] for ticket in backlog.taken]


KEYS = st.sampled_from(["hot", "hot", "hot", "hot", "u1", "u2", "c", "d"])
CALLS = st.lists(st.tuples(KEYS, st.sampled_from([None, None, None, "c", "d"])), max_size=80)
TOGETHER = st.lists(st.sampled_from(["read", "take", "settle", "put"]), max_size=200)


@given(calls=CALLS, later=CALLS, doings=TOGETHER, several_at=st.none() | st.integers(0, 160), data=st.data())
def test_all_calls_come_each_users_in_order_and_a_companys_too(calls, later, doings, several_at, data):
    """With small limits, whatever is done in whatever order; what is put meanwhile is passed on, or read later."""
    before = window.WINDOW, window.READ, window.LONG
    window.WINDOW, window.READ, window.LONG = 12, 5, 4
    try:
        backlog = Backlog([_made(n, *one, several_at) for n, one in enumerate(calls)])
        waiting = [_made(len(calls) + n, *one, several_at) for n, one in enumerate(later)]
        for doing in doings:
            if doing == "read":
                backlog.read()
            elif doing == "take":
                backlog.take(3)
            elif doing == "put" and waiting:
                one = waiting.pop(0)
                backlog.calls[one.ticket[0]] = one
                backlog.window.reaches(one.ticket[0] + 1)
                backlog.window.pass_on(one.ticket[0], [one.ticket])
            elif doing == "settle" and backlog.in_hand:
                backlog.settle(data.draw(st.sampled_from(sorted(backlog.in_hand))))
            assert len(backlog.in_hand) <= 12
        backlog.drain()
    finally:
        window.WINDOW, window.READ, window.LONG = before

    assert {} == backlog.calls
    for belongs in ("hot", "u1", "u2", "c", "d"):
        order = [ticket[0] for ticket in backlog.taken if belongs in whose(ticket)]
        assert sorted(order) == order


def _made(call_id: int, key: str, company: str | None, several_at: int | None) -> Found:
    several = ("hot", "u1") if call_id == several_at else key
    return found(call_id, several, None if call_id == several_at else company)

"""Row 83: the machine's clock is set by hours or years, forward and back, and the machine sleeps.

The truth is the server's clock, which is that of the test. The machine's calendar is wrong when the client opens.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from tests.contract.inline import InlineOutbox
from tests.harness.stage.calls import KEY, person
from tests.harness.stage.scenes import EPOCH, USERPILOT, Rehearsal, rehearsal
from tests.scenes.network.test_backlog_route import LATE, LATENCY
from userpilot_async import Receipt, Settings, UserpilotClient
from userpilot_async._runtime import clocks

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

MINUTE, HOUR, DAY, YEAR = 60.0, 3_600.0, 86_400.0, 31_536_000.0
WRONG = [2 * HOUR, -2 * HOUR, 4 * YEAR, -50.7 * YEAR]


class Calendar:
    """What `time.time` says: the server's time, wrong by so many seconds."""

    def __init__(self) -> None:
        self.wrong = 0.0
        self.slept = 0.0
        """So long has the machine slept, of which the loop knows nothing."""

    def steady(self) -> float:
        return anyio.current_time() + self.slept

    def truth(self) -> float:
        return EPOCH + self.steady()

    def __call__(self) -> float:
        return self.truth() + self.wrong


@pytest.fixture
def calendar(monkeypatch: pytest.MonkeyPatch) -> Calendar:
    calendar = Calendar()
    monkeypatch.setattr(time, "time", calendar)
    monkeypatch.setattr(clocks, "steady", calendar.steady)
    monkeypatch.setattr(clocks, "running", anyio.current_time)
    return calendar


class FileOf(InlineOutbox):
    """A file without a thread, on the test's clock; with ``passes_on`` false, all that is sent was read from it."""

    boot = staticmethod(lambda: None)

    def __init__(self, path: Path, calendar: Calendar, *, passes_on: bool = True) -> None:
        super().__init__(path, durability="process")
        self.passes_on = passes_on
        self.steady = calendar.steady  # type: ignore[method-assign]


OUTBOXES = ["memory", "file", "file, read back"]


def kept(where: str, folder: Path, calendar: Calendar) -> dict[str, Any]:
    """What a rehearsal needs to have its calls wait there."""
    if where == "memory":
        return {}
    outbox = FileOf(folder / "events.db", calendar, passes_on="back" not in where)
    return {"to": attrs.evolve(USERPILOT, client=partial(UserpilotClient, outbox=outbox))}


async def track_some(scene: Rehearsal, count: int, calendar: Calendar) -> dict[tuple[str, int], float]:
    """So many events of ten people, some of them at once, others later; when each was accepted, in truth."""
    accepted = {}
    for n in range(count):
        if not n % 10:
            await anyio.sleep(0.3)
        await scene.track(person(n % 10))
        accepted[list(scene.receipts)[-1]] = calendar.truth()
    return accepted


def dated_wrongly(scene: Rehearsal, accepted: dict[tuple[str, int], float]) -> list[float]:
    """By how much each event is that went as an import."""
    scene.emulator.advance()
    imported = [event for event in scene.events if event.via == "import"]
    return [event.occurred_at - accepted[event.user_id, event.metadata["n"]] for event in imported]


@pytest.mark.parametrize("where", OUTBOXES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_row_83_events_are_dated_rightly_though_the_calendar_is_set_after_the_client_has_opened(
    wrong: float, where: str, calendar: Calendar, tmp_path: Path
) -> None:
    """A device, or a container, opens the client while its clock is two hours off; then NTP sets it."""
    calendar.wrong = wrong
    async with rehearsal(LATE, latency=LATENCY, **kept(where, tmp_path, calendar)) as scene:
        scene.goes_wrong("no server", status=503)
        accepted = await track_some(scene, 60, calendar)
        await anyio.sleep(5)
        calendar.wrong = 0.0
        accepted |= await track_some(scene, 60, calendar)
        await anyio.sleep(MINUTE)
        scene.recovers()
        await scene.drained(10 * MINUTE)

        off = dated_wrongly(scene, accepted)
        assert 100 <= len(off)
        assert [] == [seconds for seconds in off if abs(seconds) > 1.0]
        assert 120 == scene.statistics.delivered


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("jumps", [False, True], ids=["the loop jumps alone", "the calendar jumps along"])
async def test_row_83_also_if_only_some_of_the_clocks_are_a_tests_own(
    wrong: float, jumps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in tests of our users': the loop's clock jumps, and the machine's steady clock does not."""
    real, now = time.time, [wrong]
    monkeypatch.setattr(time, "time", lambda: (EPOCH + anyio.current_time() if jumps else real()) + now[0])
    ahead = 0.0 if jumps else real() - EPOCH - anyio.current_time()
    async with rehearsal(LATE, latency=LATENCY) as scene:
        scene.goes_wrong("no server", status=503)
        truth = Calendar()
        accepted = await track_some(scene, 60, truth)
        now[0] = 0.0
        accepted |= await track_some(scene, 60, truth)
        await anyio.sleep(MINUTE)
        scene.recovers()
        await scene.drained(10 * MINUTE)

        off = dated_wrongly(scene, {mark: at + ahead for mark, at in accepted.items()})
        assert 100 <= len(off)
        assert [] == [seconds for seconds in off if abs(seconds) > 1.0]


@pytest.mark.parametrize("where", OUTBOXES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_row_83_no_call_dies_of_an_age_that_the_calendar_has_jumped(
    wrong: float, where: str, calendar: Calendar, tmp_path: Path
) -> None:
    """A device boots in 1970, and then learns the time."""
    calendar.wrong = wrong
    settings = Settings(max_age=HOUR)
    async with rehearsal(settings, latency=LATENCY, **kept(where, tmp_path, calendar)) as scene:
        scene.network.refuses = True
        receipts = await scene.track_all(map(person, range(3)))
        await anyio.sleep(10)
        calendar.wrong = 0.0
        await anyio.sleep(MINUTE)
        scene.recovers()
        await scene.drained(5 * MINUTE)

        assert ["delivered"] * 3 == [receipt.status for receipt in receipts]


@pytest.mark.parametrize("wrong", WRONG)
async def test_row_83_nor_for_the_next_process_that_has_the_right_time(
    wrong: float, calendar: Calendar, tmp_path: Path
) -> None:
    """The clock was set while the first one ran, which ended before anything could go."""
    calendar.wrong = wrong
    first = FileOf(tmp_path / "events.db", calendar)
    where = attrs.evolve(USERPILOT, client=partial(UserpilotClient, outbox=first))
    async with rehearsal(attrs.evolve(LATE, max_age=HOUR), latency=LATENCY, to=where) as scene:
        scene.network.refuses = True
        accepted = await track_some(scene, 3, calendar)
        await anyio.sleep(MINUTE)
        calendar.wrong = 0.0
        first.poll()
        first.die()
        await scene.client.aclose(0)
        scene.recovers()
        second = FileOf(tmp_path / "events.db", calendar)
        async with UserpilotClient(
            KEY, base_url="https://emulator.test", transport=scene.network,
            outbox=second, settings=attrs.evolve(LATE, max_age=HOUR),
        ) as scene.client:  # fmt: skip
            await scene.drained(5 * MINUTE)
            assert (3, {}) == (scene.statistics.delivered, dict(scene.statistics.lost_by_reason))
            await scene.leaves(5)

        off = dated_wrongly(scene, accepted)
        assert [0.0] * 3 == pytest.approx(off, abs=1.0)


async def test_row_83_what_was_accepted_before_the_machine_slept_is_imported_with_its_own_date(
    calendar: Calendar,
) -> None:
    """A laptop is shut at night: in the morning its events would be of the morning."""
    async with rehearsal(LATE, latency=LATENCY) as scene:
        scene.network.refuses = True
        accepted = await track_some(scene, 20, calendar)
        await anyio.sleep(1)
        calendar.slept = 8 * HOUR
        await anyio.sleep(0.1)
        later = await track_some(scene, 20, calendar)
        scene.recovers()
        await scene.drained(5 * MINUTE)

        off = dated_wrongly(scene, {**accepted, **later})
        assert 20 <= len(off)
        assert [] == [seconds for seconds in off if abs(seconds) > 1.0]


async def _track_at(moment: datetime, client: UserpilotClient, user: str, name: str, said: Any) -> Receipt:
    return await client.track(user, name, said, occurred_at=moment)


@pytest.mark.parametrize("wrong", [2 * HOUR, -2 * HOUR])
async def test_row_83_what_is_late_by_its_own_date_is_so_by_the_calendar_of_now(
    wrong: float, calendar: Calendar
) -> None:
    """An event of just now is not imported because the calendar was wrong once, and one of an hour ago is."""
    calendar.wrong = wrong
    async with rehearsal(LATE, latency=LATENCY) as scene:
        calendar.wrong = 0.0
        await anyio.sleep(1)
        receipts = []
        for ago in (1.0, HOUR):
            moment = datetime.fromtimestamp(calendar.truth() - ago, UTC)
            scene.to = attrs.evolve(USERPILOT, track=partial(_track_at, moment))
            receipts.append(await scene.track(person(int(ago))))
        scene.to = USERPILOT
        await scene.drained(MINUTE)

        assert ["realtime", "import"] == [receipt.route for receipt in receipts]

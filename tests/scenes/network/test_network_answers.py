"""Rows 16 to 25: what the server, or something in front of it, says for minutes. On a clock that jumps."""

from __future__ import annotations

import random

import anyio
import pytest

from tests.harness import RETRY_AFTER_LIES, judge, lying_rate_headers
from tests.harness.stage.calls import Side, person
from tests.harness.stage.parcelvoy import both
from tests.harness.stage.scenes import EPOCH, LIVE_WITHIN, OnSockets, Rehearsal, rehearsal
from userpilot_async import Rejected, Settings
from userpilot_async._runtime.outage import LASTING

pytestmark = pytest.mark.anyio
virtual = pytest.mark.virtual

MINUTE = 60.0
TEN_MINUTES = 600.0
URL = "https://emulator.test"


async def some_traffic(scene: Rehearsal | OnSockets, users: int = 20) -> None:
    """An identify and an event of each user."""
    await scene.identify_all(person(n) for n in range(users))
    await scene.track_all(person(n) for n in range(users))


# ── 16: server errors ──


@virtual
@pytest.mark.parametrize(("status", "applied"), [(500, False), (502, False), (502, True), (504, True)])
@both
async def test_row_16_five_minutes_of_server_errors_cost_five_minutes_and_no_event(
    status: int,
    applied: bool,
    to: Side,
) -> None:
    """A gateway's 502 and 504 may stand before a server that has applied the request."""
    async with rehearsal(to=to) as scene:
        await scene.identify_all(person(n) for n in range(20))
        await scene.drained(MINUTE)
        scene.goes_wrong("outage", status=status, apply=applied or None)
        await some_traffic(scene)
        await scene.track_all(person(n) for n in range(100, 120))
        await anyio.sleep(300)
        during = scene.statistics
        scene.recovers()
        await scene.drained(LIVE_WITHIN)

        assert 20 == during.delivered
        assert 100 >= len(scene.requests(status=status))
        assert (0, status != 500) == (during.dead, during.possible_duplicates > 0)


@virtual
@both
async def test_row_16_half_an_outage_every_other_answer_a_500(to: Side) -> None:
    """A sick backend behind a load balancer: half the answers are good, and order must survive the retries."""
    async with rehearsal(to=to) as scene:
        scene.goes_wrong("sick half", status=500, probability=0.5)
        for _ in range(10):
            await some_traffic(scene, 10)
        await scene.drained(TEN_MINUTES)


# ── 17: Retry-After ──


@virtual
@pytest.mark.parametrize("asked", RETRY_AFTER_LIES, ids=lambda asked: asked[:12] or "empty")
@both
async def test_row_17_a_503_with_a_retry_after_is_honoured_within_a_minute(asked: str, to: Side) -> None:
    """An hour asked for by mistake must not cost an hour; a word must not stop the sender."""
    async with rehearsal(to=to) as scene:
        scene.goes_wrong("overload", times=1, status=503, headers={"retry-after": asked})
        await scene.track(person(1))
        await scene.drained(61)

        first, second = (request.stamp for request in scene.requests(path=to.events))
        wait = {"5": 5.0, "1e9": 60.0, "9" * 400: 0.0}.get(asked, 0.0)
        assert wait - 0.001 <= second - first <= wait + 1.0


# ── 18: too early, too slow ──


@virtual
@pytest.mark.parametrize("status", [408, 425])
@both
async def test_row_18_a_request_that_came_too_slow_or_too_early_is_sent_again(status: int, to: Side) -> None:
    async with rehearsal(to=to) as scene:
        scene.goes_wrong("again", times=5, status=status)
        await some_traffic(scene, 5)
        await scene.drained(MINUTE)

        assert 5 == scene.statistics.retries
        assert 0 == scene.statistics.possible_duplicates


# ── 19, 20: the key ──


@virtual
async def test_row_19_a_401_in_mid_stream_is_held_said_once_and_probed_once_a_minute() -> None:
    """A key revoked at noon and restored at one: an hour's events arrive at one."""
    async with rehearsal() as scene:
        await some_traffic(scene)
        await scene.drained(MINUTE)
        scene.goes_wrong("revoked", status=401)
        for _ in range(60):
            await scene.track(person(1))
            await anyio.sleep(MINUTE)
        during, said = scene.statistics, scene.log.said("nothing is sent")
        scene.recovers()
        await scene.drained(LIVE_WITHIN)
        await anyio.sleep(2 * LASTING)  # an end is said once it has lasted

        assert (60, 0) == (during.pending, during.dead + during.dropped)
        assert "401" in (during.paused or "")
        assert 1 == len(said)
        assert 62 >= len(scene.requests(status=401)) >= 55
        assert scene.statistics.paused is None
        assert 1 == len(scene.log.said("takes calls again"))


@virtual
async def test_row_19_flush_and_aclose_keep_their_bounds_while_the_key_is_refused() -> None:
    async with rehearsal(Settings(close_timeout=5.0)) as scene:
        scene.goes_wrong("revoked", status=401)
        await scene.track(person(1))
        began = anyio.current_time()
        report = await scene.client.flush(20)

        judge.within_bound(anyio.current_time() - began, 20)
        assert (False, 1) == (report.complete, report.remaining)


@virtual
async def test_row_19_a_rotated_key_is_picked_up_within_ninety_seconds() -> None:
    """The old key is switched off before the new one has reached this process."""
    keys = ["canary-5b1f0c77-of-the-key"]
    async with rehearsal(api_key=lambda: keys[-1], api_keys=["canary-5b1f0c77-of-the-key-2"]) as scene:
        await some_traffic(scene, 3)
        await anyio.sleep(TEN_MINUTES)
        during = scene.statistics
        keys.append("canary-5b1f0c77-of-the-key-2")
        await scene.drained(LIVE_WITHIN)

        assert (0, 6) == (during.delivered, during.pending)


@virtual
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_row_20_a_plan_without_imports_stops_imports_and_nothing_else(status: int) -> None:
    async with rehearsal() as scene:
        scene.goes_wrong("no imports", path="/v1/imports", status=status)
        row = {"event_type": "track", "user_id": person(1), "event_name": "x", "source": "backend-http",
               "inserted_at": "2024-12-01T08:55:43.220396"}  # fmt: skip
        error = await scene.refused(scene.client.api.import_rows([row]), Rejected)
        await some_traffic(scene)
        await scene.drained(MINUTE)

        assert status == error.status
        assert "plan" in str(error)
        assert scene.statistics.paused is None


# ── 21: the wrong place ──


@virtual
@pytest.mark.parametrize("status", [404, 405, 307])
async def test_row_21_the_wrong_region_is_held_until_it_is_right(status: int) -> None:
    """A deployment with the wrong region or a proxy's path: its events wait for the fix."""
    async with rehearsal() as scene:
        scene.goes_wrong("nobody here", status=status, headers={"location": "https://elsewhere.test/v1/track"})
        await some_traffic(scene)
        await anyio.sleep(TEN_MINUTES)
        during, asked = scene.statistics, len(scene.requests())
        scene.recovers()
        await scene.drained(LIVE_WITHIN)

        assert (40, 0, 0) == (during.pending, during.dead, during.dropped)
        assert str(status) in (during.paused or "")
        assert 20 >= asked
        assert 1 == len(scene.log.said("nothing is sent"))


@virtual
async def test_row_21_what_is_held_names_the_url() -> None:
    """A reader of "404" in the log of a service with three regions must see where it went."""
    async with rehearsal() as scene:
        scene.goes_wrong("nobody here", status=404)
        await scene.track(person(1))
        await anyio.sleep(MINUTE)
        held, (line, *_) = scene.statistics.paused, scene.log.said("nothing is sent")

    assert URL in (held or "")
    assert URL in line


# ── 22: 429 ──


@virtual
@pytest.mark.parametrize("headers", ["as documented", "none"])
@both
async def test_row_22_ten_minutes_of_429_without_retry_after_lose_nothing_and_do_not_hammer(
    headers: str, to: Side
) -> None:
    """The only other asyncio client gives its events up after seven seconds of this."""
    gone = {f"x-ratelimit-{name}": None for name in ("limit", "remaining", "reset")} if headers == "none" else {}
    async with rehearsal(to=to) as scene:
        scene.goes_wrong("full", status=429, headers=gone)
        await some_traffic(scene, 40)
        await anyio.sleep(TEN_MINUTES)
        during, asked = scene.statistics, len(scene.requests(status=429))
        scene.recovers()
        await scene.drained(LIVE_WITHIN + 10)

        assert (0, 80, 0) == (during.delivered, during.pending, during.retries)
        assert asked == during.rate_limited
        # One pause after the other is 1, 2, 4, … 60 s; when it ends, as many as may be in flight knock.
        assert 8 * (6 + 10) >= asked


# ── 23: rate headers ──

HARMLESS = (
    "remaining 1e9", "remaining 1000000000", "remaining -5", "remaining NaN", "remaining empty", "missing",
    "reset as a delay", "reset in the past", "reset Infinity", "reset of 400 digits", "reset is no number",
)  # fmt: skip


@virtual
@pytest.mark.parametrize("lie", HARMLESS)
async def test_row_23_rate_headers_without_sense_cost_no_time(lie: str) -> None:
    """300 events are half a minute's budget: they take no longer than with honest headers."""
    missing = {f"x-ratelimit-{name}": None for name in ("limit", "remaining", "reset")}
    async with rehearsal() as scene:
        scene.goes_wrong("lie", headers={**missing, **lying_rate_headers(EPOCH)[lie]})
        await scene.track_all(person(n) for n in range(300))
        await scene.drained(25)


@virtual
@pytest.mark.parametrize("lie", ["remaining 0", "limit 0", "reset in seconds", "reset in 2100"])
async def test_row_23_rate_headers_that_say_stop_are_believed_for_a_minute_at_most(lie: str) -> None:
    """A server that says "0 left" for ever is slow; it is not allowed to be the end."""
    async with rehearsal() as scene:
        headers = lying_rate_headers(EPOCH)[lie]
        if lie in ("remaining 0", "limit 0"):
            del headers["x-ratelimit-reset"]  # the emulator's own, which moves on: 0 left in each window
        scene.goes_wrong("lie", headers=headers)
        await scene.track_all(person(n) for n in range(60))
        before = 0
        for _ in range(5):
            await anyio.sleep(61)
            delivered = scene.statistics.delivered
            assert before < delivered or 60 == delivered
            before = delivered


# ── 24: the real limit ──


@virtual
async def test_row_24_a_limit_of_300_is_learned_from_the_headers() -> None:
    async with rehearsal(rate_limit=300) as scene:
        await scene.track_all(person(n) for n in range(1_500))
        report = await scene.drained(1_500 / 300 * MINUTE + 30)

        assert 0 == report.statistics.rate_limited
        judge.requests_in_any_minute((r.stamp for r in scene.requests(path="/v1/track")), 300)


@virtual
async def test_row_24_a_limit_of_300_that_no_header_tells_costs_time_only() -> None:
    async with rehearsal(rate_limit=300) as scene:
        scene.goes_wrong("silent about it", headers={f"x-ratelimit-{n}": None for n in ("limit", "remaining", "reset")})
        await scene.track_all(person(n) for n in range(1_500))
        report = await scene.drained(1_500 / 300 * MINUTE * 2)

        assert report.statistics.rate_limited > 0
        assert 0 == report.statistics.retries


# ── 25: the window's edge ──


@virtual
@pytest.mark.parametrize("seed", range(5))
async def test_row_25_delays_of_0_to_8_seconds_never_make_601_requests_in_a_minute(seed: int) -> None:
    """The server counts when a request arrives, not when it was sent: delays squeeze what was spaced out."""
    chance = random.Random(seed)
    async with rehearsal(Settings(concurrency=400)) as scene:
        # From minute to minute the network is fast or slow, so that a slow minute's requests meet a fast one's.
        slow = [chance.choice([0.0, 0.1, 2.0, 8.0]) for _ in range(1_000)]
        scene.network.there = lambda: chance.random() * slow[int(anyio.current_time() // 10)]
        scene.network.back = lambda: chance.random() * slow[int(anyio.current_time() // 10)]
        await anyio.sleep(chance.random() * MINUTE)
        await scene.track_all(person(n) for n in range(2_400))
        report = await scene.drained(6 * MINUTE)

        worst = judge.requests_in_any_minute(r.stamp for r in scene.requests(path="/v1/track"))
        assert worst.count >= 400, "the limit was never near: nothing was tested"
        assert 0 == report.statistics.rate_limited


@virtual
async def test_row_25_a_jam_that_ends_at_the_windows_edge() -> None:
    """A minute's requests are held up by up to 8 s and arrive together with the next minute's."""
    async with rehearsal(Settings(concurrency=600, burst=600)) as scene:
        scene.network.there = lambda: max(0.0, 8.0 - anyio.current_time() % MINUTE)
        await anyio.sleep(52)
        await scene.track_all(person(n) for n in range(1_800))
        await scene.drained(6 * MINUTE)

        assert 600 >= judge.requests_in_any_minute(r.stamp for r in scene.requests(path="/v1/track")).count
        assert 0 == scene.statistics.rate_limited

"""How much of the budget is used under a backlog, over ten minutes of virtual time, and how often it is overdrawn."""

from __future__ import annotations

import asyncio

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row
from benchmarks.subjects import OURS
from tests.harness.clock import VirtualTimeLoop

NAME = "pacing"
LOOP = VirtualTimeLoop
EPOCH = 1_780_000_020.0  # a clock minute begins here
OFFSETS = (0.0, 7.3, 31.0, 59.9)  # seconds of the server's minute that are over when the first call comes
LATENCY = 0.1
MINUTES = 10
LIMIT = 600
BACKLOG = 7_000
FOREIGN = 200  # requests a minute by somebody else with the same key
GOAL = 0.99


async def paced(subject: str, offset: float, foreign: int) -> Figures:
    import httpx

    from userpilot_async import Settings, UserpilotClient
    from userpilot_async.emulator import Emulator

    time = asyncio.get_running_loop().time
    emulator = Emulator(clock=lambda: EPOCH + offset + time(), latency=LATENCY)
    transport = httpx.ASGITransport(app=emulator)
    taken_by_others = 0

    async def others() -> None:
        nonlocal taken_by_others
        headers = {"Authorization": "Token benchmark", "X-API-Version": "2020-09-22"}
        async with httpx.AsyncClient(transport=transport, base_url="https://emulator", headers=headers) as http:
            while time() < MINUTES * 60:
                answer = await http.post("/v1/track", json={"user_id": "other", "event_name": EVENT})
                taken_by_others += answer.status_code == 202
                await asyncio.sleep(60 / foreign - LATENCY)

    elsewhere = asyncio.create_task(others()) if foreign else None
    settings = Settings(close_timeout=0.0)
    async with UserpilotClient("benchmark", transport=transport, settings=settings) as client:
        for number in range(BACKLOG):
            await client.track(user_id(number % 700), EVENT, event(number))
        await asyncio.sleep(MINUTES * 60 - time())
        refused = client.statistics().rate_limited
    if elsewhere is not None:
        elsewhere.cancel()
    # Whole minutes of the server's clock only: ten minutes that begin at 7 s touch eleven of its windows.
    begun = EPOCH if not offset else EPOCH + 60
    whole = MINUTES if not offset else MINUTES - 1
    taken = [request.stamp for request in emulator.store.requests if request.status == 202]
    counted = sum(begun <= stamp < begun + whole * 60 for stamp in taken)
    return {
        "used": counted / (LIMIT * whole),
        "429": refused,
        "429 of others": sum(request.status == 429 for request in emulator.store.requests) - refused,
        "of others": taken_by_others,
        "most in 60 s": max(after - first for first, after in _windows(sorted(taken))),
    }


def _windows(stamps: list[float]) -> list[tuple[int, int]]:
    """(index of the first, index after the last) of each 60 seconds that begin with a request."""
    found, after = [], 0
    for first, stamp in enumerate(stamps):
        while after < len(stamps) and stamps[after] < stamp + 60:
            after += 1
        found.append((first, after))
    return found


def run(quick: bool) -> Row:
    offsets = OFFSETS[1:3] if quick else OFFSETS
    alone = {offset: measure(paced, subject=OURS, offset=offset, foreign=0) for offset in offsets}
    shared = {offset: measure(paced, subject=OURS, offset=offset, foreign=FOREIGN) for offset in offsets}
    used = min(figures["used"] for figures in alone.values())
    refused = sum(figures["429"] for figures in alone.values())
    return Row(
        name=NAME,
        what="use of the budget under backlog, 100 ms answers, worst of the offsets",
        unit="of 600/min",
        goal=f"≥ {GOAL:.0%}, no 429 when alone",
        met=used >= GOAL and not refused,
        figures={OURS: used},
        more_is_better=True,
        notes=(
            *(_told("alone", offset, figures) for offset, figures in alone.items()),
            *(_told(f"with {FOREIGN} a minute by others", offset, figures) for offset, figures in shared.items()),
            "no peer paces: AsyncPosthog retries a 429 three times within 7 s and drops the batch, so it is left out",
        ),
    )


def _told(case: str, offset: float, figures: Figures) -> str:
    return (
        f"{case}, {offset:g} s into the server's minute: {figures['used']:.2%} of its whole minutes used, "
        f"{figures['429']:.0f} × 429 for us, {figures['429 of others']:.0f} for others, "
        f"at most {figures['most in 60 s']:.0f} taken in any 60 s"
    )

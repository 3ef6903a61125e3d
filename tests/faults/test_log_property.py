"""Row 88, whatever happens: random losses of several reasons, bursts, silence, and a close at a random time."""

from __future__ import annotations

from typing import Any

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults._calls import Log
from tests.faults._log import losses_in, merged_in
from tests.faults._loops import client_of, virtual_emulator
from tests.harness import run_virtual
from userpilot_async import Statistics
from userpilot_async.emulator import Fault

steps = st.lists(
    st.one_of(
        st.tuples(st.just("invalid"), st.integers(1, 40)),
        st.tuples(st.just("poison"), st.integers(1, 5)),
        st.tuples(st.just("fat"), st.integers(1, 5)),
        st.tuples(st.just("good"), st.integers(1, 40)),
        st.tuples(st.just("identify"), st.integers(1, 10)),
        st.tuples(st.just("silence"), st.sampled_from([0.0, 0.1, 1.0, 29.9, 30.0, 45.0, 200.0])),
    ),
    max_size=25,
)


async def live_through(happenings: list[tuple[str, Any]], latency: float, close_timeout: float) -> Statistics:
    emulator = virtual_emulator(latency=latency)
    emulator.faults.add(Fault(path="/v1/track", body_contains='"poison"', status=400, times=None))
    emulator.faults.add(Fault(path="/v1/track", body_contains='"fat"', status=413, times=None))
    client = client_of(
        emulator, on_invalid="dead", max_queue_calls=20, when_full="drop_newest",
        max_age=120.0, close_timeout=close_timeout,
    )  # fmt: skip
    async with client as userpilot:
        for what, much in happenings:
            if what == "silence":
                await anyio.sleep(much)
                continue
            for n in range(much):
                if what == "identify":
                    await userpilot.identify(f"u{n % 3}", {"n": n})
                else:
                    await userpilot.track("" if what == "invalid" else f"u{n % 3}", what, {"n": n})
    return client.statistics()


@settings(max_examples=40, deadline=None)
@given(steps, st.sampled_from([0.0, 0.1, 20.0]), st.sampled_from([0.0, 0.5, 60.0]))
def test_the_numbers_in_the_log_add_up_to_the_losses(
    happenings: list[tuple[str, Any]], latency: float, close_timeout: float
) -> None:
    logs: list[Log] = []

    async def scene() -> Statistics:
        with Log() as log:
            logs.append(log)
            return await live_through(happenings, latency, close_timeout)

    statistics = run_virtual(scene)

    assert losses_in(logs[0]) == statistics.reasons, logs[0].lines
    assert merged_in(logs[0]) == statistics.merged_lost, logs[0].lines

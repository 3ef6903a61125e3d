"""Row 80: whatever calls come in whatever order, the server holds what a plain model of them says (I4, I5)."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import Event, Model, judge, length, run_virtual, same_events, same_state
from tests.harness.stage.loops import client_of, running, virtual_emulator
from userpilot_async.emulator import Emulator, Fault

USERS = ("ann", "ben", "cem")
COMPANIES = ("acme", "beta")

properties = st.dictionaries(
    st.sampled_from(["plan", "seats", "note"]), st.sampled_from(["free", "pro", 1, 2.5, True, None]), max_size=3
)
companies = st.builds(
    lambda name, key, rest: {key: name, **rest},
    st.sampled_from(COMPANIES),
    st.sampled_from(["id", "company_id"]),
    properties,
)


@attrs.frozen
class Call:
    kind: str
    key: str = ""
    metadata: dict[str, Any] | None = None
    company: dict[str, Any] | None = None


calls = st.one_of(
    st.builds(Call, st.just("identify"), st.sampled_from(USERS), properties, st.none() | companies),
    st.builds(Call, st.just("track"), st.sampled_from(USERS)),
    st.builds(Call, st.just("identify_company"), st.sampled_from(COMPANIES), properties),
    st.builds(Call, st.sampled_from(["pause", "long pause", "flush"])),
)

PAUSES = {"pause": 0.3, "long pause": 90.0}

troubles = st.lists(
    st.builds(
        Fault,
        family=st.sampled_from(["track", "identify", "bulk", "jobs"]),
        skip=st.integers(0, 3),
        times=st.integers(1, 3),
    ).flatmap(
        lambda fault: st.sampled_from(
            [
                attrs.evolve(fault, status=503),
                attrs.evolve(fault, status=429, headers={"retry-after": "2"}),
                attrs.evolve(fault, cut="before"),
                attrs.evolve(fault, latency=20.0),
            ]
        )
    ),
    min_size=1,
    max_size=3,
)


def as_applied(emulator: Emulator) -> list[Event]:
    return [Event(event.user_id, event.event_name, event.metadata, event.company_id) for event in emulator.store.events]


async def play(script: list[Call], faults: list[Fault], bulk_threshold: int) -> int:
    """Make the calls, here and on the model, and compare. How many of the faults happened."""
    model, numbers = Model(), dict.fromkeys(USERS, 0)
    emulator = virtual_emulator(latency=0.05, speed=10.0)
    for fault in faults:
        emulator.faults.add(fault)
    client = client_of(emulator, bulk_threshold=bulk_threshold, close_timeout=7_200.0, concurrency=3)
    async with running(client) as userpilot:
        for call in script:
            if call.kind == "identify":
                await userpilot.identify(call.key, call.metadata, company=call.company)
                model.identify(call.key, call.metadata, company=call.company)
            elif call.kind == "identify_company":
                await userpilot.identify_company(call.key, call.metadata)
                model.identify_company(call.key, call.metadata)
            elif call.kind == "track":
                numbers[call.key] += 1
                await userpilot.track(call.key, "clicked", {"n": numbers[call.key]})
                model.track(call.key, "clicked", {"n": numbers[call.key]})
            elif call.kind == "flush":
                report = await userpilot.flush(7_200)
                assert report.complete
            else:
                await anyio.sleep(PAUSES[call.kind])
    statistics = client.statistics()
    emulator.advance()

    assert {} == statistics.lost_by_reason
    assert 0 == statistics.pending
    store = emulator.store
    # A company that was only ever named, on the user's way to the next one, need not be known to the server.
    model.companies = {name: properties for name, properties in model.companies.items() if properties}
    same_state(
        model,
        {user.user_id: user.properties for user in store.users.values()},
        {company.company_id: company.properties for company in store.companies.values() if company.properties},
        {user.user_id: user.company_id for user in store.users.values()},
    )
    same_events(model, as_applied(emulator), ambiguous_attempts=statistics.possible_duplicates)
    judge.per_user_order((event.user_id, event.metadata["n"]) for event in store.events)
    judge.conservation(statistics)
    return sum(armed.fired for armed in emulator.faults)


anything_goes = settings(max_examples=length.of(80), deadline=None)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(script=st.lists(calls, max_size=25), bulk_threshold=st.sampled_from([0, 1, 50]))
@anything_goes
def test_row_80_any_interleaving_ends_in_what_the_calls_say_one_after_the_other(
    backend: str, script: list[Call], bulk_threshold: int
) -> None:
    run_virtual(play, backend, script, [], bulk_threshold)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_row_80_any_interleaving_with_a_failing_server_ends_in_what_the_calls_say(backend: str) -> None:
    fired = 0

    @given(script=st.lists(calls, min_size=3, max_size=20), faults=troubles, bulk_threshold=st.sampled_from([0, 1, 50]))
    @anything_goes
    def any_script(script: list[Call], faults: list[Fault], bulk_threshold: int) -> None:
        nonlocal fired
        fired += run_virtual(play, backend, script, faults, bulk_threshold)

    any_script()

    assert fired > 0, "no fault happened: nothing was tested"

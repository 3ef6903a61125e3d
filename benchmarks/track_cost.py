"""The cost of one call to its caller."""

from __future__ import annotations

from array import array
from statistics import median
from time import perf_counter, perf_counter_ns

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.results import Figures, Row, best_of, column, interleaved
from benchmarks.sink import running_sink
from benchmarks.subjects import FLOOR, OPENINGS, OURS, PAUSE_EVERY, pause

NAME = "track_cost"
CALLS = 10_000  # every peer's queue holds so many by default
WARM_UP = 500


async def calls(subject: str, url: str) -> Figures:
    """Each call timed by itself, its arguments made outside of the time."""
    client = await OPENINGS[subject](url, 100_000 if subject == OURS else CALLS + WARM_UP)
    taken = array("Q")
    started = 0.0
    for number in range(WARM_UP + CALLS):
        if number == WARM_UP:
            taken = array("Q")
            started = perf_counter()
        user, properties = user_id(number % 1_000), event(number)
        if client.awaited:
            before = perf_counter_ns()
            await client.track(user, EVENT, properties)
            after = perf_counter_ns()
        else:
            before = perf_counter_ns()
            client.track(user, EVENT, properties)
            after = perf_counter_ns()
            if not number % PAUSE_EVERY:
                await pause()
        taken.append(after - before)
    elapsed = perf_counter() - started
    ordered = sorted(taken)
    return {
        "median": median(ordered) / 1_000,
        "p99": ordered[int(len(ordered) * 0.99)] / 1_000,
        "p99.9": ordered[int(len(ordered) * 0.999)] / 1_000,
        "mean": sum(ordered) / len(ordered) / 1_000,
        "with its sender": elapsed / CALLS * 1e6,
    }


def run(quick: bool) -> Row:
    with running_sink() as url:
        results = interleaved(OPENINGS, 3 if quick else 7, lambda subject: measure(calls, subject=subject, url=url))
    medians = column(results, "median")
    ours = results[OURS]
    half, steady = ours["median"] <= best_of(medians) / 2, ours["p99"] <= 3 * ours["median"]
    return Row(
        name=NAME,
        what="one track(), as its caller sees it: median",
        unit="µs",
        goal="≤ ½ of the best peer, p99 ≤ 3 × median",
        met=half and steady,
        figures=medians,
        notes=(
            f"ours is {ours['median'] / best_of(medians):.2f} of the best peer, "
            f"{ours['median'] / medians['snowplow']:.2f} of snowplow; p99 / median {ours['p99'] / ours['median']:.1f}",
            *(
                f"{name}: median {figures['median']:.1f}, p99 {figures['p99']:.1f}, p99.9 {figures['p99.9']:.0f}, "
                f"mean {figures['mean']:.1f}; with its arguments and its sender {figures['with its sender']:.1f}"
                for name, figures in results.items()
            ),
            f"{FLOOR}: a copy of the dict into a deque. mixpanel sends each 50th call's batch while that caller waits.",
        ),
    )

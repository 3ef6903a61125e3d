"""The processes of `demo --pods`: pods, which only put, and senders.

A pod puts its share of the calls into the outbox. A sender sends what is there, as `drain` does, and prints
its state on stdout until it is killed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio

from ..._client import UserpilotClient
from ..._settings import Settings
from ..._userpilot.calls import Call
from . import _app


async def put(url: str, place: str, sample: Path, pod: int, pods: int) -> None:
    """Put the share of pod number ``pod`` of ``pods`` into the outbox, and print its size."""
    async with client_of(url, f"{place}&sender=false") as client:
        share = shares(list(_app.calls(_app.lines_of(sample))), pods)[pod]
        for call in share:
            await client.enqueue(call)
        _app.print_state(client, put=len(share))


async def send(url: str, place: str) -> None:
    """Send what is in the outbox, while no other process does."""
    async with client_of(url, place) as client:
        await _app.keep_printing(lambda: _app.print_state(client))


def client_of(url: str, place: str) -> UserpilotClient:
    """A client, not open yet, for the server at ``url`` and the outbox at ``place``."""
    settings = Settings(burst=_app.BURST, when_full="wait", max_wait=None)
    return UserpilotClient("demo", region="us", base_url=url, outbox=place, settings=settings, disabled=False)


def shares(calls: Sequence[Call], pods: int) -> list[list[Call]]:
    """The calls, distributed over so many pods.

    All calls about a company, and about every user who was ever in it, go to the same pod. Otherwise the last value of
    a property would depend on which pod is quicker, and no comparison could say what is right.
    """
    leader: dict[str, str] = {}

    def find(one: str) -> str:
        while leader.setdefault(one, one) != one:
            one = leader[one]
        return one

    for call in calls:
        first, *others = map(find, _concerned(call))
        for other in others:
            leader[other] = first
    sizes = Counter(find(_concerned(call)[0]) for call in calls)
    dealt, pod_of = [0] * pods, dict[str, int]()
    for group, size in sizes.most_common():
        pod_of[group] = dealt.index(min(dealt))
        dealt[pod_of[group]] += size
    found: list[list[Call]] = [[] for _ in range(pods)]
    for call in calls:
        found[pod_of[find(_concerned(call)[0])]].append(call)
    return found


def _concerned(call: Call) -> list[str]:
    """Names of the user and the company that a call is about."""
    fields = call.as_dict()
    users = [f"user {fields['user_id']}"] if "user_id" in fields else []
    companies = (fields.get("company_id"), fields.get("company", {}).get("id"))
    return users + [f"company {one}" for one in companies if one is not None]


def main() -> None:
    """Run one process; its arguments are a role, two URLs, and a pod's share."""
    role, url, place, *rest = sys.argv[1:]
    if role == "send":
        anyio.run(send, url, place)
    else:
        sample, pod, pods = rest
        anyio.run(put, url, place, Path(sample), int(pod), int(pods))

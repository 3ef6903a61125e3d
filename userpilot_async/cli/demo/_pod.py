"""What `demo --pods` runs in processes of their own: pods that only put, and those that may send.

A pod puts its share of the calls into the outbox in Redis. A sender sends what is there, as `drain` does, and tells
each moment of its life on stdout, until it is killed.
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
    """Put this pod's share, and say so."""
    async with client_of(url, f"{place}&sender=false") as client:
        share = shares(list(_app.calls(_app.lines_of(sample))), pods)[pod]
        for call in share:
            await client.enqueue(call)
        _app.tell(client, put=len(share))


async def send(url: str, place: str) -> None:
    """Send, while nobody else does."""
    async with client_of(url, place) as client:
        await _app.tell_on(lambda: _app.tell(client))


def client_of(url: str, place: str) -> UserpilotClient:
    """Not open yet."""
    settings = Settings(burst=_app.BURST, when_full="wait", max_wait=None)
    return UserpilotClient("demo", region="us", base_url=url, outbox=place, settings=settings, disabled=False)


def shares(calls: Sequence[Call], pods: int) -> list[list[Call]]:
    """The calls, dealt out to so many pods.

    All that is said of a company, and of anybody who was ever in it, goes to the same one: the last word on each of
    them must not depend on which pod is quicker, or nobody could say what is right in the end.
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
    """The user, and the company, whichever it names."""
    said = call.as_dict()
    users = [f"user {said['user_id']}"] if "user_id" in said else []
    companies = (said.get("company_id"), said.get("company", {}).get("id"))
    return users + [f"company {one}" for one in companies if one is not None]


def main() -> None:
    """The process itself."""
    role, url, place, *rest = sys.argv[1:]
    if role == "send":
        anyio.run(send, url, place)
    else:
        sample, pod, pods = rest
        anyio.run(put, url, place, Path(sample), int(pod), int(pods))

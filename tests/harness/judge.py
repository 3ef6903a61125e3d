"""The judge: what must hold after every fault, decided from data alone.

Each function returns the worst value it measured, or raises `AssertionError` with a sentence about what went
wrong and where. The numbers I1 to I12 are those of the fault matrix. A judge that was shown nothing refuses.
"""

from __future__ import annotations

import base64
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import attrs

# Stamps are sums of floats: two that are 60 s apart may differ by 59.9999999. No limit is that sharp.
EPSILON = 1e-6

OUTCOMES = ("delivered", "dead", "dropped", "merged", "pending")


class Account(Protocol):
    """What a client's statistics must tell for the law of conservation."""

    @property
    def accepted(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def dead(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def merged(self) -> int: ...
    @property
    def pending(self) -> int: ...


def conservation(statistics: Account) -> int:
    """I1, by count: accepted = delivered + dead + dropped + merged + pending. Returns `accepted`."""
    counts = {name: getattr(statistics, name) for name in OUTCOMES}
    accounted = sum(counts.values())
    shown = " + ".join(f"{count} {name}" for name, count in counts.items())
    assert min(counts.values()) >= 0, f"a count below zero: {shown}"
    assert accounted == statistics.accepted, (
        f"{statistics.accepted} accepted, but {shown} = {accounted}: "
        f"{abs(statistics.accepted - accounted)} {'vanished' if accounted < statistics.accepted else 'too many'}"
    )
    return statistics.accepted


def conservation_by_id(accepted: Iterable[Hashable], outcomes: Mapping[str, Iterable[Hashable]]) -> int:
    """I1, by id: every accepted id has exactly one outcome, and nobody else has any. Returns how many."""
    where: dict[Hashable, list[str]] = defaultdict(list)
    for outcome, ids in outcomes.items():
        for identity in ids:
            where[identity].append(outcome)
    wanted = Counter(accepted)
    assert max(wanted.values(), default=1) == 1, f"accepted twice: {_some(i for i, n in wanted.items() if n > 1)}"
    vanished = [identity for identity in wanted if identity not in where]
    assert not vanished, f"{len(vanished)} accepted, but without an outcome: {_some(vanished)}"
    invented = [identity for identity in where if identity not in wanted]
    assert not invented, f"{len(invented)} with an outcome, but never accepted: {_some(invented)}"
    torn = {identity: names for identity, names in where.items() if len(names) > 1}
    assert not torn, f"{len(torn)} with more than one outcome: {_some(torn.items())}"
    return len(wanted)


def duplicates(applied: Iterable[Hashable], ambiguous_attempts: int) -> int:
    """I2: how often the server applied a mark once more than once; at most once per ambiguous attempt.

    `applied` are the marks that the test put into its calls, as the server has them. `ambiguous_attempts`
    counts calls whose answer was lost, as the *server's* side knows it; a bulk request counts with its rows.
    """
    twice = {mark: count - 1 for mark, count in Counter(applied).items() if count > 1}
    extra = sum(twice.values())
    assert extra <= ambiguous_attempts, (
        f"{extra} duplicates, but only {ambiguous_attempts} answers were lost; extra times by mark: "
        f"{_some(sorted(twice.items(), key=lambda item: -item[1]))}"
    )
    return extra


def nothing_lost(delivered: Iterable[Hashable], applied: Iterable[Hashable]) -> int:
    """I1, at the server: what the client calls delivered was applied there. Returns how many marks."""
    there = set(applied)
    claimed = set(delivered)
    missing = claimed - there
    assert not missing, f"{len(missing)} of {len(claimed)} delivered calls never reached the server: {_some(missing)}"
    return len(claimed)


@attrs.frozen
class WorstMinute:
    count: int
    start: float  # the stamp of its first request


def requests_in_any_minute(stamps: Iterable[float], limit: int = 600, window: float = 60.0) -> WorstMinute:
    """I3: no half-open window [t, t + 60 s) holds more than `limit` of the server's stamps."""
    worst = _most_in(stamps, window)
    assert worst.count <= limit, (
        f"{worst.count} requests in {window:g} s from {worst.start:.3f} on; the limit is {limit}"
    )
    return worst


def per_user_order(
    applied: Iterable[tuple[Hashable, int]], may_move_ahead: Callable[[Hashable, int], bool] | None = None
) -> int:
    """I4: each user's calls are first applied in the order of acceptance. Returns how many first applications.

    `applied` holds (user, sequence) in the server's order, where sequence numbers the user's calls as they
    were accepted; repeats are for `duplicates`. A merged row applies several, to be listed in ascending
    order. `may_move_ahead` names the identifies that may overtake a track (those that do not move the user
    to another company); they may overtake no identify, and nothing may overtake them.
    """
    seen: set[tuple[Hashable, int]] = set()
    latest_fixed: dict[Hashable, int] = {}
    latest: dict[Hashable, int] = {}
    for user, sequence in applied:
        if (user, sequence) in seen:
            continue
        seen.add((user, sequence))
        movable = may_move_ahead is not None and may_move_ahead(user, sequence)
        # A track overtaken by a movable identify is in order; an identify overtaken by anything is not.
        before = (latest if movable else latest_fixed).get(user, sequence)
        assert before <= sequence, f"user {user!r}: call {sequence} was first applied after call {before}"
        latest[user] = max(sequence, latest.get(user, sequence))
        if not movable:
            latest_fixed[user] = sequence
    return len(seen)


def identify_before_track(applied: Iterable[tuple[Hashable, str]]) -> int:
    """I4: the server saw an identify of each user before a track. Takes (user, "identify" | "track"), in order.

    For runs in which every user is identified first. Returns how many users there were.
    """
    known: set[Hashable] = set()
    for user, kind in applied:
        assert kind in ("identify", "track"), f"{kind!r} is neither 'identify' nor 'track'"
        assert kind == "identify" or user in known, f"user {user!r}: a track was applied before any identify"
        known.add(user)
    return len(known)


def within_bound(took: float, bound: float, grace: float = 1.0) -> float:
    """I6: a call that must return within `bound` did so, plus `grace`."""
    assert took <= bound + grace, f"took {took:.3f} s; its bound is {bound:g} s + {grace:g} s"
    return took


def alive_again(last_fault: float, applied: Iterable[float], within: float = 90.0) -> float:
    """I8: how long after the last fault the first fresh event was applied."""
    first = min((stamp for stamp in applied if stamp >= last_fault), default=None)
    assert first is not None, f"nothing was applied any more after the last fault at {last_fault:.3f}"
    assert first - last_fault <= within, (
        f"first applied {first - last_fault:.1f} s after the last fault, not {within:g}"
    )
    return first - last_fault


def no_canary(texts: Mapping[str, str | bytes], canaries: Collection[str]) -> int:
    """I9: no text holds a canary, plain or encoded. Returns how many texts were searched.

    `texts` by a name that helps to find them: "log", "repr(client)", a file's path. The message quotes the
    surroundings with the canary blacked out.
    """
    assert texts, "no text was searched"
    assert canaries, "no canary was looked for"
    assert all(len(canary) >= 6 for canary in canaries), "a canary under 6 characters turns up by chance"
    found = []
    for name, text in texts.items():
        read = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        for canary in canaries:
            for encoding, form in _forms(canary).items():
                at = read.find(form)
                if at >= 0:
                    around = read[max(0, at - 40) : at + len(form) + 40].replace(form, "█" * 6)
                    found.append(f"{name} holds a canary ({encoding}) at {at}: …{around}…")
                    break
    assert not found, "; ".join(found)
    return len(texts)


def one_job_at_a_time(jobs: Iterable[tuple[float, float | None]]) -> int:
    """I10: most bulk jobs at once, from (start, end) by the server's clock; an end of None is still to come.

    One that starts at the instant in which another ends is no overlap.
    """
    edges: list[tuple[float, int]] = []
    for start, end in jobs:
        assert end is None or end >= start, f"a job that ends ({end}) before it starts ({start})"
        edges.append((start, 1))
        if end is not None:
            edges.append((end, -1))
    running = most = 0
    for stamp, change in sorted(edges):
        running += change
        most = max(most, running)
        assert running <= 1, f"{running} bulk jobs at once at {stamp:.3f}"
    return most


def conflicts(stamps: Iterable[float], limit: int = 1, window: float = 5.0) -> int:
    """I10: most answers with status 409 in any 5 s."""
    worst = _most_in(stamps, window)
    assert worst.count <= limit, f"{worst.count} answers 409 within {window:g} s from {worst.start:.3f} on, not {limit}"
    return worst.count


def one_line_per_reason(lines: Iterable[tuple[float, str]], window: float = 30.0) -> int:
    """I12: most log lines of one reason in any 30 s, from (stamp, reason)."""
    by_reason: dict[str, list[float]] = defaultdict(list)
    for stamp, reason in lines:
        by_reason[reason].append(stamp)
    most = 0
    for reason, stamps in by_reason.items():
        worst = _most_in(stamps, window)
        assert worst.count <= 1, f"{worst.count} log lines of reason {reason!r} within {window:g} s, not 1"
        most = max(most, worst.count)
    return most


def losses_have_reasons(lost: int, reasons: Mapping[str, int]) -> int:
    """I12: each of the dead and dropped has one reason. Returns how many were lost."""
    assert all(reasons), f"an empty reason: {dict(reasons)}"
    assert sum(reasons.values()) == lost, f"{lost} lost, but {sum(reasons.values())} have a reason: {dict(reasons)}"
    return lost


def happened(counts: Mapping[str, int], *promised: str) -> int:
    """Every fault that the run promised did happen. Returns how often the rarest did."""
    missing = [name for name in promised if counts.get(name, 0) < 1]
    assert not missing, f"promised, but never happened: {', '.join(missing)}; seen: {dict(counts)}"
    return min((counts[name] for name in promised), default=0)


def _most_in(stamps: Iterable[float], window: float) -> WorstMinute:
    """The fullest half-open window: how many stamps, and its beginning."""
    worst = WorstMinute(0, 0.0)
    current: deque[float] = deque()
    for stamp in sorted(stamps):
        current.append(stamp)
        while stamp - current[0] >= window - EPSILON:
            current.popleft()
        if len(current) > worst.count:
            worst = WorstMinute(len(current), current[0])
    return worst


def _forms(canary: str) -> dict[str, str]:
    """The ways in which a secret is likely to end up in a text."""
    data = canary.encode()
    return {
        "plain": canary,
        "reversed": canary[::-1],
        "JSON": json.dumps(canary)[1:-1],
        "repr": repr(canary)[1:-1],
        "URL": quote(canary, safe=""),
        "hex": data.hex(),
        **{f"base64 at {shift}": _base64_inside(data, shift) for shift in range(3)},
    }


def _base64_inside(data: bytes, shift: int) -> str:
    """What base64 makes of `data` anywhere inside a longer text that puts it `shift` bytes off a triple."""
    whole = base64.b64encode(bytes(shift) + data).decode().rstrip("=")
    # The first characters mix in what comes before, the last one what comes after.
    start = (0, 2, 3)[shift]
    return whole[start : len(whole) - (1 if (shift + len(data)) % 3 else 0)]


def _some(items: Iterable[Any], most: int = 5) -> str:
    chosen = list(items)
    shown = ", ".join(repr(item) for item in chosen[:most])
    return shown + (f", … ({len(chosen)} in all)" if len(chosen) > most else "")

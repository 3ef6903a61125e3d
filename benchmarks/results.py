"""Rows of the table, and how rounds become one figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

import attrs

from benchmarks.subjects import FLOOR, OURS, POSTHOG

Figures = dict[str, float]


@attrs.frozen(kw_only=True)
class Row:
    """A measurement beside those of its peers."""

    name: str
    what: str
    unit: str
    goal: str
    met: bool | None
    """Whether the goal is met; ``None`` where there is none."""
    figures: Mapping[str, float]
    """By subject; more is better if ``more_is_better``."""
    more_is_better: bool = False
    notes: tuple[str, ...] = ()

    @property
    def best_peer(self) -> str | None:
        """The best subject, leaving out ours and the floor."""
        peers = [name for name in self.figures if name not in (OURS, FLOOR) and not name.startswith("(")]
        best = max if self.more_is_better else min
        return best(peers, key=lambda name: self.figures[name]) if peers else None

    def shown(self, subject: str | None) -> str:
        if subject is None or subject not in self.figures:
            return "–"
        value = self.figures[subject]
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    def cells(self) -> tuple[str, ...]:
        best = self.best_peer
        shown_best = f"{self.shown(best)} ({best})" if best is not None else "–"
        met = {True: "met", False: "NOT MET", None: "–"}[self.met]
        return (
            f"{self.what} [{self.unit}]", self.shown(OURS), shown_best, self.shown(POSTHOG), self.shown(FLOOR),
            self.goal, met,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)


HEADINGS = ("what", "ours", "best peer", "AsyncPosthog", "floor", "goal", "")


Rounds = Mapping[str, list[Mapping[str, float]]]
"""What each round has measured of each subject."""


def interleaved(subjects: Iterable[str], rounds: int, once: Callable[[str], Mapping[str, float]]) -> dict[str, Figures]:
    """Medians by subject and figure, of `in_rounds`."""
    return medians(in_rounds(subjects, rounds, once))


def in_rounds(subjects: Iterable[str], rounds: int, once: Callable[[str], Mapping[str, float]]) -> Rounds:
    """All figures. Round by round, so that a slow minute of the machine meets everybody."""
    names = list(subjects)
    seen: dict[str, list[Mapping[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            seen[name].append(once(name))
    return seen


def medians(seen: Rounds) -> dict[str, Figures]:
    """Medians by subject and figure."""
    return {
        name: {figure: median(round_[figure] for round_ in results) for figure in results[0]}
        for name, results in seen.items()
    }


def ratios(seen: Rounds, subject: str, beside: str, figure: str) -> list[float]:
    """A subject's figure as a share of another one's, in each round; the lowest first."""
    return sorted(one[figure] / other[figure] for one, other in zip(seen[subject], seen[beside], strict=True))


def with_spread(shares: list[float]) -> str:
    """The median of some ratios, and how far they are apart."""
    return f"{median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f} in {len(shares)} rounds)"


def column(results: Mapping[str, Figures], figure: str) -> Figures:
    """A figure, measured for each of the subjects."""
    return {name: figures[figure] for name, figures in results.items()}


def best_of(figures: Mapping[str, float], more_is_better: bool = False) -> float:
    """The figure of the best peer."""
    peers = [value for name, value in figures.items() if name not in (OURS, FLOOR) and not name.startswith("(")]
    return max(peers) if more_is_better else min(peers)

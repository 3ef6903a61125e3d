"""A cost at several sizes, and whether it grows faster than they do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import attrs

from benchmarks.results import Figures

LINEAR = 1.25  # the steepest slope of a line on log-log paper that passes for linear: two runs differ by a third


@attrs.frozen
class Measured:
    """The unit of a figure, and how much of it there may be."""

    figure: str
    what: str
    unit: str
    most: float | None = None
    """The most that is fine at any size; ``None`` if only the growth counts."""
    per_item: bool = False
    """The figure is a share of each item, and linear growth of the whole is a line without a slope."""
    is_rate: bool = False
    """More is better."""


@attrs.frozen(kw_only=True)
class Series:
    """Figures by size."""

    name: str
    of: str
    """The things that there are so many of."""
    figures: Mapping[int, Figures]
    measured: Sequence[Measured]
    notes: Sequence[str] = ()

    def points(self, one: Measured) -> list[tuple[int, float]]:
        return [(size, figures[one.figure]) for size, figures in self.figures.items() if one.figure in figures]

    def slope(self, one: Measured) -> float | None:
        """The exponent of the whole's growth over the upper half of the sizes; ``None`` where it is too small to say.

        Of the upper half: what each process costs before the first call hides the growth of the rest.
        """
        points = [(size, value) for size, value in self.points(one) if value > 0][-2:]
        if len(points) < 2:
            return None
        (small, before), (large, after) = points
        return math.log(after / before) / math.log(large / small) + one.per_item

    def verdict(self, one: Measured) -> str:
        """How the figure grows, and whether it is ever more than it may be, in a few words."""
        slope = self.slope(one)
        if one.is_rate and slope is not None:
            return f"n^{slope:.2f}" + (": FALLS FAST" if slope < 1 - LINEAR else "")
        grows = "" if slope is None else f"n^{slope:.2f}"
        if one.most is not None:
            worst = max((value for _, value in self.points(one)), default=0.0)
            return f"{grows}; {'met' if worst <= one.most else 'NOT MET'}: ≤ {one.most:g}".lstrip("; ")
        return grows if slope is None or slope <= LINEAR else f"{grows}: MORE THAN LINEAR"


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown_size(size: int) -> str:
    for name, unit in (("M", 1_000_000), ("k", 1_000)):
        if size >= unit:
            return f"{size / unit:g}{name}"
    return str(size)

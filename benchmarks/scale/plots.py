"""Costs against sizes as pictures, both axes logarithmic: a line as steep as the grey ones grows as its size does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scale.series import Measured, Series

ABREAST = 3  # fields beside one another


def write(folder: Path, all_series: Sequence[Series]) -> list[Path]:
    """A picture for each series, with a field for each unit. Raises `ImportError` without matplotlib."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]  # only for these pictures

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder, series) for series in all_series]


def _write(folder: Path, series: Series) -> Path:
    from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

    units: dict[str, list[Measured]] = {}
    for one in series.measured:
        units.setdefault(one.unit, []).append(one)
    lines = -(-len(units) // ABREAST)
    figure, fields = pyplot.subplots(lines, ABREAST, figsize=(4.6 * ABREAST, 4.2 * lines), squeeze=False)
    for field in fields.flat[len(units) :]:
        field.set_axis_off()
    for field, (unit, measured) in zip(fields.flat, units.items(), strict=False):
        _draw(field, series, unit, measured)
    figure.suptitle(f"{series.name}: cost against {series.of}")
    figure.tight_layout()
    path = folder / f"{series.name.replace(' ', '_')}.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path


def _draw(field: Any, series: Series, unit: str, measured: Sequence[Measured]) -> None:
    floor = 1e-3
    for one in measured:
        points = series.points(one)
        field.plot(
            *zip(*((size, max(value, floor)) for size, value in points), strict=True), marker="o", label=one.what
        )
    if not any(one.per_item or one.is_rate for one in measured):
        size, value = min((point for one in measured for point in series.points(one)), key=lambda point: point[0])
        ends = [size, max(series.figures)]
        field.plot(ends, [max(value, floor) * end / size for end in ends], color="lightgrey", zorder=0, label="linear")
    for most in {one.most for one in measured if one.most is not None}:
        field.axhline(most, color="tab:red", linewidth=0.8, linestyle="--")
    field.set(xscale="log", yscale="log", xlabel=series.of, ylabel=unit)
    field.grid(True, which="major", alpha=0.3)
    field.legend(fontsize=7)

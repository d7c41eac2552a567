"""Ratios with their intervals below one another, such as those of a comparison, and the margin that counts as equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.report.figures import log_axes, marks, panels
from bench.report.layout import broken
from bench.report.style import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGHER, LOWER, OPEN = "#d55e00", "#0173b2", "#777777"
MOST_ROWS = 150


class Ratio(NamedTuple):
    """A ratio to be drawn.

    Args:
        label: what is compared, at the left of the row.
        value: the ratio, positive.
        low: lower limit of its 95 % interval.
        high: upper limit of its 95 % interval; None or infinity if there is none.
        differs: whether the verdict is that the ratio differs from 1.
    """

    label: str
    value: float
    low: float
    high: float | None
    differs: bool


def forest(
    rows: Sequence[Ratio], axis: str, *, margin: float | None = None, title: str = "", width: float = 6.75
) -> Figure | None:
    """Draw a row for each ratio: its estimate and its interval, on a logarithmic axis.

    A ratio that differs from 1 is a filled triangle. It points to the right for a ratio above 1, and to the left for a
    ratio below 1. Any other ratio is a hollow circle. An interval without an upper limit ends in an arrow. Return None
    if there is no row. If there are more than 150 rows, the 150 with ratios farthest from 1 are drawn, in the given
    order.

    Args:
        rows: the ratios.
        axis: name of the ratio, such as ``variance of B / variance of A``.
        margin: ratios between 1 / (1 + margin) and 1 + margin, which count as equal to 1, are shaded; None shades
            nothing.
        title: title of the figure.
        width: width of the figure in inches.
    """
    from matplotlib.figure import Figure

    if not rows:
        return None
    farthest = sorted(rows, key=lambda row: -abs(math.log(row.value)))[:MOST_ROWS]
    if len(rows) > MOST_ROWS:
        title += f" The {MOST_ROWS} of {len(rows)} ratios that are farthest from 1."
    rows = [row for row in rows if row in farthest]
    labels = [broken(row.label, int(6 * width)) for row in rows]
    heights = np.array([0.22 + 0.13 * label.count("\n") for label in labels])
    places = np.cumsum(heights) - heights / 2
    figure = Figure(figsize=(width, float(heights.sum()) + 1.0), layout="constrained")
    ax = figure.subplots()
    for y, row in zip(places, rows, strict=True):
        side = (">", HIGHER) if row.value > 1 else ("<", LOWER)
        marker, colour = side if row.differs else ("o", OPEN)
        ax.plot(row.value, y, linestyle="none", **marks.marker(Style(colour, marker, ()), hollow=not row.differs))
        marks.whisker(ax, (row.low, y), (row.value, y), colour)
        if row.high is None or math.isinf(row.high):
            marks.arrow(ax, row.value, y, colour, (17, 0))
        else:
            marks.whisker(ax, (row.value, y), (row.high, y), colour)
    ends = [1.0, 1 + (margin or 0.0), 1 / (1 + (margin or 0.0)), *ax.dataLim.intervalx]
    low, high = math.log10(min(ends)), math.log10(max(ends))
    spare = max(0.08 * (high - low), 0.02)
    ax.set_xscale("log")
    ax.set_xlim(10 ** (low - spare), 10 ** (high + spare))
    log_axes.ticks(ax.xaxis, _values(low - spare, high + spare))
    ax.axvline(1.0, color="#222222", linewidth=0.9, zorder=1)
    if margin is not None:
        ax.axvspan(1 / (1 + margin), 1 + margin, color="#e9e9e9", linewidth=0, zorder=0)
    ax.set_ylim(float(heights.sum()), 0)
    ax.set_yticks(places, labels)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(axis)
    if title:
        panels.entitle(figure, title)
    return figure


def _values(low: float, high: float) -> list[float]:
    """Return round values between 10^low and 10^high, also if these are close to each other."""
    if high - low >= 1:
        return log_axes.decades(low, high)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if (10**high - 10**low) / s <= 6 or s == 2.0)
    return [round(k * step, 2) for k in range(math.ceil(10**low / step), math.floor(10**high / step) + 1)]

"""What the figures share: the look, small multiples, points with their intervals, labels that keep out of each other's way."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench.report.style import Style, order, styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#8a8a8a"
LOOK: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "svg.hashsalt": "bench.report",
    "svg.fonttype": "path",
}
MOST_PANELS = 24
WIDE = 3.3


def multiples(problems: Sequence[str], title: str, note: str = "", height: float = 2.7) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with one panel per problem, at most four in a row, the problem as its title."""
    from matplotlib.figure import Figure

    columns = min(4 if len(problems) > 4 else 3, len(problems))
    rows = math.ceil(len(problems) / columns)
    figure = Figure(figsize=(max(WIDE * columns, 5.5), height * rows + 1.0), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(problems) :]:
        spare.remove()
    axes = dict(zip(problems, grid, strict=False))
    for problem, ax in axes.items():
        ax.set_title("\n".join(textwrap.wrap(problem, 40)), loc="left")
    figure.suptitle("\n".join(filter(None, (title, note))), fontsize=9.5, x=0.01, ha="left")
    return figure, axes


def chosen(problems: Iterable[str], counts: dict[str, int]) -> tuple[list[str], str]:
    """Return at most 24 problems, those with the most estimators, in their order, and a note where some are left out."""
    names = list(dict.fromkeys(problems))
    if len(names) <= MOST_PANELS:
        return names, ""
    kept = set(sorted(names, key=lambda name: -counts[name])[:MOST_PANELS])
    return [n for n in names if n in kept], f"The {MOST_PANELS} of {len(names)} objectives with the most estimators."


def estimate(row: Any) -> tuple[float, float, float]:
    """Return variance, lower and upper limit to draw; a lower limit alone is (low, low, NaN), for an open upper end."""
    if row.heavy:
        return row.variance_low, row.variance_low, math.nan
    return row.variance, row.variance_low, row.variance_high


def mark(ax: Axes, x: float, y: float, style: Style, hollow: bool, *, size: float = 6.0) -> None:
    """Draw one estimate: a filled marker, hollow where it is biased."""
    ax.plot(
        [x], [y], marker=style.marker, markersize=size, color=style.colour, linestyle="none", zorder=3,
        markerfacecolor="white" if hollow else style.colour, markeredgecolor=style.colour if hollow else "white",
        markeredgewidth=1.2 if hollow else 0.5,
    )  # fmt: skip


def whisker(ax: Axes, x: float, y: float, low: float, high: float, colour: str, *, along: str = "y") -> None:
    """Draw an interval as an error bar; a NaN end is an arrow, for an interval without that end."""
    step = {"y": (0, 14), "x": (14, 0)}[along]
    for end, sign in ((low, -1), (high, 1)):
        if math.isnan(end):
            ax.annotate(
                "", xy=(sign * step[0], sign * step[1]), xytext=(x, y), xycoords=("data", "data"),
                textcoords="data", arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.0},
            ) if False else _arrow(ax, x, y, sign * step[0], sign * step[1], colour)  # fmt: skip
        else:
            xs, ys = ([x, x], [y, end]) if along == "y" else ([x, end], [y, y])
            ax.plot(xs, ys, color=colour, linewidth=1.0, solid_capstyle="butt", zorder=2)


def _arrow(ax: Axes, x: float, y: float, dx: float, dy: float, colour: str) -> None:
    """Draw an arrow of fixed length on paper: dx, dy in points."""
    ax.annotate(
        "", xy=(dx, dy), xycoords="offset points", xytext=(x, y), textcoords="data",
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.0, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip

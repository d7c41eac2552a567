"""Squared bias against variance, both relative to the squared norm of the exact gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.report.figures import log_axes, marks, notes, panels
from bench.report.figures.drawing import Drawing
from bench.report.frame import each
from bench.report.style import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = """Squared bias and variance of one estimate, relative to the squared norm of the exact gradient
Dotted lines: equal mean squared error. Bars: 95 % intervals. Arrow to the right: no upper limit.
Tick at the lower edge: no bias was found. The grey bar ends at its upper bound, which grows with the noise."""

SIGNS = (
    "hollow: biased, or not shown to be unbiased",
    "larger: more samples n",
    "at the edge: variance 0, with an arrow: unknown",
)


def bias_variance(table: pd.DataFrame) -> Drawing | None:
    """Plot squared bias against variance, with a panel for each objective on which a bias was found.

    A significant bias is drawn as its estimate with an interval. A bias that is not significant is a tick at the lower
    edge of the panel. A grey bar goes from this tick up to the upper bound of the squared bias.

    Return None if no bias was found on any objective. ``table`` is the frame that ``bench.report.prepared.prepared``
    returns.
    """
    table = table[(table["exact_norm"] > 0) & (table["bias_bound"] > 0) & (table["variance_low"] >= 0)]
    table = table[~((table["variance"] == 0) & ~table["biased"])]  # exact: on neither axis
    table = table[(table["variance_low"] > 0).groupby(table["problem"]).transform("any")]
    table = table[table["biased"].groupby(table["problem"]).transform("any")]
    if table.empty:
        return None
    problems, note = panels.chosen(table)
    table, thinned = panels.thinned(table[table["problem"].isin(problems)])
    return Drawing(_draw, (table, problems, TITLE + note + thinned))


def _draw(table: pd.DataFrame, problems: Sequence[str], title: str) -> Figure:
    figure, axes = panels.panels(problems, title)
    look = styles(list(table["estimator_name"]))
    texts: dict[Axes, list[notes.Point]] = {}
    ticks: dict[Axes, list[tuple[float, tuple[str, str]]]] = {}
    for problem, ax in axes.items():
        for row in each(table[table["problem"] == problem]):
            style, scale = look[row.estimator_name], 1 / row.exact_norm**2
            x, x_low, x_high = (scale * v for v in marks.limits(row))
            found = row.bias_low > 0 or x == 0
            y = scale * (max(row.bias_squared, row.bias_low**2) if row.bias_low > 0 else row.bias_norm**2)
            if found:
                marks.mark(ax, x, y, row, style, edge="x" if x == 0 else None)
            else:
                marks.unfound(ax, x, scale * row.bias_bound**2, style)
                if math.isnan(x_high):
                    marks.arrow(ax, x, 0, style.colour, (17, 0), edge="y")
            if row.bias_low > 0:
                marks.whisker(ax, (x, scale * row.bias_low**2), (x, scale * row.bias_bound**2), style.colour)
            if x == 0 and row.heavy:
                marks.arrow(ax, x, y, style.colour, (17, 0), edge="x")
            if found and x_low > 0:
                marks.whisker(ax, (x, y), (x_low, y), style.colour)
                if math.isnan(x_high):
                    marks.arrow(ax, x, y, style.colour, (17, 0))
                else:
                    marks.whisker(ax, (x, y), (x_high, y), style.colour)
                arrows = ((17, 0),) if math.isnan(x_high) else ()
                texts.setdefault(ax, []).append(notes.Point(x, y, row.parameters, style.colour, arrows))
            elif x_low > 0:
                ticks.setdefault(ax, []).append((x, (row.parameters, style.colour)))
        log_axes.logarithmic(ax)
        _equal_errors(ax)
        edge = ax.get_ylim()[0]
        texts.setdefault(ax, []).extend(notes.Point(x, edge, *text) for x, text in ticks.get(ax, ()))
    panels.label(axes, "variance / ‖exact gradient‖²", "squared bias / ‖exact gradient‖²")
    marks.legend(figure, table, *SIGNS[: 3 if (table["variance_low"] == 0).any() else 2])
    panels.settle(figure)
    notes.annotate(figure, texts)
    return figure


def _equal_errors(ax: Axes) -> None:
    """Draw the curves squared bias + variance = 10^k that cross the panel."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    for decade in range(math.floor(math.log10(max(left, bottom))), math.ceil(math.log10(right + top)) + 1):
        total = 10.0**decade
        small = total * np.geomspace(min(left, bottom, total / 10) / total, 0.5, 80)
        rest = total - small
        for x, y in ((small, rest), (rest, small)):
            ax.plot(x, y, color="#aaaaaa", linewidth=0.8, linestyle=":", zorder=0)

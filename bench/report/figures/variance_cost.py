"""Variance of one estimate against its cost, with the efficient front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.figures import log_axes, marks, notes, panels, theme
from bench.report.figures.drawing import Drawing
from bench.report.frame import each
from bench.report.style import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = """Variance of one estimate against its cost
Black steps: the efficient front of the unbiased. Grey lines: equal variance × cost. Bars: 95 % intervals.
A marker that would cover another one stands at its right."""

AXIS = {"seconds": "seconds per estimate", "evaluations": "evaluations of f and ∇f per estimate"}

SIGNS = (
    "hollow: biased, or not shown to be unbiased",
    "larger: more samples n",
    "arrow: no upper limit",
    "at the edge: variance 0, with an arrow: unknown",
)


def front(prices: Sequence[float], variances: Sequence[float]) -> list[int]:
    """Return the indices of the points (price, variance) that no other point beats, sorted by price, the lowest first.

    A point beats a second point if its price or its variance is lower, and neither is higher. Of equal points, the
    first is kept.
    """
    kept: list[int] = []
    for i in sorted(range(len(prices)), key=lambda i: (prices[i], variances[i])):
        if not kept or variances[i] < variances[kept[-1]]:
            kept.append(i)
    return kept


def variance_cost(table: pd.DataFrame) -> Drawing | None:
    """Plot variance against cost, with a panel for each objective that has a variance above zero and a cost.

    Return None if there is no such objective. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    table = table[(table["price"] > 0) & (table["variance_low"] >= 0)]
    table = table[(table["variance_low"] > 0).groupby(table["problem"]).transform("any")]
    if table.empty:
        return None
    problems, note = panels.chosen(table)
    table, thinned = panels.thinned(table[table["problem"].isin(problems)])
    return Drawing(_draw, (table, problems, TITLE + note + thinned))


def _draw(table: pd.DataFrame, problems: Sequence[str], title: str) -> Figure:
    figure, axes = panels.panels(problems, title)
    look = styles(list(table["estimator_name"]))
    texts: dict[Axes, list[notes.Point]] = {}
    fronts: dict[Axes, notes.Steps] = {}
    for problem, ax in axes.items():
        group = table[table["problem"] == problem]
        rows = each(group)
        for row, x in zip(rows, marks.apart([(row.price, marks.limits(row)[0]) for row in rows]), strict=True):
            style = look[row.estimator_name]
            marks.interval(ax, x, row, style)
            value = marks.limits(row)[0]
            if value > 0:
                marks.whisker(ax, (row.price_low, value), (row.price_high, value), style.colour)
                texts.setdefault(ax, []).append(notes.Point(x, value, row.parameters, style.colour))
        log_axes.logarithmic(ax)
        fronts[ax] = draw_front(ax, group[group["fair"] & ~group["heavy"]])
        _equal_products(ax)
    units = {problem: AXIS[unit] for problem, unit in zip(table["problem"], table["unit"], strict=True)}
    one = next(iter(units.values())) if len(set(units.values())) == 1 else None
    panels.label(axes, one or units, "variance of one estimate (squared units of the gradient)")
    needed = (True, True, table["variance_high"].isna().any(), (table["variance_low"] == 0).any())
    marks.legend(figure, table, *itertools.compress(SIGNS, needed))
    panels.settle(figure)
    notes.annotate(figure, texts, fronts)
    return figure


def draw_front(ax: Axes, group: pd.DataFrame) -> notes.Steps:
    """Draw the efficient front as steps, and return their corners, pairs (price, variance).

    A run is on the front unless another run in ``group`` is better in price or variance, and no worse in the other.
    From the price of one run on the front to the price of the next, the step stays at the variance of the first.
    ``group`` has a row for each run (measurement of an estimator) on one objective.
    """
    if group.empty:
        return []
    prices, variances = list(group["price"]), list(group["variance"])
    kept = front(prices, variances)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    xs, ys = [prices[i] for i in kept], [max(variances[i], bottom) for i in kept]
    xs, ys = [xs[0], *xs, right], [top, *ys, ys[-1]]
    ax.plot(xs, ys, drawstyle="steps-post", color="#222222", linewidth=0.9, zorder=1)
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    return [corner for x, y, before in zip(xs, ys, ys[:1] + ys[:-1], strict=True) for corner in ((x, before), (x, y))]


def _equal_products(ax: Axes) -> None:
    """Draw the lines price × variance = 10^k that cross the panel, at most a dozen."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    first, last = math.floor(math.log10(left * bottom)), math.ceil(math.log10(right * top))
    for decade in range(first, last + 1, max(1, (last - first) // 8)):
        ax.plot([left, right], [10.0**decade / left, 10.0**decade / right], color=theme.GRID, linewidth=0.7, zorder=0)

"""The bias in two parts: the scale of the mean gradient, and its angle to the exact gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.report.figures import log_axes, marks, notes, panels
from bench.report.figures.drawing import Drawing
from bench.report.frame import each
from bench.report.style import styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = """Scale and angle of the biased mean gradients
Dotted line: the scale is right. Lower edge: the direction is right. Bars: 95 % intervals."""
SIGNS = ("larger: more samples n", "grey bar: no turn was found up to its end")
MARGIN = 0.08
"""Free space at each end of an axis, as a fraction of its range."""
WIDE = 10.0
"""Scales that differ by a larger factor are on a logarithmic axis."""


def direction(table: pd.DataFrame) -> Drawing | None:
    """Plot the direction of biased gradients, with a panel for each objective on which a bias was found.

    Let g be the mean gradient of an estimator, and g* the exact gradient. The vertical axis has the angle between g and
    g*. The horizontal axis has the scale, the component of g along g* divided by the norm of g*.

    Only estimators with a bias are drawn. The interval of the angle is a bar, which is grey if the test found no wrong
    direction. Return None if no bias was found in a gradient of two or more coordinates, or if the records are too old
    to have angles. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    table = table[table["biased"] & (table["angle"] >= 0) & table["scale"].notna()]
    if table.empty:
        return None
    problems, note = panels.chosen(table)
    table, thinned = panels.thinned(table[table["problem"].isin(problems)])
    return Drawing(_draw, (table, problems, TITLE + note + thinned))


def _draw(table: pd.DataFrame, problems: Sequence[str], title: str) -> Figure:
    figure, axes = panels.panels(problems, title)
    look = styles(list(table["estimator_name"]))
    texts: dict[Axes, list[notes.Point]] = {}
    for problem, ax in axes.items():
        for row in each(table[table["problem"] == problem]):
            style, at = look[row.estimator_name], (row.scale, row.angle)
            marks.mark(ax, *at, row, style)
            if not math.isnan(row.scale_low):
                marks.whisker(ax, (row.scale_low, row.angle), (row.scale_high, row.angle), style.colour)
            if not math.isnan(row.angle_high):
                colour = style.colour if row.angle_low > 0 else marks.UNFOUND
                marks.whisker(ax, (row.scale, row.angle_low), (row.scale, row.angle_high), colour)
            texts.setdefault(ax, []).append(notes.Point(*at, row.parameters, style.colour))
        _limits(ax)
    panels.label(axes, "scale", "angle, degrees")
    marks.legend(figure, table, *SIGNS)
    panels.settle(figure)
    notes.annotate(figure, texts)
    return figure


def _limits(ax: Axes) -> None:
    """Show all bars, the scale 1 with a dotted line, and the angle 0 at the lower edge.

    Scales of one sign that differ by more than a factor of ten are on a logarithmic axis.
    """
    low, high = ax.dataLim.intervalx
    low, high = min(low, 1.0), max(high, 1.0)
    ax.axvline(1.0, color="#888888", linewidth=0.8, linestyle=":", zorder=0)
    if low > 0 and high > WIDE * low:
        low, high = math.log10(low), math.log10(high)
        room = MARGIN * (high - low)
        ax.set_xscale("log")
        ax.set_xlim(10 ** (low - room), 10 ** (high + room))
        log_axes.ticks(ax.xaxis, log_axes.decades(low - room, high + room))
    else:
        room = MARGIN * max(high - low, 0.05)
        ax.set_xlim(low - room, high + room)
    ax.set_ylim(0, (1 + MARGIN) * max(ax.dataLim.intervaly[1], 1.0))

"""Every estimator on every objective at a glance: variance relative to the best unbiased estimator's variance."""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records.lines import Outcome
from bench.report import relative
from bench.report.figures import panels, theme
from bench.report.frame import each

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 14
"""Most objectives that are all drawn, of each the smallest and the largest dimension included."""
MOST_NAMES = 50
"""Most columns of a study whose objectives have many names."""
LEAST = 0.36
"""Least width of a column in print, in inches."""
CORNER = [(0, 0), (1, 0), (0, -1)]
"""A marker: a triangle whose upper left corner is at the point."""
ABSENT, FAILED, BIASED, EXACT = "#e3e3e3", "#c1272d", "#d55e00", "#cfe8d5"


def heatmap(table: pd.DataFrame) -> Figure | None:
    """Draw a map of relative variances, with a row for each estimator and a column for each objective.

    A relative variance is the variance divided by the lowest variance of an unbiased estimator on the objective. If no
    estimator is unbiased, it is divided by the lowest variance of all. Estimators that fit no objective are left out.
    Return None if there is no variance, or only one objective. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.

    If there are more than 14 objectives, only some are drawn, and the title says which. Objectives that differ only in
    parameters form a group. Of each group, the objectives with the smallest and the largest dimension are drawn. If
    these are still more than 14, only the largest of each group is drawn, for at most 50 groups. At most 150 estimators
    are drawn: those that were measured on the largest number of the drawn objectives.
    """
    if not (table["variance_low"] >= 0).any():
        return None
    run = table[table["outcome"] != Outcome.SKIPPED]
    found, note = _columns(run)
    columns = theme.in_order(found)
    if len(columns) < 2:
        return None
    run, skips = run[run["problem"].isin(columns)], table[table["outcome"] == Outcome.SKIPPED]
    estimators, left_out = relative.rows(run)
    rows = theme.in_order(estimators)
    bases = {column: relative.base(run[run["problem"] == column]) for column in columns}
    cells = {(r.estimator, r.problem): r for r in each(run)}
    skipped = set(zip(skips["estimator"], skips["objective"], strict=True))
    objective = dict(zip(run["problem"], run["objective"], strict=True))
    across = _across(rows, len(columns))
    parts = [columns[i : i + across] for i in range(0, len(columns), across)]
    filled = [[row for row in rows if any((row, column) in cells for column in part)] for part in parts]
    figure, axes = _grid(parts, filled)
    for ax, part, held in zip(axes, parts, filled, strict=True):
        colours = np.full((len(held), len(part)), np.nan)
        ax.set(xlim=(0, len(part)), ylim=(len(held), 0))
        for (i, row), (j, column) in itertools.product(enumerate(held), enumerate(part)):
            cell = cells.get((row, column))
            if cell is not None and cell.outcome == Outcome.MEASURED:
                text, colours[i, j] = relative.ratio(cell, bases[column][0])
                if math.isnan(colours[i, j]):
                    _sign(ax, i, j, text or "≥", *(("#1a1a1a", EXACT) if cell.exact else ("#777777", ABSENT)))
                else:
                    ink = relative.ink(colours[i, j])
                    _text(ax, i, j, text, color=ink, fontsize=7.5 if theme.page() == theme.PAGE else 5)
                if not cell.fair:
                    _corner(ax, i, j, filled=cell.biased)
            elif cell is not None and cell.outcome == Outcome.FAILED:
                _sign(ax, i, j, "×", FAILED)
            elif (row, objective[column]) in skipped:
                _sign(ax, i, j, "–", "#777777")
        mesh = ax.pcolormesh(
            colours, cmap=relative.COLOURS, vmin=0, vmax=relative.DECADES, edgecolors="white", linewidth=1.0
        )
        ax.set_xticks(np.arange(len(part)) + 0.5, [_label(c if bases[c][1] else f"{c} †") for c in part])
        ax.set_yticks(np.arange(len(held)) + 0.5, map(_label, held))
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelsize=8.5 if theme.page() == theme.PAGE else 5.6)
        for label in ax.get_xticklabels():
            label.set(rotation=38, ha="right", rotation_mode="anchor")
    name = "times the variance of the best"
    if theme.page() < theme.PAGE:
        gap = 0.1 / figure.get_figheight()
        bar = figure.colorbar(mesh, ax=axes, location="bottom", extend="both", aspect=30, pad=gap, label=name)
    else:
        bar = figure.colorbar(mesh, ax=axes, extend="both", shrink=0.9, aspect=25, label=name)
    bar.set_ticks(range(relative.DECADES + 1), labels=[f"{10**k:,}" for k in range(relative.DECADES + 1)])
    bar.outline.set_visible(False)
    dagger = "" if all(unbiased for _, unbiased in bases.values()) else " † no unbiased one: over the lowest measured."
    panels.entitle(figure, f"{relative.TITLE}\n{relative.NOTE}{dagger}{note}{left_out}")
    _legend(figure)
    return figure


def _across(rows: list[str], columns: int) -> int:
    """Return the number of columns of a part of the map: all, or in print as many as fit beside the rows' labels."""
    if theme.page() == theme.PAGE:
        return columns
    room = theme.page() - 0.043 * max(len(line) for row in rows for line in _label(row).split("\n")) - 0.2
    most = max(1, int(room / LEAST))
    return -(-columns // -(-columns // most))


def _label(text: str) -> str:
    """Return the label of a row or a column, broken into lines: those of 24 letters in print, of 42 on the screen."""
    return theme.in_lines(text) if theme.page() == theme.PAGE else theme.in_lines(text, 24)


def _grid(columns: list[list[str]], rows: list[list[str]]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a part for each list of columns and each list of rows, and the parts' axes."""
    from matplotlib.figure import Figure

    counts = list(map(len, rows))
    if theme.page() == theme.PAGE:
        across, down = (max(_label(label).count("\n") for label in labels[0]) for labels in (columns, rows))
        size = (4.6 + 0.72 * len(columns[0]), 3.0 + 0.8 * across + 0.26 * counts[0] * (1 + 0.4 * down))
    else:
        size = (theme.page(), sum(0.2 * count + 0.8 for count in counts) + 1.3)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(columns), 1, squeeze=False, height_ratios=counts)
    return figure, list(axes[:, 0])


def _columns(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the problems to draw, and a note with the rule if some are left out."""
    dims = table.drop_duplicates("problem")[["problem", "objective_name", "dim"]]
    if len(dims) <= MOST_COLUMNS:
        return list(dims["problem"]), ""
    by_dim = dims.sort_values("dim", kind="stable").groupby("objective_name")["problem"]
    ends = set(by_dim.first()) | set(by_dim.last())
    largest = len(ends) > MOST_COLUMNS
    kept, rule = (set(by_dim.last()[:MOST_NAMES]), "largest") if largest else (ends, "smallest and largest")
    return [p for p in dims["problem"] if p in kept], f" Of {len(dims)} objectives, each at its {rule} dimension."


def _sign(ax: Axes, i: int, j: int, sign: str, colour: str, ground: str = ABSENT) -> None:
    """Fill a cell whose variance has no colour with a ``ground``, and a sign that says why."""
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle((j, i), 1, 1, facecolor=ground, edgecolor="white", linewidth=1.0, zorder=2))
    _text(ax, i, j, sign, color=colour, fontsize=theme.points(9), zorder=3)


def _text(ax: Axes, i: int, j: int, text: str, **look: Any) -> None:
    """Write a text into a cell. The layout of the figure need not measure it, because it is inside of the axes."""
    ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", in_layout=False, **look)


def _corner(ax: Axes, i: int, j: int, *, filled: bool) -> None:
    """Mark the upper left corner of a cell: filled for a bias, hollow if a bias was neither found nor excluded."""
    inside, edge = (BIASED, "white") if filled else ("white", BIASED)
    look: dict[str, Any] = {
        "markerfacecolor": inside,
        "markeredgecolor": edge,
        "markeredgewidth": 0.8,
        "markersize": theme.points(15),
    }
    ax.plot(j + 0.03, i + 0.05, marker=CORNER, clip_on=False, zorder=3, **look)


SIGNS: dict[str, dict[str, Any]] = {
    "biased": {"marker": (3, 0, 45), "color": BIASED},
    "bias not excluded": {"marker": (3, 0, 45), "markeredgecolor": BIASED, "markerfacecolor": "white"},
    "0: exact": {"marker": "s", "color": EXACT},
    "≥ lower limit (grey: none; 0: constant)": {"marker": "none"},
    "– not applicable": {"marker": "s", "color": ABSENT},
    "× failed": {"marker": "x", "color": FAILED, "markersize": 6},
    "empty: not measured": {"marker": "s", "markeredgecolor": "#bbbbbb", "markerfacecolor": "white"},
}


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    common: dict[str, Any] = {"linestyle": "none", "markersize": 9}
    width = 99 if theme.page() == theme.PAGE else 24
    handles = [Line2D([], [], label=textwrap.fill(label, width), **common | sign) for label, sign in SIGNS.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=3 if theme.page() > 4 else 2)

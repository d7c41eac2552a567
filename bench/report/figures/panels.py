"""Small multiples: a panel for each objective, which objectives and estimators are drawn, titles and labels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from bench.report.figures.theme import PAGE, called, page, points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST, NARROWEST = 2.1, 1.6
"""Least widths of a panel in print, in inches: of few panels, and of five or more."""
MOST_PANELS, FEW_PANELS = 24, 4
"""Most objectives of a figure in which each has a panel, and the panels of a figure of a study that has more."""
MOST_RUNS = 200
"""Most estimators in a panel."""
LETTERS = 13
"""Letters of a title per inch."""
SETTLED = 2e-5
"""A layout that moves no panel by more than this fraction of the figure, a part of a pixel, is the last one.

Another one would move the panels about a thousandth as far, which is less than the rounding of their positions."""


def panels(
    problems: Sequence[str], title: str, *, width: float = 3.4, height: float = 2.8, across: int = 4
) -> tuple[Figure, dict[str, Axes]]:
    """Return a figure with a panel for each objective in ``problems``, and the axes of each panel by objective.

    The label of an objective is the title of its panel, and ``title`` the title of the figure. A row has at most
    ``across`` panels. ``width`` and ``height`` are the size of a panel, in inches.
    """
    from matplotlib.figure import Figure

    across = min(across, max(1, int(page() / (LEAST if len(problems) < 5 else NARROWEST))))
    rows = math.ceil(max(len(problems), 1) / across)
    columns = math.ceil(max(len(problems), 1) / rows)
    if page() < PAGE:
        height, width = height * min(1.0, page() / across / width), page() / across
        titles = {problem: _wrapped(called(problem), int(15 * (width - 0.4))) for problem in problems}
        height += 0.11 * max(map(len, titles.values()), default=0)
        size = (page(), height * rows + 0.9)
    else:
        titles = {problem: _wrapped(called(problem), int(12 * width)) for problem in problems}
        size = (max(width * columns, 6.4), height * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(problems) :]:
        spare.remove()
    axes = dict(zip(problems, grid, strict=False))
    for problem, ax in axes.items():
        # A height of its own spares matplotlib a search for texts above the axes; no panel has any.
        ax.set_title("\n".join(titles[problem]), loc="left", y=1.0)
    entitle(figure, title)
    return figure, axes


def entitle(figure: Figure, title: str, *, letters: int = LETTERS, size: float = 9.5) -> None:
    """Put the title into the figure's upper left corner, in letters of ``size`` points.

    A figure for print shows no title, because a paper has captions. In every figure, the title becomes the description
    in the figure's file. The lines of the title are wrapped at ``letters`` characters per inch of the figure's width.
    """
    figure.set_gid(title)  # what the file says of itself
    if page() < PAGE:
        return
    width = int(figure.get_figwidth() * letters)
    lines = [line for part in title.split("\n") for line in textwrap.wrap(part, width)]
    figure.suptitle("\n".join(lines), fontsize=size, x=0.01, ha="left")


def _wrapped(problem: str, width: int) -> list[str]:
    """Break a long label after its name and then between its parameters."""
    if len(problem) <= width:
        return [problem]
    name, colon, rest = problem.partition(":")
    return [*textwrap.wrap(name + colon, width), *textwrap.wrap(rest.replace(",", ", "), width, break_on_hyphens=False)]


def chosen(table: pd.DataFrame) -> tuple[list[str], str]:
    """Return the labels of the objectives to draw, and a note for the title if some are left out, else an empty text.

    If there are more than 24 objectives, only 4 are drawn: those on which the most estimators were measured. ``table``
    is the frame that ``bench.report.prepared.prepared`` returns.
    """
    counts = table["problem"].value_counts(sort=False)
    if len(counts) <= MOST_PANELS:
        return list(counts.index), ""
    kept = set(counts.sort_values(ascending=False, kind="stable").index[:FEW_PANELS])
    note = f" The {FEW_PANELS} of {len(counts)} objectives with the most estimators."
    return [p for p in counts.index if p in kept], note


def thinned(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the frame with at most 200 runs of each objective, and a note for the title if some are left out.

    The runs with the lowest variance times cost are kept, unbiased ones first. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns; a run is one measurement of an estimator.
    """
    counts = table["problem"].value_counts(sort=False)
    if counts.empty or counts.max() <= MOST_RUNS:
        return table, ""
    keyed = table.assign(_place=~table["fair"]).sort_values(["_place", "variance_times_cost"], kind="stable")
    kept = table.index.isin(keyed.groupby("problem", sort=False).head(MOST_RUNS).index)
    return table[kept], f" Of each objective, the {MOST_RUNS} estimators with the lowest variance × cost."


def label(axes: dict[str, Axes], x: str | dict[str, str], y: str) -> None:
    """Name the axes of a figure of panels, one panel for each objective.

    ``y``, the name of the vertical axis, is written once for all panels. ``x``, the name of the horizontal axis, is
    written under the lowest panel of each column. If the horizontal axes of the panels have different names, ``x`` is
    a dictionary of these names by objective, and each is written under its panel. ``axes`` are the panels' axes by
    objective.
    """
    grid = list(axes.values())
    figure, spec = cast("Figure", grid[0].figure), grid[0].get_subplotspec()
    assert spec is not None
    rows, columns = spec.get_gridspec().nrows, spec.get_gridspec().ncols
    names = dict.fromkeys(list(axes)[-columns:], x) if isinstance(x, str) else x
    letters = int(LETTERS * figure.get_figwidth() / columns)
    for problem in axes.keys() & names.keys():
        axes[problem].set_xlabel("\n".join(textwrap.wrap(names[problem], letters)))
    if rows == 1:
        grid[0].set_ylabel("\n".join(textwrap.wrap(y, int(2.6 * LETTERS))), fontsize=points(9))  # the height of a panel
    else:
        figure.supylabel(y, fontsize=points(9))


def settle(figure: Figure, *, fixed: bool = True) -> None:
    """Compute the layout of a figure.

    If ``fixed`` is True, the layout then stays: later drawing moves nothing, and saving does not compute it again. A
    fixed layout is right only for the present renderer and settings. If others will draw the figure, ``fixed`` must be
    False.
    """
    engine = figure.get_layout_engine()
    assert engine is not None
    for ax in figure.axes:
        for mark in (*ax.lines, *ax.patches, *ax.collections):
            if mark.get_clip_on():  # what ends at the axes need not be measured
                mark.set_in_layout(False)
    engine.execute(figure)
    for _ in range(2):  # ticks and legends depend on the size of panels, which the first layout changes
        before = [ax.get_position().bounds for ax in figure.axes]
        engine.execute(figure)
        if np.allclose(before, [ax.get_position().bounds for ax in figure.axes], rtol=0, atol=SETTLED):
            break
    if fixed:
        figure.set_layout_engine("none")
        for ax in figure.axes:  # the solver's last bits depend on what else has run, and equal figures are equal files
            box = ax.get_position(original=True)
            ax.set_position((round(box.x0, 6), round(box.y0, 6), round(box.width, 6), round(box.height, 6)))
            ax.set_in_layout(True)

"""Efficiency over all objectives in one picture: performance profile, mean, and probability of improvement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.report.figures import log_axes, marks, panels, theme
from bench.report.layout import broken
from bench.report.style import variants
from bench.stats.over_objectives import over_objectives

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("problem", "estimator", "estimator_name", "efficiency", "variance_times_cost", "variance_times_cost_low")
"""The columns of the frame that the figure shows."""
FEWEST = 3
"""Fewest objectives with two or more estimators to compare."""
MOST = 12
"""Most estimators that are drawn."""
DRAWS = 500
FARTHEST = 100.0
"""Largest factor of the performance profile."""

TITLE = """Efficiency on {} objectives: 1 is the lowest variance × cost of an unbiased estimator, 0.5 twice as much
Bars: 95 % intervals by a bootstrap of the objectives and of the measurements. Left out: biased and exact estimators, \
heavy tails, and what was measured on fewer than 3 objectives."""


def efficiency(table: pd.DataFrame) -> Figure | None:
    """Draw in three panels how efficient estimators are over all objectives.

    The efficiency of an estimator on an objective is the lowest variance × cost there, divided by the estimator's own.
    An objective counts only if two or more estimators have an efficiency there.

    - The performance profile: for each factor, the share of the objectives on which the variance × cost of an estimator
      is at most this factor times the lowest. Objectives on which the estimator was not measured are not in its share.
    - The mean efficiency over the objectives on which the estimator was measured.
    - The probability of a lower variance × cost than a rival's. The rival is drawn at random, and the objective from
      those on which both were measured.

    Only estimators that were measured on three or more objectives are drawn, at most 12 of them. Estimators are sorted
    by the sum of their efficiencies, the highest first. Return None if there are fewer than three objectives, or fewer
    than two estimators to draw. ``table`` has at least the ``COLUMNS`` of the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    import pandas as pd
    from matplotlib.figure import Figure

    table = table[table["efficiency"] > 0]
    table = table[table.groupby("problem")["estimator"].transform("nunique") > 1]
    objectives = table["problem"].nunique()
    if objectives < FEWEST:
        return None
    names = dict(zip(table["estimator"], table["estimator_name"], strict=True))
    log_work = _matrix(table, np.log(table["variance_times_cost"]))
    se = np.log(table["variance_times_cost"] / table["variance_times_cost_low"]) / 1.96  # NaN or infinite if unknown
    errors = _matrix(table, pd.Series(np.where(np.isfinite(se), se, 0.0), index=table.index)).reindex(log_work.index)[
        log_work.columns
    ]
    rank = table.groupby("estimator", sort=False)["efficiency"].agg(["size", "sum"])
    rank = rank[rank["size"] >= FEWEST].sort_values("sum", ascending=False, kind="stable")
    kept = list(rank.index[:MOST])
    if len(kept) < 2:
        return None
    factors = np.geomspace(1, FARTHEST, 200)
    shown = np.array([log_work.index.get_loc(label) for label in kept])
    found = over_objectives(log_work.to_numpy(), errors.to_numpy(), factors, shown, DRAWS)
    left_out = f" The first {MOST} of {len(rank)} by the sum of their efficiencies." if len(rank) > MOST else ""
    wide = theme.page() > 8
    width = min(theme.page(), 11.5)
    height = 1.4 + 0.27 * len(kept)
    figure = Figure(figsize=(width, max(height, 3.0) if wide else 2.6 + 1.8 * height), layout="constrained")
    if wide:
        profile, mean, better = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
    else:
        profile, mean, better = figure.subplots(3, 1, height_ratios=[2.2, height - 0.8, height - 0.8])
    look = variants({label: names[label] for label in kept})
    for i, label in enumerate(kept):
        style = look[label]
        line = {"color": style.colour, "dashes": style.dashes or (None, None)}
        every = (13 * i % 40, 40)
        marker = marks.marker(style) | {"markersize": 5}
        profile.plot(factors, found.profile[0, i], markevery=every, drawstyle="steps-post", **line | marker)
        for ax, values in ((mean, found.efficiency[:, i]), (better, found.improvement[:, i])):
            ax.plot(values[0], i, linestyle="none", **marks.marker(style))
            marks.whisker(ax, (values[1], i), (values[2], i), style.colour)
    counts = rank["size"]
    labels = [broken(f"{theme.called(label)} ({counts[label]} of {objectives})", int(5 * width)) for label in kept]
    _rows(mean, labels)
    _rows(better, [] if wide else labels, len(kept))
    mean.set_xlabel("mean efficiency, where measured")
    better.axvline(0.5, color="#888888", linewidth=0.8, linestyle=":", zorder=0)
    better.set_xlabel("probability of lower variance × cost")
    profile.set_xscale("log")
    profile.set(xlim=(1, FARTHEST), ylim=(-0.02, 1.02), ylabel="share of all objectives")
    log_axes.ticks(profile.xaxis, [1, 2, 5, 10, 20, 50, 100])
    profile.set_xlabel("variance × cost / the lowest, at most")
    profile.grid(color=theme.GRID, linewidth=0.5)
    panels.entitle(figure, TITLE.format(objectives) + left_out)
    return figure


def _matrix(table: pd.DataFrame, values: pd.Series[float]) -> pd.DataFrame:
    return table.assign(_value=values).pivot_table(
        index="estimator", columns="problem", values="_value", aggfunc="first", sort=False
    )


def _rows(ax: Axes, labels: list[str], count: int = 0) -> None:
    ax.set_yticks(range(len(labels) or count), labels or [""] * count)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(-0.03, 1.03), ylim=((len(labels) or count) - 0.5, -0.5))
    ax.grid(axis="x", color=theme.GRID, linewidth=0.5)
    ax.spines["left"].set_visible(False)

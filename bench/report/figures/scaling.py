"""How the variance falls with the number of samples and grows with the dimension."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.figures import panels
from bench.report.frame import each
from bench.report.style import Style, order, styles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FEWEST = 3
"""Fewest values of x for a line: two points always lie on one."""
MOST_LINES = 60
"""Most lines in a panel."""
GRID = ("objective", "objective_name", "objective_params", "problem", "dim")
INSIDE, INSIDE_LETTERS = 3, 36
"""Most lines, and most letters of a line's name, for a legend inside a panel."""


def slope(x: Sequence[float], y: Sequence[float], se_log: Sequence[float]) -> tuple[float, float]:
    """Return the slope of ln y on ln x and its standard error, by least squares weighted with the errors of ln y.

    If the points scatter about the line k times as much as their errors say, and k is above 1, the standard error is
    multiplied by k. Points that scatter less do not reduce it.

    Args:
        x: positive, at least two distinct values.
        y: positive.
        se_log: standard errors of ln y.
    """
    lx, ly, w = np.log(x), np.log(y), 1 / np.square(np.maximum(se_log, 1e-9))
    dx, dy = lx - np.average(lx, weights=w), ly - np.average(ly, weights=w)
    spread = float((w * dx**2).sum())
    b = float((w * dx * dy).sum()) / spread
    misfit = float((w * (dy - b * dx) ** 2).sum()) / (len(lx) - 2) if len(lx) > 2 else 0.0
    return b, math.sqrt(max(1.0, misfit) / spread)


def variance_n(table: pd.DataFrame) -> Figure | None:
    """Draw variance against the number n of samples, for estimators measured on one objective at three or more n.

    Return None if there is no such estimator. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    table = table[table["n"] > 0]
    # A series is an estimator without its n: "rloo:n=4" and "rloo:n=8" are "rloo".
    series = table["estimator"].str.replace(r"(?<=[:,])n=[^,]*,?", "", regex=True).str.rstrip(":,")
    return _scaling(
        table.assign(panel=table["problem"], series=series),
        "n",
        "Variance of one estimate against its number of samples\n"
        "Legend: fitted exponent ± standard error (−1: average of independent samples). Bars: 95 % intervals.",
        ("samples n per estimate", "variance of one estimate (squared units of the gradient)"),
    )


def variance_dim(table: pd.DataFrame) -> Figure | None:
    """Draw relative variance against dimension, for estimators measured on one objective at three or more dimensions.

    The relative variance is the variance of one estimate divided by the squared norm of the exact gradient. Return None
    if there is no such estimator. ``table`` is the frame that ``bench.report.prepared.prepared`` returns.
    """
    table = table[(table["exact_norm"] > 0) & (table["dim"] > 0)]
    if table["dim"].nunique() < FEWEST:
        return None
    relative = {c: table[c] / table["exact_norm"] ** 2 for c in ("variance", "variance_low", "variance_high")}
    return _scaling(
        table.assign(**relative, panel=_grids(table), series=table["estimator"]),
        "dim",
        "Variance of one estimate against dimension, relative to the squared norm of the exact gradient\n"
        "Legend: fitted exponent ± standard error. Bars: 95 % intervals. Larger markers: more samples n.",
        ("dimension (random coordinates)", "variance / ‖exact gradient‖²"),
    )


def _grids(table: pd.DataFrame) -> pd.Series[str]:
    """Name the grid of each row: its objective without the parameter that sets the dimension.

    That parameter is ``dim``, or else the first one that changes the dimension by itself.
    """
    import pandas as pd

    names: dict[Any, str] = {}
    for objective, rows in table[list(GRID)].groupby("objective_name", sort=False):
        group = rows.drop_duplicates("objective")
        params = group["objective_params"]
        keys = sorted({key for p in params for key in p}, key=lambda key: (key != "dim", key))
        setter = next((k for k in keys if (group["dim"].groupby(params.map(_without(k))).nunique() > 1).any()), None)
        varying = [k for k in keys if k != setter and params.map(lambda p, k=k: repr(p.get(k))).nunique() > 1]
        for row in each(rows):
            shown = ",".join(f"{k}={row.objective_params.get(k)}" for k in varying)
            setting = row.problem.removeprefix(row.objective)
            names[row.Index] = f"{objective}{':' if shown else ''}{shown}{setting}"
    return pd.Series(names, dtype=object)


def _without(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda params: json.dumps({k: v for k, v in params.items() if k != key}, sort_keys=True)


def _scaling(table: pd.DataFrame, x: str, title: str, labels: tuple[str, str]) -> Figure | None:
    """Draw a panel per value of ``panel``, and a line per ``series`` with estimates at three or more values of x."""
    lines = table[table["variance"] > 0].groupby(["panel", "series"], sort=False)[x].nunique()
    by_panel = lines[lines >= FEWEST].groupby("panel", sort=False)
    if not by_panel.size().le(MOST_LINES).all():
        title += f" The first {MOST_LINES} lines of a panel."
    long = set(by_panel.head(MOST_LINES).index)
    table = table[[key in long for key in zip(table["panel"], table["series"], strict=True)]]
    if table.empty:
        return None
    problems, note = panels.chosen(table.assign(problem=table["panel"]))
    most = int(table.groupby("panel")["series"].nunique().max())
    longest = int(table["series"].str.len().max()) + len("  −1.00 ± 0.01")
    inside = most <= INSIDE and longest <= INSIDE_LETTERS
    width = 3.4 if inside else 2.2 + 0.06 * (16 + longest)  # room for the legend beside each panel
    height = 2.6 if inside else max(2.6, 0.19 * most + 0.3)
    figure, axes = panels.panels(problems, title + note, width=width, height=height, across=max(1, int(15 / width)))
    look = styles(list(table["estimator_name"]))
    for problem, ax in axes.items():
        group = table[table["panel"] == problem]
        for name in order(list(group["estimator_name"])):
            for series, part in group[group["estimator_name"] == name].groupby("series", sort=False):
                _line(ax, part.sort_values(x), x, str(series), look[name])
        panels.logarithmic(ax)
        values = sorted(set(group[x]))
        panels.ticks(ax.xaxis, values[:: math.ceil(len(values) / 8)])
        ax.set_xlim(values[0] / 1.25, values[-1] * 1.25)
        if inside:  # above the lines: they fall with n and grow with the dimension
            bottom, top = ax.get_ylim()
            ax.set_ylim(bottom, top * (top / bottom) ** (0.12 * group["series"].nunique()))
            ax.legend(loc="upper right" if x == "n" else "upper left", fontsize=7.5, handlelength=3, borderaxespad=0.2)
        else:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=7.5, handlelength=3, borderaxespad=0.2)
    panels.label(axes, *labels)
    return figure


def _line(ax: Axes, part: pd.DataFrame, x: str, label: str, style: Style) -> None:
    """Draw a series: its estimates, a line through them except lower limits, and its exponent in the legend."""
    for row in each(part):
        panels.interval(ax, getattr(row, x), row, style)
    fitted = part[part["variance"] > 0]
    b, se = slope(list(fitted[x]), list(fitted["variance"]), list(fitted["se_log"]))
    ax.plot(
        fitted[x],
        fitted["variance"],
        label=f"{label}  {round(b, 2) + 0.0:.2f} ± {max(se, 0.01):.2f}".replace("  -", "  −"),
        dashes=style.dashes or (None, None),
        zorder=1,
        **panels.look(style, hollow=not part["fair"].all(), n=float(part["n"].iloc[0]) if x != "n" else 1.0),
    )

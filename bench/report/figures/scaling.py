"""How variance and bias change with a field that a study sweeps: samples, dimension, temperature and others."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.figures import log_axes, marks, panels, theme
from bench.report.figures.drawing import Drawing
from bench.report.frame import each
from bench.report.style import Style, order, variants
from bench.report.swept import parameter, swept

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FEWEST = 3
"""Fewest values of x for a line: two points always lie on one."""
MOST_LINES = 60
"""Most lines in a panel."""
VALUES = ("value", "low", "high")
"""Columns for the quantity that is drawn, and the limits of its interval."""
NAMES = {"n": "number n of samples per estimate", "dim": "dimension (random coordinates)"}
"""Names of the fields that are neither an estimator's nor an objective's."""
GRID = ("objective", "objective_name", "objective_params", "problem", "dim")
INSIDE, INSIDE_LETTERS = 3, 36
"""Most lines, and most letters of a line's name, for a legend inside a panel."""
MOST_CELLS = 2_000
"""Most cells of a study whose numeric fields, besides n and dim, have figures of their own."""


def slope(x: Sequence[float], y: Sequence[float], se_log: Sequence[float]) -> tuple[float, float]:
    """Return the slope of ln y on ln x and its standard error, by least squares weighted with the errors of ln y.

    The points may scatter about the line k times as much as their errors say. If k is above 1, the standard error is
    multiplied by k.

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


def sweeps(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return the figures of a quantity against a field that a study sweeps: (quantity, field) by the figure's name.

    A field is n, dim, or a numeric field of an estimator or an objective. For ``estimator.temperature``, the figures
    are ``variance-temperature`` and ``bias-temperature``. The result has every field with several values in ``table``,
    the frame that ``bench.report.prepared.prepared`` returns. In a study of more than 2,000 cells it has only n and
    dim: so many lines take long to draw and cannot be told apart.
    """
    taken, found = {"n", "dim", "cost", "variance"}, {"n": "n", "dim": "dim"}
    for field in swept(table) if len(table) <= MOST_CELLS else ():
        key = field.rpartition(".")[2]
        key = field.replace(".", "-") if key in taken else key
        taken.add(key)
        found[key] = field
    return {f"{quantity}-{key}": (quantity, field) for quantity in ("variance", "bias") for key, field in found.items()}


def sweep(table: pd.DataFrame, quantity: str, field: str) -> Drawing | None:
    """Plot a quantity against a swept field, for estimators measured on one objective at three or more values of it.

    A bias is divided by the norm of the exact gradient. A variance is divided by the squared norm if the objective
    changes along a line. Return None if there is no such estimator or, for a bias, if none was found.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        quantity: "variance" or "bias", which is the norm of the bias vector.
        field: "n", "dim", or a numeric field such as ``estimator.temperature`` or ``objective.power``.
    """
    half, _, key = field.rpartition(".")
    values = table[field] if field in ("n", "dim") else [parameter(row, field) for row in each(table)]
    table = table.assign(x=np.array(list(values), dtype=float))
    table = table[np.isfinite(table["x"])]
    moves = half == "objective" or field == "dim"
    if field in ("n", "dim"):
        table = table[table["x"] > 0]
    if table["x"].nunique() < FEWEST:
        return None
    name = NAMES.get(field, f"{key} of the {half}")
    if moves:
        table = table.assign(panel=_grids(table, key), series=table["estimator"])
    else:  # a series is an estimator without the field: "rloo:n=4" and "rloo:n=8" are "rloo"
        series = table["estimator"].str.replace(rf"(?<=[:,]){re.escape(key)}=[^,]*,?", "", regex=True).str.rstrip(":,")
        table = table.assign(panel=table["problem"], series=series)
    if quantity == "bias" or moves:
        table = table[table["exact_norm"] > 0]
    norm = table["exact_norm"]
    title = f"{quantity.title()} of one estimate against the {name}"
    if quantity == "bias":
        table = table[table["bias_bound"] > 0]
        names = ("bias_norm", "bias_low", "bias_bound")
        table = table.assign(**dict(zip(VALUES, (table[c] / norm for c in names), strict=True)))
        y = "‖bias‖ / ‖exact gradient‖"
        signs = (
            "Tick at the lower edge: no bias was found up to the end of the grey bar. Left out: estimators without any."
        )
    else:
        power = norm**2 if moves else 1.0
        table = table[table["variance_low"] >= 0]
        names = ("variance", "variance_low", "variance_high")
        table = table.assign(**dict(zip(VALUES, (table[c] / power for c in names), strict=True)))
        title += ", relative to the squared norm of the exact gradient" * moves
        y = "variance / ‖exact gradient‖²" if moves else "variance of one estimate (squared units of the gradient)"
        signs = "Larger markers: more samples n." if field != "n" else ""
    sum_law = " (−1: average of independent samples)" if (quantity, field) == ("variance", "n") else ""
    lines = f"Legend: fitted exponent ± standard error{sum_law}. Bars: 95 % intervals. {signs}".rstrip()
    return _scaling(table, quantity, f"{title}\n{lines}", (name, y))


def _grids(table: pd.DataFrame, field: str) -> pd.Series[str]:
    """Name the grid of each row: its objective without the parameter ``field``.

    For "dim", that parameter is ``dim``, or else the first one that changes the dimension by itself.
    """
    import pandas as pd

    names: dict[Any, str] = {}
    for objective, rows in table[list(GRID)].groupby("objective_name", sort=False):
        group = rows.drop_duplicates("objective")
        params = group["objective_params"]
        keys = sorted({key for p in params for key in p}, key=lambda key: (key != "dim", key))
        setter: str | None = field
        if field == "dim":
            by = {k: group["dim"].groupby(params.map(_without(k))).nunique() for k in keys}
            setter = next((k for k in keys if (by[k] > 1).any()), None)
        varying = [k for k in keys if k != setter and params.map(lambda p, k=k: repr(p.get(k))).nunique() > 1]
        for row in each(rows):
            shown = ",".join(f"{k}={row.objective_params.get(k)}" for k in varying)
            setting = row.problem.removeprefix(row.objective)
            names[row.Index] = f"{objective}{':' if shown else ''}{shown}{setting}"
    return pd.Series(names, dtype=object)


def _without(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda params: json.dumps({k: v for k, v in params.items() if k != key}, sort_keys=True)


def _scaling(table: pd.DataFrame, quantity: str, title: str, labels: tuple[str, str]) -> Drawing | None:
    """Plot a panel per value of ``panel``, and a line per ``series`` with three or more values of x."""
    known = table[(table["value"] > 0) | (quantity == "bias")]
    lines = known.groupby(["panel", "series"], sort=False)["x"].nunique()
    by_panel = lines[lines >= FEWEST].groupby("panel", sort=False)
    if not by_panel.size().le(MOST_LINES).all():
        title += f" The first {MOST_LINES} lines of a panel."
    long = set(by_panel.head(MOST_LINES).index)
    table = table[[key in long for key in zip(table["panel"], table["series"], strict=True)]]
    if quantity == "bias":
        table = table[table["biased"].groupby([table["panel"], table["series"]]).transform("any")]
    if table.empty:
        return None
    problems, note = panels.chosen(table.assign(problem=table["panel"]))
    most = int(table.groupby("panel")["series"].nunique().max())
    longest = int(table["series"].str.len().max()) + len("  −1.00 ± 0.01")
    shown = table[table["panel"].isin(problems)]
    return Drawing(_draw, (shown, problems, quantity, title + note, labels, most, longest))


def _draw(
    table: pd.DataFrame,
    problems: Sequence[str],
    quantity: str,
    title: str,
    labels: tuple[str, str],
    most: int,
    longest: int,
) -> Figure:
    """Draw the panels; ``most`` is the largest number of lines in one, ``longest`` that of the letters of a line."""
    inside = most <= INSIDE and longest <= INSIDE_LETTERS and theme.page() == theme.PAGE
    below = theme.page() < theme.PAGE
    width = 3.4 if inside or below else 2.2 + 0.06 * (16 + longest)  # room for the legend beside each panel
    height = 2.6 if inside else 2.6 + 0.16 * most if below else max(2.6, 0.19 * most + 0.3)
    across = max(1, int(theme.page() / (0.5 + 0.055 * longest) if below else 15 / width))
    figure, axes = panels.panels(problems, title, width=width, height=height, across=across)
    for problem, ax in axes.items():
        group = table[table["panel"] == problem]
        names = dict(zip(group["series"], group["estimator_name"], strict=True))
        places = {name: place for place, name in enumerate(order(list(names.values())))}
        look = variants(dict(sorted(names.items(), key=lambda item: places[item[1]])))
        lacking = [series for series in look if not group.loc[group["series"] == series, "biased"].all()]
        for series, style in look.items():
            part = group[group["series"] == series].sort_values("x")
            place = (lacking.index(series) - (len(lacking) - 1) / 2) if series in lacking else 0.0
            _line(ax, part, quantity, series, style, min(3.0, 30 / max(len(lacking), 1)) * place)
        straight = not (group["x"] > 0).all()
        log_axes.logarithmic(ax, straight=straight)
        values = sorted(set(group["x"]))
        if straight:
            spare = 0.05 * (values[-1] - values[0])
            ax.set_xlim(values[0] - spare, values[-1] + spare)
        else:
            ax.set_xlim(values[0] / 1.25, values[-1] * 1.25)
        log_axes.ticks(ax.xaxis, values[:: math.ceil(len(values) / 8)])
        if inside:  # clear of the lines
            bottom, top = ax.get_ylim()
            ax.set_ylim(bottom, top * (top / bottom) ** (0.12 * len(look)))
            first, last = (group.loc[group["x"] == end, "value"].median() for end in (values[0], values[-1]))
            where: Any = "upper right" if first > last else "upper left"
            ax.legend(loc=where, fontsize=7.5, handlelength=3, borderaxespad=0.2)
        elif below:
            ax.legend(loc="upper left", bbox_to_anchor=(-0.15, -0.22), fontsize=6, handlelength=3, borderaxespad=0.0)
        else:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=7.5, handlelength=3, borderaxespad=0.2)
    panels.label(axes, *labels)
    return figure


def _line(ax: Axes, part: pd.DataFrame, quantity: str, label: str, style: Style, shift: float) -> None:
    """Draw a series: its estimates, a line through them except lower limits, and its exponent in the legend.

    ``shift`` moves the ticks of biases that were not found aside, in 1/72 inch, so that those of several series differ.
    """
    if quantity == "bias":
        for row in each(part[~part["biased"]]):
            marks.unfound(ax, row.x, row.high, style, shift)
        fitted = part[part["biased"] & (part["value"] > 0)]
        for row in each(fitted):
            marks.mark(ax, row.x, row.value, row, style)
            marks.whisker(ax, (row.x, max(row.low, row.value * 1e-3)), (row.x, row.high), style.colour)
        low = fitted["low"].clip(lower=fitted["value"] * 1e-3)
        se_log = list(np.log(fitted["high"] / low) / (2 * 1.96))
    else:
        for row in each(part.assign(variance=part["value"], variance_low=part["low"], variance_high=part["high"])):
            marks.interval(ax, row.x, row, style)
        fitted = part[part["value"] > 0]
        se_log = list(fitted["se_log"])
    exponent = ""
    if fitted["x"].nunique() >= FEWEST and (fitted["x"] > 0).all():
        b, se = slope(list(fitted["x"]), list(fitted["value"]), se_log)
        exponent = f"  {round(b, 2) + 0.0:.2f} ± {max(se, 0.01):.2f}".replace("  -", "  −")
    n = float(part["n"].iloc[0]) if part["n"].nunique() == 1 else 1.0
    ax.plot(
        fitted["x"],
        fitted["value"],
        label=f"{label}{exponent}",
        dashes=style.dashes or (None, None),
        zorder=1,
        **marks.marker(style, hollow=not part["fair"].all(), n=n),
    )

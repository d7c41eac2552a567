"""Lines of variance or bias against a field that a study sweeps, and the exponents of power laws fitted to them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.report.frame import each
from bench.report.swept import parameter, swept

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 3
"""Fewest values of x for a line: two points always lie on one."""
VALUES = ("value", "low", "high")
"""Columns for the quantity of a line, and the limits of its interval."""
GRID = ("objective", "objective_name", "objective_params", "problem", "dim")
MOST_CELLS = 2_000
"""Most cells of a study whose numeric fields, besides n and dim, have lines."""
Z = 1.959964
"""Quantile of the 95 % interval."""


class Exponent(NamedTuple):
    """The exponent b of a power law ``y ~ x^b``, fitted to the points of one line.

    Args:
        what: the labels of estimator and objective, without the field that is swept.
        parameter: the field x: ``n``, ``dim``, ``temperature``.
        values: number of values of x.
        exponent: b.
        low: lower limit of the 95 % interval of b.
        high: upper limit of the 95 % interval of b.
    """

    what: str
    parameter: str
    values: int
    exponent: float
    low: float
    high: float


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
    """Return a dictionary of the figures that show how a quantity depends on a field that the study sweeps.

    The keys are the names of the figures, and the values the pairs (quantity, field). The quantity is "variance" or
    "bias". The field is "n", "dim", or a numeric field of an estimator or an objective. For ``estimator.temperature``,
    the figures are ``variance-temperature`` and ``bias-temperature``.

    The result has "n", "dim", and every other field with several values in ``table``, the frame that
    ``bench.report.prepared.prepared`` returns. In a study of more than 2,000 cells it has only "n" and "dim": so many
    lines take long to draw and cannot be told apart.
    """
    taken, found = {"n", "dim", "cost", "variance"}, {"n": "n", "dim": "dim"}
    for field in swept(table) if len(table) <= MOST_CELLS else ():
        key = field.rpartition(".")[2]
        key = field.replace(".", "-") if key in taken else key
        taken.add(key)
        found[key] = field
    return {f"{quantity}-{key}": (quantity, field) for quantity in ("variance", "bias") for key, field in found.items()}


def moves(field: str) -> bool:
    """Return whether a change of a field changes the objective, and with it the exact gradient.

    The result is True for "dim" and for fields of objectives, such as ``objective.power``.
    """
    return field == "dim" or field.startswith("objective.")


def lines(table: pd.DataFrame, quantity: str, field: str) -> pd.DataFrame:
    """Return the points of all lines of a quantity against a field.

    A line has the measurements of one estimator on one objective at three or more values of the field. The result has
    the columns of ``table`` and these: ``x``, the value of the field; ``panel``, the objective; ``series``, the
    estimator; ``value``, ``low`` and ``high``, the quantity and the limits of its interval. A bias is divided by the
    norm of the exact gradient. If ``field`` is "dim" or another field of the objective, a variance is divided by the
    square of this norm. A value of which only the lower limit is known is NaN.

    Args:
        table: the frame that ``bench.report.prepared.prepared`` returns.
        quantity: "variance" or "bias", which is the norm of the bias vector. Lines on which no bias was found are left
            out.
        field: "n", "dim", or a numeric field such as ``estimator.temperature`` or ``objective.power``.
    """
    key = field.rpartition(".")[2]
    values = table[field] if field in ("n", "dim") else [parameter(row, field) for row in each(table)]
    table = table.assign(x=np.array(list(values), dtype=float))
    table = table[np.isfinite(table["x"])]
    if field in ("n", "dim"):
        table = table[table["x"] > 0]
    if quantity == "bias" or moves(field):
        table = table[table["exact_norm"] > 0]
    table = table[table["bias_bound" if quantity == "bias" else "variance_low"] >= 0]
    if quantity == "bias":
        table = table[table["bias_bound"] > 0]
    if moves(field):
        table = table.assign(panel=_grids(table, key), series=table["estimator"])
    else:  # a series is an estimator without the field: "rloo:n=4" and "rloo:n=8" are "rloo"
        series = table["estimator"].str.replace(rf"(?<=[:,]){re.escape(key)}=[^,]*,?", "", regex=True).str.rstrip(":,")
        table = table.assign(panel=table["problem"], series=series)
    norm = table["exact_norm"]
    unit = norm if quantity == "bias" else norm**2 if moves(field) else 1.0
    names = (
        ("bias_norm", "bias_low", "bias_bound") if quantity == "bias" else ("variance", "variance_low", "variance_high")
    )
    table = table.assign(**dict(zip(VALUES, (table[name] / unit for name in names), strict=True)))
    by_line = [table["panel"], table["series"]]
    known = table["x"].where((table["value"] > 0) | (quantity == "bias"))
    table = table[known.groupby(by_line).transform("nunique") >= FEWEST]
    return (
        table[table["biased"].groupby([table["panel"], table["series"]]).transform("any")]
        if quantity == "bias"
        else table
    )


def fit(line: pd.DataFrame, quantity: str) -> tuple[float, float] | None:
    """Return the exponent of a power law through the points of one line, and its standard error.

    Each row of ``line`` is a point, with the coordinates in the columns ``x`` and ``value`` that the function ``lines``
    makes. Points with a ``value`` of 0 or below are left out. ``quantity`` is "variance" or "bias". For a bias, points
    at which none was found are left out, too. Return None if the points that are left have fewer than three different
    ``x``, or an ``x`` of 0 or below.
    """
    kept = ((line["value"] > 0) & (line["biased"] | (quantity != "bias"))).to_numpy()
    x, value, low, high, errors = (line[name].to_numpy()[kept] for name in ("x", *VALUES, "se_log"))
    if len({*x.tolist()}) < FEWEST or not (x > 0).all():
        return None
    if quantity == "bias":
        errors = np.log(high / np.maximum(low, value * 1e-3)) / (2 * 1.96)
    return slope(x.tolist(), value.tolist(), errors.tolist())


def exponents(table: pd.DataFrame) -> list[Exponent]:
    """Return the exponents of power laws, fitted to the variances along each line of a study.

    A line has the measurements of one estimator on one objective at several values of a field, such as n. The exponents
    are also in the legends of the figures. Exact methods have none. ``table`` is the frame that
    ``bench.report.prepared.prepared`` returns.
    """
    found = []
    table = table[~table["exact"]]
    for quantity, field in sweeps(table).values():
        if quantity != "variance":
            continue
        points = lines(table, quantity, field)[["panel", "series", "x", *VALUES, "se_log", "biased"]]
        for (panel, series), line in points.groupby(["panel", "series"], sort=False):
            if fitted := fit(line, quantity):
                b, se = fitted
                values = line["x"].nunique()
                found.append(
                    Exponent(f"{series} on {panel}", field.rpartition(".")[2], values, b, b - Z * se, b + Z * se)
                )
    return found


def _grids(table: pd.DataFrame, field: str) -> pd.Series[str]:
    """Name the grid of each row: its objective without the parameter ``field``.

    For "dim", that parameter is ``dim``, or else the first one that changes the dimension by itself.
    """
    import pandas as pd

    names: dict[tuple[str, str], str] = {}
    for objective, rows in table[list(GRID)].groupby("objective_name", sort=False):
        group = rows.drop_duplicates("objective")
        params = group["objective_params"]
        keys = sorted({key for p in params for key in p}, key=lambda key: (key != "dim", key))
        setter: str | None = field
        if field == "dim":
            by = {k: group["dim"].groupby(params.map(_without(k))).nunique() for k in keys}
            setter = next((k for k in keys if (by[k] > 1).any()), None)
        varying = [k for k in keys if k != setter and params.map(lambda p, k=k: repr(p.get(k))).nunique() > 1]
        for row in each(rows.drop_duplicates(["objective", "problem"])):
            shown = ",".join(f"{k}={row.objective_params.get(k)}" for k in varying)
            setting = row.problem.removeprefix(row.objective)
            names[row.objective, row.problem] = f"{objective}{':' if shown else ''}{shown}{setting}"
    pairs = zip(table["objective"].tolist(), table["problem"].tolist(), strict=True)
    return pd.Series([names[pair] for pair in pairs], table.index, dtype=object)


def _without(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda params: json.dumps({k: v for k, v in params.items() if k != key}, sort_keys=True)

"""The numbers and looks that the charts of a page are drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records.lines import Outcome
from bench.report.curves import Curves, Problem
from bench.report.figures.training import window
from bench.report.frame import each
from bench.report.style import Marker, Style, order, styles
from bench.report.swept import parameter, swept
from bench.stats.seeds import across_seeds

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "variance": "variance of one estimate",
    "mse": "mean squared error of one estimate",
    "bias": "bias / ‖exact gradient‖",
    "scale": "scale of the mean gradient (1: exact)",
    "angle": "angle to the exact gradient, degrees",
    "variance_times_cost": "variance × cost",
    "efficiency": "efficiency, by variance × cost (1: best)",
    "snr": "signal to noise of one estimate",
    "cosine": "mean cosine to the exact gradient",
    "khat": "tail index (from 1 on: no variance)",
    "evals": "evaluations of f and ∇f per estimate",
    "seconds": "seconds per estimate",
    "n": "samples n per estimate",
    "dim": "dimension",
    "replicates": "replicates",
}
"""Columns of numbers that an axis can show, with the axis's title."""
COSTS = {"evals", "n", "seconds"}
"""Columns that the first chart of a page can show across; the variance is shown up."""
INTERVALS = ("variance", "mse", "scale", "angle", "snr", "cosine", "seconds", "variance_times_cost", "bias")
"""Measures that have 95 % limits, ``_low`` and ``_high``."""
ROUNDED = ("variance", "variance_times_cost", "mse", "snr")
"""Measures of an exact estimator that are rounding, and no numbers to compare."""
DIGITS = 5
"""Significant digits of a number in a chart."""
SHAPES: dict[Marker, str] = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "<": "triangle-left",
    ">": "triangle-right",
    "D": "diamond",
    "P": "cross",
    "d": "M0,-1L0.6,0L0,1L-0.6,0Z",
    "X": "M-1,-0.6L-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0Z",
    "p": "M0,-1L0.951,-0.309L0.588,0.809L-0.588,0.809L-0.951,-0.309Z",
    "*": (
        "M0,-1L0.225,-0.309L0.951,-0.309L0.363,0.118L0.588,0.809L0,0.382L-0.588,0.809L-0.363,0.118"
        "L-0.951,-0.309L-0.225,-0.309Z"
    ),
    "h": "M0,-1L0.866,-0.5L0.866,0.5L0,1L-0.866,0.5L-0.866,-0.5Z",
    "8": "M0.383,-0.924L0.924,-0.383L0.924,0.383L0.383,0.924L-0.383,0.924L-0.924,0.383L-0.924,-0.383L-0.383,-0.924Z",
    (3, 1, 0): ("M0,-1L0.331,-0.191L0.866,0.5L0,0.382L-0.866,0.5L-0.331,-0.191Z"),
    (4, 1, 0): ("M0,-1L0.27,-0.27L1,0L0.27,0.27L0,1L-0.27,0.27L-1,0L-0.27,-0.27Z"),
    (6, 1, 0): (
        "M0,-1L0.191,-0.331L0.866,-0.5L0.382,0L0.866,0.5L0.191,0.331L0,1L-0.191,0.331"
        "L-0.866,0.5L-0.382,0L-0.866,-0.5L-0.191,-0.331Z"
    ),
}
"""The shapes of Vega for the markers of the figures: a name, or a path in a box from -1 to 1."""


def charts(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return the data of the charts of a page that show bias, variance and cost; None if nothing was measured.

    The data have the numbers of each measurement, column by column; the title of each column that varies, for the axes;
    and the colour, marker and dash of each estimator. ``table`` is the frame that ``bench.report.prepared.prepared``
    returns.
    """
    if table is None or not (table["outcome"] == Outcome.MEASURED).any():
        return None
    rows = each(table[table["outcome"] == Outcome.MEASURED])
    parameters = swept(table)
    columns = {name: [_value(row, name) for row in rows] for name in MEASURES}
    columns |= {
        f"{name}_{end}": [_limit(row, name, end) for row in rows] for name in INTERVALS for end in ("low", "high")
    }
    columns |= {name: [parameter(row, name) for row in rows] for name in parameters}
    held = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    varied = {name for name in MEASURES if len(set(held.get(name, ())) - {None}) > 1}
    varied |= {"variance"} if varied & COSTS else {"variance", "evals"}
    cost = " or ".join(dict.fromkeys(row.unit for row in rows))
    axes = {name: title.replace("cost", cost) for name, title in MEASURES.items() if name in varied and name in held}
    axes |= {name: name.rpartition(".")[2] for name in parameters if name in held}
    look = styles([row.estimator_name for row in rows])
    return {
        "objective": [row.problem for row in rows],
        "estimator": [row.estimator for row in rows],
        "method": [row.estimator_name for row in rows],
        "state": [_state(row) for row in rows],
        "columns": held,
        "axes": axes,
        "styles": {name: _drawn(look[name]) for name in order(list(look))},
    }


def training_charts(problems: Sequence[Problem]) -> dict[str, Any] | None:
    """Return the data of the charts of a page that show training; None if there are no problems.

    A problem is an objective with its training settings. For each one, the data have a curve for each estimator: at
    each checkpoint, the median over seeds of the objective's value, with its interval, and the steps, evaluations and
    seconds so far. The data also have the colour, marker and dash of each estimator.
    """
    if not problems:
        return None
    look = styles([curve.name for problem in problems for curve in problem.curves])
    return {
        "problems": [
            {
                "title": problem.title,
                "better": "larger" if problem.maximise else "smaller",
                "limits": window(problem),
                "curves": [_curve(curve, problem) for curve in problem.curves],
            }
            for problem in problems
        ],
        "styles": {name: _drawn(look[name]) for name in order(list(look))},
    }


def _curve(curve: Curves, problem: Problem) -> dict[str, Any]:
    summaries = [across_seeds(column) for column in curve.value.T]
    numbers = {"step": curve.step, "evaluations": curve.evaluations, "seconds": curve.seconds}
    numbers |= {end: np.array([getattr(each, end) for each in summaries]) for end in ("median", "low", "high")}
    held = {name: [_rounded(float(value)) for value in values] for name, values in numbers.items()}
    shared = sum(other.name == curve.name for other in problem.curves) > 1
    part = curve.estimator.partition(":")[2] if shared else ""
    return {"estimator": curve.estimator, "method": curve.name, "part": part} | held


def _value(row: Any, name: str) -> float | None:
    """Return a number of a row; None if there is none. A bias that was not found has none either."""
    if name == "bias":
        return _rounded(row.bias_norm / row.exact_norm) if row.biased and row.exact_norm > 0 else None
    if (row.heavy or row.exact) and name in ROUNDED:
        return None
    return _rounded(getattr(row, name))


def _limit(row: Any, name: str, end: str) -> float | None:
    if name == "bias":
        low, high = row.bias_low / row.exact_norm if row.exact_norm > 0 else math.nan, row.relative_bias_bound
        return _rounded((low if row.biased else 0.0) if end == "low" else high)
    if row.exact and name in ROUNDED:
        return None
    return _rounded(getattr(row, f"{name}_{end}"))


def _rounded(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _state(row: Any) -> str:
    """Return how a row is marked: "biased", "exact", "heavy", "open" (no bias found, none excluded) or "unbiased"."""
    if row.biased:
        return "biased"
    if row.exact:
        return "exact"
    if row.heavy:
        return "heavy"
    return "unbiased" if row.fair else "open"


def _drawn(style: Style) -> dict[str, Any]:
    return {"colour": style.colour, "shape": SHAPES.get(style.marker, "circle"), "dash": list(style.dashes) or [1, 0]}

"""Variance times cost: what a fixed budget buys, who buys the most, and one line of advice that says so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.report import words
from bench.report.frame import each
from bench.stats.comparison import work_normalised
from bench.stats.printing import format_number

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"seconds": "seconds", "evaluations": "evaluations of f and its gradient"}


def priced(table: pd.DataFrame, cost: str = "seconds") -> pd.DataFrame:
    """Return the frame with the columns ``unit``, ``price``, ``work`` (variance times price), each with its interval.

    The price of one estimate is its seconds where every measured run of the problem was timed, else (or if ``cost`` is
    "evaluations") its evaluations of f and of its gradient, so that prices of one problem are in one unit. The interval
    of the work combines the two intervals (``stats.comparison.work_normalised``). ``efficiency`` is the least work
    among the fair runs of the problem over the work of the run: 1 is the best, NaN where a bias or a heavy tail makes
    it meaningless, and for what is exact.
    """
    import numpy as np

    table = table.copy()
    untimed = (table["outcome"] == "measured") & table["seconds"].isna()
    partly = untimed.groupby(table["problem"]).transform("any") | (cost == "evaluations")
    table["unit"] = np.where(partly, "evaluations", "seconds")
    for suffix in ("", "_low", "_high"):
        table[f"price{suffix}"] = table[f"seconds{suffix}"].fillna(table["seconds"]).where(~partly, table["evals"])
    table[["work", "work_low", "work_high"]] = [_work(row) for row in each(table)] or np.empty((0, 3))
    rivals = table["work"].where(table["fair"] & ~table["exact"] & (table["variance"] > 0))
    table["efficiency"] = rivals.groupby(table["problem"]).transform("min") / rivals
    return table


def _work(row: Any) -> tuple[float, float, float]:
    """Return variance times price with its limits, NaN where there is none."""
    if row.variance == 0 and row.price >= 0:
        return 0.0, 0.0, 0.0
    if not (row.variance > 0 and row.price > 0):
        return math.nan, math.nan, math.nan
    high = None if math.isnan(row.variance_high) else row.variance_high
    value, low, end = work_normalised(
        (row.variance, row.variance_low, high), (row.price, row.price_low, row.price_high)
    )
    return value, low, math.nan if end is None else end


def advice(rows: list[Any]) -> str:
    """Return what to use for one problem, in one line, claiming no more than the intervals show.

    An estimator is named alone only where its interval of variance times cost lies below every rival's. A biased
    estimator is never compared at equal cost, for averaging does not remove its bias; instead the line says up to which
    budget its error is the lower one, where that is certain.

    Args:
        rows: the measured runs of one problem, from a ``priced`` frame.
    """
    rivals = sorted((r for r in rows if r.fair and r.work > 0 and not r.exact), key=lambda r: r.work)
    exact = [r for r in rows if r.exact]
    if not rivals:
        return _without_rivals(rows, exact)
    best = rivals[0]
    tied = [r for r in rivals[1:] if not r.work_low > best.work_high]
    cost = f"variance × {UNITS[best.unit]}"
    if len(rivals) == 1:
        parts = [f"{best.estimator}: the only unbiased estimator here with a variance to trust"]
    elif tied:
        parts = [
            f"use {_alternatives([best, *tied])}: overlapping intervals of {cost}, the lowest of {len(rivals)} unbiased"
        ]
    else:
        others = [r for r in rivals[1:] if r.estimator_name != best.estimator_name] or rivals[1:]
        second = min(others, key=lambda r: r.work_low)
        factor = words.span(second.work_low / best.work_high, second.work_high / best.work_low)
        factor = f"≥ {format_number(second.work_low / best.work_high, 2)}" if math.isnan(second.work_high) else factor
        parts = [
            f"use {best.estimator}: lowest {cost} of {len(rivals)} unbiased; {second.estimator} needs {factor} times it"
        ]
    lasting = max((r for r in rows if r.biased), key=lambda r: _crossing(r, best), default=None)
    if lasting is not None and (estimates := _crossing(lasting, best)) > 1:
        budget = f"{format_number(estimates, 2)} estimates of {best.estimator}"
        parts.append(f"biased {lasting.estimator} has the lower error for budgets up to {budget}")
    lead = f"{_exact(min(exact, key=lambda r: r.price), best)}, " if exact else ""
    return lead + "; ".join(parts)


def _alternatives(rows: list[Any]) -> str:
    """Join names: ``x or y``, ``x, y or 3 more``."""
    names = [r.estimator for r in rows]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _without_rivals(rows: list[Any], exact: list[Any]) -> str:
    """Say what there is where no unbiased estimator has a trustworthy variance above zero."""
    if exact:
        cheapest = min(exact, key=lambda r: r.evals)
        return f"{cheapest.estimator} is exact ({words.count(cheapest.evals)} evaluations an estimate)"
    unsure = "no unbiased estimator with a variance to trust was measured"
    errors = [r for r in rows if r.mse > 0]
    if not errors:
        return unsure
    least = min(errors, key=lambda r: r.mse)
    tied = [r for r in errors if r is not least and not r.mse_low > least.mse_high]
    names = _alternatives([least, *tied]) if tied else least.estimator
    return f"{unsure}; lowest mean squared error of one estimate: {names}"


def _exact(row: Any, best: Any) -> str:
    """Weigh a zero-variance method against the best random one."""
    if row.price <= best.price:
        return f"use {row.estimator}: exact, and no dearer than an estimate; of the random ones"
    times = format_number(row.price / best.price, 2)
    return f"{row.estimator} is exact, for the price of {times} estimates of {best.estimator}; for less"


def _crossing(row: Any, best: Any) -> float:
    """Return up to how many estimates of the best unbiased estimator a biased one certainly has the lower error.

    With N estimates in the budget, the error of the best is V c / (N c) and that of the biased one
    bias² + V' c' / (N c), c and c' the prices: they cross at N = (V c - V' c') / (bias² c). The ends of the intervals
    are those that favour the unbiased one; 0 where they leave nothing certain.
    """
    if not (row.work_high < best.work_low and row.bias_bound > 0):
        return 0.0
    return float((best.work_low - row.work_high) / (row.bias_bound**2 * best.price))

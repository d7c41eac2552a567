"""Variance times cost: the price of an estimate, the efficiency of each estimator, and a sentence of advice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.records.lines import Outcome
from bench.report import words
from bench.report.frame import each
from bench.stats.comparison import work_normalised
from bench.stats.printing import NONE, format_number

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"seconds": "seconds", "evaluations": "evaluations of f and its gradient"}
PRODUCT = ("variance_times_cost", "variance_times_cost_low", "variance_times_cost_high")
"""Columns for variance times cost: its value and the limits of its interval."""
SHOWN = 3
"""Largest number of names in a list of alternatives."""


def priced(table: pd.DataFrame, cost: str = "seconds") -> pd.DataFrame:
    """Return the frame of runs with the columns ``unit``, ``price``, ``variance_times_cost`` and ``efficiency``.

    A run is one measurement of an estimator on a problem. ``price`` is the cost of one estimate, in seconds if every
    measured run of the problem was timed; if not, or if ``cost`` is "evaluations", the price is in evaluations of f and
    of its gradient. ``variance_times_cost`` is the variance times the price (``stats.comparison.work_normalised``).
    Columns that end in ``_low`` and ``_high`` have the limits of these two. ``efficiency`` is the lowest product among
    the problem's runs that may compete as unbiased, divided by the run's own product: 1 is the best. The efficiency is
    NaN for exact methods, and if a bias or a heavy tail makes it meaningless.
    """
    import numpy as np

    table = table.copy()
    untimed = (table["outcome"] == Outcome.MEASURED) & table["seconds"].isna()
    partly = untimed.groupby(table["problem"]).transform("any") | (cost == "evaluations")
    table["unit"] = np.where(partly, "evaluations", "seconds")
    for suffix in ("", "_low", "_high"):
        table[f"price{suffix}"] = table[f"seconds{suffix}"].fillna(table["seconds"]).where(~partly, table["evals"])
    table[list(PRODUCT)] = [_product(row) for row in each(table)] or np.empty((0, 3))
    rivals = table[PRODUCT[0]].where(table["fair"] & ~table["exact"] & (table["variance"] > 0))
    table["efficiency"] = rivals.groupby(table["problem"]).transform("min") / rivals
    return table


def _product(row: Any) -> tuple[float, float, float]:
    """Return variance times price with its limits, NaN where it does not exist."""
    if row.variance == 0 and row.price >= 0:
        return 0.0, 0.0, 0.0
    if not (row.variance > 0 and row.price > 0):
        return math.nan, math.nan, math.nan
    variance = (row.variance, row.variance_low, None if math.isnan(row.variance_high) else row.variance_high)
    value, low, high = work_normalised(variance, (row.price, row.price_low, row.price_high))
    return value, low, math.nan if high is None else high


class _Standing(NamedTuple):
    """Who is best on one problem, as far as the intervals show.

    ``rivals`` are the unbiased runs by variance times cost, ``tied`` those whose intervals meet the first one's.
    ``second`` is the next best estimator, with the range of work that it needs instead of 1. ``biased`` has the lower
    error in budgets of up to ``estimates`` of the best.
    """

    rivals: list[Any]
    tied: list[Any]
    exact: list[Any]
    second: str = ""
    factor: str = ""
    biased: str = ""
    estimates: float = 0.0


def _standing(rows: list[Any]) -> _Standing:
    rivals = [r for r in rows if r.fair and r.variance_times_cost > 0 and not r.exact]
    rivals.sort(key=lambda r: r.variance_times_cost)
    exact = [r for r in rows if r.exact]
    if not rivals:
        return _Standing([], [], exact)
    first = rivals[0]
    low, high = first.variance_times_cost_low, first.variance_times_cost_high
    found = _Standing(rivals, [r for r in rivals[1:] if not r.variance_times_cost_low > high], exact)
    if len(rivals) > 1 and not found.tied:
        others = [r for r in rivals[1:] if r.estimator_name != first.estimator_name] or rivals[1:]
        second = min(others, key=lambda r: r.variance_times_cost_low)
        least, most = second.variance_times_cost_low / high, second.variance_times_cost_high / low
        factor = f"≥ {format_number(least, 2)}" if math.isnan(most) else words.span(least, most)
        found = found._replace(second=second.estimator, factor=factor)
    lasting = max((r for r in rows if r.biased), key=lambda r: _crossing(r, first), default=None)
    if lasting is not None and (estimates := _crossing(lasting, first)) > 1:
        found = found._replace(biased=lasting.estimator, estimates=estimates)
    return found


def advice(rows: list[Any]) -> str:
    """Return a sentence that recommends an estimator for one problem and claims no more than the intervals show.

    An estimator is recommended alone only if its interval of variance times cost lies below every rival's. Averaging
    does not remove a bias, so a biased estimator is mentioned together with the largest budget at which its error is
    certain to be below the error of the best unbiased estimator.

    Args:
        rows: the measured runs of one problem, from a ``priced`` frame.
    """
    if refuted := _refuted(rows):
        return _at_fault(refuted[0])
    found = _standing(rows)
    if not found.rivals:
        return _without_rivals(rows, found.exact)
    first, count = found.rivals[0], len(found.rivals)
    cost = f"variance × {UNITS[first.unit]}"
    if count == 1:
        parts = [f"{first.estimator}: the only unbiased estimator here with a variance to trust"]
    elif found.tied:
        parts = [f"use {_alternatives([first, *found.tied])}: tied for the lowest {cost} among {count} unbiased"]
    else:
        needs = f"{found.second} needs {found.factor} times as much for the same precision"
        parts = [f"use {first.estimator}: lowest {cost} of {count} unbiased; {needs}"]
    if learned := [r.estimator for r in [first, *found.tied][:SHOWN] if r.learned]:
        was = "was" if len(learned) == 1 else "were"
        parts.append(f"{' and '.join(learned)} learned and {was} frozen at this point, which never happens in training")
    if found.biased:
        budget = f"{format_number(found.estimates, 2)} estimates of {first.estimator}"
        parts.append(f"below a budget of {budget}, {found.biased} has the lower error in spite of its bias")
    lead = f"{_exact(min(found.exact, key=lambda r: r.price), first)}, " if found.exact else ""
    return lead + "; ".join(parts)


def best(rows: list[Any]) -> tuple[str, str, str]:
    """Return three texts on one problem: the best unbiased estimators, the work of the next best, and a biased one.

    The work is a multiple of what the best estimator needs for the same precision. The biased estimator comes with the
    budget, in estimates of the best unbiased estimator, up to which the biased one has the lower error.

    Args:
        rows: the measured runs of one problem, from a ``priced`` frame.
    """
    if _refuted(rows):
        return "the objective is at fault", NONE, NONE
    found = _standing(rows)
    exact = [f"{min(found.exact, key=lambda r: r.price).estimator} (exact)"] if found.exact else []
    leaders = [_alternatives([found.rivals[0], *found.tied])] if found.rivals else []
    needs = f"{found.factor} times as much" if found.factor else "tied" if found.tied else NONE
    biased = f"{found.biased}, up to {format_number(found.estimates, 2)} estimates" if found.biased else NONE
    return "; ".join([*exact, *leaders]) or NONE, needs, biased


def _refuted(rows: list[Any]) -> list[Any]:
    """Return the runs of exact methods whose gradient is not the exact one."""
    return [r for r in rows if r.biased and r.deterministic and r.unbiased]


def _at_fault(row: Any) -> str:
    """Say what it means that an exact method, without noise and unbiased, does not give the exact gradient."""
    where = "" if row.estimator_name == "enumeration" else f", or {row.estimator} if it is your own"
    return (
        f"{row.estimator} is exact, and differs from the exact gradient: the objective is at fault{where}, and no bias "
        "here says anything about an estimator; see bench check-objective"
    )


def _alternatives(rows: list[Any]) -> str:
    """Join names: ``x or y``, ``x, y or 3 more``."""
    names = [r.estimator for r in rows]
    if len(names) == 1:
        return str(names[0])
    if len(names) > SHOWN:
        names = [*names[: SHOWN - 1], f"{len(names) - SHOWN + 1} more"]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _without_rivals(rows: list[Any], exact: list[Any]) -> str:
    """Say what can be used where no unbiased estimator has a trustworthy variance above zero."""
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
    """Weigh an exact method against the best random one."""
    if row.price <= best.price:
        return f"use {row.estimator}: exact, and no more expensive than one random estimate; of the random ones"
    times = format_number(row.price / best.price, 2)
    return f"{row.estimator} is exact at the cost of {times} estimates of {best.estimator}; on a smaller budget"


def _crossing(row: Any, best: Any) -> float:
    """Return the number of estimates of the best unbiased estimator up to which a biased one certainly errs less.

    In a budget of N estimates at price c, the best has the error V c / (N c), and the biased one, at price c', has
    bias² + V' c' / (N c). They cross at N = (V c - V' c') / (bias² c). The ends of the intervals that favour the
    unbiased estimator are used; the result is 0 where they leave nothing certain.
    """
    gap = best.variance_times_cost_low - row.variance_times_cost_high
    return float(gap / (row.bias_bound**2 * best.price)) if gap > 0 and row.bias_bound > 0 else 0.0

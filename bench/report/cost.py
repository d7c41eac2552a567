"""Variance times cost: the price of an estimate, and the efficiency of each estimator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bench.records.lines import Outcome
from bench.report.frame import each
from bench.stats.comparison import work_normalised

if TYPE_CHECKING:
    import pandas as pd

UNITS = {"seconds": "seconds", "evaluations": "evaluations of f and its gradient"}
PRODUCT = ("variance_times_cost", "variance_times_cost_low", "variance_times_cost_high")
"""Columns for variance times cost: its value and the limits of its interval."""
FACTORS = ("variance", "variance_low", "variance_high", "price", "price_low", "price_high")


def priced(table: pd.DataFrame, cost: str = "evaluations") -> pd.DataFrame:
    """Return the frame of runs with columns added: ``unit``, ``price``, ``variance_times_cost`` and ``efficiency``.

    ``table`` is the frame that ``bench.report.frame.frame`` returns. A run is one measurement of an estimator on an
    objective.

    - ``price``: cost of one estimate. It is in seconds if ``cost`` is "seconds" and every measured run of the objective
      was timed. If not, it is in evaluations of f and of its gradient;
    - ``unit``: unit of the price, "evaluations" or "seconds";
    - ``variance_times_cost``: variance times price (``stats.comparison.work_normalised``);
    - ``efficiency``: the lowest ``variance_times_cost`` among the objective's runs that may compete as unbiased,
      divided by the ``variance_times_cost`` of this run. 1 for the best run. NaN for exact methods, and for runs with a
      bias or a heavy tail.

    ``price`` and ``variance_times_cost`` have 95 % limits in columns that end in ``_low`` and ``_high``.
    """
    import numpy as np

    table = table.copy()
    untimed = (table["outcome"] == Outcome.MEASURED) & table["seconds"].isna()
    partly = untimed.groupby(table["problem"]).transform("any") | (cost != "seconds")
    table["unit"] = np.where(partly, "evaluations", "seconds")
    for suffix in ("", "_low", "_high"):
        table[f"price{suffix}"] = table[f"seconds{suffix}"].fillna(table["seconds"]).where(~partly, table["evals"])
    table[list(PRODUCT)] = [_product(row) for row in each(table[list(FACTORS)])] or np.empty((0, 3))
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

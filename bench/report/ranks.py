"""Simultaneous rank intervals of the estimators of each problem, by variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.stats import Summary
from bench.stats.comparison import LogRatio, independent_log_ratio, paired_log_ratio, rank_intervals

if TYPE_CHECKING:
    import pandas as pd


def ranked(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame with the columns ``rank_low`` and ``rank_high``, NaN where a run has no place in a ranking.

    Runs without variance, with a heavy tail, or that measured nothing are not ranked. Runs that shared noise in the
    same blocks are compared through it, which tells far closer variances apart.
    """
    table = table.assign(rank_low=float("nan"), rank_high=float("nan"))
    by_run = {r["run"]: r for r in records if r["kind"] == "moments"}
    for _, group in table[(table["outcome"] == "measured") & (table["variance"] > 0)].groupby("problem", sort=False):
        runs = [by_run[run] for run in group["run"]]
        n = len(runs)
        ratios, p = np.zeros((n, n)), np.ones((n, n))
        for i, j in combinations(range(n), 2):
            ratio = _log_ratio(runs[i], runs[j])
            ratios[i, j], ratios[j, i], p[i, j], p[j, i] = ratio.value, -ratio.value, ratio.p, ratio.p
        for index, rank in zip(group.index, rank_intervals(ratios, p), strict=True):
            if rank is not None:
                table.loc[index, ["rank_low", "rank_high"]] = rank
    return table


def _log_ratio(a: Mapping[str, Any], b: Mapping[str, Any]) -> LogRatio:
    rows, other = (np.asarray(r["sums"]["block_rows"], dtype=np.float64) for r in (a, b))
    if a["common_noise"] and rows.size >= 8 and np.array_equal(rows, other):
        w_a, w_b = (np.asarray(r["sums"]["block_w"], dtype=np.float64) for r in (a, b))
        return paired_log_ratio(rows, w_a, w_b, a["summary"]["variance"], b["summary"]["variance"])
    return independent_log_ratio(Summary.from_json(a["summary"]), Summary.from_json(b["summary"]))

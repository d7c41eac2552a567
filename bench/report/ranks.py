"""Simultaneous rank intervals of the estimators of each objective, by variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.records.lines import LineKind, Outcome
from bench.stats import ComparedRun, ranks

if TYPE_CHECKING:
    import pandas as pd


def ranked(table: pd.DataFrame, records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the frame of runs with 95 % limits of their ranks by variance, in columns ``rank_low`` and ``rank_high``.

    A run is one measurement of an estimator on an objective. Rank 1 is the smallest variance on this objective. With
    probability 95 %, the limits of all runs of an objective hold together. Both limits are NaN if a run has a heavy
    tail, if nothing varied in the run, or if the run was not measured.

    If all runs of an objective used common noise, runs with blocks (groups of gradients) of equal size are compared
    block by block. This comparison finds much smaller differences of variances.

    Args:
        table: the frame that ``bench.report.frame.frame`` makes from ``records``.
        records: the records, with the sums of each block.
    """
    by_run = {r["run"]: r for r in records if r["kind"] == LineKind.MOMENTS}
    varied = table[(table["outcome"] == Outcome.MEASURED) & (table["variance"] > 0)]
    groups: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for index, problem, run in zip(varied.index, varied["problem"], varied["run"], strict=True):
        groups.setdefault(problem, {})[index] = by_run[run]
    lines = [list(group.values()) for group in groups.values()]
    common = [all(line["common_noise"] for line in group) for group in lines]
    intervals = ranks([[ComparedRun.of(line) for line in group] for group in lines], common)
    found = {
        i: pair
        for group, pairs in zip(groups.values(), intervals, strict=True)
        for i, pair in zip(group, pairs, strict=True)
    }
    ends = [found.get(index) or (float("nan"), float("nan")) for index in table.index]
    return table.assign(rank_low=[float(low) for low, _ in ends], rank_high=[float(high) for _, high in ends])

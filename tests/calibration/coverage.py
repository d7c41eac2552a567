"""Does the interval of the variance cover, is an unbiased cell called biased, does the bias bound miss a bias?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from bench.measurement.reduction.blocks import block_partial
from bench.measurement.reduction.kernels import Workspace
from bench.stats import Accumulator, Sums, bias, summarise
from bench.stats.total import Total, variance_interval
from tests.calibration.laws import Law, block_sizes, generator

SIZES = (1_000, 10_000)
"""Replicates, rounded up to whole blocks as in a study: 1,024 in 4 blocks, 10,240 in 36."""

Row = dict[str, float]


def sums_of(gradients: torch.Tensor, law: Law, sizes: list[int], space: Workspace) -> Sums:
    """Return the sums of a run, by the code that a study uses."""
    exact, groups = torch.as_tensor(law.mean), {"g": law.size}
    accumulator = Accumulator(groups, replicates=sum(sizes), centre=law.mean, exact=law.mean)
    for index, block in enumerate(gradients.split(sizes)):
        accumulator.add(
            block_partial(
                block,
                index=index,
                groups=groups,
                centre=exact,
                exact=exact,
                replicates=sum(sizes),
                workspace=space,
            )
        )
    return accumulator.sums()


def displacements(law: Law, replicates: int) -> list[np.ndarray[Any, Any]]:
    """Return biases well above the noise, which a bound must cover.

    For D = 1 there is one on either side; for larger D, one along a single coordinate and one along all.
    """
    first, far = np.eye(1, law.size)[0], 10 * law.scale / math.sqrt(replicates)
    return [far * first, -far * first] if law.size == 1 else [far * first, np.full(law.size, far / 4)]


def bound_of(sums: Sums, target: np.ndarray[Any, Any]) -> float:
    """Return the 95 % upper bound of the bias, even if the summary has none because the variance may be infinite.

    For D = 1 the bound is the larger end of the limits. For larger D the summaries of all laws here have a bound.
    """
    if sums.size > 1:
        bound = summarise(sums, exact=target, dtype="float32").bias_bound
        assert bound is not None
        return bound
    values = Total.of(sums, "float32").scalar()
    assert values is not None
    low, high = bias.scalar_limits(float(sums.mean[0] - target[0]), values, 0.95)
    return max(high, -low)


def upper_limit(sums: Sums) -> float:
    """Return the upper limit of the variance, even if a summary withholds it because of the tail."""
    total = Total.of(sums, "float32")
    return variance_interval(total.V, total.shape, total.rho, total.tail, 0.95).high


def run(law: Law, replicates: int, number: int, space: Workspace) -> Row:
    """Simulate one run of a law, and return its statistics and whether they were right."""
    sizes = block_sizes(law.size, replicates)
    gradients = law.draw(generator("coverage", law.name, replicates, number=number), sum(sizes))
    sums = sums_of(gradients, law, sizes, space)
    s = summarise(sums, exact=law.mean, dtype="float32")
    high = upper_limit(sums)
    missed = [float(bound_of(sums, law.mean - b) < np.linalg.norm(b)) for b in displacements(law, sum(sizes))]
    khat = -math.inf if s.khat is None else s.khat
    p = 1.0 if s.p_bias is None else s.p_bias
    return {
        "covered": float(s.variance_low <= law.variance <= high),
        "below": float(law.variance < s.variance_low),
        "unbounded": float(high == math.inf),
        "half_width": (high - s.variance_low) / 2 / sums.variance if sums.variance > 0 else math.inf,
        "ratio": sums.variance / law.variance,
        "khat_half": float(khat >= 0.5),
        "khat_heavy": float(khat >= 0.7),
        "khat_infinite": float(khat >= 1),
        "biased": float(s.verdict in ("BIASED", "BIASED_WITHIN_TOL")),
        "p_05": float(p <= 0.05),
        "p_01": float(p <= 0.01),
        "missed_first": missed[0],
        "missed_second": missed[1],
        "missed_printed_first": missed[0] if khat < 1 else math.nan,
        "missed_printed_second": missed[1] if khat < 1 else math.nan,
    }


def runs(law: Law, replicates: int, numbers: range) -> dict[str, list[float]]:
    """Return the columns of these runs."""
    space = Workspace()
    rows = [run(law, replicates, number, space) for number in numbers]
    return {key: [row[key] for row in rows] for key in rows[0]}


def rate(columns: dict[str, list[float]], key: str) -> tuple[float, int]:
    """Return the mean of a column over the runs that have a value, and the number of these runs."""
    values = np.asarray(columns[key])
    values = values[~np.isnan(values)]
    return (float(values.mean()), values.size) if values.size else (math.nan, 0)


def summary(law: Law, replicates: int, columns: dict[str, list[float]]) -> dict[str, object]:
    """Return the row of a law: every rate, and the larger of the two miss rates of the bound."""
    row: dict[str, object] = {"law": law.name, "R": replicates, "runs": len(columns["ratio"])}
    for key in ("covered", "below", "unbounded", "khat_half", "khat_heavy", "khat_infinite", "biased", "p_05", "p_01"):
        row[key] = rate(columns, key)[0]
    if not math.isfinite(law.variance):
        row["covered"] = math.nan
    row["median_half_width"] = float(np.median(columns["half_width"]))
    row["median_ratio"] = float(np.median(columns["ratio"])) if math.isfinite(law.variance) else math.nan
    for key in ("missed", "missed_printed"):
        row[key], row[f"{key}_of"] = max(rate(columns, f"{key}_{which}") for which in ("first", "second"))
    return row

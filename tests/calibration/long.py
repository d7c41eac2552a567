"""Long runs, whose later replicates are not tracked row by row: do their intervals cover?"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

from bench.measurement.draws import blocks_in, sizes_of, spans, starts, tracked_rows
from bench.measurement.reduction.blocks import draws_partial
from bench.measurement.reduction.kernels import Workspace
from bench.measurement.reduction.origin import Origin
from bench.stats import Accumulator, Sums, summarise
from bench.stats.total import tail_of, variance_interval, whole
from bench.stats.variance import shape
from tests.calibration import laws
from tests.calibration.coverage import upper_limit
from tests.calibration.laws import Law, generator

REPLICATES = 300_000
"""Rounded up to whole draws as in a study: 8 of 1,024 and 9 of 32,768, of which 8 and 4 are tracked."""
LAWS = tuple(law for law in laws.LAWS if law.size == 1 and math.isfinite(law.variance))
ROUNDING = 1e-6
"""Relative tolerance: the error of BERN.5 is constant, so its interval is narrower than float32 resolves."""


def sizes_for(law: Law) -> list[int]:
    """Return the rows of every draw of a study's run with gradients of this law."""
    return sizes_of(SimpleNamespace(row_elements=law.size), REPLICATES, "cpu")  # type: ignore[arg-type]


def sums_of(gradients: torch.Tensor, law: Law, sizes: list[int], space: Workspace) -> Sums:
    """Return the sums of a run, by the code that a study uses."""
    exact, groups = torch.as_tensor(law.mean), {"g": law.size}
    accumulator = Accumulator(groups, replicates=sum(sizes), centre=law.mean, exact=law.mean)
    draws, before, tracked = gradients.split(sizes), starts(sizes), tracked_rows(sizes, law.size)
    index, origin = 0, Origin.of([draws[0]])
    for span in spans(sizes, law.size):
        partial = draws_partial(
            lambda draw: [draws[draw]],
            span,
            index=index,
            blocks=[blocks_in(sizes[draw]) for draw in span],
            groups=groups,
            centre=exact,
            exact=exact,
            replicates=sum(sizes),
            origin=origin,
            tracked=tracked if before[span.start] < tracked else 0,
            workspace=space,
        )
        accumulator.add(partial)
        index += partial.blocks
    return accumulator.sums()


def mse_limit(sums: Sums) -> float:
    """Return the upper limit of the mean squared error, even if a summary withholds it because of the tail."""
    assert sums.error is not None
    assert sums.error_top is not None
    error = whole(sums, sums.error, sums.block_error)
    tail = tail_of(sums.error, sums.error_top, error)
    return variance_interval(float(error.mean), shape(error), 0.0, tail, 0.95).high


def runs(law: Law, numbers: range) -> dict[str, list[float]]:
    """Simulate runs of a law; return the coverage of variance and mean squared error, and the verdicts on the bias."""
    columns: dict[str, list[float]] = {key: [] for key in ("covered", "below", "mse_covered", "half_width", "biased")}
    sizes, space = sizes_for(law), Workspace()
    for number in numbers:
        gradients = law.draw(generator("long", law.name, number=number), sum(sizes))
        sums = sums_of(gradients, law, sizes, space)
        s = summarise(sums, exact=law.mean, dtype="float32")
        low, high, mse_high = s.variance_low, upper_limit(sums), mse_limit(sums)
        columns["covered"].append(float(low <= law.variance <= high))
        columns["below"].append(float(law.variance < low))
        mse_low = (s.mse_low or 0.0) * (1 - ROUNDING)
        columns["mse_covered"].append(float(mse_low <= law.variance <= mse_high * (1 + ROUNDING)))
        columns["half_width"].append((high - low) / 2 / sums.variance)
        columns["biased"].append(float(s.verdict in ("BIASED", "BIASED_WITHIN_TOL")))
    return columns


def summary(law: Law, columns: dict[str, list[float]]) -> dict[str, object]:
    """Return the row of a law."""
    sizes = sizes_for(law)
    row: dict[str, object] = {"law": law.name, "R": sum(sizes), "followed": tracked_rows(sizes, law.size)}
    row["runs"] = len(columns["covered"])
    row |= {key: float(np.mean(columns[key])) for key in ("covered", "below", "mse_covered", "biased")}
    return row | {"median_half_width": float(np.median(columns["half_width"]))}

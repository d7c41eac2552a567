"""Does a run with a precision target publish honest figures, although its length was chosen by looking at data?"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator

from bench.measurement.reduction.blocks import block_partial
from bench.measurement.reduction.kernels import Workspace
from bench.stats import Accumulator, Summary, Sums, half_width, is_precise, look_schedule, planned_replicates, summarise
from tests.calibration.coverage import upper_limit
from tests.calibration.laws import EXP1, G1, SFQ1, T3, Law, block_sizes, exponential, generator

LAWS = (G1, SFQ1, exponential("EXP.5", 0.5), EXP1, T3)
TARGET, MOST = 0.1, 32_000


def look(law: Law, replicates: int, looks: list[int], noise: Generator, space: Workspace) -> tuple[Summary, Sums, int]:
    """Return the first look that is precise enough, or the last: its summary, sums and replicates."""
    sizes, target, groups = block_sizes(law.size, replicates), torch.as_tensor(law.mean), {"g": law.size}
    sums, done, waiting = Accumulator(groups, replicates=sum(sizes), centre=law.mean, exact=None), 0, list(looks)
    for index, rows in enumerate(sizes):
        block = law.draw(noise, rows)
        sums.add(
            block_partial(
                block,
                index=index,
                groups=groups,
                centre=target,
                exact=None,
                replicates=max(waiting[0], done + rows),
                workspace=space,
            )
        )
        done += rows
        if done < waiting[0]:
            continue
        waiting = [n for n in waiting if n > done]
        seen = sums.sums()
        summary = summarise(seen, exact=None, dtype="float32")
        if not waiting or is_precise(summary, TARGET):
            return summary, seen, done
    raise AssertionError("the last look is at the last block")


def runs(law: Law, numbers: range) -> dict[str, list[float]]:
    """Simulate pilots and the fresh runs that they plan; return the columns of both."""
    columns: dict[str, list[float]] = {
        key: [] for key in ("pilot_covered", "pilot_ratio", "covered", "ratio", "reached", "replicates")
    }
    space = Workspace()
    for number in numbers:
        noise = generator("adaptive", law.name, number=number)
        pilot, pilot_sums, _ = look(law, MOST, look_schedule(MOST), noise, space)
        planned = min(planned_replicates(pilot, TARGET), MOST) if is_precise(pilot, TARGET) else MOST
        final, final_sums, actual = look(law, planned, [planned], noise, space)
        for prefix, s, sums in (("pilot_", pilot, pilot_sums), ("", final, final_sums)):
            columns[f"{prefix}covered"].append(float(s.variance_low <= law.variance <= upper_limit(sums)))
            columns[f"{prefix}ratio"].append(sums.variance / law.variance)
        columns["reached"].append(float(half_width(final) <= TARGET))
        columns["replicates"].append(float(actual))
    return columns


def summary(law: Law, columns: dict[str, list[float]]) -> dict[str, object]:
    """Return the row of a law."""
    row: dict[str, object] = {"law": law.name, "target": TARGET, "max_replicates": MOST, "runs": len(columns["ratio"])}
    row |= {key: float(np.mean(columns[key])) for key in columns if key != "replicates"}
    row["ratio_se"] = float(np.std(columns["ratio"]) / math.sqrt(len(columns["ratio"])))
    return row | {"median_replicates": float(np.median(columns["replicates"]))}

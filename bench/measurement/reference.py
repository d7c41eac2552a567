"""What stands in for an exact gradient: a long run of an unbiased estimator, measured once, as a record of its own."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.measurement.adaptation import learn
from bench.measurement.engine import Engine
from bench.measurement.lines import Lost, common
from bench.measurement.moments import collect as merge
from bench.measurement.reduction.blocks import block_partial
from bench.measurement.threads import single_thread
from bench.objectives import Objective
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records.lines import Record
from bench.stats import Reference, summarise

KIND = "reference"
"""Kind of the record, and the stage that its noise is seeded by: that of no other measurement."""


def cell_of(objective: Objective) -> Cell | None:
    """Return what is measured for an objective; None where it has an exact gradient, or names no estimator."""
    estimator = objective.reference_estimator
    return None if objective.has_exact or estimator is None else Cell(estimator, objective)


def settings_of(settings: Settings) -> Settings:
    """Return how a reference is measured: in float64, with as many replicates as the cells that it serves.

    How much sharper it is than they are is up to the objective, by the samples in one call of the estimator it names.
    With 8 samples a reference costs about ten cells of two samples in float32, and there is one for an objective.
    """
    return replace(settings, dtype="float64", common_noise=True, timing=False)


def reference_record(cell: Cell, settings: Settings, progress: Callable[[int, int], None]) -> Record:
    """Measure a reference and return its line.

    Args:
        cell: from ``cell_of``.
        settings: from ``settings_of``.
        progress: called with replicates done and in all after every block.

    Raises:
        Lost: the estimator is biased, or its gradients are not finite, or too heavy-tailed for their mean to mean much.
    """
    name = f"The reference of {label(cell.objective)} by {cell.estimator!r}"
    if not cell.estimator.unbiased:
        raise Lost(f"{name} is biased. Name an unbiased estimator in its reference_estimator, such as RLOO(n=8).")
    begin = time.perf_counter()
    engine = Engine(cell, settings)
    learn(engine)
    total, centre = sum(engine.sizes), engine.draw_gradients(0, KIND).mean(0)
    partials = (
        block_partial(
            engine.draw_gradients(draw, KIND),
            index=draw,
            groups=engine.groups,
            centre=centre,
            exact=None,
            replicates=total,
        )
        for draw in range(len(engine.sizes))
    )
    sums, _ = merge(engine, ((partial, "") for partial in partials), centre.cpu().numpy(), None, progress)
    summary = summarise(sums, exact=None, dtype=settings.dtype)
    if summary.status == "INFINITE_VARIANCE_SUSPECTED":
        raise Lost(
            f"{name} has no finite variance, as far as can be seen. Name another one in its reference_estimator."
        )
    return {
        **common(cell, settings, KIND),
        "n": getattr(cell.estimator, "n", None),
        "size": engine.size,
        "groups": engine.groups,
        "shapes": {name: list(t.shape) for name, t in engine.problem.theta.items()},
        "blocks": len(engine.sizes),
        "wall_seconds": time.perf_counter() - begin,
        "mean": sums.mean,
        "standard_error": math.sqrt(summary.variance / total),
        "summary": summary.to_json(),
    }


def read(line: Record) -> Reference | None:
    """Return the reference that a line holds; None if it could not be measured."""
    if line["outcome"] != "measured":
        return None
    mean = np.asarray(line["mean"], dtype=np.float64)
    return Reference(mean, line["replicates"], line["summary"]["variance"], line["summary"]["trace_square"])


@functools.lru_cache(maxsize=8)
def here(objective: Objective, settings: Settings) -> Reference | None:
    """Return the reference of an objective, measured in this process, once; None where there is none to be had.

    Args:
        objective: any.
        settings: from ``settings_of``.
    """
    cell = cell_of(objective)
    if cell is None:
        return None
    with single_thread():
        return read(reference_record(cell, settings, lambda _done, _total: None))

"""The reference record: a long run of an unbiased estimator that stands in for an exact gradient."""

import functools
import math
import time
from dataclasses import replace

import numpy as np

from bench.measurement.adaptation import adapt_state
from bench.measurement.engine import Engine
from bench.measurement.lines import head
from bench.measurement.moments import shape_of
from bench.measurement.summaries import OnProgress, ignore, summarise_draws
from bench.measurement.threads import single_thread
from bench.objectives import Objective
from bench.planning.cells import Cell
from bench.planning.selectors import label
from bench.planning.settings import Settings
from bench.records.lines import LineKind, Lost, Outcome, Record
from bench.stats import Reference
from bench.stats.summary import Status


def cell_of(objective: Objective) -> Cell | None:
    """Return the cell that measures the reference of an objective; None if there is no such cell.

    A cell is an estimator on an objective. A reference is a mean gradient in place of an unknown exact gradient. An
    objective has no such cell if it has an exact gradient or names no reference estimator.
    """
    estimator = objective.reference_estimator
    return None if objective.has_exact or estimator is None else Cell(estimator, objective)


def settings_of(settings: Settings) -> Settings:
    """Return the settings for the reference of an objective, made from the ``settings`` of its cells.

    A reference is a mean gradient in place of an unknown exact gradient. A cell is an estimator on an objective. In the
    result, the dtype is float64 and timing is switched off. The noise follows from the seed and the objective, not from
    the estimator. A reference has as many replicates as a cell, but is more precise, because its estimator uses more
    samples. All cells of the objective use one reference.
    """
    return replace(settings, dtype="float64", common_noise=True, timing=False)


def measure_reference(cell: Cell, settings: Settings, progress: OnProgress = ignore) -> Record:
    """Measure a reference, a mean gradient in place of an unknown exact gradient, and return its record.

    Args:
        cell: the cell to measure, from ``cell_of``.
        settings: how the cell is measured, from ``settings_of``.
        progress: called with the number of replicates done and the total.

    Raises:
        Lost: the estimator is biased, its gradients are not finite, or their variance seems to be infinite.
    """
    name = f"The reference of {label(cell.objective)} by {cell.estimator!r}"
    if not cell.estimator.unbiased:
        raise Lost(f"{name} is biased. Name an unbiased estimator in its reference_estimator, such as RLOO(n=8).")
    begin = time.perf_counter()
    engine = Engine(cell, settings)
    adapt_state(engine)
    ((sums, summary),) = summarise_draws(engine, LineKind.REFERENCE, progress=progress)
    if summary.status == Status.INFINITE_VARIANCE_SUSPECTED:
        raise Lost(f"{name} has no finite variance, it seems. Name another estimator in its reference_estimator.")
    return {
        **head(cell, settings, LineKind.REFERENCE),
        **shape_of(engine),
        "blocks": len(engine.sizes),
        "wall_seconds": time.perf_counter() - begin,
        "mean": sums.mean,
        "standard_error": math.sqrt(sums.variance / sums.replicates),
        "summary": summary.to_json(),
    }


def read(line: Record) -> Reference | None:
    """Return the reference in a reference record, ``line``; None if the reference could not be measured.

    A reference is a mean gradient in place of an unknown exact gradient.
    """
    if line["outcome"] != Outcome.MEASURED:
        return None
    mean = np.asarray(line["mean"], dtype=np.float64)
    count, variance = line["replicates"], line["summary"]["variance"]
    if variance is None:  # the tail is heavy
        variance = line["standard_error"] ** 2 * count
    return Reference(mean, count, variance, line["summary"]["trace_square"])


@functools.lru_cache(maxsize=8)
def in_process(objective: Objective, settings: Settings) -> Reference | None:
    """Return the reference of an objective, measured once per process; None if the objective needs or has none.

    A reference is a mean gradient in place of an unknown exact gradient. The result is None if the objective has an
    exact gradient or names no reference estimator. The settings must come from ``settings_of``.
    """
    cell = cell_of(objective)
    if cell is None:
        return None
    with single_thread():
        return read(measure_reference(cell, settings))

"""The timing record: the seconds, the cost and the memory of a cell."""

from collections.abc import Callable
from functools import partial

import torch
from torch.distributions import Distribution

from bench.measurement.clock import time_pair
from bench.measurement.draws import cap, sizes_of, slices
from bench.measurement.engine import Engine
from bench.measurement.lines import head
from bench.objectives import is_own
from bench.planning.cells import Cell
from bench.planning.settings import Settings
from bench.records.lines import LineKind, Record
from estimators import draw, rows

CELL_SECONDS = 0.2
"""Most seconds for the timing of one cell: two thirds for the batch timing, one third for the latency timing."""
BLOCK_SECONDS, NARROW = 2e-3, 0.05
"""Least length of a block of calls; relative half-width of an interval of a time at which the timing ends."""


def measure_timing(cell: Cell, settings: Settings, seconds: float = CELL_SECONDS) -> Record:
    """Time a cell (an estimator on an objective) and return its timing record.

    Nothing else should run at the same time. Two kinds of calls are timed:

    - A batch call computes many replicates at once. A study cuts every draw (batch of replicates) into equal calls that
      fit into the cache. The batch call is as large as one of these calls, for the largest draw that the objective can
      have. For a user's own objective, the largest draw under ``settings`` counts instead, so that timing needs no more
      memory than the study.
    - A latency call is one call as in training, from theta to the gradient at theta.

    The cost is the time of the batch call, divided by the time to draw one sample and evaluate f once for each of its
    replicates. ``seconds`` is the time to spend on both kinds of calls. An estimator that learns is timed before it has
    learned anything, because learning changes no time.
    """
    engine = Engine(cell, settings, looks_up=False)
    engine.freeze()
    most = cap(cell.objective, settings.device)
    if is_own(cell.objective):
        most = min(most, max(sizes_of(cell.objective, settings.replicates, settings.device)))
    count = most // slices(most, engine.elements, settings.device)
    generator, theta, many = engine.generator("timing", 0), engine.problem.theta, rows(engine.q, count)

    def batch() -> object:
        return engine.gradients(count, generator)

    def single() -> object:
        q = engine.problem.q(theta)
        loss = cell.estimator(engine.problem.integrand(q), q, generator, engine.state)
        return torch.autograd.grad(loss.mean(), list(theta.values()), allow_unused=True)

    def sample_and_evaluate(q: Distribution) -> Callable[[], object]:
        f = engine.problem.integrand(q)

        def base() -> object:
            with torch.no_grad():
                return f(draw(q, 1, generator))

        return base

    timed = partial(time_pair, device=engine.device, block_seconds=BLOCK_SECONDS, narrow=NARROW)
    throughput = timed(batch, sample_and_evaluate(many), budget_seconds=seconds * 2 / 3)
    latency = timed(single, sample_and_evaluate(engine.q), budget_seconds=seconds / 3, memory=False)
    return {
        **head(cell, settings, LineKind.TIMING),
        "seconds": throughput.seconds / count,
        "seconds_low": throughput.seconds_low / count,
        "seconds_high": throughput.seconds_high / count,
        "latency_seconds": latency.seconds,
        "latency_seconds_low": latency.seconds_low,
        "latency_seconds_high": latency.seconds_high,
        "cost": throughput.cost,
        "cost_low": throughput.cost_low,
        "cost_high": throughput.cost_high,
        "noisy": throughput.noisy,
        "peak_bytes": throughput.peak_bytes,
        "timing_rows": count,
        "timing_blocks": throughput.blocks,
    }

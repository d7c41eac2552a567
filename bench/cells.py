"""Cell to record: gradients of every block, their sums, their statistics, in one line. No cell is ever lost."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from bench import record
from bench.engine import Engine, Settings, exact_gradient
from bench.learn import count_evaluations, learn
from bench.plan import LEAST, Cell, blocks, cap
from bench.record import Record
from bench.selectors import label
from bench.stats import Accumulator, Partial, Sums, summarise
from bench.timing import time_pair
from estimators import Refusal, rows
from estimators._families import draw
from estimators._protocol import command_line_name


def common(cell: Cell, settings: Settings, kind: str) -> Record:
    """Return the keys that every record of a cell has."""
    total = sum(blocks(cell, settings.replicates, settings.device))
    objective, estimator = cell.objective, cell.estimator
    return {
        "schema": record.SCHEMA,
        "kind": kind,
        "run": record.run_id(
            cell.id,
            dtype=settings.dtype,
            device=settings.device,
            seed=settings.seed,
            replicates=total,
            common_noise=settings.common_noise,
        ),
        "cell": cell.id,
        "estimator": label(estimator),
        "estimator_name": command_line_name(type(estimator)),
        "estimator_params": record.fields_of(estimator),
        "objective": label(objective),
        "objective_name": command_line_name(type(objective)),
        "objective_params": record.fields_of(objective),
        "family": objective.family.__name__,
        "dim": objective.dim,
        "unbiased": estimator.unbiased,
        "deterministic": estimator.deterministic,
        "dtype": settings.dtype,
        "device": settings.device,
        "seed": settings.seed,
        "common_noise": settings.common_noise,
        "replicates": total,
        "outcome": "measured",
        "reason": None,
        "environment": record.environment(),
    }


def skipped_record(cell: Cell, settings: Settings, reason: str) -> Record:
    """Return the record of a pair that does not fit together."""
    return {**common(cell, settings, "moments"), "outcome": "skipped", "reason": reason}


def failed_record(cell: Cell, settings: Settings, reason: str, kind: str = "moments") -> Record:
    """Return the record of a cell that could not be measured."""
    return {**common(cell, settings, kind), "outcome": "failed", "reason": reason}


def safely(work: Callable[[], Record], cell: Cell, settings: Settings, kind: str = "moments") -> Record:
    """Return what ``work`` returns, or the record of why it could not: a failed cell is a record, never a missing row."""
    try:
        return work()
    except Refusal as refusal:
        return {**skipped_record(cell, settings, str(refusal)), "kind": kind}
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno}"
        return failed_record(cell, settings, f"{type(error).__name__}: {error} ({place})", kind)


TIMING_SECONDS = 0.3
"""Length of the timing of one cell in batch; its latency takes half of that."""

Partials = Iterator[tuple[Partial, str]]


def moments_record(
    cell: Cell, settings: Settings, engine: Engine, progress: Callable[[int, int], None]
) -> Record:
    """Measure a cell in this process and return its moments line.

    Args:
        cell: what to measure.
        settings: how.
        engine: the cell made ready.
        progress: called with replicates done and in all after every block.
    """
    begin = time.perf_counter()
    learned = learn(engine)
    f_evals, grad_evals = count_evaluations(engine)
    exact = exact_gradient(cell.objective, engine.problem) if cell.objective.has_exact else None
    centre = exact[1] if exact else engine.gradients(0).double().mean(0).cpu().numpy()
    centre_tensor = torch.as_tensor(centre, device=engine.device)
    exact_tensor = centre_tensor if exact else None

    def partials() -> Partials:
        for block in range(len(engine.sizes)):
            yield engine.partial(block, centre_tensor, exact_tensor)

    collected = collect(engine, partials(), centre, exact[1] if exact else None, progress)
    line = common(cell, settings, "moments")
    if collected.nonfinite:
        reason = (
            f"{collected.nonfinite} of {sum(engine.sizes)} gradients were not finite (NaN or infinite). "
            "Nothing was dropped: the cell has no moments. Look for log(0), overflow or an f that returns NaN."
        )
        return {**line, "outcome": "failed", "reason": reason}
    summary = summarise(
        collected.sums,
        exact=exact[1] if exact else None,
        dtype=settings.dtype,
        exact_error=cell.objective.exact_error,
        deterministic=cell.estimator.deterministic,
    )
    return {
        **line,
        "n": getattr(cell.estimator, "n", None),
        "size": engine.size,
        "groups": engine.groups,
        "shapes": {name: list(t.shape) for name, t in engine.problem.theta.items()},
        "blocks": len(engine.sizes),
        "f_evals": f_evals,
        "grad_evals": grad_evals,
        "adapt_steps": learned.steps,
        "adapt_seconds": learned.seconds,
        "adapt_f_evals": learned.f_evals,
        "state_digest": learned.digest,
        "wall_seconds": time.perf_counter() - begin,
        "fingerprint": collected.fingerprint,
        "exact_value": exact[0] if exact else None,
        "exact": exact[1] if exact else None,
        "mean": collected.mean,
        "summary": summary.to_json(),
        "sums": collected.sums.to_json(),
    }


@dataclass(frozen=True)
class Collected:
    """All blocks of a cell merged: sums, mean gradient, fingerprint, count of gradients that were not finite."""

    sums: Sums
    mean: NDArray[np.float64]
    fingerprint: str
    nonfinite: int


def collect(
    engine: Engine,
    partials: Partials,
    centre: NDArray[np.float64],
    exact: NDArray[np.float64] | None,
    progress: Callable[[int, int], None],
) -> Collected:
    """Merge the partial sums of all blocks, in block order."""
    total = sum(engine.sizes)
    accumulator = Accumulator(engine.groups, replicates=total, centre=centre, exact=exact)
    raw, done, nonfinite = hashlib.sha256(fingerprint_header(engine.settings)), 0, 0
    for partial, digest in partials:
        raw.update(digest.encode())
        nonfinite += partial.nonfinite
        if not nonfinite:
            accumulator.add(partial)
        done += partial.rows
        progress(done, total)
    sums = accumulator.sums()
    return Collected(sums, sums.mean, raw.hexdigest(), nonfinite)


def fingerprint_header(settings: Settings) -> bytes:
    """Return what the fingerprint holds besides gradients: seed, dtype, torch version, CPU capability."""
    header = [settings.seed, settings.dtype, settings.device, torch.__version__, torch.backends.cpu.get_cpu_capability()]
    return record.canonical(header).encode()


def timing_record(cell: Cell, settings: Settings) -> Record:
    """Time a cell and return its timing line; nothing else should run meanwhile.

    Batch: the row gradients of one block. Latency: one call as in training, from theta to theta's gradient. The cost unit is
    one sample and one evaluation of f, in a block of the same rows.
    """
    engine = Engine(cell, settings)
    learn(engine)
    count = LEAST if cell.estimator.deterministic else cap(cell.objective, settings.device)
    generator = engine.generator("timing", 0)
    theta = engine.problem.theta
    many = rows(engine.q, count)

    def batch() -> object:
        return engine.batch(count, generator)

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

    throughput = time_pair(batch, sample_and_evaluate(many), device=engine.device, budget_seconds=TIMING_SECONDS)
    latency = time_pair(
        single, sample_and_evaluate(engine.q), device=engine.device, budget_seconds=TIMING_SECONDS / 2, memory=False
    )
    return {
        **common(cell, settings, "timing"),
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

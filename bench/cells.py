"""Cell to record: gradients of every block, their sums, their statistics, in one line. No cell is ever lost."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import Distribution

from bench import record
from bench.engine import FINGERPRINT_DRAWS, Engine, Settings, digest, exact_gradient
from bench.learn import count_evaluations, learn
from bench.plan import Cell, cap, draws, slices
from bench.record import Record
from bench.selectors import label
from bench.stats import Accumulator, Partial, Reference, Sums, summarise
from bench.timing import time_pair
from estimators import Refusal, rows
from estimators._families import draw
from estimators._protocol import command_line_name


def common(cell: Cell, settings: Settings, kind: str) -> Record:
    """Return the keys that every record of a cell has."""
    total = sum(draws(cell, settings.replicates, settings.device))
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
        "code": record.code_digest(estimator, objective),
        "estimator": label(estimator),
        "estimator_name": command_line_name(type(estimator)),
        "estimator_params": record.fields_of(estimator),
        "objective": label(objective),
        "objective_name": command_line_name(type(objective)),
        "objective_params": record.fields_of(objective),
        "objective_contents": objective.contents,
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


class Lost(Exception):
    """A cell cannot be measured; the message is the reason on its record."""


def reason_of(error: Exception) -> str:
    """Return an exception as the reason on a record, with the place it was raised at."""
    if isinstance(error, Lost):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"


def safely(work: Callable[[], Record], cell: Cell, settings: Settings, kind: str = "moments") -> Record:
    """Return what ``work`` returns, or the record of why it could not: no cell is a missing row."""
    try:
        return work()
    except Refusal as refusal:
        return {**skipped_record(cell, settings, str(refusal)), "kind": kind}
    except Exception as error:
        return failed_record(cell, settings, reason_of(error), kind)


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Have torch use one thread, so that sums are made in one order whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


TIMING_SECONDS = 0.2
"""Length of the timing of one cell in batch; its latency takes half of that."""

Vector = NDArray[np.float64]
Partials = Iterator[tuple[Partial, str]]


def here(engine: Engine, centre: Vector, exact: Vector | None) -> Partials:
    """Yield the partial sums of every block of a cell, in block order, computed in this process."""
    centre_tensor = torch.as_tensor(centre, device=engine.device)
    exact_tensor = None if exact is None else torch.as_tensor(exact, device=engine.device)
    yield from engine.partials(range(len(engine.sizes)), centre_tensor, exact_tensor)


def moments_record(
    engine: Engine,
    progress: Callable[[int, int], None],
    spread: Callable[[Engine, Vector, Vector | None], Partials] | None = None,
    reference: Reference | None = None,
) -> Record:
    """Measure a cell and return its moments line.

    Args:
        engine: the cell made ready.
        progress: called with replicates done and in all after every block.
        spread: where the blocks are computed; this process when None.
        reference: what stands in for the exact gradient where the objective has none.
    """
    begin = time.perf_counter()
    cell, settings = engine.cell, engine.settings
    learned = learn(engine)
    f_evals, grad_evals = count_evaluations(engine)
    value, exact = exact_gradient(cell.objective, engine.problem) if cell.objective.has_exact else (None, None)
    target = exact if reference is None else reference.mean
    centre = engine.gradients(0).double().mean(0).cpu().numpy() if target is None else target
    sums, first_draws = collect(engine, (spread or here)(engine, centre, target), centre, target, progress)
    summary = summarise(
        sums,
        exact=exact,
        dtype=settings.dtype,
        exact_error=cell.objective.exact_error,
        deterministic=cell.estimator.deterministic or steps(engine, sums),
        reference=reference,
    )
    return {
        **common(cell, settings, "moments"),
        "n": getattr(cell.estimator, "n", None),
        "size": engine.size,
        "groups": engine.groups,
        "shapes": {name: list(t.shape) for name, t in engine.problem.theta.items()},
        "blocks": engine.blocks,
        "f_evals": f_evals,
        "grad_evals": grad_evals,
        "adapt_steps": learned.steps,
        "adapt_seconds": learned.seconds,
        "adapt_f_evals": learned.f_evals,
        "state_digest": learned.digest,
        "wall_seconds": time.perf_counter() - begin,
        "fingerprint": first_draws,
        "exact_value": value,
        "exact": exact,
        "reference_error": None if reference is None else math.sqrt(reference.variance / reference.replicates),
        "mean": sums.mean,
        "summary": summary.to_json(),
        "sums": sums.to_json(),
    }


def steps(engine: Engine, sums: Sums) -> bool:
    """Return whether f is a step to this estimator: its values differ, and its slope was 0 wherever it was evaluated.

    Such a gradient has no noise that a longer run could show. (A slope that is 0 because f is constant so far is
    another matter: the rare other value may still come.)
    """
    if not engine.cell.estimator.needs_df or sums.variance > 0 or sums.zero_rows < sums.followed:
        return False
    values = engine.values(engine.sizes[0], engine.generator("measure", 0))
    return bool(values.amax() > values.amin())


def collect(
    engine: Engine,
    partials: Partials,
    centre: Vector,
    exact: Vector | None,
    progress: Callable[[int, int], None],
) -> tuple[Sums, str]:
    """Merge the partial sums of all blocks, in block order; return them and the fingerprint of the first draws."""
    total = sum(engine.sizes)
    accumulator = Accumulator(engine.groups, replicates=total, centre=centre, exact=exact)
    raw, done = hashlib.sha256(fingerprint_header(engine.settings)), 0
    for partial, part in partials:
        raw.update(part.encode())
        accumulator.add(partial)
        done += partial.replicates
        progress(done, total)
    if accumulator.nonfinite:
        raise Lost(
            f"{accumulator.nonfinite} of {total} gradients were not finite (NaN, infinite, or too large to square). "
            "Nothing was dropped: the cell has no moments. Look for log(0), overflow or an f that returns NaN."
        )
    return accumulator.sums(), raw.hexdigest()


def fingerprint(engine: Engine) -> str:
    """Return the fingerprint of a cell's first draws, the same as a whole measurement's, from those draws alone."""
    learn(engine)
    raw = hashlib.sha256(fingerprint_header(engine.settings))
    for number in range(min(FINGERPRINT_DRAWS, len(engine.sizes))):
        raw.update(digest(engine.parts(number)).encode())
    return raw.hexdigest()


def fingerprint_header(settings: Settings) -> bytes:
    """Return what the fingerprint holds besides gradients: seed, dtype, torch version, CPU capability."""
    versions = [torch.__version__, torch.backends.cpu.get_cpu_capability()]
    return record.canonical([settings.seed, settings.dtype, settings.device, *versions]).encode()


def timing_record(cell: Cell, settings: Settings) -> Record:
    """Time a cell and return its timing line; nothing else should run meanwhile.

    Batch: the row gradients of one block. Latency: one call as in training, from theta to theta's gradient. The cost
    unit is one sample and one evaluation of f, in as many rows.
    """
    engine = Engine(cell, settings)
    learn(engine)
    most = cap(cell.objective, settings.device)
    count = most // slices(most, engine.points, cell.objective, settings.device)
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

"""The line "moments": a cell's gradients, their sums and their statistics."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from bench.measurement.adaptation import learn
from bench.measurement.counting import count_evaluations
from bench.measurement.engine import FINGERPRINT_DRAWS, Engine, digest, exact_gradient
from bench.measurement.lines import Lost, common
from bench.planning.settings import Settings
from bench.records.identity import canonical
from bench.records.lines import Record
from bench.stats import Accumulator, Partial, Reference, Sums, summarise

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
    centre = engine.draw_gradients(0).double().mean(0).cpu().numpy() if target is None else target
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
    return canonical([settings.seed, settings.dtype, settings.device, *versions]).encode()

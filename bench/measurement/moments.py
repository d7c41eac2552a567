"""The moments record: the sums and the statistics of a cell's gradients."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench.measurement.adaptation import adapt_state
from bench.measurement.counting import count_evaluations
from bench.measurement.engine import Engine, exact_gradient
from bench.measurement.lines import head
from bench.measurement.source import FINGERPRINT_DRAWS, Vector, digest
from bench.measurement.summaries import OnProgress, ignore, summarise_partials
from bench.measurement.unfinished import Unfinished
from bench.planning.settings import Settings
from bench.records.identity import canonical
from bench.records.lines import LineKind, Record
from bench.stats import Accumulator, Partial, Reference, Summary, Sums

Partials = Iterator[tuple[Partial, str]]
"""The partial sums of a cell, in order. The text beside each holds its part of the digest of the first gradients."""
Spread = Callable[[Engine, Vector, Vector | None], Partials]
"""A function from an engine, a centre and an exact gradient (or None) to the partial sums about this centre."""


def in_process(engine: Engine, centre: Vector, exact: Vector | None) -> Partials:
    """Compute a cell's partial sums in this process; yield them in block order, each with a text.

    A cell is an estimator on an objective. A draw is a batch of gradients, and a block a group of gradients that are
    summed together. A partial sum is over some successive blocks. Its text joins the digests of its draws, which
    identify their gradients. Only the first 8 draws have a digest; later texts are empty.

    Args:
        engine: the engine of the cell.
        centre: a point near the mean gradient, about which the sums are computed, ``[size of theta]``, float64.
        exact: the exact gradient, ``[size of theta]``, float64; None if it is unknown.
    """
    return engine.partials(range(engine.spans[0].start, len(engine.sizes)), centre, exact)


def measure_moments(
    engine: Engine,
    progress: OnProgress = ignore,
    spread: Spread = in_process,
    reference: Reference | None = None,
    keep: Path | None = None,
) -> Record:
    """Measure an engine's cell (an estimator on an objective), and return its moments record: sums and statistics.

    Args:
        engine: the engine of the cell.
        progress: called with the number of replicates done and the total.
        spread: function that computes partial sums of the gradients, in this process or in worker processes.
        reference: the mean gradient of a long run, for an objective without an exact gradient; None if there is none.
        keep: a file for the sums of a measurement that takes longer than half a minute. After an interruption, the
            measurement continues from them, with the same result, bit for bit. None to write no file.

    Raises:
        Lost: gradients were not finite.
    """
    begin, objective = time.perf_counter(), engine.cell.objective
    adaptation = adapt_state(engine)
    f_evals, grad_evals = count_evaluations(engine)
    value, exact = exact_gradient(objective, engine.problem) if objective.has_exact else (None, None)
    first = head(engine.cell, engine.settings, LineKind.MOMENTS)
    under_way = Unfinished(keep, first["run"], first["code"], adaptation.digest, *_versions())
    sums, summary, fingerprint = summarise_cell(engine, exact, reference, spread, progress, under_way)
    return {
        **first,
        **shape_of(engine),
        "blocks": engine.blocks,
        "f_evals": f_evals,
        "grad_evals": grad_evals,
        "adapt_steps": adaptation.steps,
        "adapt_seconds": adaptation.seconds,
        "adapt_f_evals": adaptation.f_evals,
        "adapt_settled": adaptation.settled,
        "state_digest": adaptation.digest,
        "wall_seconds": time.perf_counter() - begin + under_way.seconds,
        "fingerprint": fingerprint,
        "exact_value": value,
        "exact": exact,
        "reference_error": None if reference is None else math.sqrt(reference.variance / reference.replicates),
        "mean": sums.mean,
        "summary": summary.to_json(),
        "sums": sums.to_json(),
    }


def summarise_cell(
    engine: Engine,
    exact: Vector | None = None,
    reference: Reference | None = None,
    spread: Spread = in_process,
    progress: OnProgress = ignore,
    under_way: Unfinished | None = None,
) -> tuple[Sums, Summary, str]:
    """Compute and sum up all gradients of a cell; return the sums, their summary and a fingerprint.

    A cell is an estimator on an objective. The fingerprint is a digest of the settings and the first gradients.

    Args:
        engine: the engine of the cell. Its state (what the estimator learned) must have finished learning.
        exact: the exact gradient, ``[size of theta]``; None if it is unknown.
        reference: a measured gradient in place of an unknown exact one; None if there is none. If neither ``exact`` nor
            ``reference`` is given, the bias is not tested.
        spread: the function that computes the partial sums.
        progress: called with the number of replicates done and the total.
        under_way: the sums of an interrupted measurement of the cell; None to begin anew.

    Raises:
        Lost: gradients were not finite.
    """
    target = exact if reference is None else reference.mean
    centre = engine.draw_gradients(0).double().mean(0).cpu().numpy() if target is None else target
    total, under_way = sum(engine.sizes), under_way or Unfinished(None)
    accumulator = Accumulator(engine.groups, replicates=total, centre=centre, exact=target)
    under_way.resume(engine, accumulator, centre, target)
    partials = under_way.followed(spread(engine, centre, target), accumulator)
    ((sums, summary),) = summarise_partials(
        engine, partials, accumulator, looks=[total], exact=exact, reference=reference, progress=progress
    )
    fingerprint = hashlib.sha256(_fingerprint_header(engine.settings) + under_way.digests.encode())
    return sums, summary, fingerprint.hexdigest()


def shape_of(engine: Engine) -> dict[str, Any]:
    """Return the keys of a record that describe a gradient, with their values.

    The key ``n`` has the estimator's number of samples, or None if it has none; ``size`` has the number of coordinates.
    ``groups`` and ``shapes`` have the size and the shape of each tensor of theta.
    """
    return {
        "n": getattr(engine.cell.estimator, "n", None),
        "size": engine.size,
        "groups": engine.groups,
        "shapes": {name: list(t.shape) for name, t in engine.problem.theta.items()},
    }


def fingerprint_of(engine: Engine) -> str:
    """Return the fingerprint of a cell, an estimator on an objective.

    A changed fingerprint shows that the gradients of the cell may have changed. The fingerprint is a digest of the
    settings, the torch version, the kind of CPU, and the gradients of the first 8 draws (batches). Only these draws are
    computed. A measurement of the whole cell has the same fingerprint in its record.
    """
    adapt_state(engine)
    found = hashlib.sha256(_fingerprint_header(engine.settings))
    for number in range(min(FINGERPRINT_DRAWS, len(engine.sizes))):
        found.update(digest(engine.parts(number)).encode())
    return found.hexdigest()


def _fingerprint_header(settings: Settings) -> bytes:
    """Return the part of a fingerprint besides gradients: seed, dtype, device, torch version, CPU capability."""
    return canonical([settings.seed, settings.dtype, settings.device, *_versions()]).encode()


def _versions() -> list[str]:
    return [torch.__version__, torch.backends.cpu.get_cpu_capability()]

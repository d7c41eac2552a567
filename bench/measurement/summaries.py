"""From draws to statistics: the loop that adds up partial sums and summarises them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch.distributions import Distribution

from bench.measurement.engine import Engine
from bench.measurement.reduction.blocks import block_partial
from bench.measurement.source import Vector
from bench.records.lines import Lost
from bench.stats import Accumulator, Partial, Reference, Summary, Sums, summarise
from estimators import inner

OnProgress = Callable[[int, int], None]
"""A function called after every partial sum, with the replicates done and those at which the next summary is due."""


def ignore(_done: int, _total: int) -> None:
    """Do nothing: a function for callers that want no reports of progress.

    The arguments are the number of replicates done and the number in all.
    """


def summarise_partials(
    engine: Engine,
    partials: Iterable[Partial],
    accumulator: Accumulator,
    *,
    looks: Sequence[int],
    exact: Vector | None = None,
    reference: Reference | None = None,
    confidence: float = 0.95,
    progress: OnProgress = ignore,
) -> Iterator[tuple[Sums, Summary]]:
    """Add up partial sums in block order; yield the total and its summary at each number of replicates in ``looks``.

    Args:
        engine: the engine of the cell, an estimator on an objective.
        partials: the cell's partial sums, in the order of its blocks (groups of gradients that are summed together).
            They are requested one at a time. If the caller stops early, no more draws (batches) are made.
        accumulator: adds up the partial sums; it may already hold the first of them.
        looks: numbers of replicates at which to summarise, ascending; the last one ends the run.
        exact: the exact gradient, ``[size of theta]``; None if it is unknown.
        reference: the Monte Carlo gradient in place of an unknown exact one; None if there is none.
        confidence: level of every interval.
        progress: called after every partial sum, with the number of replicates done and the number at the next summary.

    Raises:
        Lost: gradients were not finite.
    """
    target = exact if reference is None else reference.mean
    done, coming = accumulator.rows, list(looks)
    for partial in partials:
        accumulator.add(partial)
        done += partial.replicates
        progress(done, max(coming[0], done))
        if done < coming[0]:
            continue
        if accumulator.nonfinite:
            raise Lost(
                f"{accumulator.nonfinite} of {done} gradients were not finite (NaN, infinite, or too large to square). "
                "Nothing was dropped: the cell has no moments. Look for log(0), overflow or an f that returns NaN."
            )
        sums = accumulator.sums()
        noiseless = target is not None and has_no_noise(engine, sums)
        dtype, error = engine.settings.dtype, engine.cell.objective.exact_error
        summary = summarise(
            sums,
            exact=exact,
            reference=reference,
            dtype=dtype,
            exact_error=error,
            deterministic=noiseless,
            finite_support=has_finite_support(engine.q),
            confidence=confidence,
        )
        yield sums, summary
        coming = [n for n in coming if n > done]
        if not coming:
            return


def summarise_draws(
    engine: Engine,
    stage: str,
    sizes: Sequence[int] | None = None,
    looks: Sequence[int] | None = None,
    progress: OnProgress = ignore,
    *,
    exact: Vector | None = None,
    reference: Reference | None = None,
    confidence: float = 0.95,
) -> Iterator[tuple[Sums, Summary]]:
    """Compute gradients draw by draw; at each number of replicates in ``looks``, yield the sums and the summary so far.

    A draw is a batch of replicates.

    Args:
        engine: the engine of the cell, whose state must have finished learning.
        stage: a word that seeds the noise, such as "pilot".
        sizes: the number of replicates in each draw; None for the draws of the engine.
        looks: numbers of replicates at which to summarise, ascending; None for one summary, at the end.
        progress: called after every draw, with the number of replicates done and the number at the next summary.
        exact: the exact gradient, ``[size of theta]``, for the test of the bias; None if it is unknown.
        reference: the Monte Carlo gradient in place of an unknown exact one; None if there is none.
        confidence: level of every interval.

    Raises:
        Lost: gradients were not finite.
    """
    sizes = engine.sizes if sizes is None else sizes
    replicates = sum(sizes)
    looks = [replicates] if looks is None else looks
    target = exact if reference is None else reference.mean
    if target is None:
        centre = engine.gradients(sizes[0], engine.generator(stage, 0)).double().mean(0)
    else:
        centre = torch.as_tensor(target, device=engine.device)
    near = None if target is None else centre
    partials = _one_block_each(engine, stage, sizes, looks, centre, near)
    accumulator = Accumulator(engine.groups, replicates=replicates, centre=centre.cpu().numpy(), exact=target)
    yield from summarise_partials(
        engine,
        partials,
        accumulator,
        looks=looks,
        exact=exact,
        reference=reference,
        confidence=confidence,
        progress=progress,
    )


def _one_block_each(
    engine: Engine,
    stage: str,
    sizes: Sequence[int],
    looks: Sequence[int],
    centre: torch.Tensor,
    exact: torch.Tensor | None,
) -> Iterator[Partial]:
    """Yield the partial sums of every draw, each with the largest values that the next look needs."""
    done = 0
    for index, rows in enumerate(sizes):
        coming = next(n for n in looks if n > done)
        done += rows
        yield block_partial(
            engine.gradients(rows, engine.generator(stage, index)),
            index=index,
            groups=engine.groups,
            centre=centre,
            exact=exact,
            replicates=max(coming, done),
            workspace=engine.workspace,
        )


def has_finite_support(q: Distribution) -> bool:
    """Return whether a sample of q has finitely many possible values, as torch's ``has_enumerate_support`` declares."""
    return bool(getattr(inner(q), "has_enumerate_support", False))


def has_no_noise(engine: Engine, sums: Sums) -> bool:
    """Return whether the engine's estimator has no noise: it is deterministic, or f is a step function.

    The second case concerns estimators that use df/dx. f counts as a step function if all gradients in ``sums`` are 0,
    but the values of f differ. If all values of f are equal, too, f may be a constant with a rare exception, and does
    not count.
    """
    if engine.cell.estimator.deterministic:
        return True
    if not engine.cell.estimator.needs_df or sums.variance > 0 or sums.zero_rows < sums.followed:
        return False
    values = engine.values(engine.sizes[0], engine.generator("measure", 0))
    return bool(values.amax() > values.amin())

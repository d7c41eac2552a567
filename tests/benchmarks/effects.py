"""The effect of each choice in the product: the product against itself with that one choice undone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, Independent, Normal

import estimators.reparameterization
import estimators.rloo
from bench.measurement import draws, engine, pull_back
from bench.measurement.draws import cap
from bench.measurement.pull_back import Pull, unchanged
from estimators import grad_only, parameters, rows
from tests.benchmarks.interleaved import Job, Ratio, interleave
from tests.benchmarks.product import Product
from tests.benchmarks.workloads import ROWS, Row


@dataclass(frozen=True)
class Effect:
    """A choice, the row that shows its effect, and the ratio of the times without and with it."""

    choice: str
    instead: str
    row: str
    ratio: Ratio


@contextlib.contextmanager
def _put(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _through_log_prob(q: Distribution, x: Tensor, weight: Tensor, _estimator: object = None) -> Tensor:
    """Return the surrogate of ``score``, made by autograd through torch's log_prob."""
    return grad_only((weight * q.log_prob(x.detach())).sum(0))


def _contiguous_rows(q: Distribution, count: int) -> Distribution:
    """Return ``rows`` of q with a copy of every parameter for every row."""
    r = rows(q, count)
    for t in parameters(r).values():
        t.data = t.data.contiguous()
    return r


def _held_only(own: Tensor, theta: list[Tensor]) -> tuple[int, Pull] | None:
    """Return the closed form for a tensor of theta that q holds itself, so that autograd pulls back the others."""
    return next(((k, unchanged) for k, t in enumerate(theta) if t is own), None)


def _with_its_axis(q: Distribution, n: int, generator: Generator | None) -> Tensor:
    """Return ``rdraw`` of a normal q, made by broadcasting over the axis of the samples, even of a single one."""
    base = q.base_dist if isinstance(q, Independent) else q
    assert isinstance(base, Normal)
    noise = torch.randn(Size((n, *q.batch_shape, *q.event_shape)), generator=generator, dtype=base.loc.dtype)
    return (noise * base.scale).add_(base.loc)


def _moments_by_torch(product: Product) -> Callable[[], object]:
    engine = product.engine

    def run() -> None:
        for draw in range(len(engine.sizes)):
            torch.var_mean(engine.draw_gradients(draw), 0)

    return run


def _one_by_one(product: Product, count: int) -> Callable[[], object]:
    engine, generator = product.engine, torch.Generator().manual_seed(0)

    def run() -> None:
        for _ in range(count):
            engine.gradients(1, generator)

    return run


def effects(seconds: float, *, small: bool = False) -> Iterator[Effect]:
    """Yield the effect of every choice, each measured for about ``seconds``."""
    share, calls = (400, 3) if small else (4, 30)
    by_id = {row.id: row for row in ROWS}

    def compare(choice: str, instead: str, row: str, base: Job, undone: Job) -> Effect:
        laps = interleave({"as it is": base, "undone": undone}, seconds=seconds)
        return Effect(choice, instead, row, laps.ratio("undone", "as it is"))

    def part(row: Row) -> Product:
        return Product(row, max(1, row.replicates // share))

    def patched(place: Any, name: str, value: Any, product: Product) -> Job:
        def run() -> None:
            with _put(place, name, value):
                product.lean()

        return Job(run, product.replicates)

    for name in ("W1 score", "W3 RLOO(2)", "W5 pathwise"):
        p = part(by_id[name])
        one = Job(_one_by_one(p, calls), calls)
        yield compare("batch over replicates", "a Python loop of calls", name, Job(p.lean, p.replicates), one)
    for name in ("W2 RLOO(4)", "W3 RLOO(2)", "W4 RLOO(2)"):
        p = part(by_id[name])
        undone = patched(estimators.rloo, "score", _through_log_prob, p)
        yield compare("closed-form scores", "autograd through log_prob", name, Job(p.lean, p.replicates), undone)
    for name in ("W2 RLOO(4)", "W3 score", "W4 RLOO(2)"):
        p = part(by_id[name])
        undone = patched(engine, "rows", _contiguous_rows, p)
        yield compare(
            "rows of stride 0", "a copy of the parameters for each row", name, Job(p.lean, p.replicates), undone
        )
    for name in ("W1 pathwise", "W2 pathwise", "W3 score"):
        p = part(by_id[name])
        undone = Job(_moments_by_torch(p), p.replicates)
        yield compare("sums about a pivot", "torch.var_mean", name, Job(p.lean, p.replicates), undone)
    for name in ("W2 pathwise", "W3 score", "W4 ST"):
        p = part(by_id[name])
        for power in (14, 17, 21):
            with _put(draws, "CAP", {"cpu": 2**power}):
                other = part(by_id[name])
                most = cap(other.engine.cell.objective, "cpu")

            def run(other: Product = other, power: int = power) -> None:
                with _put(draws, "CAP", {"cpu": 2**power}):
                    other.lean()

            instead = f"draws of 2^{power} elements, here {most} rows"
            yield compare(
                "draws of 2^19 elements", instead, name, Job(p.lean, p.replicates), Job(run, other.replicates)
            )
    for name in ("W1 score", "W2 pathwise", "W4 ST"):
        p = part(by_id[name])
        with _put(pull_back, "route", _held_only):
            other = part(by_id[name])
        undone = Job(other.lean, other.replicates)
        instead = "autograd, all rows together"
        yield compare("gradients to theta by a formula", instead, name, Job(p.lean, p.replicates), undone)
    for name in ("W1 pathwise", "W2 pathwise"):
        p = part(by_id[name])
        undone = patched(estimators.reparameterization, "rdraw", _with_its_axis, p)
        yield compare("one sample without its axis", "a sum over it", name, Job(p.lean, p.replicates), undone)


def precision(seconds: float, *, small: bool = False) -> Iterator[tuple[str, Ratio]]:
    """Yield the time in float64 over the time in float32, with every statistic, for one row of each workload."""
    for name in ("W1 score", "W2 RLOO(4)", "W3 RLOO(2)", "W4 RLOO(2)", "W5 RLOO(10)", "W6 RLOO(2)"):
        row = next(row for row in ROWS if row.id == name)
        single, double = (
            Product(row, max(1, row.replicates // (100 if small else 4)), dtype) for dtype in ("float32", "float64")
        )
        jobs = {"float32": Job(single.whole, single.replicates), "float64": Job(double.whole, double.replicates)}
        yield name, interleave(jobs, seconds=seconds).ratio("float64", "float32")

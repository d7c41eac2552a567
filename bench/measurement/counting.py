"""Evaluations of f and of df/dx, counted inside f, so that no estimator can forget to report one."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.measurement.engine import Engine
from estimators import Bound, Integrand, InvalidIntegrand, PolicyReturn, Return, SetFunction, rows

COUNT_ROWS = 64
"""Number of rows of q in the call whose evaluations are counted."""


def count_evaluations(engine: Engine, number: int = 0) -> tuple[float, float]:
    """Return the number of evaluations of f, and of df/dx, for one estimate of the gradient, counted in an extra call.

    The ``engine`` holds the estimator and the objective. ``number`` seeds the noise of the extra call.

    Raises:
        InvalidIntegrand: f changes its samples in place.
    """
    counter = Counter(event_dims=len(engine.q.event_shape))
    count = 1 if engine.cell.estimator.deterministic else COUNT_ROWS
    r = rows(engine.q, count)
    f = counted(_compared(engine.problem.integrand(r)), counter)
    engine.own_gradients_on(r, f, engine.generator("count", number))
    per = count * math.prod(engine.q.batch_shape)
    return counter.f / per, counter.df / per


@dataclass
class Counter:
    """The number of evaluations so far: ``f`` counts those of the integrand, and ``df`` those of its gradient df/dx.

    One evaluation is of one sample x, for one batch element. ``event_dims`` is the number of event dimensions of x.
    """

    event_dims: int
    f: int = 0
    df: int = 0


class _Count(torch.autograd.Function):
    """The identity on x. Counts the points in x, and later those of every derivative in x, backward or forward.

    The first argument is x, ``[..., *batch, *event]``; the next ones are the counter, the name of the number in it that
    grows by the points of x, and the number of event dimensions. Under ``vmap`` the rows are points too.
    """

    @staticmethod
    def forward(x: Tensor, counter: Counter, kind: str, event_dims: int) -> Tensor:
        setattr(counter, kind, getattr(counter, kind) + _points(x, event_dims))
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Counter, str, int], output: Tensor) -> None:  # noqa: ARG004
        _, *ctx.others = inputs

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None, None]:
        return _derivative(cotangents[0], *ctx.others), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _derivative(tangents[0], *ctx.others)

    @staticmethod
    def vmap(_info: Any, in_dims: tuple[int | None, ...], x: Tensor, *others: Any) -> tuple[Tensor, int | None]:
        rows_first = x if in_dims[0] is None else x.movedim(in_dims[0], 0)
        return _count(rows_first, *others), None if in_dims[0] is None else 0


def _count(x: Tensor, counter: Counter, kind: str, event_dims: int) -> Tensor:
    same: Tensor = _Count.apply(x, counter, kind, event_dims)  # type: ignore[no-untyped-call]
    return same


def _derivative(t: Tensor, counter: Counter, kind: str, event_dims: int) -> Tensor:
    """Return a cotangent or a tangent; that of f is counted, that of a derivative is not."""
    return _count(t, counter, "df", event_dims) if kind == "f" else t.view_as(t)


def _points(x: Tensor, event_dims: int) -> int:
    return x.shape[: x.dim() - event_dims].numel()


def counted(f: Integrand, counter: Counter) -> Integrand:
    """Return f with its evaluations counted: every call adds their number to ``counter``.

    One evaluation is one value of f, except for these classes:

    - ``Bound`` (an evidence lower bound): the log-joint for one particle.
    - ``Return`` (a sum of costs): all costs of a sample.
    - ``PolicyReturn`` (a reward minus a penalty): one reward.
    - ``SetFunction`` (a function of a set of samples): all values of a set.
    """

    def watched(x: Tensor, inside: Integrand, event_dims: int) -> Tensor:
        return inside(_count(x, counter, "f", event_dims))

    if isinstance(f, Bound):
        log_joint, event_dims = f.log_joint, counter.event_dims - (f.particles is not None)
        return replace(f, log_joint=lambda x: watched(x, log_joint, event_dims))
    if isinstance(f, Return | PolicyReturn | SetFunction):
        return f.through(lambda inside: lambda x: watched(x, inside, counter.event_dims), f.q)
    return lambda x: watched(x, f, counter.event_dims)


def _compared(f: Integrand) -> Integrand:
    """Return f, made to compare its argument with a copy: torch counts no changes made by numpy or ``x.data``."""

    def unchanged(x: Tensor, inside: Integrand) -> Tensor:
        before = x.detach().clone()
        value = inside(x)
        if not torch.allclose(x.detach(), before, rtol=0, atol=0, equal_nan=True):
            raise InvalidIntegrand(
                "f changes its argument x in place, but the estimator still needs the sample x. Work on a copy, "
                "such as x.clone() or x.numpy().copy()."
            )
        return value

    if isinstance(f, Bound):
        log_joint = f.log_joint
        return replace(f, log_joint=lambda x: unchanged(x, log_joint))
    if isinstance(f, Return | PolicyReturn | SetFunction):
        return f.through(lambda inside: lambda x: unchanged(x, inside), f.q)
    return lambda x: unchanged(x, f)

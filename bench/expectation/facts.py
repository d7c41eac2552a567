"""Facts of an expectation, found by trial: on what q depends, whether f has a gradient, and what gradient is exact."""

from __future__ import annotations

import contextlib
import inspect
import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.distributions import Bernoulli, Distribution, OneHotCategorical

from bench.expectation.trial import Function, f_of, samples_of
from bench.measurement.graph import gradients_reached
from bench.objectives import Problem
from estimators import (
    RLOO,
    Enumeration,
    Estimator,
    Layers,
    Nested,
    Refusal,
    Reparameterization,
    inner,
    parameters,
    rows,
)

NUMBERS = 2**24
"""The exact value is a sum over the joint states of q only if these hold at most this many numbers in all."""
STEP, SLOPE = 1e-4, 1e-2
"""Step of a finite difference; its relative difference from df/dx that counts as rounding."""
LINES, POINTS, JUMP = 8, 32, 0.05
"""Lines between samples on which f is looked at, points on each, and the relative change of f that counts as a jump."""


def names_used(problem: Problem, q: Distribution, given: Any) -> tuple[str, ...]:
    """Return the names of the tensors in theta that q depends on: all of them if theta is a dict.

    ``given`` is theta as the user gave it: a dict or a module.

    Raises:
        ValueError: q depends on no tensor of a module, or not on every tensor of a dict. Or log q depends on a tensor
            on which no parameter of q depends, such as a weight of a network inside q.
    """
    outputs, theta = [t for t in parameters(q).values() if t.requires_grad], problem.theta
    used = gradients_reached(outputs or [q.log_prob(samples_of(q))], theta)
    unused = [name for name in theta if name not in used]
    if hidden := outputs and unused and _in_log_prob(q, {name: theta[name] for name in unused}):
        raise ValueError(
            f"log q depends on theta[{hidden[0]!r}], and no argument of the constructor of {type(inner(q)).__name__} "
            f"does, so the gradient in it would be lost (it was made from {', '.join(parameters(q))}). Give it to the "
            "constructor, in a mapping of weights such as dict(network.named_parameters()), and use it from there."
        )
    if len(unused) == len(theta) or (unused and not isinstance(given, nn.Module)):
        what = "theta" if len(unused) == len(theta) else f"theta[{unused[0]!r}]"
        raise ValueError(
            f"q does not depend on {what}. Let q compute its parameters from the theta that it is called with, without "
            ".detach()."
        )
    return tuple(used)


def _in_log_prob(q: Distribution, theta: dict[str, Tensor]) -> list[str]:
    """Return the names of the tensors in which log q has a gradient that is not 0."""
    try:
        log_q = q.log_prob(samples_of(q))
    except NotImplementedError:
        return []
    return [name for name, g in gradients_reached([log_q], theta).items() if g.any()]


def names_in_f(f: Function, theta: Any, extra: Any, q: Distribution, problem: Problem) -> tuple[str, ...]:
    """Return the names of the tensors in theta that f uses directly, although only q should depend on theta.

    A tensor counts as used if f(x) has a gradient with respect to it, if f closes over it, or if it is in ``extra``.

    Args:
        f: the function that the user gave.
        theta: theta as the user gave it: a dict or a module.
        extra: further tensors that the user gave for f: a dict or a module; None if there are none.
        q: the distribution at theta.
        problem: the problem that was made from these parts.
    """
    given = {name: t for name, t in _tensors(theta).items() if name in problem.theta}
    with torch.enable_grad():
        fx = f_of(problem, q)(samples_of(q))
    used = gradients_reached([fx] if isinstance(fx, Tensor) else [], given)
    found, closed = list[Any](), inspect.getclosurevars(f) if inspect.isfunction(f) else None
    found += [*closed.nonlocals.values(), *closed.globals.values(), *(f.__defaults__ or ())] if closed else []
    found += _tensors(extra).values()
    return tuple(name for name, t in given.items() if name in used or any(t is each for each in found))


def _tensors(given: Any) -> dict[str, Tensor]:
    """Return named tensors, or the parameters of a module, by name; no tensors for None."""
    return dict(given.named_parameters()) if isinstance(given, nn.Module) else dict(given or {})


def _slope(f: Function, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return f(x) and df/dx, or None if f has no gradient at x."""
    x = x.detach().clone().requires_grad_()
    try:
        fx = f(x)
    except Exception:  # as ``x.numpy()`` raises, which works without a graph
        return None
    found = gradients_reached([fx] if isinstance(fx, Tensor) else [], {"x": x})
    return (fx.detach(), found["x"]) if found else None


def is_differentiable(problem: Problem, q: Distribution) -> bool:
    """Return whether f has a gradient df/dx that agrees with a finite difference at more than half of 16 samples of q.

    The result is False if the gradient is 0 at all samples. A finite difference needs f at points near the samples; if
    f cannot be evaluated there, the gradient is trusted. f is the integrand of ``problem``.
    """
    x, f = samples_of(q, 16), f_of(problem, q)
    found = _slope(f, x) if x.is_floating_point() else None
    if found is None or not found[1].any():
        return False
    fx, g = found
    way = torch.randint(0, 2, x.shape, generator=Generator().manual_seed(0)).to(x.dtype) * 2 - 1
    try:
        with torch.no_grad():
            difference = (f(x + STEP * way) - f(x - STEP * way)) / (2 * STEP)
    except Exception:
        return True  # f is defined at the states of q only
    if not difference.isfinite().all():
        return True
    along = _summed(g * way, fx)
    near = (difference - along).abs() <= SLOPE * (difference.abs() + along.abs()) + 1e-9 * fx.abs().amax() / STEP
    return bool(near.double().mean() > 0.5)


def _summed(t: Tensor, fx: Tensor) -> Tensor:
    """Return the sum of a tensor over the event axes, those that the values of f do not have."""
    return t.flatten(fx.dim()).sum(-1) if t.dim() > fx.dim() else t


def has_jumps(problem: Problem, q: Distribution) -> bool:
    """Return whether f, the integrand of ``problem``, seems to have jumps: changes that its gradient does not show.

    On the line between two samples of q, f has a jump if the change of f is not the integral of its gradient. 8 lines
    are tried. A smooth f that is steep in a few places may seem to have jumps.
    """
    a, b = samples_of(q, 2 * LINES).chunk(2)
    at = (torch.arange(POINTS, dtype=a.dtype) + 0.5) / POINTS
    found = _slope(f_of(problem, q), (a + at.view(-1, *[1] * a.dim()) * (b - a)).flatten(0, 1))
    if found is None:
        return False
    fx, g = found
    each = _summed(g * (b - a).repeat(POINTS, *[1] * (a.dim() - 1)), fx)
    each = each.reshape(POINTS, LINES, *each.shape[1:])
    with torch.no_grad():
        change = f_of(problem, q)(b) - f_of(problem, q)(a)
    size = change.abs() + each.abs().mean(0) + 1e-9 * fx.abs().amax()
    return bool(((change - each.mean(0)).abs() > JUMP * size).any())


def is_relaxable(problem: Problem, q: Distribution) -> bool:
    """Return whether f, the integrand of ``problem``, can be evaluated between the states of q.

    f must have finite values and gradients there. If q is a distribution of bits or one-hot vectors, two points between
    the states are tried. For any other q, the result says whether its samples are floating-point numbers.
    """
    base, x = inner(q), samples_of(q)
    if not isinstance(base, Bernoulli | OneHotCategorical):
        return x.is_floating_point()
    noise = torch.randn(x.shape, dtype=x.dtype, generator=Generator().manual_seed(0))
    try:
        found = _slope(f_of(problem, q), noise.sigmoid() if isinstance(base, Bernoulli) else noise.softmax(-1))
    except Exception:
        return False
    return found is not None and all(bool(t.isfinite().all()) for t in found)


def coordinates_of(q: Distribution) -> int:
    """Return the number of random variables in one batch element of q; a one-hot vector counts as one."""
    shape = q.event_shape[:-1] if isinstance(inner(q), OneHotCategorical) else q.event_shape
    return max(1, shape.numel())


def is_enumerable(q: Distribution) -> bool:
    """Return whether the exact expectation of f can be computed as a sum over all joint states of q.

    The estimator ``Enumeration`` must accept q. If q is a ``Layers``, a distribution of several layers of random
    variables, ``Enumeration`` must accept each layer. There must be at most 65,536 states, which together hold at most
    2^24 numbers.
    """
    estimator = enumeration_of(q)
    if estimator.refuses(type(inner(q))) or (isinstance(q, Layers) and estimator.refuses_layers(q.families)):
        return False
    try:
        states = estimator.points(q)
    except Refusal:
        return False
    return states <= Enumeration.limit and states * math.prod((*q.batch_shape, *q.event_shape)) <= NUMBERS


def enumeration_of(q: Distribution) -> Estimator:
    """Return the estimator that sums over all states of q.

    If q is a ``Layers``, a distribution of several layers of random variables, the estimator sums layer by layer.
    """
    return Nested("enumeration", "enumeration") if isinstance(q, Layers) else Enumeration()


def reference_for(problem: Problem, q: Distribution, differentiable: bool) -> Estimator | None:
    """Return an unbiased estimator for a long run in place of an exact gradient; None if none works.

    The estimator is ``Reparameterization(n=8)`` if it fits q, and f has a gradient df/dx and no jumps. If not, the
    estimator is ``RLOO(n=8)``.

    Args:
        problem: has the integrand f.
        q: the distribution of the samples.
        differentiable: whether f has a gradient df/dx, as ``is_differentiable`` returns it.
    """
    for estimator in (Reparameterization(n=8), RLOO(n=8)):
        if estimator.refuses(type(inner(q))) or (estimator.needs_df and not differentiable):
            continue
        if estimator.needs_df and has_jumps(problem, q):
            continue  # it would be biased, and every unbiased estimator would look biased against it
        with contextlib.suppress(Refusal, NotImplementedError):
            r = rows(q, 2)
            estimator(problem.integrand(r), r, Generator().manual_seed(0))
            return estimator
    return None

"""An f that knows single samples only, mapped over the axes before the batch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution
from torch.func import vmap

from bench.expectation.trial import Function, f_of, name_of_f, said, samples_of, value_shape
from bench.objectives import Problem
from estimators import InvalidIntegrand, ScoreFunction, rows


def mapped(f: Function, mapping: str | None, axes: int) -> Function:
    """Return a function that applies f to many samples: from ``[..., *batch, *event]`` to ``[..., *batch]``.

    Args:
        f: the function. It may accept only a single sample, ``[*batch, *event]``.
        mapping: "vmap" to use torch's vmap, "loop" for one call per sample, or None to return f itself.
        axes: number of axes of a single sample.
    """
    if mapping is None:
        return f

    def each(x: Tensor) -> Tensor:
        left = x.shape[: x.dim() - axes]
        flat = x.reshape(-1, *x.shape[len(left) :])
        fx = vmap(f)(flat) if mapping == "vmap" else torch.stack([torch.as_tensor(f(point)) for point in flat])
        return fx.reshape(*left, *fx.shape[1:])

    return each


def mapping_for(problem: Problem, q: Distribution, called_with: str = "") -> str | None:
    """Return how f has to be mapped over samples: None if f accepts many samples at once, else "vmap" or "loop".

    "vmap" is torch's vmap, and "loop" means one call per sample.

    Args:
        problem: has the integrand f.
        q: the distribution of the samples.
        called_with: what f gets besides x, in words for error messages.

    Raises:
        ValueError: f changes its argument, fails even on a single sample, or returns values of the wrong shape.
    """
    x, f, name = samples_of(rows(q, 2), 3), f_of(problem, q), name_of_f(problem, q)
    left = x.shape[: x.dim() - len(q.batch_shape) - len(q.event_shape)]
    points, value = x.reshape(-1, *x.shape[len(left) :]).clone(), value_shape(problem, q)
    expected = left + value

    def tried(call: Callable[[], Any]) -> Tensor | Exception:
        """Return the values that a call returns, or the exception that it raises."""
        try:
            with torch.no_grad():
                found = call()
                if found is None:
                    raise TypeError(f"{name} returned None. Add a `return`")
                found = torch.as_tensor(found)
                if found.is_complex():
                    raise TypeError(f"{name} returned complex numbers. Return real ones")
                return found.double()
        except Exception as error:
            return error

    def one_by_one() -> Tensor | Exception:
        return tried(lambda: torch.stack([torch.as_tensor(f(point)) for point in points]))

    def agree(one: Tensor | Exception, two: Tensor | Exception) -> bool:
        if isinstance(one, Exception) or isinstance(two, Exception):
            return False
        return torch.allclose(one.reshape(expected), two.reshape(expected), rtol=1e-4, atol=1e-6, equal_nan=True)

    whole, begin = tried(lambda: f(x)), time.perf_counter()
    if not torch.equal(x, samples_of(rows(q, 2), 3)):
        raise ValueError(
            f"{name} must not change its argument x. Work on a copy, such as x.clone() or x.numpy().copy()."
        )
    single = one_by_one()
    seconds = (time.perf_counter() - begin) / len(points)
    fits = isinstance(whole, Tensor) and whole.shape == expected
    if not isinstance(single, Tensor) or single.shape[1:] != value:
        if fits:
            return None
        raise ValueError(_why_none(problem, q, x, whole, single, called_with))
    if fits and (agree(whole, single) or not agree(single, one_by_one())):
        return None
    if not fits and agree(tried(lambda: vmap(f)(points)), single):
        return "vmap"
    why = f"fails on the axes on the left ({said(whole)})" if isinstance(whole, Exception) else "mixes its samples"
    warnings.warn(
        f"{name} {why}, so it is called for each sample alone: 10,000 samples take about {1e4 * seconds:.1g} s. Let "
        f"{name} keep all axes on the left, [..., *batch, *event] -> [..., *batch], and compute each value from its "
        "own sample.",
        stacklevel=4,
    )
    return "loop"


def _why_none(
    problem: Problem,
    q: Distribution,
    x: Tensor,
    whole: Tensor | Exception,
    single: Tensor | Exception,
    called_with: str,
) -> str:
    """Return why f serves neither samples x together, where it gave ``whole``, nor alone, where it gave ``single``."""
    name = name_of_f(problem, q)
    if isinstance(whole, Tensor):
        advice = ""
        try:
            ScoreFunction(n=3)(problem.integrand(q), rows(q, 2), Generator().manual_seed(0))
        except InvalidIntegrand as error:  # has the advice that every estimator gives
            advice = str(error).replace("the log_joint of the Bound", name)
        return f"{advice} These are 3 samples of 2 copies of q, whose batch shape is {list(q.batch_shape)}."
    fails = f"{name} fails on samples of shape {list(x.shape)}: {said(whole)}."
    if isinstance(single, Tensor):
        expected = list(value_shape(problem, q))
        advice = (
            "Keep the batch: losses of torch need reduction='none'." if single.dim() == 1 else "Sum over the event."
        )
        return f"{fails} For one sample it returned shape {list(single.shape[1:])}: expected {expected}. {advice}"
    return f"{fails} {name} is called with x, and then {called_with}." if called_with else fails

"""An f that knows single samples only, mapped over the axes before the batch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.func import vmap

from bench.expectation.trial import Function, f_of, said, samples_of, value_shape
from bench.objectives import Problem
from estimators import rows


def mapped(f: Function, mapping: str | None, axes: int) -> Function:
    """Return a function that maps f over the axes before the batch: ``[..., *batch, *event]`` to ``[..., *batch]``.

    Args:
        f: the function, which may know single points ``[*batch, *event]`` only.
        mapping: "vmap" to use torch's vmap, "loop" for one call per point, or None to return f itself.
        axes: number of axes of a single point.
    """
    if mapping is None:
        return f

    def each(x: Tensor) -> Tensor:
        left = x.shape[: x.dim() - axes]
        flat = x.reshape(-1, *x.shape[len(left) :])
        fx = vmap(f)(flat) if mapping == "vmap" else torch.stack([torch.as_tensor(f(point)) for point in flat])
        return fx.reshape(*left, *fx.shape[1:])

    return each


def mapping_for(problem: Problem, q: Distribution) -> str | None:
    """Return how f must be mapped over samples: "vmap", "loop" for one call per sample, or None if f maps itself.

    Raises:
        ValueError: f fails on a single sample too, or returns another shape.
    """
    x, f, axes = samples_of(rows(q, 2), 3), f_of(problem, q), len(q.batch_shape) + len(q.event_shape)
    expected = x.shape[: x.dim() - axes] + value_shape(problem, q)
    points = x.reshape(-1, *x.shape[x.dim() - axes :])

    def tried(call: Callable[[], Any]) -> Tensor | Exception:
        """Return the values that a call returns, or the exception that it raises."""
        try:
            with torch.no_grad():
                found = call()
                if found is None:
                    raise TypeError("f returned None. Add a `return`")
                found = torch.as_tensor(found)
                if found.is_complex():
                    raise TypeError("f returned complex numbers. Return real ones")
                return found.double()
        except Exception as error:
            return error

    def one_by_one() -> Tensor | Exception:
        return tried(lambda: torch.stack([torch.as_tensor(f(point)) for point in points]).reshape(expected))

    def agree(one: Tensor | Exception, two: Tensor | Exception) -> bool:
        if isinstance(one, Exception) or isinstance(two, Exception):
            return False
        return torch.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True)

    whole, begin = tried(lambda: f(x)), time.perf_counter()
    single = one_by_one()
    seconds = (time.perf_counter() - begin) / len(points)
    is_noisy = isinstance(single, Tensor) and not agree(single, one_by_one())
    fits = isinstance(whole, Tensor) and whole.shape == expected
    if fits and (is_noisy or isinstance(single, Exception) or agree(whole, single)):
        return None
    if isinstance(single, Exception):
        if isinstance(whole, Exception):
            raise ValueError(f"f fails on samples of shape {list(x.shape)}: {said(whole)}.") from whole
        raise ValueError(
            f"f returned shape {list(whole.shape)} for samples of shape {list(x.shape)}: expected {list(expected)}, "
            "one value per sample and batch element."
        )
    mapped = tried(lambda: vmap(f)(points).reshape(expected))
    if agree(mapped, single) and not fits:
        return "vmap"
    why = f"f fails on the axes on the left ({said(whole)})" if isinstance(whole, Exception) else "f mixes its samples"
    warnings.warn(
        f"{why}, so it is called for each sample alone: 10,000 samples take about {1e4 * seconds:.1g} s. Let f keep "
        "all axes on the left, [..., *batch, *event] -> [..., *batch], and compute each value from its own sample.",
        stacklevel=4,
    )
    return "loop"

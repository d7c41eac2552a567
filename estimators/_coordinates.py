"""Values of f with one coordinate of a sample replaced, for each coordinate in turn."""

import math

import torch
from torch import Tensor

from estimators._integrand import Integrand
from estimators._transforms import no_derivatives, transformed

AT_ONCE = 1024
"""Largest number of coordinates replaced in one call of f: all at once, memory would grow with their square."""


def neighbour(x: Tensor, step: int, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a neighbour of each whole number in x, and the weight of the difference of f between the two.

    The neighbour is ``x + step``, and its weight is ``weight``, if the dtype can tell x and ``x + step`` apart (in
    float32, up to 2^24). For a larger x, the neighbour is the next number of the dtype, at a distance d from x. The
    weight is then ``weight / d``, because the difference of f covers d steps of 1.

    Args:
        x: whole numbers.
        step: 1 for the neighbour above x, -1 for the neighbour below x.
        weight: the weight of the difference ``f(x + step) - f(x)``; it broadcasts against x.
    """
    if x.is_cpu and not transformed() and x.numel() and x.max().item() < 2 / torch.finfo(x.dtype).eps:
        return x + step, weight
    nearest = torch.nextafter(x, x.new_full((), step * math.inf))
    moved = torch.maximum(x + 1, nearest) if step > 0 else torch.minimum(x - 1, nearest)
    return moved, weight / (moved - x).abs()


def replaced(f: Integrand, x: Tensor, new: Tensor, dims: int) -> Tensor:
    """Return f at samples in which one coordinate is replaced, for each coordinate in turn, without a graph.

    Args:
        f: the integrand.
        x: samples, ``[n, *batch, *event]``.
        new: the values that replace the coordinates, ``[..., n, *batch, *event]``. Further axes on the left hold
            several values for each coordinate.
        dims: number of event axes.

    Returns:
        ``[..., n, *batch, *event]``. The entry of a coordinate is f after this coordinate was replaced.
    """
    event = x.shape[x.dim() - dims :]
    flat, other = (t.reshape(*t.shape[: t.dim() - dims], event.numel()) for t in (x, new))
    coordinates = torch.arange(event.numel(), device=x.device)
    values = []
    with no_derivatives():
        for some in torch.split(coordinates, AT_ONCE):
            here = some.reshape(-1, *(1 for _ in other.shape)) == coordinates
            points = torch.where(here, other, flat)  # [some, ..., n, *batch, all]
            values.append(f(points.reshape(*points.shape[:-1], *event)))
    return torch.cat(values).movedim(0, -1).reshape(new.shape)

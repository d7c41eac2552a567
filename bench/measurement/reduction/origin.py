"""Where gradients lie, as far as some of them tell: what sums of all others are taken about, and in what unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log2

import torch

FARTHEST = 100  # binary exponent of the largest unit, whose inverse is a float32 as well
NEAR = 8  # standard deviations from 0 up to which a mean needs no pivot


@dataclass(frozen=True, eq=False)
class Origin:
    """Where gradients lie, by group: a point near their mean, and how far they are from it.

    A pivot is None where 0 is as good: where no coordinate has a mean so many times its standard deviation that sums
    about 0 would lose digits. The `spreads` are powers of two near the typical `‖g_r − p‖²`. Squared norms are written
    in units of them, so that their fourth powers stay in the range of float32.
    """

    pivots: Sequence[torch.Tensor | None]
    spreads: Sequence[float]

    @classmethod
    def of(cls, parts: Sequence[torch.Tensor]) -> Origin:
        """Look at some gradients, `[rows, size of the group]` for every group."""
        pivots, spreads = zip(*map(_place, parts), strict=True)
        return cls(list(pivots), list(spreads))

    @property
    def spread(self) -> float:
        """The same of all groups together."""
        return _power_of_two(sum(self.spreads))


def _place(g: torch.Tensor) -> tuple[torch.Tensor | None, float]:
    """Return the pivot and the spread of a group, `[rows, size]`; medians of 16 parts, which no outlier moves."""
    pivot = pivot_of(g)
    parts = torch.stack([part.mean(0) for part in (g - pivot).double().square().chunk(16)])
    far = bool((pivot.double().square() > NEAR**2 * parts.median(0).values).any())
    norms = parts.sum(1)
    return pivot if far else None, _power_of_two(norms.median().item() or norms.mean().item())


def _power_of_two(x: float) -> float:
    """Return the power of two near x that may be a unit; 1 where x is 0 or no number."""
    if not (isfinite(x) and x > 0):
        return 1.0
    return 2.0 ** max(-FARTHEST, min(FARTHEST, round(log2(x))))


def pivot_of(g: torch.Tensor) -> torch.Tensor:
    """Return a point near the mean of `g` `[rows, size]`, in its dtype, exact where a column is constant.

    It is the median of the means of 16 parts, which one huge gradient does not move: far from all the others, sums of
    squares about it would have none of their digits.
    """
    off = (g - g[0]).double()
    return (g[0] + torch.stack([part.mean(0) for part in off.chunk(16)]).median(0).values).to(g.dtype)

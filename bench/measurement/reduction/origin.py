"""The origin of the sums: a pivot near the mean of the gradients, and a unit for their squared norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log2

import torch
from torch import Tensor

FARTHEST = 100  # binary exponent of the largest unit; its inverse is still a float32
NEAR = 8  # a mean within this many standard deviations of 0 needs no pivot


@dataclass(frozen=True, eq=False)
class Origin:
    """The points that are subtracted from gradients before summing, and the units of their squared norms.

    Each group has one point and one unit. A group is a tensor of theta.

    Args:
        pivots: for each group, the point p that is subtracted, near the mean gradient, `[size of the group]`. None
            stands for the point 0. A pivot is None if no coordinate has a mean far from 0, in standard deviations: sums
            about 0 then lose no digits.
        spreads: for each group, the unit of squared norms: a power of two near the typical `‖g_r − p‖²`, where g_r is
            the gradient of replicate r. In these units, fourth powers stay in the range of float32.
    """

    pivots: Sequence[Tensor | None]
    spreads: Sequence[float]

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> Origin:
        """Return the origin with which gradients like those in `parts` can be summed without losing digits.

        The origin has, for each tensor of theta, a pivot (a point to subtract) and a unit of squared norms. `parts` has
        the gradients for each tensor of theta, `[rows, size of the tensor]`. A row is one replicate.
        """
        pivots, spreads = zip(*map(_place, parts), strict=True)
        return cls(list(pivots), list(spreads))

    @property
    def spread(self) -> float:
        """The unit of squared norms of whole gradients: a power of two near the sum of `spreads`.

        `spreads` are the units of the squared norms in each tensor of theta.
        """
        return _power_of_two(sum(self.spreads))


def _place(g: Tensor) -> tuple[Tensor | None, float]:
    """Return the pivot and the spread of a group, `[rows, size]`, as medians of 16 parts, which no outlier moves."""
    pivot = pivot_of(g)
    parts = torch.stack([part.mean(0) for part in (g - pivot).double().square().chunk(16)])
    far = bool((pivot.double().square() > NEAR**2 * parts.median(0).values).any())
    norms = parts.sum(1)
    return pivot if far else None, _power_of_two(norms.median().item() or norms.mean().item())


def _power_of_two(x: float) -> float:
    """Return a power of two near x to serve as a unit; 1 if x is not a positive number."""
    if not (isfinite(x) and x > 0):
        return 1.0
    return 2.0 ** max(-FARTHEST, min(FARTHEST, round(log2(x))))


def pivot_of(g: Tensor) -> Tensor:
    """Return a point near the mean row of `g` `[rows, size]`: `[size]`, in the dtype of `g`.

    The rows are cut into 16 equal parts, and the point is the median of the 16 means. A single huge gradient therefore
    does not move the point far from the other gradients. About a distant point, sums of squares would lose all their
    digits. In a column of equal numbers, the point is exactly this number.
    """
    off = (g - g[0]).double()
    return (g[0] + torch.stack([part.mean(0) for part in off.chunk(16)]).median(0).values).to(g.dtype)

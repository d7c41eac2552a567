"""A quadratic under a Gaussian."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Normal

from bench.objectives._checks import at_least, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.mean_field import mean_field
from bench.objectives.squares import squared_distance


@dataclass(frozen=True)
class GaussianQuadratic(Objective):
    """Quadratic under a mean-field Gaussian, whose coordinates are independent.

    ``f(x) = sum_j (x_j - target)^2``
    ``x_j ~ N(mean_j, exp(log_scale_j)^2)``
    ``E f = sum_j [(mean_j - target)^2 + exp(2 log_scale_j)]``

    The gradient is taken in theta: ``mean`` and ``log_scale``, ``[dim]`` each. Exact value: closed form. Bad arguments
    raise ``ValueError``.

    Args:
        dim: number of random coordinates, at least 1.
        target: the minimiser of f, in every coordinate.
        mean: mean of every coordinate at the point of measurement.
        scale: standard deviation of every coordinate at the point of measurement, above 0.

    Reference: with ``dim=1``, Mohamed, Rosca, Figurnov & Mnih 2020 (JMLR 21), section 3, where mean and scale are 1 and
    the target goes from -3 to 3. The paper differentiates in the scale, this objective in the logarithm of the scale.
    """

    dim: int = 10
    target: float = 0.0
    mean: float = 1.0
    scale: float = 1.0

    family = Normal
    row_elements = property(attrgetter("dim"))
    reference = "Mohamed et al. 2020"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        finite(self, "target", "mean")
        positive(self, "scale")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        target = torch.tensor(self.target, dtype=dtype, device=device)

        def f(x: Tensor) -> Tensor:
            return squared_distance(x, target)

        def exact(theta: Theta) -> Tensor:
            return ((theta["mean"] - self.target).square() + (2 * theta["log_scale"]).exp()).sum()

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, mean_field, lambda _q: f, exact)

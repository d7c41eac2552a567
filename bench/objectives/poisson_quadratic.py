"""A quadratic of counts."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Poisson

from bench.objectives._checks import finite, positive, whole
from bench.objectives._protocol import Objective, Problem, Theta


@dataclass(frozen=True)
class PoissonQuadratic(Objective):
    """Quadratic of independent Poisson counts.

    ``f(x) = sum_j (x_j - target)^2``
    ``x_j ~ Poisson(exp(log_rate_j))``
    ``E f = sum_j (exp(log_rate_j) - target)^2 + exp(log_rate_j)``

    theta is ``log_rate``, ``[dim]``. Exact value: closed form. f is defined between the counts too.

    Args:
        dim: random coordinates, at least 1.
        target: the minimiser of f, in every coordinate.
        rate: rate of every coordinate at the point of measurement, above 0.

    Raises:
        ValueError: an argument is out of its range.

    Reference: an example from the literature on measure-valued gradients (Heidergott, Vazquez-Abad & Volk-Makarewicz
    2008). They differentiate in the rate (7 at rate 3), this objective in its logarithm, which multiplies the gradient
    by the rate.
    """

    dim: int = 1
    target: float = 0.0
    rate: float = 3.0

    family: ClassVar[type[Distribution]] = Poisson
    reference: ClassVar[str] = "Heidergott et al. 2008"

    def __post_init__(self) -> None:
        whole(self, "dim", 1)
        finite(self, "target")
        positive(self, "rate")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return the problem in the given dtype, on the given device."""

        def q(theta: Theta) -> Distribution:
            return Independent(Poisson(theta["log_rate"].exp(), validate_args=False), 1, validate_args=False)

        def f(x: Tensor) -> Tensor:
            return (x - self.target).square().sum(-1)

        def exact(theta: Theta) -> Tensor:
            rate = theta["log_rate"].exp()
            return ((rate - self.target).square() + rate).sum()

        log_rate = torch.full((self.dim,), math.log(self.rate), dtype=dtype, device=device, requires_grad=True)
        return Problem({"log_rate": log_rate}, q, lambda _q: f, exact)

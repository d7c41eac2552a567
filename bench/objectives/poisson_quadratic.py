"""A quadratic of counts."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Poisson

from bench.objectives._checks import at_least, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point


@dataclass(frozen=True)
class PoissonQuadratic(Objective):
    """Quadratic of independent Poisson counts.

    ``f(x) = sum_j (x_j - target)^2``
    ``x_j ~ Poisson(exp(log_rate_j))``
    ``E f = sum_j [(exp(log_rate_j) - target)^2 + exp(log_rate_j)]``

    The gradient is taken in theta: ``log_rate``, ``[dim]``. Exact value: closed form. f takes any real x. Bad arguments
    raise ``ValueError``.

    Args:
        dim: number of random coordinates, at least 1.
        target: the minimiser of f, in every coordinate.
        rate: rate of every coordinate at the point of measurement, above 0.

    Reference: an example of measure-valued gradients from Heidergott, Vazquez-Abad & Volk-Makarewicz 2008, who
    differentiate in the rate; at rate 3 and target 0 their gradient is 7. Here theta holds the logarithm of the rate,
    so the gradient is multiplied by the rate.
    """

    dim: int = 1
    target: float = 0.0
    rate: float = 3.0

    family = Poisson
    row_elements = property(attrgetter("dim"))
    reference = "Heidergott et al. 2008"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        finite(self, "target")
        positive(self, "rate")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            return Independent(Poisson(theta["log_rate"].exp(), validate_args=False), 1, validate_args=False)

        def f(x: Tensor) -> Tensor:
            return (x - self.target).square().sum(-1)

        def exact(theta: Theta) -> Tensor:
            rate = theta["log_rate"].exp()
            return ((rate - self.target).square() + rate).sum()

        return Problem(point(self.dim, dtype, device, log_rate=math.log(self.rate)), q, lambda _q: f, exact)

"""A divergence between counting distributions."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Poisson

from bench.objectives._checks import between, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Bound


@dataclass(frozen=True)
class PoissonNegativeBinomial(Objective):
    """Negative Kullback-Leibler divergence from a Poisson to a negative binomial, as an evidence lower bound.

    ``f(x) = log p(x) - log q(x)``
    ``q = Poisson(exp(log_rate))``
    ``p(x) = [Gamma(x + failures) / (Gamma(failures) x!)] probability^failures (1 - probability)^x``
    ``E f = -KL(q || p)``

    The gradient is taken in theta: ``log_rate``, ``[1]``. The objective is maximised. E f is largest at a rate near the
    mean of p, which is 30 by default. Exact value: closed form, except for E log Gamma(x + failures), a sum over x up
    to ``rate + 12 sqrt(rate) + 60``. By Chernoff's bound the omitted terms are less than 1e-25 of the sum, below
    rounding error. Bad arguments raise ``ValueError``.

    Args:
        failures: shape of p, above 0. (Under p, x is the number of successes before this number of failures.)
        probability: probability of a failure, from 0.001 to 0.999.
        rate: rate of q at the point of measurement, from 1e-6 to 1e3.

    Reference: Arya, Schauer, Schäfer & Rackauckas 2022 (StochasticAD.jl), whose p is the default here.
    """

    failures: float = 10.0
    probability: float = 0.25
    rate: float = 10.0

    dim = 1
    bound = True
    family = Poisson
    row_elements = property(attrgetter("dim"))
    reference = "Arya et al. 2022"

    def __post_init__(self) -> None:
        positive(self, "failures")
        between(self, probability=(0.001, 0.999), rate=(1e-6, 1e3))

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        r = self.failures
        constant = r * math.log(self.probability) - math.lgamma(r)
        slope = math.log1p(-self.probability)

        def q(theta: Theta) -> Distribution:
            return Independent(Poisson(theta["log_rate"].exp(), validate_args=False), 1, validate_args=False)

        def log_joint(x: Tensor) -> Tensor:
            return (torch.lgamma(x + r) - torch.lgamma(x + 1) + slope * x + constant).squeeze(-1)

        def exact(theta: Theta) -> Tensor:
            log_rate = theta["log_rate"].squeeze(-1)
            rate = log_rate.exp()
            last = math.ceil(rate.item() + 12 * math.sqrt(rate.item()) + 60)
            x = torch.arange(last + 1, dtype=rate.dtype, device=rate.device)
            probability = (x * log_rate - rate - torch.lgamma(x + 1)).exp()
            # log x! cancels between log p and log q.
            return probability @ torch.lgamma(x + r) + constant + rate * (slope - log_rate + 1)

        theta = point(1, dtype, device, log_rate=math.log(self.rate))
        return Problem(theta, q, lambda q: Bound(log_joint, q), exact)

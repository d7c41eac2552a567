"""Variational inference with a known posterior."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Generator, Tensor
from torch.distributions import Dirichlet, Distribution

from bench.objectives._checks import at_least, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Bound


@dataclass(frozen=True)
class DirichletMultinomial(Objective):
    """Evidence lower bound for unknown probabilities of categories, given observed counts.

    ``f(x) = log p(y | x) + log p(x) - log q(x)``
    ``q = Dirichlet(a)``
    ``a = exp(log_concentration)``
    ``p(y | x) = N! prod_k [x_k^(y_k) / y_k!]``
    ``p(x) = Dirichlet(prior, ..., prior)``
    ``E f = sum_k [(y_k + prior - a_k) (digamma(a_k) - digamma(sum a)) - log y_k!]
    + log B(a) - log B(prior) + log N!``

    x are the probabilities, y the counts, and B is the normalising constant of a Dirichlet density. The gradient is
    taken in theta: ``log_concentration``, ``[dim]``. The seed draws true probabilities from the flat Dirichlet
    distribution, and then y. The objective is maximised. At the maximum, q is the posterior, with a = prior + y, and f
    is constant. Exact value: closed form. If a concentration is below about 0.1, some float32 samples are exactly 0,
    and log x is not finite. torch's pathwise gradient is an approximation, off by up to 0.5 % for a single sample. Bad
    arguments raise ``ValueError``.

    Args:
        dim: number of categories, at least 2; 100 in the paper.
        count: number of observations N, at least 1; 100 in the paper.
        prior: concentration of the prior, above 0.
        concentration: concentration of every category at the point of measurement, above 0.
        seed: seed of the counts, at least 0.

    Reference: Naesseth, Ruiz, Linderman & Blei 2017 (RSVI), section 6, who measure at the posterior, and move the
    posterior's first concentration from 1 to 3.
    """

    dim: int = 10
    count: int = 100
    prior: float = 1.0
    concentration: float = 2.0
    seed: int = 0

    bound = True
    family = Dirichlet
    row_elements = property(attrgetter("dim"))
    reference = "Naesseth et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, dim=2, count=1, seed=0)
        positive(self, "prior", "concentration")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        # Drawn in float64 on the CPU, then converted: the counts are the same in every dtype and on every device.
        generator = Generator().manual_seed(self.seed)
        x = torch.rand(self.dim, generator=generator, dtype=torch.float64).log().neg()
        drawn = torch.multinomial(x, self.count, replacement=True, generator=generator)
        y = torch.bincount(drawn, minlength=self.dim).double()
        power = y + self.prior - 1
        constant = math.lgamma(self.count + 1) - torch.lgamma(y + 1).sum().item()
        constant += math.lgamma(self.dim * self.prior) - self.dim * math.lgamma(self.prior)
        exponent = power.to(device, dtype)

        def q(theta: Theta) -> Distribution:
            return Dirichlet(theta["log_concentration"].exp(), validate_args=False)

        def log_joint(x: Tensor) -> Tensor:
            return (exponent * x.log()).sum(-1) + constant

        def exact(theta: Theta) -> Tensor:
            a = theta["log_concentration"].exp()
            log_x = torch.digamma(a) - torch.digamma(a.sum())
            log_beta = torch.lgamma(a).sum() - torch.lgamma(a.sum())
            return ((power.to(a) + 1 - a) * log_x).sum() + log_beta + constant

        theta = point(self.dim, dtype, device, log_concentration=math.log(self.concentration))
        return Problem(theta, q, lambda q: Bound(log_joint, q), exact)

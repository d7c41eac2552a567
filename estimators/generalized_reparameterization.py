"""Generalized reparameterization: a standardized sample whose distribution still depends a little on the parameters."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Gamma

from estimators import _gamma
from estimators._checks import at_least
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._rows import one


@dataclass(frozen=True)
class GeneralizedReparameterization(Estimator):
    """Generalized reparameterization (G-REP) of Gamma: path derivative plus a correction by the score.

    ``z = x / rate``
    ``x = exp(e sqrt(psi1) + psi0)``,  psi_k the k-th polygamma of the concentration a
    ``g_a = (1/n) sum_k [df(z) h / rate + f(z) (log x - psi0 + (a / x - 1) h + psi2 / (2 psi1))]``
    ``h = x (psi1 + e psi2 / (2 sqrt(psi1)))``,  the derivative dx/da at fixed e

    x is a draw from Gamma(a, 1), and e is log x, standardized to mean 0 and variance 1. g_a is the gradient in the
    concentration a, and df the gradient of f. The gradient in the rate is reparameterized. Unbiased. The distribution
    of e still depends on a. The second term of g_a accounts for this: f times the part of the score that the path
    misses. Needs df/dx. Supports Gamma. Cost: n evaluations of f, n of its gradient. Adding a constant to f changes the
    estimate, as for ScoreFunction and not as for Reparameterization.

    Args:
        n: number of samples.

    Reference: Ruiz, Titsias & Blei 2016 (NeurIPS), section 3.
    """

    n: int = 1

    families = (Gamma,)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("g-rep",)
    reference: ClassVar[str] = "Ruiz et al. 2016"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def refuses(self, family: type[Distribution]) -> str | None:
        return _gamma.no_path(self, family) or super().refuses(family)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        a, rate = (one(parameters(q)[name].detach(), q) for name in ("concentration", "rate"))
        z = draw(q, self.n, generator)
        psi0, psi2 = torch.digamma(a), torch.polygamma(2, a)
        psi1: Tensor = torch.special.zeta(torch.full_like(a, 2), a)  # torch's trigamma has only 9 digits
        x = z * rate
        h_over_x = psi1 + (x.log() - psi0) * psi2 / (2 * psi1)
        correction = x.log() - psi0 + (a - x) * h_over_x + psi2 / (2 * psi1)
        return _gamma.loss(self, f, q, z, z * h_over_x, correction)

"""Rejection reparameterization: differentiates through the accepted proposal of a rejection sampler."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, Gamma

from estimators import _gamma
from estimators._checks import at_least, holds
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import uniform
from estimators._protocol import Estimator, State
from estimators._refusals import Refusal
from estimators._rows import one


@dataclass(frozen=True)
class RejectionReparameterization(Estimator):
    """Rejection-sampling reparameterization (RSVI) of Gamma: path of the accepted proposal plus a correction.

    ``g_a = (1/n) sum_k [df(z) dz/da + f(z) d/ds (log Gamma(y; s) - log r(y; s))]``
    ``z = y prod_i u_i^(1 / (a + i - 1)) / rate``,  i = 1 ... augmentation
    ``y = b v^3``
    ``v = 1 + c e``
    ``s = a + augmentation``
    ``b = s - 1/3``
    ``c = (9 b)^(-1/2)``

    a is the concentration, g_a the gradient in a, and df the gradient of f. The u_i are uniform. e is the normal that
    the sampler of Marsaglia & Tsang accepted, so y ~ Gamma(s). Each factor u_i^(1 / (a + i - 1)) lowers the
    concentration by one, so z is a sample of q. r is the density of y before acceptance. Both derivatives hold e and u
    fixed. The gradient in the rate is reparameterized. Unbiased for every augmentation. Needs df/dx. Supports Gamma.
    Cost: n evaluations of f, n of its gradient. Adding a constant to f changes the variance; the effect shrinks as the
    augmentation grows.

    Args:
        n: number of samples.
        augmentation: number by which the concentration is raised for the sampler, at least 0; the factors u_i lower it
            again. With 0, concentrations must be at least 1.

    Reference: Naesseth, Ruiz, Linderman & Blei 2017, sections 3 and 5.1. (The authors' code omits the correction if the
    augmentation is above 1, which causes a small bias.)
    """

    n: int = 1
    augmentation: int = 1

    families = (Gamma,)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("rsvi",)
    reference: ClassVar[str] = "Naesseth et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)
        at_least(self, 0, field="augmentation")

    def refuses(self, family: type[Distribution]) -> str | None:
        return _gamma.no_path(self, family) or super().refuses(family)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        base = cast(Gamma, inner(q))
        a, rate = one(base.concentration.detach(), q), one(base.rate.detach(), q)
        if self.augmentation == 0 and holds((a < 1).any(), self):
            raise Refusal(
                f"{self!r} serves concentrations of at least 1 (got {a.min().item():.3g}). "
                "Use RejectionReparameterization(augmentation=1), or Reparameterization."
            )
        shape = base.concentration.detach() + self.augmentation
        y = draw(Gamma(shape, torch.ones_like(shape), validate_args=False), self.n, generator)
        dy, correction = _marsaglia_tsang(y, one(shape, q))
        z, relative = y / rate, dy / y  # dz/da / z
        for i in range(self.augmentation):
            log_u = uniform(Size(y.shape), y, generator).log()
            z = z * (log_u / (a + i)).exp()
            relative = relative - log_u / (a + i) ** 2
        return _gamma.loss(self, f, q, z, z * relative, correction)


def _marsaglia_tsang(y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``dy/ds`` and ``d/ds (log Gamma(y; s) - log r(y; s))``, both at fixed e."""
    b = s - 1 / 3
    c = (9 * b).rsqrt()
    v = (y / b) ** (1 / 3)
    e = (v - 1) / c
    dy = v**3 - 13.5 * e * b * v**2 * c**3
    log_gamma = y.log() + (s - 1) * dy / y - dy - torch.digamma(s)
    log_r = -0.5 / b + 9 * e * c**3 / v
    return dy, log_gamma - log_r

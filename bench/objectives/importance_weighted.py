"""An importance-weighted bound of a linear-Gaussian model."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from bench.objectives._checks import at_least, between, finite
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Bound

STEP = 0.025
"""Step of the sum in place of the integral over s; its error is the integral at a log t shifted by 2 pi / STEP."""


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    """Importance-weighted bound of a linear-Gaussian model; the proposal q is a Gaussian of independent coordinates.

    ``f(z) = log((1/K) sum_k [p(x, z_k) / q(z_k)])``
    ``z_kj ~ N(mean_j, exp(log_scale_j)^2)``
    ``p(x, z) = prod_j N(z_j; 0, 1) N(x; z_j, 1)``

    The gradient is taken in theta: ``mean`` and ``log_scale``, ``[dim]`` each. All K particles share them. The weight
    of a particle is p(x, z_k) / q(z_k). The posterior is N(x/2, 1/2) in every coordinate. If q is the posterior, every
    weight equals the evidence. The objective is maximised. A log-weight with a standard deviation above 10, and bad
    arguments, raise ``ValueError``.

    Exact value: two integrals, which the trapezoidal rule gives to 1e-10. Let c be the mean of the log-weight, and v
    the weight times exp(-c).

    ``E f = c - log K + int (exp(-e^u) - (E exp(-v e^u))^K) du``
    ``E exp(-v t) = 1/(2 pi i) int Gamma(s) E[v^-s] t^-s ds``

    The first integral is over all real u. It follows from ``log S = int (exp(-e^u) - exp(-S e^u)) du``, where S is the
    sum of v over the K independent particles. The second integral, with t = e^u, is along a line of complex s to the
    right of 0. E[v^-s] is known, because the log-weight is quadratic in Gaussian noise.

    Args:
        dim: number of coordinates of one particle, at least 1.
        particles: number of particles K, at least 1.
        x: the observation, in every coordinate.
        mean: mean of every coordinate at the point of measurement.
        scale: standard deviation of every coordinate at the point of measurement, from 0.4 to 1.2.

    Reference: the bound of Burda, Grosse & Salakhutdinov 2016 (IWAE), on a model like the one in section 4 of Rainforth
    et al. 2018 ("Tighter variational bounds are not necessarily better").
    """

    dim: int = 5
    particles: int = 8
    x: float = 2.0
    mean: float = 0.5
    scale: float = 0.8

    bound = True
    family = Normal
    reference = "Burda et al. 2016"

    def __post_init__(self) -> None:
        at_least(self, dim=1, particles=1)
        finite(self, "x", "mean")
        between(self, scale=(0.4, 1.2))
        b, c = self.scale * (self.x - 2 * self.mean), 0.5 - self.scale**2
        if (spread := math.sqrt(self.dim * (b**2 + 2 * c**2))) > 10:
            raise ValueError(
                f"ImportanceWeighted needs a log-weight with standard deviation at most 10 (got {spread:.3g} for dim="
                f"{self.dim}, x={self.x}, mean={self.mean}, scale={self.scale}). Use mean={self.x / 2}."
            )

    @property
    def row_elements(self) -> int:
        """Number of elements in one sample: every coordinate of every particle."""
        return self.dim * self.particles

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            loc, scale = (t.expand(self.particles, self.dim) for t in (theta["mean"], theta["log_scale"].exp()))
            return Independent(Normal(loc, scale, validate_args=False), 2, validate_args=False)

        def log_joint(z: Tensor) -> Tensor:
            return -(z.square() + (self.x - z).square()).sum(-1) / 2 - self.dim * math.log(2 * math.pi)

        def exact(theta: Theta) -> Tensor:
            return _bound(theta["mean"], theta["log_scale"].exp(), self.x, self.particles)

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, q, lambda q: Bound(log_joint, q, self.particles), exact)


def _bound(mean: Tensor, scale: Tensor, x: float, particles: int) -> Tensor:
    """Return E f. A log-weight is ``sum_j a_j + b_j e_j + c_j e_j^2`` with e standard normal."""
    from scipy.special import loggamma  # slow to import

    c = 0.5 - scale.square()
    b = scale * (x - 2 * mean)
    a = -mean.square() + x * mean - x**2 / 2 + scale.log() - math.log(2 * math.pi) / 2
    centre = (a + c).sum()
    u = torch.arange(-60, 100, 0.2, dtype=mean.dtype, device=mean.device)

    def laplace(real: float, u: Tensor) -> Tensor:
        """Return the integral along s = real + i y, for every u."""
        y = np.arange(0.0, 40.0, STEP)
        s = torch.from_numpy(real + 1j * y).to(mean.device)
        gamma = torch.from_numpy(loggamma(real + 1j * y)).to(mean.device)
        stretch = 1 + 2 * s.unsqueeze(-1) * c
        moment = (s.unsqueeze(-1).square() * b.square() / stretch - stretch.log()).sum(-1) / 2 + s * c.sum()
        terms = (gamma + moment - s * u.unsqueeze(-1)).exp().real
        return (terms.sum(-1) - terms[..., 0] / 2) * STEP / math.pi

    low, high = u[u < 0], u[u >= 0]
    transform = torch.cat([1 + laplace(-0.5, low), laplace(0.25, high)])  # the pole of Gamma at 0 is between them
    return centre - math.log(particles) + 0.2 * ((-u.exp()).exp() - transform**particles).sum()

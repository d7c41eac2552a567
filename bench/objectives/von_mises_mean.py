"""Directions that should point to a target."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from bench.objectives._checks import at_least, between, finite
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import ReparameterizedVonMises


@dataclass(frozen=True)
class VonMisesMean(Objective):
    """Alignment of independent random directions with a target: the sum of the cosines of their angles to the target.

    ``f(x) = sum_j cos(x_j - target)``
    ``x_j ~ VonMises(loc_j, k_j)``
    ``k = exp(log_concentration)``
    ``E f = sum_j cos(loc_j - target) I_1(k_j) / I_0(k_j)``

    I_0 and I_1 are modified Bessel functions. The gradient is taken in theta: ``loc`` and ``log_concentration``,
    ``[dim]`` each. Exact value: closed form. f is periodic, so the jump of samples from pi to -pi does not harm
    reparameterization. Bad arguments raise ``ValueError``.

    Args:
        dim: number of random coordinates, at least 1.
        target: the direction that maximises f, in radians.
        loc: mean direction of every coordinate, in radians, at the point of measurement.
        concentration: concentration of every coordinate at the point of measurement, from 1e-3 to 1e4.

    Reference: Figurnov, Mohamed & Mnih 2018, section 5.1; the expectation is from Mardia & Jupp 2000, section 3.5.4.
    """

    dim: int = 1
    target: float = 0.0
    loc: float = 1.0
    concentration: float = 2.0

    maximise = True
    family = ReparameterizedVonMises
    row_elements = property(attrgetter("dim"))
    reference = "Figurnov et al. 2018"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        finite(self, "target", "loc")
        between(self, concentration=(1e-3, 1e4))

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            base = ReparameterizedVonMises(theta["loc"], theta["log_concentration"].exp(), validate_args=False)
            return Independent(base, 1, validate_args=False)

        def f(x: Tensor) -> Tensor:
            return (x - self.target).cos().sum(-1)

        def exact(theta: Theta) -> Tensor:
            k = theta["log_concentration"].exp()
            length: Tensor = torch.special.i1e(k) / torch.special.i0e(k)
            return ((theta["loc"] - self.target).cos() * length).sum()

        theta = point(self.dim, dtype, device, loc=self.loc, log_concentration=math.log(self.concentration))
        return Problem(theta, q, lambda _q: f, exact)

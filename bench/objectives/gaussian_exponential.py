"""A bump under a Gaussian."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Normal

from bench.objectives._checks import finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.mean_field import mean_field


@dataclass(frozen=True)
class GaussianExponential(Objective):
    """Gaussian bump under a one-dimensional Gaussian: f is flat far from 0.

    ``f(x) = exp(-k x^2)``
    ``x ~ N(mean, exp(log_scale)^2)``
    ``E f = exp(-k mean^2 / s) / sqrt(s)``
    ``s = 1 + 2 k exp(2 log_scale)``

    The gradient is taken in theta: ``mean`` and ``log_scale``, ``[1]`` each. Exact value: closed form. Bad arguments
    raise ``ValueError``.

    Args:
        k: sharpness of the bump, above 0.
        mean: mean at the point of measurement.
        scale: standard deviation at the point of measurement, above 0.

    Reference: Mohamed, Rosca, Figurnov & Mnih 2020 (JMLR 21), section 3, at mean and scale 1. The paper differentiates
    in the scale, this objective in the logarithm of the scale.
    """

    k: float = 1.0
    mean: float = 1.0
    scale: float = 1.0

    dim = 1
    family = Normal
    row_elements = property(attrgetter("dim"))
    reference = "Mohamed et al. 2020"

    def __post_init__(self) -> None:
        finite(self, "mean")
        positive(self, "k", "scale")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def f(x: Tensor) -> Tensor:
            return (-self.k * x.squeeze(-1).square()).exp()

        def exact(theta: Theta) -> Tensor:
            s = 1 + 2 * self.k * (2 * theta["log_scale"]).exp()
            return ((-self.k * theta["mean"].square() / s).exp() / s.sqrt()).squeeze(-1)

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, mean_field, lambda _q: f, exact)

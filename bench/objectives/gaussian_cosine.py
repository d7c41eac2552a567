"""A cosine under a Gaussian."""

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
class GaussianCosine(Objective):
    """Cosine under a one-dimensional Gaussian: f is bounded, and its slopes grow with k.

    ``f(x) = cos(k x)``
    ``x ~ N(mean, exp(log_scale)^2)``
    ``E f = cos(k mean) exp(-k^2 exp(2 log_scale) / 2)``

    The gradient is taken in theta: ``mean`` and ``log_scale``, ``[1]`` each. Exact value: closed form. Bad arguments
    raise ``ValueError``.

    Args:
        k: frequency, above 0.
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
            return (self.k * x.squeeze(-1)).cos()

        def exact(theta: Theta) -> Tensor:
            damping = (-(self.k**2) * (2 * theta["log_scale"]).exp() / 2).exp()
            return ((self.k * theta["mean"]).cos() * damping).squeeze(-1)

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, mean_field, lambda _q: f, exact)

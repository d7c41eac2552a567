"""A Gaussian mixture fitted to another Gaussian mixture."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal

from bench.objectives._checks import at_least, between, finite
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Bound, ReparameterizedMixture


@dataclass(frozen=True)
class GaussianMixture(Objective):
    """Negative Kullback-Leibler divergence between two one-dimensional Gaussian mixtures, as an evidence lower bound.

    ``f(x) = log p(x) - log q(x)``
    ``p(x) = 0.3 N(x; -1, 0.5^2) + 0.7 N(x; 1, 0.5^2)``
    ``q(x) = sum_c w_c N(x; mean_c, exp(log_scale_c)^2)``
    ``w = softmax(logits)``
    ``E f = -KL(q || p)``

    The gradient is taken in theta: ``logits``, ``mean`` and ``log_scale``, ``[components]`` each. The means are evenly
    spaced. The objective is maximised. Exact value: one integral per component, by the trapezoid rule with 2401 nodes
    within 12 standard deviations. It is exact to rounding if the scales differ by less than a factor of ten. Bad
    arguments raise ``ValueError``.

    Args:
        components: number of components, at least 2.
        spread: the means go from -spread to spread at the point of measurement.
        scale: standard deviation of every component at the point of measurement, from 0.01 to 5.

    Reference: a synthetic objective. For gradients of mixtures see Graves 2016 and Figurnov, Mohamed & Mnih 2018.
    """

    components: int = 2
    spread: float = 0.8
    scale: float = 0.5

    dim = 1
    bound = True
    family = ReparameterizedMixture
    reference = "synthetic"

    def __post_init__(self) -> None:
        at_least(self, components=2)
        finite(self, "spread")
        between(self, scale=(0.01, 5.0))

    @property
    def row_elements(self) -> int:
        """Number of elements in the largest tensor of one estimate with one sample: one density for each component."""
        return self.components

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            weights = Categorical(logits=theta["logits"], validate_args=False)
            normal = Normal(theta["mean"].unsqueeze(-1), theta["log_scale"].exp().unsqueeze(-1), validate_args=False)
            return ReparameterizedMixture(weights, Independent(normal, 1, validate_args=False), validate_args=False)

        def log_joint(x: Tensor) -> Tensor:
            left, right = (math.log(w) - 2 * (x.squeeze(-1) - m).square() for w, m in ((0.3, -1), (0.7, 1)))
            return torch.logaddexp(left, right) - math.log(0.5 * math.sqrt(2 * math.pi))

        def exact(theta: Theta) -> Tensor:
            step = 0.01
            z = step * torch.arange(-1200, 1201, dtype=theta["mean"].dtype, device=theta["mean"].device).unsqueeze(-1)
            weight = (-z.square() / 2).exp() * (step / math.sqrt(2 * math.pi))
            x = theta["mean"] + theta["log_scale"].exp() * z  # nodes of every component
            f = Bound(log_joint, q(theta))(x.unsqueeze(-1))
            return theta["logits"].softmax(-1) @ (weight * f).sum(0)

        mean = torch.linspace(-self.spread, self.spread, self.components, dtype=torch.float64)
        theta = {
            **point(self.components, dtype, device, logits=0.0),
            "mean": mean.to(device, dtype).requires_grad_(),
            **point(self.components, dtype, device, log_scale=math.log(self.scale)),
        }
        return Problem(theta, q, lambda q: Bound(log_joint, q), exact)

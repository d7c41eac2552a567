"""A jump under a Gaussian."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Normal

from bench.objectives._checks import at_least, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.mean_field import mean_field


@dataclass(frozen=True)
class Discontinuous(Objective):
    """Quadratic with a jump at a threshold: df/dx exists almost everywhere, but misses the jump.

    ``f(x) = sum_j ((x_j - target)^2 + jump [x_j > threshold])``
    ``x_j ~ N(mean_j, exp(log_scale_j)^2)``
    ``E f = sum_j ((mean_j - target)^2 + exp(2 log_scale_j) + jump Phi((mean_j - threshold) / exp(log_scale_j)))``

    [x_j > threshold] is 1 above the threshold, else 0. Phi is the standard normal distribution function. The gradient
    is taken in theta: ``mean`` and ``log_scale``, ``[dim]`` each. Exact value: closed form. Estimators that use df/dx,
    such as Reparameterization, are biased here. The jump adds ``jump q_j(threshold)`` to the gradient in ``mean_j``,
    where q_j is the density of x_j, but does not show in df/dx. More samples do not lower this bias, and only a
    measurement reveals it. Estimators that only evaluate f, such as ScoreFunction, stay unbiased. Bad arguments raise
    ``ValueError``.

    Args:
        dim: number of random coordinates, at least 1.
        target: the minimiser of the smooth part of f, in every coordinate.
        jump: height of the jump.
        threshold: position of the jump, in every coordinate.
        mean: mean of every coordinate at the point of measurement.
        scale: standard deviation of every coordinate at the point of measurement, above 0.

    Reference: a synthetic objective; for models with jumps see Lee, Yu & Yang 2018.
    """

    dim: int = 1
    target: float = 0.0
    jump: float = 1.0
    threshold: float = 0.0
    mean: float = 0.5
    scale: float = 1.0

    family = Normal
    row_elements = property(attrgetter("dim"))
    reference = "synthetic"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        finite(self, "target", "jump", "threshold", "mean")
        positive(self, "scale")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def f(x: Tensor) -> Tensor:
            above = (x > self.threshold).to(x.dtype)
            return ((x - self.target).square() + self.jump * above).sum(-1)

        def exact(theta: Theta) -> Tensor:
            mean, scale = theta["mean"], theta["log_scale"].exp()
            above: Tensor = torch.special.ndtr((mean - self.threshold) / scale)
            return ((mean - self.target).square() + scale.square() + self.jump * above).sum()

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, mean_field, lambda _q: f, exact)

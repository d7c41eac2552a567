"""Exponential moments of a Gaussian: the tails can be so heavy that the variance does not exist."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor
from torch.distributions import Normal

from bench.objectives._checks import error, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.mean_field import mean_field


@dataclass(frozen=True)
class ExponentialMoment(Objective):
    """Exponential of a Gaussian or of its square, like an importance weight or a likelihood ratio.

    ``f(x) = exp(rate x^power)``
    ``x ~ N(mean, s^2)``
    ``s = exp(log_scale)``
    ``power 1, the moment of a lognormal: E f = exp(rate mean + rate^2 s^2 / 2)``
    ``power 2, the moment of a chi-squared: E f = exp(rate mean^2 / c) / sqrt(c)``
    ``c = 1 - 2 rate s^2 > 0``

    With power 1, all moments of a gradient estimate exist, but no feasible number of samples estimates them. At rate 1
    and scale 1, the squared norms of score-function estimates have a kurtosis of 2e11. With power 2, score-function and
    pathwise estimates have an infinite variance if ``rate s^2 >= 1/4``, although E f is finite as long as
    ``rate s^2 < 1/2``. The gradient is taken in theta: ``mean`` and ``log_scale``, ``[1]`` each. Exact value: closed
    form. Bad arguments or an infinite E f raise ``ValueError``.

    Args:
        rate: factor in the exponent, above 0.
        power: 1 or 2.
        mean: mean at the point of measurement.
        scale: standard deviation at the point of measurement, above 0.

    Reference: Johnson, Kotz & Balakrishnan 1994 (Continuous Univariate Distributions 1), chapters 14 and 18.
    """

    rate: float = 1.0
    power: int = 1
    mean: float = 0.0
    scale: float = 1.0

    dim = 1
    family = Normal
    row_elements = property(attrgetter("dim"))
    reference = "Johnson et al. 1994"

    def __post_init__(self) -> None:
        finite(self, "mean")
        positive(self, "rate", "scale")
        if type(self.power) is not int or self.power not in (1, 2):
            raise error(self, "power", "a power of 1 or 2")
        if self.power == 2 and not 2 * self.rate * self.scale**2 < 1:
            raise ValueError(
                f"ExponentialMoment needs a rate below 1 / (2 scale^2) with power=2 (got rate={self.rate!r} and "
                f"scale={self.scale!r}): the expectation is infinite. Use rate={0.35 / self.scale**2:.3g}."
            )

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def f(x: Tensor) -> Tensor:
            return (self.rate * x.squeeze(-1) ** self.power).exp()

        def exact(theta: Theta) -> Tensor:
            mean, square = theta["mean"], (2 * theta["log_scale"]).exp()
            if self.power == 1:
                return (self.rate * mean + self.rate**2 * square / 2).exp().squeeze(-1)
            c = 1 - 2 * self.rate * square
            return ((self.rate * mean.square() / c).exp() / c.sqrt()).squeeze(-1)

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        return Problem(theta, mean_field, lambda _q: f, exact)

"""A Gaussian, then a category that depends on it: two layers with an exact value."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, OneHotCategorical

from bench.objectives._checks import at_least, finite, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Layers

NODES, ENDS = 361, 9.0
"""Number of nodes of the trapezoidal rule over z, and where they end, in standard deviations."""


@dataclass(frozen=True)
class GaussianThenCategorical(Objective):
    """Distance of a Gaussian z from a target that a category c selects; the distribution of c depends on z.

    ``f(z, c) = 1 - exp(-(z - t.c)^2)``
    ``z ~ N(mean, exp(log_scale)^2)``
    ``c ~ OneHotCategorical(softmax(z slope + bias))``
    ``E f = E_z sum_k softmax(z slope + bias)_k f(z, k)``

    The targets t divide the interval from -1 to 1 into equal parts. The gradient is taken in theta: ``mean`` and
    ``log_scale``, ``[1]`` each, of z, and ``slope`` and ``bias``, ``[classes]`` each, of c. q is a ``Layers`` of two
    layers, and a sample is z and c in one vector. f is defined for every real c. Exact value: quadrature over z for
    each category. The product of the density of z and ``exp(-(z - t_k)^2)`` is proportional to a Gaussian density. This
    Gaussian has a standard deviation below 0.71 for any ``scale``, and the nodes lie around its mean. Bad arguments
    raise ``ValueError``.

    Args:
        classes: number of categories, at least 2.
        mean: mean of z at the point of measurement.
        scale: standard deviation of z at the point of measurement, above 0.

    Reference: a synthetic objective.
    """

    classes: int = 3
    mean: float = 0.5
    scale: float = 0.8

    dim = 2
    family = Layers
    layer_families = (Normal, OneHotCategorical)
    reference = "synthetic"

    def __post_init__(self) -> None:
        at_least(self, classes=2)
        finite(self, "mean")
        positive(self, "scale")

    @property
    def row_elements(self) -> int:
        """Number of coordinates of a sample: z and one for every class."""
        return 1 + self.classes

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        targets = torch.linspace(-1, 1, self.classes, dtype=torch.float64).to(device, dtype)

        def first(w: Theta) -> Distribution:
            return Independent(Normal(w["mean"], w["scale"], validate_args=False), 1, validate_args=False)

        def second(w: Theta, z: Tensor) -> Distribution:
            return OneHotCategorical(logits=z * w["slope"] + w["bias"], validate_args=False)

        def q(theta: Theta) -> Distribution:
            own = {"mean": theta["mean"], "scale": theta["log_scale"].exp()}
            return Layers(own | {"slope": theta["slope"], "bias": theta["bias"]}, (first, second))

        def miss(off: Tensor) -> Tensor:
            return -(-off.square()).expm1()

        def f(x: Tensor) -> Tensor:
            return miss(x[..., 0] - x[..., 1:] @ targets)

        def exact(theta: Theta) -> Tensor:
            mean, variance, t = theta["mean"], (2 * theta["log_scale"]).exp(), targets.to(theta["mean"])
            wide = 1 + 2 * variance
            nodes = torch.linspace(-ENDS, ENDS, NODES, dtype=torch.float64).to(mean).unsqueeze(-1)
            z = (mean + 2 * variance * t + (variance * wide).sqrt() * nodes) / wide  # [nodes, classes]
            p = (z.unsqueeze(-1) * theta["slope"] + theta["bias"]).softmax(-1).diagonal(dim1=1, dim2=2)
            hit = (-(mean - t).square() / wide).exp() / wide.sqrt()
            return 1 - ((-nodes.square() / 2).softmax(0) * p * hit).sum()

        theta = point(1, dtype, device, mean=self.mean, log_scale=math.log(self.scale))
        slope = torch.linspace(-1, 1, self.classes, dtype=torch.float64).to(device, dtype).requires_grad_()
        return Problem(theta | {"slope": slope} | point(self.classes, dtype, device, bias=0.0), q, lambda _q: f, exact)

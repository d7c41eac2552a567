"""A linear and a quadratic term of one-hot variables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from bench.objectives._checks import whole
from bench.objectives._protocol import Objective, Problem, Theta


@dataclass(frozen=True)
class CategoricalLinearQuadratic(Objective):
    """Linear term plus the square of another: every one-hot variable meets every other one.

    ``f(z) = a.z + (b.z)^2``,  ``z_i ~ OneHotCategorical(p_i)``,  ``p_i = softmax(logits_i)``
    ``E f = a.p + (b.p)^2 + sum_i sum_c p_ic b_ic^2 - (sum_c p_ic b_ic)^2``

    theta is ``logits``, ``[dim, classes]``, standard normals from the seed; so are ``sqrt(dim) a`` and ``sqrt(dim) b``,
    which keeps E f of the order of 1 for any dim. Exact value: closed form. f is quadratic, so that ReinMax is exact in
    the mean, and no straight-through estimator is.

    Args:
        dim: one-hot variables, at least 1.
        classes: categories of each, at least 2.
        seed: seed of logits, a and b, at least 0.

    Raises:
        ValueError: an argument is out of its range.

    Reference: a synthetic problem of this project; 20 variables of 10 classes are the latent code of Jang, Gu & Poole
    2017, section 4.
    """

    dim: int = 20
    classes: int = 10
    seed: int = 0

    family: ClassVar[type[Distribution]] = OneHotCategorical
    reference: ClassVar[str] = "synthetic"

    def __post_init__(self) -> None:
        whole(self, "dim", 1)
        whole(self, "classes", 2)
        whole(self, "seed", 0)

    @property
    def row_elements(self) -> int:
        """Elements of one sample: one for every class of every variable."""
        return self.dim * self.classes

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""
        # Drawn in float64 on the CPU and then converted, so that every dtype and device has the same problem.
        draws = torch.randn((3, self.row_elements), generator=Generator().manual_seed(self.seed), dtype=torch.float64)
        a, b = (draws[1:] / math.sqrt(self.dim)).to(device, dtype).unbind()

        def q(theta: Theta) -> Distribution:
            return Independent(OneHotCategorical(logits=theta["logits"], validate_args=False), 1, validate_args=False)

        def f(z: Tensor) -> Tensor:
            flat = z.flatten(-2)  # of two columns at once, torch's matrix product takes seven times as long
            return torch.matmul(flat, a) + torch.matmul(flat, b).square()

        def exact(theta: Theta) -> Tensor:
            p = theta["logits"].softmax(-1)
            slopes = b.to(p).view_as(p)
            mean = (slopes * p).sum(-1)
            variance = (slopes.square() * p).sum(-1) - mean.square()
            return (a.to(p).view_as(p) * p).sum() + mean.sum().square() + variance.sum()

        logits = draws[0].view(self.dim, self.classes).to(device, dtype).requires_grad_()
        return Problem({"logits": logits}, q, lambda _q: f, exact)

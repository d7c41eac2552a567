"""Polynomial programming with one-hot variables."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from bench.objectives._checks import at_least, between, finite
from bench.objectives._protocol import Objective, Problem, Theta


@dataclass(frozen=True)
class CategoricalPolynomial(Objective):
    """Polynomial programming: the first entry of every one-hot pair should be near the target.

    ``f(z) = (1/dim) sum_i |z_i0 - target|^power``
    ``z_i ~ OneHotCategorical(p_i)``
    ``p_i = softmax(logits_i)``
    ``E f = (1/dim) sum_i [p_i0 |1 - target|^power + p_i1 |target|^power]``

    The gradient is taken in theta: ``logits``, ``[dim, 2]``, drawn uniformly from (-0.01, 0.01), as at the first step
    of training. Exact value: closed form. On one-hot points f is affine; between them it is curved if the power is
    above 1. ReinMax is unbiased at power 2, but not at other powers. Bad arguments raise ``ValueError``.

    Args:
        dim: number of one-hot pairs, at least 1.
        power: the exponent, from 1 to 100; 1.5, 2 and 3 in the paper. Below 1 the slope of f at the target would be
            infinite.
        target: the number that every first entry should be close to.
        seed: seed of the logits, at least 0.

    Reference: Liu, Dong, Liu, Yu & Gao 2023 (ReinMax), the polynomial programming experiment.
    """

    dim: int = 128
    power: float = 2.0
    target: float = 0.45
    seed: int = 0

    family = OneHotCategorical
    reference = "Liu et al. 2023"

    def __post_init__(self) -> None:
        at_least(self, dim=1, seed=0)
        between(self, power=(1.0, 100.0))
        finite(self, "target")

    @property
    def row_elements(self) -> int:
        """Number of elements in one sample: two for every variable."""
        return 2 * self.dim

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            return Independent(OneHotCategorical(logits=theta["logits"], validate_args=False), 1, validate_args=False)

        def f(z: Tensor) -> Tensor:
            return (z[..., 0] - self.target).abs().pow(self.power).mean(-1)

        def exact(theta: Theta) -> Tensor:
            p = theta["logits"].softmax(-1)
            hit, miss = math.pow(abs(1 - self.target), self.power), math.pow(abs(self.target), self.power)
            return (p[:, 0] * hit + p[:, 1] * miss).mean()

        # Drawn in float64 on the CPU, then converted: the point is the same in every dtype and on every device.
        u = torch.rand((self.dim, 2), generator=Generator().manual_seed(self.seed), dtype=torch.float64)
        logits = (0.02 * u - 0.01).to(device, dtype).requires_grad_()
        return Problem({"logits": logits}, q, lambda _q: f, exact)

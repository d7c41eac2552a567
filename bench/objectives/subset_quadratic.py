"""A quadratic of a random subset."""

import itertools
import math
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from bench.objectives._checks import at_least
from bench.objectives._protocol import Objective, Problem, Theta
from estimators import RLOO, Subset

ENUMERABLE = 65_536
"""Largest number of subsets for which the exact value is computed, as a sum over all of them."""


@dataclass(frozen=True)
class SubsetQuadratic(Objective):
    """Quadratic of a random subset of fixed size: the bits depend on each other, since exactly k are 1.

    ``f(x) = sum_j (x_j - t_j)^2``
    ``x ~ Subset(logits, k)``
    ``E f = sum_x q(x) f(x)``

    q(x) is proportional to ``exp(x . logits)`` for every x with exactly k ones. The gradient is taken in theta:
    ``logits``, ``[dim]``. numpy's RandomState draws the logits from the seed as standard normals, then t as absolute
    values of standard normals. Exact value: the sum over all subsets if there are at most 65,536, else a Monte Carlo
    reference, the mean of a long run. f is affine on bits, and defined for every real x. Bad arguments raise
    ``ValueError``.

    Args:
        dim: number of elements to choose from, at least 2.
        k: number of elements in the subset, at least 1 and below dim.
        seed: seed of the logits and t, at least 0; 1234 and nine others in the paper.

    Reference: the toy problem of Ahmed, Zeng, Niepert & Van den Broeck 2023 (SIMPLE), section 6, with 5 of 10 elements.
    """

    dim: int = 10
    k: int = 5
    seed: int = 1234

    family = Subset
    row_elements = property(attrgetter("dim"))
    reference_estimator = RLOO(n=8)  # unbiased, with little variance for its cost
    aliases = ("subset",)
    reference = "Ahmed et al. 2023"

    def __post_init__(self) -> None:
        at_least(self, dim=2, k=1, seed=0)
        if self.k >= self.dim:
            raise ValueError(
                f"SubsetQuadratic needs k < dim, or there is no choice to make (got k={self.k}, dim={self.dim}). "
                f"Use k={self.dim // 2}."
            )

    @property
    def has_exact(self) -> bool:  # type: ignore[override]
        """Whether the exact value is known: only if there are few enough subsets to sum over all of them."""
        return math.comb(self.dim, self.k) <= ENUMERABLE

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        random = np.random.RandomState(self.seed)
        logits = torch.from_numpy(random.randn(self.dim)).to(device, dtype).requires_grad_()
        target = torch.from_numpy(np.abs(random.randn(self.dim))).to(device, dtype)

        def q(theta: Theta) -> Distribution:
            return Subset(theta["logits"], self.k, validate_args=False)

        def f(x: Tensor) -> Tensor:
            return (x - target).square().sum(-1)

        def exact(theta: Theta) -> Tensor:
            members = torch.tensor(list(itertools.combinations(range(self.dim), self.k)), device=device)
            x = theta["logits"].new_zeros(len(members), self.dim).scatter_(1, members, 1.0)
            return (x @ theta["logits"]).softmax(0) @ f(x)

        return Problem({"logits": logits}, q, lambda _q: f, exact if self.has_exact else None)

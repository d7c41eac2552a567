"""Quadratic unconstrained binary optimisation: the cut of a graph."""

import math
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent
from torch.nn.functional import linear

from bench.objectives._checks import at_least, positive
from bench.objectives._protocol import Objective, Problem, Theta


@dataclass(frozen=True)
class Qubo(Objective):
    """Maximum cut of a random graph: a quadratic of bits, in which every bit interacts with its neighbours.

    ``f(b) = sum_i sum_j W_ij b_i (1 - b_j)``
    ``b_j ~ Bernoulli(p_j)``
    ``p = sigmoid(logits)``
    ``E f = sum_i sum_j W_ij p_i (1 - p_j)``

    W is the adjacency matrix of a simple graph with ``ceil(dim degree / 2)`` edges, drawn from the seed without
    replacement. f counts the edges between a 1 and a 0, and is maximised. The gradient is taken in theta: ``logits``,
    ``[dim]``, standard normals drawn from the seed. (At logits of 0 the gradient would be 0.) Exact value: closed form.
    f is not affine, so estimators that are exact for affine f have no advantage here. Bad arguments raise
    ``ValueError``.

    Args:
        dim: number of vertices, at least 2; W has dim^2 elements.
        degree: mean number of edges of a vertex, above 0; the graph is complete if degree >= dim - 1.
        seed: seed of the graph and the logits, at least 0.

    Reference: a synthetic objective. The maximum cut is from Karp 1972, E f from Karalias & Loukas 2020, section 3.
    """

    dim: int = 100
    degree: float = 8.0
    seed: int = 0

    maximise = True
    family = Bernoulli
    row_elements = property(attrgetter("dim"))
    reference = "Karalias & Loukas 2020"

    def __post_init__(self) -> None:
        at_least(self, dim=2, seed=0)
        positive(self, "degree")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        # Drawn on the CPU, then converted: the problem is the same in every dtype and on every device.
        generator = Generator().manual_seed(self.seed)
        draws = torch.randn(self.dim, generator=generator, dtype=torch.float64)
        pairs = self.dim * (self.dim - 1) // 2
        chosen = torch.randperm(pairs, generator=generator)[: min(pairs, math.ceil(self.dim * self.degree / 2))]
        upper = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        i, j = torch.triu_indices(self.dim, self.dim, offset=1)[:, chosen]
        upper[i, j] = 1
        weights = (upper + upper.T).to(device, dtype)

        def q(theta: Theta) -> Distribution:
            return Independent(Bernoulli(logits=theta["logits"], validate_args=False), 1, validate_args=False)

        def f(b: Tensor) -> Tensor:
            return (b * linear(1 - b, weights)).sum(-1)

        def exact(theta: Theta) -> Tensor:
            p = theta["logits"].sigmoid()  # no vertex is its own neighbour, so f is affine in every single bit
            return p @ weights.to(p) @ (1 - p)

        return Problem({"logits": draws.to(device, dtype).requires_grad_()}, q, lambda _q: f, exact)

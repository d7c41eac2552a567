"""A random walk whose step probabilities depend on its position."""

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, constraints

from bench.objectives._checks import at_least, positive
from bench.objectives._protocol import Objective, Problem, Theta, point
from estimators import Chain, Return, uniform


class Walk(Chain):
    """Distribution of walks from position 0. A step is +1 with probability ``exp(-position / length)``, else -1.

    At position 0 every step is +1, so positions are never negative. A sample is the steps of one walk.

    Args:
        length: decay length of the probability of a step up, positive, ``[*batch]``.
        steps: number of steps; the event shape is ``[steps]``.
        validate_args: whether torch checks the arguments.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"length": constraints.positive}
    support = constraints.real_vector

    def __init__(self, length: Tensor, steps: int, validate_args: bool | None = None) -> None:
        self.length, self.steps = length, steps
        super().__init__(length.shape, Size((steps,)), validate_args=validate_args)

    def draw(self, sample_shape: Size, generator: Generator | None) -> Tensor:
        """Return sampled walks: steps of +1 or -1, ``[*sample_shape, *batch, steps]``."""
        length = self.length.detach()
        u = uniform(self._extended_shape(sample_shape), length, generator)
        position, walk = torch.zeros_like(u[..., 0]), []
        for noise in u.unbind(-1):
            walk.append(2 * (noise < (-position / length).exp()).to(u) - 1)
            position = position + walk[-1]
        return torch.stack(walk, -1)

    def log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each step of given walks, ``[..., *batch, steps]``.

        For a step below position 0 it is minus infinity.

        Args:
            value: walks, steps of +1 or -1, ``[..., *batch, steps]``.
        """
        before = value.cumsum(-1) - value
        length = self.length.unsqueeze(-1)
        down = (-torch.expm1(-before.clamp_min(1) / length)).log()
        each = torch.where(value > 0, -before / length, down)
        return each.masked_fill((value < 0) & (before < 1), -math.inf)

    def score(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return a sum of weighted scores, ``{"length": sum_k weight_k grad log q(x_k)}``, of shape ``[*batch]``.

        The gradient is with respect to the length.

        Args:
            x: n walks for each batch element, ``[n, *batch, steps]``.
            weight: one weight per walk, ``[n, *batch]``.
        """
        before, length = x.cumsum(-1) - x, self.length.detach().unsqueeze(-1)
        down = -1 / torch.expm1(before.clamp_min(1) / length)
        each = before * torch.where(x > 0, torch.ones_like(down), down)
        return {"length": (weight * each.sum(-1)).sum(0) / self.length.detach().square()}


@dataclass(frozen=True)
class RandomWalk(Objective):
    """Squared end position of a random walk. Steps depend on the position, so q does not factorise.

    ``f(x) = (sum_t x_t)^2``
    ``P(x_t = +1 | s) = exp(-s / length)``
    ``P(x_t = -1 | s) = 1 - exp(-s / length)``
    ``E f = sum_e P(e) e^2``

    s is the sum of the earlier steps, and e is the position at the end of the walk. The gradient is taken in theta:
    ``log_length``, ``[1]``. q is a distribution of whole walks, a ``Chain`` of steps. q has a sampler and a score;
    estimators that need nothing else can be used. f is a ``Return``: the cost of a step is what the step adds to the
    square of the position. Exact value: P(e) by dynamic programming over the steps. Bad arguments raise ``ValueError``.

    Args:
        dim: number of steps, at least 1; with one step the gradient is 0.
        length: decay length of the step probability at the point of measurement, above 0; twice dim in the paper.

    Reference: Arya, Schauer, Schäfer & Rackauckas 2022 (StochasticAD.jl), section 4.
    """

    dim: int = 50
    length: float = 100.0

    family = Walk
    costs = True
    row_elements = property(attrgetter("dim"))
    reference = "Arya et al. 2022"

    def __post_init__(self) -> None:
        at_least(self, dim=1)
        positive(self, "length")

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""

        def q(theta: Theta) -> Distribution:
            return Walk(theta["log_length"].exp().squeeze(-1), self.dim, validate_args=False)

        def f(x: Tensor) -> Tensor:
            return x.sum(-1).square()

        def costs(x: Tensor) -> Tensor:
            return x * (2 * x.cumsum(-1) - x)  # the growth of the square of the position

        def exact(theta: Theta) -> Tensor:
            length = theta["log_length"].exp()
            position = torch.arange(self.dim + 1, dtype=length.dtype, device=length.device)
            up = (-position / length).exp()
            mass, none = (position == 0).to(up), up.new_zeros(1)
            for _ in range(self.dim):
                mass = torch.cat([none, (mass * up)[:-1]]) + torch.cat([(mass * (1 - up))[1:], none])
            return mass @ position.square()

        return Problem(
            point(1, dtype, device, log_length=math.log(self.length)), q, lambda _q: Return(costs, total=f), exact
        )

"""Stochastic derivatives of integers: a jump by one, times its rate."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Binomial, Distribution, Geometric, Poisson

from estimators._axes import spread
from estimators._checks import at_least, one_of
from estimators._coordinates import AT_ONCE, neighbour, replaced
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._parameters import parameters
from estimators._protocol import Estimator, State
from estimators._rows import one
from estimators._surrogate import inject_at, joined

SIDES = {"right": (1,), "left": (-1,), "both": (1, -1)}
"""Directions in which the parameter moves, by the name of the coupling."""


@dataclass(frozen=True)
class StochasticAD(Estimator):
    """Stochastic derivative: a small change of the parameter seldom moves the sample, and then by one.

    ``g_i = (1/n) sum_k +- w_i (f(x_k with coordinate i moved by d) - f(x_k))``,  x_k ~ q

    | q | right: d, w | left: d, w |
    | --- | --- | --- |
    | Bernoulli(p) | +1, (1 - x) / (1 - p) | -1, x / p |
    | Binomial(N, p) | +1, (N - x) / (1 - p) | -1, x / p |
    | Geometric(p) | -1, x / (p (1 - p)) | +1, (x + 1) / p |
    | Poisson(rate) | +1, 1 | -1, x / rate |

    g_i is the gradient in the parameter of coordinate i. Unbiased. The right coupling increases the parameter and takes
    +w, the left coupling decreases it and takes -w, and "both" is their mean. Which coupling has the least variance
    depends on f. For Poisson the right coupling is the measure-valued derivative. At p = 1 only the left coupling has a
    derivative, at p = 0 only the right coupling. f may be a black box. Cost: n (1 + D) evaluations of f for D
    coordinates, n (1 + 2 D) for "both". The paper differentiates whole programs. If several random numbers of a program
    can move, the paper moves one of them. Here each coordinate of q is moved in turn.

    Some counts are so large that their dtype does not hold the next integer, as in float32 beyond 2^24. The next number
    of the dtype is then used, and the difference of f is divided by the distance.

    Args:
        n: number of samples.
        side: "right", "left" or "both".

    Reference: Arya, Schauer, Schäfer & Rackauckas 2022, section 2; the table is from their package StochasticAD.jl.
    """

    n: int = 1
    side: str = "right"

    families = (Bernoulli, Binomial, Geometric, Poisson)
    reference: ClassVar[str] = "Arya et al. 2022"

    def __post_init__(self) -> None:
        at_least(self, 1)
        one_of(self, "side", *SIDES)

    def points(self, q: Distribution) -> int:
        """Return the number of points in the largest call of f, per batch element of q."""
        return self.n * max(1, len(SIDES[self.side]) * min(math.prod(q.event_shape), AT_ONCE))

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, p = draw(q, self.n, generator), _parameter(q)
        fx = f(x)
        sides = SIDES[self.side]
        steps, rates = zip(*(_jump(inner(q), x, one(p.detach(), q), side) for side in sides), strict=True)
        jumps = zip(*(neighbour(x, step, rate) for step, rate in zip(steps, rates, strict=True)), strict=True)
        moved, rate = map(torch.stack, jumps)
        difference = replaced(f, x, torch.where(rate > 0, moved, x), len(q.event_shape)) - spread(fx.detach(), x)
        sign = torch.tensor(sides, dtype=x.dtype, device=x.device).reshape(-1, *(1 for _ in x.shape))
        gradient = (sign * rate * difference).mean((0, 1))
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, p)], self), self)


def _parameter(q: Distribution) -> Tensor:
    """Return the probabilities or rates of q, attached to its parameters."""
    own = parameters(q)
    if "logits" in own:
        return own["logits"].sigmoid()
    return own["probs"] if "probs" in own else own["rate"]


def _jump(base: Any, x: Tensor, p: Tensor, side: int) -> tuple[int, Tensor]:
    """Return the jump of x, and its rate per unit of p, as p moves to the given side."""
    tiny = torch.finfo(p.dtype).tiny
    match base, side:
        case Poisson(), 1:
            return 1, torch.ones_like(x)
        case Poisson(), _:
            return -1, x / p.clamp_min(tiny)
        case Geometric(), 1:
            return -1, x / (p * (1 - p)).clamp_min(tiny)
        case Geometric(), _:
            return 1, (x + 1) / p.clamp_min(tiny)
        case Bernoulli() | Binomial(), 1:
            total = base.total_count if isinstance(base, Binomial) else 1
            return 1, (total - x) / (1 - p).clamp_min(tiny)
        case _:
            return -1, x / p.clamp_min(tiny)

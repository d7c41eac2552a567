"""One tiny call of an estimator and its backward pass, against a step of training written by hand with torch alone.

A call on three numbers takes no time for arithmetic: what is timed are torch's operations and, on the side of the
estimator, its checks of q, of f, of the samples and of the values of f.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, OneHotCategorical, Poisson

from estimators import RLOO, DisARM, Estimator, Reparameterization, StraightThrough
from tests.benchmarks.interleaved import Job, Laps, interleave

N = 4
"""Number of samples."""
CALLS = 50
"""Number of calls in a lap."""

Leaves = tuple[Tensor, ...]
Step = Callable[[Leaves, Generator], Tensor]
"""Maps the parameters of q to a loss whose gradient at the parameters is the estimate."""


def square(x: Tensor) -> Tensor:
    """Return the squared distance of points x, ``[..., 3]``, from 0.3: ``[...]``."""
    return (x - 0.3).square().sum(-1)


def _weights(fx: Tensor) -> Tensor:
    return (fx - fx.mean(0)) / (N - 1)


def _normal_rloo(own: Leaves, generator: Generator) -> Tensor:
    loc, scale = own
    x = torch.randn((N, 3), generator=generator) * scale.detach() + loc.detach()
    log_q = (((x - loc) / scale).square() / -2 - scale.log()).sum(-1)
    return (_weights(square(x)) * log_q).sum(0)


def _bernoulli_rloo(own: Leaves, generator: Generator) -> Tensor:
    (logits,) = own
    x = (torch.rand((N, 3), generator=generator) < logits.detach().sigmoid()).to(logits)
    log_q = (x * logits - torch.nn.functional.softplus(logits)).sum(-1)
    return (_weights(square(x)) * log_q).sum(0)


def _poisson_rloo(own: Leaves, generator: Generator) -> Tensor:
    (rate,) = own
    x = torch.poisson(rate.detach().expand(N, 3), generator)
    return (_weights(square(x)) * (x * rate.log() - rate).sum(-1)).sum(0)


def _normal_path(own: Leaves, generator: Generator) -> Tensor:
    loc, scale = own
    return square(torch.randn(3, generator=generator) * scale + loc)


def _categorical_straight_through(own: Leaves, generator: Generator) -> Tensor:
    p = own[0].softmax(-1)
    index = torch.multinomial(p.detach(), 1, generator=generator)
    x = torch.zeros(3).scatter_(-1, index, 1.0)
    return square(x + p - p.detach())


def _disarm(own: Leaves, generator: Generator) -> Tensor:
    (logits,) = own
    p, u = logits.detach().sigmoid(), torch.rand(3, generator=generator)
    x, other = (u < p).to(p), (1 - u < p).to(p)
    weight = (square(x) - square(other)) / 2 * (x - other) * torch.maximum(p, 1 - p)
    return (weight * logits).sum()


@dataclass(frozen=True)
class Tiny:
    """An estimator, a distribution of three numbers, and the step of training that does as much by hand.

    ``build`` maps the leaves, the parameters of q, to q. The values of the leaves are ``start``.
    """

    name: str
    estimator: Estimator
    build: Callable[..., Distribution]
    start: tuple[list[float], ...]
    by_hand: Step

    def leaves(self) -> Leaves:
        """Return the parameters of q."""
        return tuple(torch.tensor(values, requires_grad=True) for values in self.start)

    def jobs(self) -> dict[str, Job]:
        """Return the two jobs; each makes ``CALLS`` losses and their gradients."""

        def call(own: Leaves, generator: Generator) -> Tensor:
            return self.estimator(square, self.build(*own), generator)

        return {"estimator": _repeated(call, self.leaves()), "by hand": _repeated(self.by_hand, self.leaves())}


def _repeated(step: Step, own: Leaves) -> Job:
    generator = Generator().manual_seed(0)

    def run() -> None:
        for _ in range(CALLS):
            torch.autograd.grad(step(own, generator), own)

    return Job(run, CALLS)


def _normal(loc: Tensor, scale: Tensor) -> Distribution:
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


def _bits(logits: Tensor) -> Distribution:
    return Independent(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


def _counts(rate: Tensor) -> Distribution:
    return Independent(Poisson(rate, validate_args=False), 1, validate_args=False)


def _one_hot(logits: Tensor) -> Distribution:
    return OneHotCategorical(logits=logits, validate_args=False)


LOC_AND_SCALE = ([0.1, 0.2, 0.3], [1.0, 1.2, 0.8])
LOGITS = ([0.1, -0.2, 0.3],)

TINY = [
    Tiny("RLOO(4), Normal", RLOO(n=N), _normal, LOC_AND_SCALE, _normal_rloo),
    Tiny("RLOO(4), Bernoulli", RLOO(n=N), _bits, LOGITS, _bernoulli_rloo),
    Tiny("RLOO(4), Poisson", RLOO(n=N), _counts, ([0.7, 1.5, 3.0],), _poisson_rloo),
    Tiny("pathwise, Normal", Reparameterization(), _normal, LOC_AND_SCALE, _normal_path),
    Tiny("ST, OneHotCategorical", StraightThrough(), _one_hot, LOGITS, _categorical_straight_through),
    Tiny("DisARM, Bernoulli", DisARM(), _bits, LOGITS, _disarm),
]


def measured(seconds: float) -> Iterator[tuple[str, Laps]]:
    """Yield the name and the laps of every tiny call."""
    for tiny in TINY:
        yield tiny.name, interleave(tiny.jobs(), seconds=seconds, most=400)

"""VIMCO: the score function for importance-weighted bounds, with a baseline for each particle made from the others."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution

from estimators._checks import at_least, one_of
from estimators._densities import untransformed
from estimators._draws import draw
from estimators._first_order import first_order
from estimators._integrand import Integrand
from estimators._protocol import Estimator, State
from estimators._supports import refuse_unseen
from estimators._surrogate import inject_at
from estimators.bound import log_mean_exp, needed


@dataclass(frozen=True)
class VIMCO(Estimator):
    """VIMCO: score function of an importance-weighted bound; the baseline of a particle comes from the others.

    ``g = sum_k (L - L_-k) grad log q(x_k) + sum_k w_k grad log(p(x_k) / q(x_k))``,  averaged over n samples
    ``L = log((1/K) sum_k p(x_k) / q(x_k))``

    A sample is a set of K particles. The weight of particle x_k is p(x_k)/q(x_k), where p is the joint density of a
    ``Bound``; the w_k are these weights divided by their sum. L_-k is L with weight k replaced by the mean of the other
    weights. Unbiased: L_-k does not depend on x_k. The second term is the gradient through L at fixed x. Needs a
    ``Bound`` (an f that exposes its importance weights) of at least two particles. p need not be differentiable in x.
    Cost: n evaluations of f, each of K log-joints.

    Args:
        n: number of samples, each a set of K particles.
        mean: the kind of mean of the other weights in L_-k, "geometric" or "arithmetic". For two particles the two are
            equal.

    Reference: Mnih & Rezende 2016 ("Variational inference for Monte Carlo objectives"), section 2.5.
    """

    n: int = 1
    mean: str = "geometric"

    needs_bound = True
    reference: ClassVar[str] = "Mnih & Rezende 2016"

    def __post_init__(self) -> None:
        at_least(self, 1)
        one_of(self, "mean", "geometric", "arithmetic")

    def refuses_particles(self, particles: int | None) -> str | None:
        if particles is None or particles < 2:
            return (
                f"{self!r} needs a Bound of at least 2 particles (got particles={particles}): its baselines are made "
                "of the others. Use RLOO."
            )
        return None

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        bound = needed(self, f, q)
        refuse_unseen(q)
        x = draw(q, self.n, generator)
        log_w = bound.log_weights(x)
        value = log_mean_exp(log_w)
        signal = (value.unsqueeze(-1) - self._without(log_w)).detach() / self.n
        below, z = untransformed(q, x)
        surrogate = inject_at(q.batch_shape, [(signal.movedim(0, -1), bound.log_q(z, below).movedim(0, -1))], self)
        return first_order(value.mean(0) + surrogate, self)

    def _without(self, log_w: Tensor) -> Tensor:
        """Return L_-k for every k, ``[n, *batch, K]``."""
        count = log_w.shape[-1]
        own = torch.eye(count, dtype=torch.bool, device=log_w.device)
        each = log_w.detach().unsqueeze(-2).expand(*log_w.shape, count)  # row k: all weights
        if self.mean == "geometric":
            stand_in = each.masked_fill(own, 0).sum(-1) / (count - 1)
        else:
            stand_in = each.masked_fill(own, -math.inf).logsumexp(-1) - math.log(count - 1)
        without = log_mean_exp(torch.where(own, stand_in.unsqueeze(-1), each))
        return without.masked_fill(without == -math.inf, 0)  # all others are impossible: the baseline is then 0

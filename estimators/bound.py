"""Bounds: integrands that show their inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.distributions import Distribution, Independent

from estimators._densities import log_prob
from estimators._protocol import Refusal

if TYPE_CHECKING:
    from estimators._protocol import Estimator, Integrand


@dataclass(frozen=True, eq=False)
class Bound:
    """A lower bound of log evidence, as an integrand that shows its inside: its importance weights.

    ``f(x) = log p(x) - log q(x)``, the evidence lower bound; or, with K particles,
    ``f(x) = log (1/K) sum_k p(x_k) / q(x_k)``, the importance-weighted one (Burda, Grosse & Salakhutdinov 2016)

    One sample of q is a whole set of particles: they are the first event axis of q, so that every estimator can be
    used. Those that need more than values ask for ``log_weights`` and ``log_q``.

    Args:
        log_joint: log p(x), ``[..., *batch, *event] -> [..., *batch]``, up to a constant; with particles log p(x_k) of
            each, ``[..., *batch, K, *event] -> [..., *batch, K]``.
        q: the distribution that the bound is over; its gradient passes through, as the objective has it.
        particles: K, the size of the first event axis of q, an ``Independent``; None for no such axis.

    Raises:
        Refusal: q has no such axis.
    """

    log_joint: Callable[[Tensor], Tensor]
    q: Distribution
    particles: int | None = None

    def __post_init__(self) -> None:
        if self.particles is None:
            return
        if not isinstance(self.q, Independent) or self.q.event_shape[:1] != (self.particles,):
            raise Refusal(
                f"A Bound of {self.particles} particles needs a q with an event axis of {self.particles} in front (got "
                f"{type(self.q).__name__} with event shape {list(self.q.event_shape)}). Use Independent around a "
                f"distribution of batch shape [..., {self.particles}]."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``."""
        weights = self.log_weights(x)
        return weights.squeeze(-1) if self.particles is None else weights.logsumexp(-1) - math.log(self.particles)

    def log_weights(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """Return log p(x_k) - log q(x_k), ``[..., *batch, K]``, with another q in place of the bound's own if given.

        K is 1 without particles.
        """
        log_p = self.log_joint(x)
        return (log_p.unsqueeze(-1) if self.particles is None else log_p) - self.log_q(x, q)

    def log_q(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """Return log q(x_k), ``[..., *batch, K]``, of the bound's own q or another."""
        q = self.q if q is None else q
        if self.particles is None:
            return log_prob(q, x).unsqueeze(-1)
        assert isinstance(q, Independent)
        each = log_prob(q.base_dist, x)
        inside = q.reinterpreted_batch_ndims - 1
        return each.sum(tuple(range(-inside, 0))) if inside else each


def needed(estimator: Estimator, f: Integrand, q: Distribution) -> Bound:
    """Return f, if it is a bound over q that the estimator can use.

    Raises:
        Refusal: it is not.
    """
    if not isinstance(f, Bound) or f.q is not q:
        raise Refusal(
            f"{estimator!r} needs a Bound over the very q that it is given, and got "
            f"{'one over another' if isinstance(f, Bound) else type(f).__name__}. "
            "Use Bound(log_joint, q), or RLOO, which serves every f."
        )
    if reason := estimator.refuses_particles(f.particles):
        raise Refusal(reason)
    return f

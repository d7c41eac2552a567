"""Bounds on the log evidence: integrands that expose their importance weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent
from torch.nn.functional import threshold

from estimators._axes import over_event
from estimators._densities import log_prob
from estimators._integrand import Checked, CheckedFunction, Integrand
from estimators._protocol import Estimator
from estimators._refusals import Refusal
from estimators._transforms import transformed


@dataclass(frozen=True, eq=False)
class Bound(Checked):
    """A lower bound on the log evidence, as an integrand that exposes its importance weights.

    ``f(x) = log p(x) - log q(x)``,  the evidence lower bound (``particles`` is None)
    ``f(x) = log((1/K) sum_k p(x_k) / q(x_k))``,  the importance-weighted bound of K particles

    The importance weight of x is p(x) / q(x). If ``particles`` is K, one sample of q is a set of K particles along q's
    first event axis, so every estimator can be used. Estimators made for bounds also call ``log_weights`` and
    ``log_q``. The importance-weighted bound is from Burda, Grosse & Salakhutdinov 2016.

    Where p(x) is 0 for every particle, the value is -inf, and has no gradient. If the loss leaves such batch elements
    out, as ``value[value.isfinite()].sum()`` does, they add a gradient of 0.

    Args:
        log_joint: log p(x) up to a constant, ``[..., *batch, *event] -> [..., *batch]``. If ``particles`` is K, it
            returns log p(x_k) of each particle, ``[..., *batch, K, *event] -> [..., *batch, K]``.
        q: the distribution of x; call the estimator with this q too. The term log q(x) of f passes gradients to q's
            parameters, because they are a part of the gradient of the bound.
        particles: K, the size of q's first event axis; q must be an ``Independent``. None for the evidence lower bound,
            whose samples are single points.

    Raises:
        Refusal: ``particles`` is given, and q has no first event axis of this size.
    """

    log_joint: Callable[[Tensor], Tensor]
    q: Distribution
    particles: int | None = None

    def __post_init__(self) -> None:
        if self.particles is None:
            return
        if not isinstance(self.q, Independent) or self.q.event_shape[:1] != (self.particles,):
            raise Refusal(
                f"A Bound of {self.particles} particles needs a q whose first event axis has size {self.particles} "
                f"(got {type(self.q).__name__} with event shape {list(self.q.event_shape)}). Use Independent around a "
                f"distribution of batch shape [..., {self.particles}]."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), ``[..., *batch]``, for samples x of q, ``[..., *batch, *event]``."""
        weights = self.log_weights(x)
        return weights.squeeze(-1) if self.particles is None else log_mean_exp(weights)

    def through(self, around: Callable[[Integrand], Integrand], q: Distribution) -> "Bound":
        """Return a copy of this bound over ``q``, with ``around(log_joint)`` in place of ``log_joint``.

        ``around`` maps a function to a function, such as f to 2 f. The number of particles stays.
        """
        return replace(self, log_joint=around(self.log_joint), q=q)

    def log_weights(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """Return log p(x_k) - log q(x_k) of each particle x_k, ``[..., *batch, K]``; K is 1 if ``particles`` is None.

        log p is the ``log_joint`` of this bound.

        Args:
            x: samples of the bound's q, ``[..., *batch, *event]``. If ``particles`` is K, the first axis of the event
                is the axis of the K particles.
            q: the distribution in log q(x_k); None for the q of this bound.
        """
        axes = len(self.q.event_shape) - (self.particles is not None)
        log_p = CheckedFunction(self.log_joint, self.q, axes, "the log_joint of the Bound")(x)
        return (log_p.unsqueeze(-1) if self.particles is None else log_p) - self.log_q(x, q)

    def log_q(self, x: Tensor, q: Distribution | None = None) -> Tensor:
        """Return log q(x_k) of each particle x_k, ``[..., *batch, K]``; K is 1 if ``particles`` is None.

        Args:
            x: samples of the bound's q, ``[..., *batch, *event]``. If ``particles`` is K, the first axis of the event
                is the axis of the K particles.
            q: the distribution in log q(x_k); None for the q of this bound.
        """
        q = self.q if q is None else q
        if self.particles is None:
            return log_prob(q, x).unsqueeze(-1)
        assert isinstance(q, Independent)
        return over_event(log_prob(q.base_dist, x), q.reinterpreted_batch_ndims - 1)


def log_mean_exp(x: Tensor) -> Tensor:
    """Return the logarithm of the mean of exp(x) over the last axis.

    Where all numbers along this axis are -inf, the result is -inf with a gradient of 0. (The gradient of
    ``x.logsumexp(-1)`` is NaN there.)
    """
    value = x.logsumexp(-1)
    on_cpu = x.is_cpu and value.numel() and not transformed() and not torch.compiler.is_compiling()
    if not on_cpu or value.detach().amin() == -math.inf:  # elsewhere a look at the numbers would cost more
        lowest = torch.finfo(x.dtype).min
        value = threshold(x.clamp_min(lowest).logsumexp(-1), lowest / 2, -math.inf)
    return value - math.log(x.shape[-1])


def needed(estimator: Estimator, f: Integrand, q: Distribution) -> Bound:
    """Return f if it is a ``Bound`` over q, with a number of particles that the estimator supports.

    The particles of a ``Bound`` are the points of which one sample of q consists.

    Raises:
        Refusal: f is no such ``Bound``. The message names ``estimator``.
    """
    if not isinstance(f, Bound) or f.q is not q:
        raise Refusal(
            f"{estimator!r} needs a Bound over the q that it is called with (got "
            f"{'a Bound over another q' if isinstance(f, Bound) else 'a plain function'}). "
            "Use Bound(log_joint, q), or RLOO, which works with any f."
        )
    if reason := estimator.refuses_particles(f.particles):
        raise Refusal(reason)
    return f

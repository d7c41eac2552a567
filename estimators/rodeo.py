"""RODEO: leave-one-out baselines with control variates from a discrete Stein operator."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import leaky_relu

from estimators._checks import at_least, evaluate_path
from estimators._densities import logits, row_probs
from estimators._draws import draw
from estimators._integrand import Integrand
from estimators._learned import checked_state
from estimators._noise import normal
from estimators._parameters import first_parameter
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at, joined
from estimators._transforms import value_and_slope


class SteinNetwork(State):
    """State of RODEO, learned by ``adapt``: two coefficients, a and b, and a network H of two outputs.

    RODEO has two control variates: a times the first is in the baseline, b times the second is added to the gradient. H
    makes both from f. At first a and b are 0, and the weights of H are random.

    Args:
        like: a tensor of q, which gives device and dtype.
        generator: source of the random weights; torch's global generator if None.
    """

    hidden: ClassVar[int] = 32

    def __init__(self, like: Tensor, generator: Generator | None) -> None:
        super().__init__(like)
        like, self.inputs = self.mean, 2  # a value and a tangent, for every q
        self.a = nn.Parameter(like.new_zeros(()))
        self.b = nn.Parameter(like.new_zeros(()))
        self.inner = nn.Parameter(normal(Size((2, self.hidden)), like, generator))
        self.outer = nn.Parameter(normal(Size((self.hidden, 2)), like, generator) / math.sqrt(self.hidden))

    def forward(self, value: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's two outputs, each of the shape of ``value``.

        Args:
            value: values of f.
            tangent: derivatives of f along a step, ``grad f(x)^T (y - x)``, of the shape of ``value``.
        """
        inside = value.unsqueeze(-1) * self.inner[0] + tangent.unsqueeze(-1) * self.inner[1]
        h, other = (leaky_relu(inside, 0.3) @ self.outer).unbind(-1)
        return h, other


@dataclass(frozen=True)
class RODEO(Estimator):
    """RODEO: leave-one-out with two Stein control variates, one in the baseline and one added to the gradient.

    ``g = (1/n) sum_k {[f(x_k) - 1/(n-1) sum_{j != k} (f(x_j) + a (A h_j)(x_j))] (x_k - p) + b (A (v_k s))(x_k)}``
    ``(A h)(x) = (1/D) sum_i q(not x_i) (h(x with bit i flipped) - h(x))``
    ``h_k(y), v_k(y) = 1/(n-1) sum_{j != k} H(f(x_j), grad f(x_j)^T (y - x_j))``
    ``s(x) = x - p``

    g is the gradient in q's logits. The x_k are samples of q, and p is the mean of q. H is a network of two outputs:
    the first gives h_k, the second v_k. A is a Stein operator: ``E_q[A h] = 0`` for every function h. q(not x_i) is the
    probability that bit i has its other value. Unbiased for every a, b and H: h_j and v_j are made without x_j. So (A
    h_j)(x_j) and (A (v_j s))(x_j) have mean 0 over x_j, with the other samples fixed. Needs df/dx, but only on the
    support of q. Supports Bernoulli. Cost: n evaluations of f, n of its gradient. H is evaluated at n (n-1) (D+1)
    points for D bits. A state, made by ``init``, holds a, b and H, and ``adapt`` learns them. In a call with a fresh
    state, or without a state, a and b are 0 and RODEO is RLOO. H has 32 hidden units; the authors' code has 100. H
    has no bias terms: if f is multiplied by a positive number, so is the output of H.

    Args:
        n: number of samples, at least 2.

    Reference: Shi, Zhou, Hwang, Titsias & Mackey 2022, section 4, with the Gibbs operator of their experiments.
    """

    n: int = 2

    families = (Bernoulli,)
    needs_df = True
    needs_state = True
    reference: ClassVar[str] = "Shi et al. 2022"

    def __post_init__(self) -> None:
        at_least(self, 2, ": its control variates come from other samples. Use ScoreFunction(n=1) or RODEO(n=2).")

    def points(self, q: Distribution) -> int:
        """Return the number of points that one call holds at once, per batch element.

        A hidden unit of the network counts as one point.
        """
        return self.n * (self.n - 1) * SteinNetwork.hidden

    def init(self, q: Distribution, generator: Generator | None = None) -> SteinNetwork:
        """Return a state with coefficients 0 and a random network.

        q gives the state its device and its dtype, at least float32. If ``generator`` is None, torch's global generator
        draws the network.
        """
        return SteinNetwork(first_parameter(q).detach(), generator)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        x, p = draw(q, self.n, generator), row_probs(q)
        fx, slope = value_and_slope(lambda x: evaluate_path(self, f, x), x)
        flat = Size((self.n, *q.batch_shape, math.prod(q.event_shape)))
        x, p, slope = x.reshape(flat), p.reshape(*p.shape[: len(q.batch_shape)], flat[-1]), slope.reshape(flat)
        baseline, beside = fx.detach(), torch.zeros_like(x)
        own = checked_state(self, state, SteinNetwork, q, 2)
        if own is not None:
            first, second = _stein(own, baseline, slope, x, p)
            baseline, beside = baseline + first, second
        weight = fx.detach() - (baseline.sum(0) - baseline) / (self.n - 1)
        gradient = (weight.unsqueeze(-1) * (x - p) + beside).mean(0).reshape(logits(q).shape)
        return joined(fx.mean(0), inject_at(q.batch_shape, [(gradient, logits(q))], self), self)


def _stein(H: SteinNetwork, fx: Tensor, slope: Tensor, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``a (A h_k)(x_k)``, ``[n, *batch]``, and ``b (A (v_k s))(x_k)``, ``[n, *batch, D]``."""
    n = len(x)
    others = torch.tensor([[j for j in range(n) if j != k] for k in range(n)], device=x.device)
    value, flip = fx[others].unsqueeze(-1), 1 - 2 * x  # [n, n-1, *batch, 1], [n, *batch, D]
    tangent = (slope[others] * (x.unsqueeze(1) - x[others])).sum(-1, keepdim=True)
    here, here_beside = (h.mean(1) for h in H(value, tangent))
    tangent = tangent + slope[others] * flip.unsqueeze(1)
    there, there_beside = (h.mean(1) for h in H(value.expand_as(tangent), tangent))
    rate = (1 - x) * p + x * (1 - p)  # q(not x_i)
    first = (rate * (there - here)).mean(-1)
    stays = (rate * (there_beside - here_beside)).mean(-1, keepdim=True) * (x - p)
    moves = rate * there_beside * flip / x.shape[-1]  # flipping bit i changes s_i alone
    return H.a * first, H.b * (stays + moves)

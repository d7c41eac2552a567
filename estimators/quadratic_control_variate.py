"""Reparameterization with a learned quadratic as a control variate."""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Size, Tensor, nn
from torch.distributions import Distribution, Normal

from estimators._checks import at_least, evaluate_path
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._learned import checked_state
from estimators._noise import normal
from estimators._parameters import first_parameter
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at


class Quadratic(State):
    """State of QuadraticControlVariate: a quadratic around the mean of q, with slope b and curvature B.

    ``B = diag(d) + U diag(w) U^T``

    The parameters, which ``adapt`` trains, are ``slope`` (b, ``[D]``), ``diagonal`` (d, ``[D]``), ``weights`` (w,
    ``[rank]``) and ``factors`` (U, ``[D, rank]``). U starts at random; b, d and w start at 0. D is the number of
    coordinates, and rank the number of columns of U. All batch elements have the same b and B, each around the mean of
    its own q.
    """

    in_units_of_f: ClassVar[tuple[str, ...]] = ("slope", "diagonal", "weights")

    def __init__(self, dim: int, rank: int, like: Tensor, generator: Generator | None) -> None:
        super().__init__(like)
        like, self.inputs = self.mean, dim
        factors = torch.randn(dim, rank, generator=generator, dtype=like.dtype, device=like.device)
        self.slope = nn.Parameter(like.new_zeros(dim))
        self.diagonal = nn.Parameter(like.new_zeros(dim))
        self.factors = nn.Parameter(factors / math.sqrt(dim))
        self.weights = nn.Parameter(like.new_zeros(rank))

    def times(self, d: Tensor) -> Tensor:
        """Return B d, ``[..., D]``: the curvature matrix B times vectors d of D coordinates, ``[..., D]``."""
        return self.diagonal * d + (d @ self.factors * self.weights) @ self.factors.T

    def trace(self) -> Tensor:
        """Return the D diagonal entries of the curvature matrix B, ``[D]``. Their sum is the trace of B."""
        return self.diagonal + self.factors.square() @ self.weights


@dataclass(frozen=True)
class QuadraticControlVariate(Estimator):
    """Reparameterization with the gradient of a learned quadratic as a control variate.

    ``x = loc + scale e``,  e standard normal
    ``model(e) = b + B scale e``
    ``g_loc = (1/n) sum_k (df(x_k) - model(e_k)) + b``
    ``g_scale = (1/n) sum_k (df(x_k) - model(e_k)) e_k + diag(B) scale``

    df is the gradient of f; b and B are the slope and the curvature of the quadratic at the mean. Unbiased for every b
    and B that do not depend on the e_k: the last terms of g_loc and g_scale are the means of the model and of the model
    times e. If f equals the quadratic, the variance is 0. A state, made by ``init``, holds b and B, and ``adapt``
    learns them; B is diagonal plus low rank. All batch elements have the same b and B, each around its own loc. In a
    call without a state, b and B are 0, and the estimator is Reparameterization. Needs df/dx. Supports Normal. Cost: n
    evaluations of f, n of its gradient.

    Args:
        n: number of samples.
        rank: rank of the part of B that is not diagonal, at least 1.

    Reference: Geffner & Domke 2020, section 3. Departures: q is a factorised normal; ``adapt`` lowers the second moment
    of the whole gradient, as it does for every state.
    """

    n: int = 1
    rank: int = 10

    families = (Normal,)
    needs_df = True
    needs_state = True
    reference: ClassVar[str] = "Geffner & Domke 2020"

    def __post_init__(self) -> None:
        at_least(self, 1)
        at_least(self, 1, field="rank")

    def init(self, q: Distribution, generator: Generator | None = None) -> Quadratic:
        """Return a state whose quadratic is 0: its slope b and its curvature B are 0.

        ``B = diag(d) + U diag(w) U^T``

        b, d and w start at 0. U is random, drawn from ``generator``; from torch's global generator if it is None.
        """
        self.check(q)
        return Quadratic(q.event_shape.numel(), self.rank, first_parameter(q).detach(), generator)

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        base = cast(Normal, inner(q))
        e = normal(Size((self.n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        x = torch.addcmul(base.loc, e, base.scale)
        fx = evaluate_path(self, f, x)
        model, shape = checked_state(self, state, Quadratic, q, q.event_shape.numel()), base.loc.shape
        if model is None:
            return fx.mean(0)
        scale = base.scale.detach().reshape(*q.batch_shape, q.event_shape.numel()).to(e.dtype)
        e = e.reshape(self.n, *scale.shape)
        step = model.times(scale * e)
        spread = model.trace() * scale - ((model.slope + step) * e).mean(0)
        pairs = [(-step.mean(0).reshape(shape), base.loc), (spread.reshape(shape), base.scale)]
        return fx.mean(0) + inject_at(q.batch_shape, pairs, self, mean_zero=True)

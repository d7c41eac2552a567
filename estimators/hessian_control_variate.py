"""Reparameterization with a linear model of the gradient as a control variate."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, Normal

from estimators._checks import at_least, evaluate_path
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._noise import normal
from estimators._protocol import Estimator, State
from estimators._surrogate import inject_at
from estimators._taylor import taylor


@dataclass(frozen=True)
class HessianControlVariate(Estimator):
    """Reparameterization with a control variate: the linear model of df/dx around the mean (RV-RGE).

    ``x = loc + scale e``,  e standard normal
    ``model(e) = df(loc) + H scale e``
    ``g_loc = (1/n) sum_k (df(x_k) - model(e_k)) + df(loc)``
    ``g_scale = (1/n) sum_k (df(x_k) - model(e_k)) e_k + diag(H) scale``

    df is the gradient of f, and H is the Hessian of f at loc. Unbiased, because e has mean 0 and variance 1: the last
    terms of g_loc and g_scale are the means of the model and of the model times e. For a quadratic f the variance is 0.
    The variance is much smaller than with Reparameterization if q is narrow relative to the curvature of f, but may be
    larger if q is wide. Needs df/dx and second derivatives. Supports Normal. Cost: n + 1 evaluations of f, n + 1 of its
    gradient and D Hessian-vector products for D coordinates. Each batch element needs D^2 numbers of memory, so D
    should be moderate.

    Args:
        n: number of samples.

    Reference: Miller, Foti, D'Amour & Adams 2017, section 3, with the full Hessian. (The paper's cheaper variants
    estimate the diagonal of the Hessian and do little for the gradient in the scale.)
    """

    n: int = 1

    families = (Normal,)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("rv-rge",)
    reference: ClassVar[str] = "Miller et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        """Return the number of points that one call holds at once, the larger one of n and D.

        D is the number of coordinates of q. The Hessian has D rows, and each row counts as a point.
        """
        return max(self.n, q.event_shape.numel())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        self.check(q)
        base = cast(Normal, inner(q))
        noise = normal(Size((self.n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        x = torch.addcmul(base.loc, noise, base.scale)
        fx = evaluate_path(self, f, x)
        _, slope, curvature = taylor(self, f, q)
        scale = base.scale.detach().reshape(slope.shape).to(slope.dtype)
        e = noise.reshape(self.n, *slope.shape)
        step = (curvature @ (scale * e).unsqueeze(-1)).squeeze(-1)
        loc = -step.mean(0)
        spread = curvature.diagonal(dim1=-2, dim2=-1) * scale - ((slope + step) * e).mean(0)
        pairs = [(loc.reshape(base.loc.shape), base.loc), (spread.reshape(base.loc.shape), base.scale)]
        return fx.mean(0) + inject_at(q.batch_shape, pairs, self, mean_zero=True)

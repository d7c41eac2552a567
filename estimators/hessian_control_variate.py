"""Reparameterization with a linear model of the gradient as control variate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Size, Tensor
from torch.distributions import Distribution, Normal

from estimators._checks import at_least, needs_gradient
from estimators._noise import normal
from estimators._protocol import Estimator, Integrand, State, inner
from estimators._surrogate import inject
from estimators._taylor import taylor


@dataclass(frozen=True)
class HessianControlVariate(Estimator):
    """Reparameterization with the linear model of df/dx at the mean as control variate (RV-RGE).

    ``x = loc + scale e``,  ``model(e) = df(loc) + H scale e``,  H the Hessian of f at loc
    ``g_loc = (1/n) sum_k df(x_k) - model(e_k) + df(loc)``
    ``g_scale = (1/n) sum_k (df(x_k) - model(e_k)) e_k + diag(H) scale``

    Unbiased, since the last terms are the means of the model's. No variance for a quadratic f; much less where q is
    narrow against the curvature of f, and possibly more where it is wide. Needs df/dx and second derivatives. Serves
    Normal. Cost: n + 1 evaluations of f, n + 1 of its gradient and D Hessian-vector products for D coordinates; D^2
    numbers of memory for each batch element: for moderate D.

    Args:
        n: samples.

    Reference: Miller, Foti, D'Amour & Adams 2017, section 3, the full Hessian. (Their cheaper variants, which estimate
    its diagonal, do little for the scale.)
    """

    n: int = 1

    families = (Normal,)
    needs_df = True
    aliases: ClassVar[tuple[str, ...]] = ("rv-rge",)
    reference: ClassVar[str] = "Miller et al. 2017"

    def __post_init__(self) -> None:
        at_least(self, 1)

    def points(self, q: Distribution) -> int:
        """Return n, or D, the rows of the Hessian."""
        return max(self.n, q.event_shape.numel())

    def __call__(
        self, f: Integrand, q: Distribution, generator: Generator | None = None, state: State | None = None
    ) -> Tensor:
        """Return the loss, ``[*batch]``."""
        self.check(q)
        base = inner(q)
        assert isinstance(base, Normal)
        noise = normal(Size((self.n, *q.batch_shape, *q.event_shape)), base.loc, generator)
        x = torch.addcmul(base.loc, noise, base.scale)
        fx = f(x)
        needs_gradient(self, fx, x)
        _, slope, curvature = taylor(self, f, q)
        scale = base.scale.detach().reshape(slope.shape)
        e = noise.reshape(self.n, *slope.shape)
        step = (curvature @ (scale * e).unsqueeze(-1)).squeeze(-1)
        loc = -step.mean(0)
        spread = curvature.diagonal(dim1=-2, dim2=-1) * scale - ((slope + step) * e).mean(0)
        return fx.mean(0) + inject(q, loc=loc.reshape(base.loc.shape), scale=spread.reshape(base.loc.shape))

"""Shared by generalized and rejection reparameterization: a path that carries a part of the derivative."""

from typing import cast

from torch import Tensor
from torch.distributions import Chi2, Distribution, Gamma

from estimators._axes import spread
from estimators._checks import evaluate, needs_gradient
from estimators._protocol import Estimator, Integrand, inner
from estimators._surrogate import grad_only, inject


def no_path(estimator: Estimator, family: type[Distribution]) -> str | None:
    """Return why the estimator does not serve a family whose path it does not know, or None."""
    if issubclass(family, Chi2):
        return f"{estimator!r} serves Gamma, and q is Chi2. Use Gamma(df / 2, 1 / 2), or Reparameterization."
    return None


def loss(estimator: Estimator, f: Integrand, q: Distribution, z: Tensor, slope: Tensor, correction: Tensor) -> Tensor:
    """Return the loss, ``[*batch]``: f along the path, plus f times the correction in the concentration.

    Args:
        estimator: for messages.
        f: the integrand.
        q: Gamma, batch shape ``[*batch]``.
        z: samples of q, ``[n, *batch, *event]``; dz/drate = -z / rate.
        slope: dz/dconcentration.
        correction: the part of the score in the concentration that the path does not carry, for each coordinate.
    """
    base = cast(Gamma, inner(q))
    x = z + slope * grad_only(base.concentration) - z / base.rate.detach() * grad_only(base.rate)
    fx = evaluate(f, x, q)
    needs_gradient(estimator, fx, x)
    return fx.mean(0) + inject(q, concentration=(spread(fx.detach(), x) * correction).mean(0))

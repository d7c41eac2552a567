"""Paths that carry only a part of the derivative: shared by generalized and rejection reparameterization."""

from typing import cast

from torch import Tensor
from torch.distributions import Chi2, Distribution, Gamma

from estimators._axes import spread
from estimators._checks import needs_gradient
from estimators._protocol import Estimator, Integrand, inner
from estimators._surrogate import first_order, grad_only, inject, joined


def no_path(estimator: Estimator, family: type[Distribution]) -> str | None:
    """Return why the estimator does not support Chi2, torch's subclass of Gamma; None for any other family."""
    if issubclass(family, Chi2):
        return f"{estimator!r} serves Gamma, and q is Chi2. Use Gamma(df / 2, 1 / 2), or Reparameterization."
    return None


def loss(estimator: Estimator, f: Integrand, q: Distribution, z: Tensor, slope: Tensor, correction: Tensor) -> Tensor:
    """Return the loss, ``[*batch]``: f along the path, plus f times the correction for the concentration.

    Args:
        estimator: the caller, named in error messages.
        f: the integrand.
        q: Gamma, batch shape ``[*batch]``.
        z: samples of q, ``[n, *batch, *event]``; dz/drate = -z / rate.
        slope: dz/dconcentration.
        correction: for each coordinate, the part of the concentration's score that the path does not carry.
    """
    base = cast(Gamma, inner(q))
    x = z + slope * grad_only(base.concentration) - z / base.rate.detach() * grad_only(base.rate)
    x = first_order(x, estimator)
    fx = f(x)
    needs_gradient(estimator, fx, x)
    return joined(
        fx.mean(0), inject(q, estimator, concentration=(spread(fx.detach(), x) * correction).mean(0)), estimator
    )

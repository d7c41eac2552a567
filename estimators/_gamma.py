"""Paths that carry only a part of the derivative: shared by generalized and rejection reparameterization."""

from typing import cast

from torch import Tensor
from torch.distributions import Chi2, Distribution, Gamma

from estimators._axes import spread
from estimators._checks import needs_gradient
from estimators._first_order import first_order
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator
from estimators._surrogate import grad_only, inject, joined


def no_path(estimator: Estimator, family: type[Distribution]) -> str | None:
    """Return why the estimator does not support ``family`` if it is Chi2, a subclass of Gamma in torch; else None."""
    if issubclass(family, Chi2):
        return f"{estimator!r} serves Gamma, and q is Chi2. Use Gamma(df / 2, 1 / 2), or Reparameterization."
    return None


def loss(estimator: Estimator, f: Integrand, q: Distribution, z: Tensor, slope: Tensor, correction: Tensor) -> Tensor:
    """Return the estimator's value for a Gamma q, ``[*batch]``: f at the samples, with the corrected gradient.

    The rate of q is fully reparameterized: dz/drate = -z / rate. In the gradient with respect to the concentration, the
    path misses a part of the score. f times this part, ``correction``, is added.

    Args:
        estimator: the caller, named in error messages.
        f: the integrand.
        q: Gamma, batch shape ``[*batch]``.
        z: samples of q, ``[n, *batch, *event]``.
        slope: dz/dconcentration along the path, of the shape of z.
        correction: the part of the score that the path misses, of the shape of z.
    """
    base = cast(Gamma, inner(q))
    x = z + slope * grad_only(base.concentration) - z / base.rate.detach() * grad_only(base.rate)
    x = first_order(x, estimator)
    fx = f(x)
    needs_gradient(estimator, fx, x)
    return joined(
        fx.mean(0), inject(q, estimator, concentration=(spread(fx.detach(), x) * correction).mean(0)), estimator
    )

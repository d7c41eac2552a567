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
    """Return why the estimator does not support Chi2, if ``family`` is this subclass of Gamma; else None."""
    if issubclass(family, Chi2):
        return f"{estimator!r} serves Gamma, and q is Chi2. Use Gamma(df / 2, 1 / 2), or Reparameterization."
    return None


def loss(estimator: Estimator, f: Integrand, q: Distribution, z: Tensor, slope: Tensor, correction: Tensor) -> Tensor:
    """Return the mean of f over the samples of a Gamma q, ``[*batch]``, with the corrected gradient.

    The path of a sample z is z as a function of q's parameters at fixed noise. The gradient in the rate is df/dz times
    dz/drate = -z / rate. The gradient in the concentration is ``slope df/dz + correction f``, because the path leaves
    out a part of the score. (The score is the derivative of log q.)

    Args:
        estimator: the caller, named in error messages.
        f: the integrand.
        q: Gamma, batch shape ``[*batch]``.
        z: samples of q, ``[n, *batch, *event]``.
        slope: dz/dconcentration along the path, of the shape of z.
        correction: the part of the score in the concentration that the path leaves out, of the shape of z.
    """
    base = cast(Gamma, inner(q))
    x = z + slope * grad_only(base.concentration) - z / base.rate.detach() * grad_only(base.rate)
    x = first_order(x, estimator)
    fx = f(x)
    needs_gradient(estimator, fx, x)
    return joined(
        fx.mean(0), inject(q, estimator, concentration=(spread(fx.detach(), x) * correction).mean(0)), estimator
    )

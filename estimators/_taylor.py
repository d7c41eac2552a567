"""The second-order Taylor expansion of f at the mean of a Normal q."""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from estimators._checks import needs_gradient
from estimators._protocol import Estimator, Integrand, inner


class Taylor(NamedTuple):
    """The terms of ``f(x) = value + slope . d + d . curvature d / 2 + ...`` for ``d = x - mean`` with D coordinates."""

    value: Tensor  # [*batch]
    slope: Tensor  # [*batch, D]
    curvature: Tensor  # [*batch, D, D]


def taylor(estimator: Estimator, f: Integrand, q: Distribution) -> Taylor:
    """Return the expansion of f at q's mean, without a graph; raise ``NotDifferentiable`` if f has no gradient in x.

    Cost: one evaluation of f, one of its gradient and D Hessian-vector products for D coordinates.
    """
    with torch.enable_grad():
        x = cast(Normal, inner(q)).loc.detach().unsqueeze(0).requires_grad_()
        fx = f(x)
        needs_gradient(estimator, fx, x)
        (slope,) = torch.autograd.grad(fx.sum(), [x], create_graph=True)
    slope = slope.reshape(*q.batch_shape, q.event_shape.numel())
    columns = [_gradient(each.sum(), x).reshape(slope.shape) for each in slope.unbind(-1)]
    return Taylor(fx.detach()[0], slope.detach(), torch.stack(columns, -1))


def _gradient(y: Tensor, x: Tensor) -> Tensor:
    if not y.requires_grad:  # f is linear in x
        return torch.zeros_like(x)
    (g,) = torch.autograd.grad(y, [x], retain_graph=True, materialize_grads=True)
    return g

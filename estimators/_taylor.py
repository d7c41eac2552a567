"""The second-order Taylor expansion of f at the mean of a Normal q."""

from typing import Any, NamedTuple, cast

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Normal

from estimators._checks import evaluate_path
from estimators._integrand import Integrand
from estimators._laws import inner
from estimators._protocol import Estimator
from estimators._transforms import transformed, value_and_slope


class Taylor(NamedTuple):
    """The terms of ``f(x) = value + slope . d + d . curvature d / 2 + ...`` for ``d = x - mean``.

    mean is the mean of q, and D the number of its coordinates. The shapes are ``[*batch]`` for ``value``, ``[*batch,
    D]`` for ``slope`` and ``[*batch, D, D]`` for ``curvature``.
    """

    value: Tensor  # [*batch]
    slope: Tensor  # [*batch, D]
    curvature: Tensor  # [*batch, D, D]


def taylor(estimator: Estimator, f: Integrand, q: Distribution) -> Taylor:
    """Return the second-order expansion of f at the mean of a Normal q, without a graph.

    Cost: one evaluation of f, one of its gradient and D Hessian-vector products for D coordinates.

    Raises:
        NotDifferentiable: f has no gradient in x. The message names ``estimator``.
    """
    x, shape = cast(Normal, inner(q)).loc.detach().unsqueeze(0), Size((*q.batch_shape, q.event_shape.numel()))

    def gradient(x: Tensor) -> tuple[Tensor, Tensor]:
        fx, slope = value_and_slope(lambda x: evaluate_path(estimator, f, x), x, learning=True)
        return slope.reshape(shape), fx

    if transformed():
        expansion: Any = torch.func.vjp(gradient, x, has_aux=True)
        slope, pull, fx = expansion
        columns = [pull(axis.expand(shape))[0].reshape(shape) for axis in torch.eye(shape[-1]).to(slope)]
    else:
        x = x.requires_grad_()
        slope, fx = gradient(x)
        columns = [_gradient(each.sum(), x).reshape(shape) for each in slope.unbind(-1)]
    return Taylor(fx.detach()[0], slope.detach(), torch.stack(columns, -1).detach())


def _gradient(y: Tensor, x: Tensor) -> Tensor:
    if not y.requires_grad:  # f is linear in x
        return torch.zeros_like(x)
    (g,) = torch.autograd.grad(y, [x], retain_graph=True, materialize_grads=True)
    return g

"""Variational inference in Bayesian logistic regression."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal
from torch.nn.functional import linear, logsigmoid, pad

from bench.objectives._checks import between, finite
from bench.objectives._log_sigmoid import summed
from bench.objectives._mean_field import mean_field, point
from bench.objectives._protocol import Objective, Problem, Theta
from estimators import Bound


@dataclass(frozen=True)
class LogisticRegression(Objective):
    """Evidence lower bound of Bayesian logistic regression on the breast cancer data, all 569 rows of it.

    ``f(w) = log p(y | w) + log p(w) - log q(w)``,  ``log p(y | w) = sum_n log sigmoid((2 y_n - 1) w.x_n)``
    ``p(w) = N(0, I)``,  ``q(w) = N(mean, diag exp(log_scale)^2)``
    ``E f = sum_n E log sigmoid(a_n) - KL(q || p)``,  ``a_n ~ N((2 y_n - 1) mean.x_n, sum_j x_nj^2 exp(2 log_scale_j))``

    theta is ``mean`` and ``log_scale``, ``[31]`` each: 30 features, standardised by their means and standard deviations
    over all rows, and a constant. The objective is to be maximised. Exact value: 569 one-dimensional integrals to
    rounding error (64 Gauss-Hermite nodes would leave an error of 0.18 in the gradient, by its norm, at the default
    point, where a_n has standard deviations up to 21), and the closed form of the Kullback-Leibler divergence.

    Args:
        mean: every coefficient's mean at the point of measurement.
        log_scale: logarithm of every coefficient's standard deviation there, from -20 to 3 (the number of nodes of the
            integrals grows with the scale).

    Raises:
        ValueError: an argument is out of its range.

    Reference: Mohamed, Rosca, Figurnov & Mnih 2020 (JMLR 21), section 8, who subsample the data; both are 0 at their
    start. Data: Wolberg, Street & Mangasarian 1993, as bundled with scikit-learn.
    """

    mean: float = 0.0
    log_scale: float = 0.0

    dim = 31
    row_elements = 569
    bound = True
    family: ClassVar[type[Distribution]] = Normal
    reference: ClassVar[str] = "Mohamed et al. 2020"

    def __post_init__(self) -> None:
        finite(self, "mean")
        between(self, "log_scale", -20.0, 3.0)

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Make the problem in a dtype, on a device."""
        data = _signed_data().to(device, dtype)

        def log_joint(w: Tensor) -> Tensor:
            likelihood: Tensor = _LogLikelihood.apply(w, data)  # type: ignore[no-untyped-call]
            return likelihood - w.square().sum(-1) / 2 - self.dim / 2 * math.log(2 * math.pi)

        def exact(theta: Theta) -> Tensor:
            mean, variance = theta["mean"], (2 * theta["log_scale"]).exp()
            x = _signed_data().to(mean)
            likelihood = _expected_log_sigmoid(x @ mean, (x.square() @ variance).sqrt()).sum()
            return likelihood - (mean.square() + variance - 1 - 2 * theta["log_scale"]).sum() / 2

        theta = point(self.dim, self.mean, self.log_scale, dtype, device)
        return Problem(theta, mean_field, functools.partial(Bound, log_joint), exact)


class _LogLikelihood(torch.autograd.Function):
    """``sum_n log sigmoid(x_n.w)`` for data x, ``[N, D]``, and points w, ``[..., D]``.

    The gradient in w is made along with the value, for a few points at a time, while their products are in the cache:
    what is kept of a point has D numbers, not N.
    """

    elements = 2**18
    """How many products of points with data are made at a time on a CPU."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, data: Tensor) -> Tensor:
        # Zeros up to a whole number of cache lines: the product in the gradient takes half the time of 31 columns.
        ctx.wide = pad(data, (0, -data.shape[1] % 16))
        points = w.reshape(-1, w.shape[-1])
        step = len(points) if w.is_cuda else max(1, _LogLikelihood.elements // len(data))
        value, slope = w.new_empty(len(points)), torch.empty_like(points) if ctx.needs_input_grad[0] else None
        for start in range(0, len(points), max(1, step)):
            part = slice(start, start + step)
            a = _LogLikelihood.products(points[part], ctx.wide)
            value[part] = summed(a)
            if slope is not None:
                slope[part] = (a.neg_().sigmoid_() @ ctx.wide)[:, : w.shape[-1]]
        ctx.save_for_forward(w)
        ctx.save_for_backward(w, slope)
        return value.view(w.shape[:-1])

    @staticmethod
    def products(w: Tensor, wide: Tensor) -> Tensor:
        """Return ``x_n.w``, ``[..., N]``."""
        return linear(pad(w, (0, wide.shape[1] - w.shape[-1])), wide)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        w, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative needs to know where it comes from
            a = _LogLikelihood.products(w, ctx.wide)
            slope = ((-a).sigmoid() @ ctx.wide)[..., : w.shape[-1]]
        return slope.view(w.shape) * cotangents[0].unsqueeze(-1), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _data: None) -> Tensor:
        (w,) = ctx.saved_tensors
        slopes = _LogLikelihood.products(w, ctx.wide).neg_().sigmoid_()
        return slopes.mul_(_LogLikelihood.products(tangent, ctx.wide)).sum(-1)


@functools.cache
def _signed_data() -> Tensor:
    """Return standardised features and a constant, each row times +1 (benign) or -1: ``[569, 31]``, float64."""
    from sklearn.datasets import load_breast_cancer  # more than a second to import, and only needed here

    features, label = (torch.from_numpy(a) for a in load_breast_cancer(return_X_y=True))
    standard = (features - features.mean(0)) / features.std(0, correction=0)
    rows = torch.cat([standard, torch.ones_like(standard[:, :1])], 1)
    return rows * (2 * label - 1).unsqueeze(-1)


def _expected_log_sigmoid(mean: Tensor, scale: Tensor) -> Tensor:
    """Return E[log sigmoid(a)] for a ~ N(mean, scale^2), ``[N]`` from ``[N]`` each, by the trapezoid rule.

    log sigmoid has branch points at distance pi from the real axis: at pi / scale in standard units. Of an integrand
    that is analytic within a distance d, a trapezoid rule of step h makes an error of the order of exp(-2 pi d / h)
    (Trefethen & Weideman 2014, section 5), and of a Gaussian alone exp(-2 (pi / h)^2): with the step below both are
    under 1e-17. The same holds for the derivatives in mean and scale, which autograd takes node by node. The nodes end
    at 9 standard deviations.
    """
    step = 0.5 / max(0.75, scale.max().item())
    nodes = math.ceil(9 / step)
    z = step * torch.arange(-nodes, nodes + 1, dtype=mean.dtype, device=mean.device)
    weight = (-z.square() / 2).exp() * (step / math.sqrt(2 * math.pi))
    return logsigmoid(mean.unsqueeze(-1) + scale.unsqueeze(-1) * z) @ weight

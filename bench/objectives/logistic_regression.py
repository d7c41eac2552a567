"""Variational inference for Bayesian logistic regression."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import linear, logsigmoid, pad

from bench.objectives._checks import between, finite
from bench.objectives._functions import transformed
from bench.objectives._protocol import Objective, Problem, Theta, point
from bench.objectives.datasets import table
from bench.objectives.log_sigmoid import sum_log_sigmoid_value
from bench.objectives.mean_field import mean_field
from estimators import Bound

PRODUCTS = 2**18
"""Number of scalar products, of points w with rows of the data, that a CPU computes at a time."""


@dataclass(frozen=True)
class LogisticRegression(Objective):
    """Evidence lower bound of Bayesian logistic regression on all 569 rows of the breast cancer data.

    ``f(w) = log p(y | w) + log p(w) - log q(w)``
    ``log p(y | w) = sum_n log sigmoid((2 y_n - 1) w.x_n)``
    ``p(w) = N(0, I)``
    ``q(w) = N(mean, diag exp(log_scale)^2)``
    ``E f = sum_n E[log sigmoid(a_n)] - KL(q || p)``
    ``a_n ~ N((2 y_n - 1) mean.x_n, sum_j x_nj^2 exp(2 log_scale_j))``

    Row n of the data is x_n: 30 features, standardised by their means and standard deviations over all rows, and a
    constant. The label y_n is 1 (benign) or 0 (malignant). The gradient is taken in theta: ``mean`` and ``log_scale``,
    ``[31]`` each. The objective is maximised. Exact value: the Kullback-Leibler divergence in closed form, and 569
    one-dimensional integrals by the trapezoid rule, exact to rounding. Bad arguments raise ``ValueError``.

    Args:
        mean: mean of every coefficient at the point of measurement.
        log_scale: logarithm of the standard deviation of every coefficient at the point of measurement, from -20 to 3;
            larger values would need more nodes in the integrals.

    Reference: Mohamed, Rosca, Figurnov & Mnih 2020 (JMLR 21), section 8, who subsample the data and start with mean and
    log_scale 0. Data: Wolberg, Street & Mangasarian 1993, as bundled with scikit-learn.
    """

    mean: float = 0.0
    log_scale: float = 0.0

    dim = 31
    row_elements = 569
    bound = True
    family = Normal
    reference = "Mohamed et al. 2020"

    def __post_init__(self) -> None:
        finite(self, "mean")
        between(self, log_scale=(-20.0, 3.0))

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        data = signed_data().to(device, dtype)

        def log_joint(w: Tensor) -> Tensor:
            return log_likelihood(w, data) - w.square().sum(-1) / 2 - self.dim / 2 * math.log(2 * math.pi)

        def exact(theta: Theta) -> Tensor:
            mean, variance = theta["mean"], (2 * theta["log_scale"]).exp()
            x = signed_data().to(mean)
            likelihood = expected_log_sigmoid(x @ mean, (x.square() @ variance).sqrt()).sum()
            return likelihood - (mean.square() + variance - 1 - 2 * theta["log_scale"]).sum() / 2

        theta = point(self.dim, dtype, device, mean=self.mean, log_scale=self.log_scale)
        return Problem(theta, mean_field, lambda q: Bound(log_joint, q), exact)


def log_likelihood(w: Tensor, data: Tensor) -> Tensor:
    """Return ``sum_n log sigmoid(x_n.w)``, ``[...]``, for points w, ``[..., D]``, and data rows x_n, ``[N, D]``.

    If the caller has multiplied the rows that have the label 0 by -1, the sum is the log-likelihood of all labels.
    """
    if transformed():
        return logsigmoid(linear(w, data)).sum(-1)
    value: Tensor = _LogLikelihood.apply(w, data)  # type: ignore[no-untyped-call]
    return value


class _LogLikelihood(torch.autograd.Function):
    """``sum_n log sigmoid(x_n.w)`` and its gradient in w, computed together for a few points at a time.

    The products of these points with the data stay in the cache meanwhile. The backward pass keeps D numbers for every
    point instead of N.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, data: Tensor) -> Tensor:
        # Pad rows to whole cache lines: the product in the gradient takes half the time that it takes with 31 columns.
        ctx.wide = pad(data, (0, -data.shape[1] % 16))
        points = w.reshape(-1, w.shape[-1])
        step = len(points) if w.is_cuda else max(1, PRODUCTS // len(data))
        value, slope = w.new_empty(len(points)), torch.empty_like(points) if ctx.needs_input_grad[0] else None
        for start in range(0, len(points), max(1, step)):
            part = slice(start, start + step)
            a = _LogLikelihood.products(points[part], ctx.wide)
            value[part] = sum_log_sigmoid_value(a)
            if slope is not None:
                slope[part] = (a.neg_().sigmoid_() @ ctx.wide)[:, : w.shape[-1]]
        ctx.save_for_forward(w)
        ctx.save_for_backward(w, slope)
        return value.view(w.shape[:-1])

    @staticmethod
    def products(w: Tensor, wide: Tensor) -> Tensor:
        """Return ``x_n.w``, ``[..., N]``, for padded data."""
        return linear(pad(w, (0, wide.shape[1] - w.shape[-1])), wide)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        w, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative differentiates this expression
            a = _LogLikelihood.products(w, ctx.wide)
            slope = ((-a).sigmoid() @ ctx.wide)[..., : w.shape[-1]]
        return slope.view(w.shape) * cotangents[0].unsqueeze(-1), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _data: None) -> Tensor:
        (w,) = ctx.saved_tensors
        slopes = _LogLikelihood.products(w, ctx.wide).neg_().sigmoid_()
        return slopes.mul_(_LogLikelihood.products(tangent, ctx.wide)).sum(-1)


@functools.cache
def signed_data() -> Tensor:
    """Return the data, ``[569, 31]``, float64: 30 standardised features and a constant, times -1 in malignant rows."""
    data = torch.from_numpy(table("breast_cancer.csv", header=True))
    features, label = data[:, :-1], data[:, -1]
    standard = (features - features.mean(0)) / features.std(0, correction=0)
    rows = torch.cat([standard, torch.ones_like(standard[:, :1])], 1)
    return rows * (2 * label - 1).unsqueeze(-1)


def expected_log_sigmoid(mean: Tensor, scale: Tensor) -> Tensor:
    """Return E[log sigmoid(a)] for a ~ N(mean, scale^2), ``[N]`` from two tensors ``[N]``, by the trapezoid rule.

    As a function of (a - mean) / scale, log sigmoid is analytic within d = pi / scale of the real axis. So the
    trapezoid rule with step h has an error of the order of exp(-2 pi d / h) (Trefethen & Weideman 2014, section 5). The
    Gaussian factor adds an error of the order of exp(-2 (pi / h)^2). The step 0.5 / max(0.75, largest scale) keeps both
    errors below 1e-17. The derivatives with respect to mean and scale, which autograd computes node by node, are as
    accurate. The nodes end at 9 standard deviations.
    """
    step = 0.5 / max(0.75, scale.max().item())
    nodes = math.ceil(9 / step)
    z = step * torch.arange(-nodes, nodes + 1, dtype=mean.dtype, device=mean.device)
    weight = (-z.square() / 2).exp() * (step / math.sqrt(2 * math.pi))
    return logsigmoid(mean.unsqueeze(-1) + scale.unsqueeze(-1) * z) @ weight

"""A linear and a quadratic term of one-hot variables."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from bench.objectives._checks import at_least
from bench.objectives._functions import transformed
from bench.objectives._protocol import Objective, Problem, Theta


@dataclass(frozen=True)
class CategoricalLinearQuadratic(Objective):
    """Linear term plus the square of another linear term: every one-hot variable interacts with every other one.

    ``f(z) = a.z + (b.z)^2``
    ``z_i ~ OneHotCategorical(p_i)``
    ``p_i = softmax(logits_i)``
    ``E f = a.p + (b.p)^2 + sum_i [sum_c p_ic b_ic^2 - (sum_c p_ic b_ic)^2]``

    The gradient is taken in theta: ``logits``, ``[dim, classes]``. The seed draws the logits, ``sqrt(dim) a`` and
    ``sqrt(dim) b`` as standard normals; the factors keep E f of order 1 for every dim. Exact value: closed form. f is
    quadratic, so ReinMax is unbiased here, but straight-through estimators are not. Bad arguments raise ``ValueError``.

    Args:
        dim: number of one-hot variables, at least 1.
        classes: number of categories of each variable, at least 2.
        seed: seed of the logits, a and b, at least 0.

    Reference: a synthetic objective; its 20 variables of 10 classes are the latent code in section 4 of Jang, Gu &
    Poole 2017.
    """

    dim: int = 20
    classes: int = 10
    seed: int = 0

    family = OneHotCategorical
    reference = "synthetic"

    def __post_init__(self) -> None:
        at_least(self, dim=1, classes=2, seed=0)

    @property
    def row_elements(self) -> int:
        """Number of elements in one sample: one for every class of every variable."""
        return self.dim * self.classes

    def build(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Problem:
        """Return a ``Problem``: theta, q, f and, if known, the exact value, in ``dtype`` and on ``device``."""
        # Drawn in float64 on the CPU, then converted: the problem is the same in every dtype and on every device.
        draws = torch.randn((3, self.row_elements), generator=Generator().manual_seed(self.seed), dtype=torch.float64)
        a, b = (draws[1:] / math.sqrt(self.dim)).to(device, dtype).unbind()

        def q(theta: Theta) -> Distribution:
            return Independent(OneHotCategorical(logits=theta["logits"], validate_args=False), 1, validate_args=False)

        def f(z: Tensor) -> Tensor:
            return linear_quadratic(z.flatten(-2), a, b)

        def exact(theta: Theta) -> Tensor:
            p = theta["logits"].softmax(-1)
            slopes = b.to(p).view_as(p)
            mean = (slopes * p).sum(-1)
            variance = (slopes.square() * p).sum(-1) - mean.square()
            return (a.to(p).view_as(p) * p).sum() + mean.sum().square() + variance.sum()

        logits = draws[0].view(self.dim, self.classes).to(device, dtype).requires_grad_()
        return Problem({"logits": logits}, q, lambda _q: f, exact)


def linear_quadratic(z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return ``a.z + (b.z)^2``, ``[...]``, for points z, ``[..., D]``, and coefficients a and b, ``[D]`` each."""
    if transformed():
        return torch.matmul(z, a) + torch.matmul(z, b).square()
    value: Tensor = _LinearQuadratic.apply(z, a, b)  # type: ignore[no-untyped-call]
    return value


class _LinearQuadratic(torch.autograd.Function):
    """``a.z + (b.z)^2`` with its derivative, ``a + 2 (b.z) b``, in two passes over the data instead of three."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
        # One matrix product with both columns takes longer.
        linear, root = torch.matmul(z, a), torch.matmul(z, b)
        ctx.save_for_backward(z, a, b, root)
        ctx.save_for_forward(a, b, root)
        return linear.addcmul_(root, root)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        z, a, b, root = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative differentiates this expression
            root = torch.matmul(z, b)
        (g,) = cotangents
        linear, quadratic = g.unsqueeze(-1) * a, (g * root).unsqueeze(-1)
        add = torch.addcmul if transformed() else Tensor.addcmul_  # vmap has no rule for the second
        return add(linear, quadratic, b, value=2), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _a: None, _b: None) -> Tensor:
        a, b, root = ctx.saved_tensors
        return torch.matmul(tangent, a).addcmul_(torch.matmul(tangent, b), root, value=2)

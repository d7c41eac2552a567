"""Squared distances, with their derivative in fewer passes over the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss


def squared_distance(x: Tensor, target: Tensor) -> Tensor:
    """Return ``sum_j (x_j - target)^2`` over the last axis, ``[...]`` from ``[..., D]`` and ``[]``."""
    if x.requires_grad:
        out: Tensor = _SquaredDistance.apply(x, target)  # type: ignore[no-untyped-call]
        return out
    return _total(mse_loss(x, target.expand_as(x), reduction="none"))


def _total(squares: Tensor) -> Tensor:
    """Return the sum over the last axis, without a pass over the data for a sum of one."""
    return squares.squeeze(-1) if squares.shape[-1] == 1 else squares.sum(-1)


class _SquaredDistance(torch.autograd.Function):
    """The same, keeping the difference, of which the derivative is two quick passes.

    torch's own derivatives of a square take three of them, or, that of ``mse_loss``, a slow one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor) -> Tensor:
        difference = x - target
        ctx.save_for_backward(x, target, difference)
        ctx.save_for_forward(difference)
        return _total(difference.square())

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (cotangent,) = cotangents
        x, target, difference = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative needs to know where it comes from
            return 2 * (x - target) * cotangent.unsqueeze(-1), None
        if cotangent.numel() and not any(cotangent.stride()):  # one number for all, as of a mean, is doubled first
            return difference * (2 * cotangent[(0,) * cotangent.dim()]), None
        return (difference * cotangent.unsqueeze(-1)).mul_(2), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _target: None) -> Tensor:
        (difference,) = ctx.saved_tensors
        along: Tensor = 2 * difference * tangent
        return along.sum(-1)

"""Counts evaluations of f and of df/dx from the objective's side, so that no method can forget to report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from estimators import Bound, Integrand


@dataclass
class Counter:
    """Evaluations seen so far: of f, and of its gradient. One is f at one point, for one batch element."""

    event_dims: int = 0
    f: int = 0
    df: int = 0


class _Watch(torch.autograd.Function):
    """The identity on x: whoever differentiates f in x, backward or forward, passes through here."""

    @staticmethod
    def forward(x: Tensor, counter: Counter) -> Tensor:  # noqa: ARG004 (setup_context keeps it)
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Counter], output: Tensor) -> None:  # noqa: ARG004
        ctx.counter = inputs[1]

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (g,) = cotangents
        ctx.counter.df += _points(g, ctx.counter)
        return g, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        tangent: Tensor = tangents[0]
        ctx.counter.df += _points(tangent, ctx.counter)
        return tangent.view_as(tangent)


def _points(x: Tensor, counter: Counter) -> int:
    return x.shape[: x.dim() - counter.event_dims].numel()


def counted(f: Integrand, counter: Counter) -> Integrand:
    """Return f, or the bound, with every evaluation counted; of a bound those of its log-joint count."""

    def watched(x: Tensor, inside: Integrand) -> Tensor:
        value = inside(_Watch.apply(x, counter))  # type: ignore[no-untyped-call]
        counter.f += value.numel()
        return value

    if isinstance(f, Bound):
        log_joint = f.log_joint
        return replace(f, log_joint=lambda x: watched(x, log_joint))
    return lambda x: watched(x, f)
